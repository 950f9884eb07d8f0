"""What is written reads back to the same."""

import string
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from salticid.config import KEYS
from salticid.config.reader import parse_yaml
from salticid.config.writer import to_yaml


def test_a_resolved_configuration_reads_back_to_itself(load):
    config = load(recipe__title="1e-4", optimizer__betas="[0.8, 0.95]", ema="{decay: 0.9}")
    text = to_yaml(config)
    assert load(text) == config
    assert to_yaml(load(text)) == text
    assert config["recipe"]["init_args"]["title"] == "1e-4"
    assert config["recipe"]["init_args"]["distances"] == [1.0, float("inf")]
    assert set(config) == set(KEYS)


# PyYAML itself does not keep control characters and Unicode's line separators everywhere.
texts = st.text(st.characters(exclude_categories=("C", "Zl", "Zp")), max_size=12)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(alphabet=string.ascii_letters + "_", min_size=1), values, max_size=4))
@settings(max_examples=300, deadline=None)
def test_written_values_read_back_to_themselves(config: dict[str, Any]):
    assert parse_yaml(to_yaml(config)) == config


@pytest.mark.parametrize(
    "text", ["yes", "1e-4", "0x1", "010", "null", "1:30", "2001-01-01", "=", "<<", ".5", "- a", "é…"]
)
def test_text_that_looks_like_something_else_stays_text(text: str):
    written = to_yaml({"value": text})
    assert parse_yaml(written) == {"value": text}
    assert yaml.safe_load(written) == {"value": text}  # other readers of the file, with the rules of YAML 1.1
