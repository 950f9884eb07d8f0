"""YAML as configurations use it: scalars, limits, arbitrary bytes."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from salticid.config import reader
from salticid.config.reader import parse_yaml, read_yaml
from salticid.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1.0e-3", 1e-3),
        ("5.", 5.0),
        ("-.5", -0.5),
        (".inf", float("inf")),
        ("12", 12),
        ("-3", -3),
        ("010", "010"),
        ("0x10", "0x10"),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("yes", "yes"),
        ("off", "off"),
        ("true", True),
        ("~", None),
        ("", None),
        ("2001-01-01", "2001-01-01"),
        ("'1'", "1"),
        ("[1, a, null]", [1, "a", None]),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text: str, value: object):
    result = parse_yaml(text)
    assert result == value
    assert type(result) is type(value)


def test_anchors_and_merge_keys_work():
    parsed = parse_yaml("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: *a")
    assert parsed == {"a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 3}, "c": {"x": 1, "y": 2}}


def test_limits_are_those_stated(tmp_path: Path):
    depth = reader.MAX_DEPTH
    parse_yaml("[" * depth + "]" * depth)
    with pytest.raises(ConfigError, match="nested deeper"):
        parse_yaml("[" * (depth + 1) + "]" * (depth + 1))
    parse_yaml("[" + "1," * (reader.MAX_NODES - 1) + "]")
    with pytest.raises(ConfigError, match="values once aliases"):
        parse_yaml("[" + "1," * reader.MAX_NODES + "]")
    path = tmp_path / "large.yaml"
    path.write_text("#" * reader.MAX_BYTES + "\n")
    with pytest.raises(ConfigError, match="larger than 64 KiB"):
        read_yaml(path)


@given(st.binary(max_size=200))
@settings(max_examples=150, deadline=None)
def test_any_bytes_are_read_or_refused_in_one_line(tmp_path_factory: pytest.TempPathFactory, content: bytes):
    path = tmp_path_factory.getbasetemp() / "fuzz.yaml"
    path.write_bytes(content)
    try:
        result = read_yaml(path)
    except ConfigError as error:
        result = {"refused": str(error)}
        assert str(path) in str(error)  # noqa: PT017
    assert isinstance(result, dict)
