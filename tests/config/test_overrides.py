"""Dotted overrides: which arguments they are, and what they set."""

import pytest

from salticid.config import KEYS
from salticid.config.overrides import apply_overrides, split_overrides
from salticid.errors import ConfigError


def test_overrides_are_split_from_other_arguments():
    arguments = ["toy", "--trainer.steps", "5", "--name", "x", "--ema=null", "--a.b=c=d", "--x.y", "-1", "--resume"]
    rest, overrides = split_overrides(arguments, tuple(KEYS))
    assert rest == ["toy", "--name", "x", "--resume"]
    assert overrides == [("trainer.steps", "5"), ("ema", "null"), ("a.b", "c=d"), ("x.y", "-1")]
    for missing in (["--trainer.steps"], ["--trainer.steps", "--resume"]):
        with pytest.raises(ConfigError, match="a value is missing"):
            split_overrides(missing, tuple(KEYS))


def test_overrides_reach_into_init_args_and_drop_those_of_another_class(load):
    assert load(data__count="5")["data"]["init_args"]["count"] == 5
    assert load(data__init_args__count="5")["data"]["init_args"]["count"] == 5
    config = {"data": {"class_path": "a.B", "init_args": {"x": 1}}}
    apply_overrides(config, [("data.class_path", "a.B"), ("data.y", "2")])
    assert config == {"data": {"class_path": "a.B", "init_args": {"x": 1, "y": "2"}}}
    apply_overrides(config, [("data", "a.C")])
    assert config == {"data": {"class_path": "a.C"}}


def test_an_override_changes_one_of_two_aliases(load):
    raw = (
        "recipe: {class_path: toy_recipes.ToyRecipe, init_args: {heads: [&h {class_path: toy_recipes.Head, init_args: "
    )
    raw += "{width: 2}}], head: *h}}\ndata: {class_path: toy_recipes.ToyData}"
    config = load(raw, recipe__head__width="7")
    assert config["recipe"]["init_args"]["heads"][0]["init_args"]["width"] == 2
    assert config["recipe"]["init_args"]["head"]["init_args"]["width"] == 7
