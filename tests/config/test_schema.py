"""Misspelt keys and wrong values: one line that names the key, the value and what was expected."""

from enum import Enum
from pathlib import Path
from typing import Any, Literal

import pytest

from salticid.config.leaves import describe, typed
from salticid.config.run import build_config
from salticid.errors import ConfigError


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("trainr.steps", "trainr: unknown key; did you mean trainer?"),
        ("trainer.step", "trainer.step: unknown key; did you mean trainer.steps?"),
        ("optimizer.weight_deacy", "did you mean optimizer.weight_decay?"),
        ("ema.decya", "ema.decya: unknown key; did you mean ema.decay?"),
        ("recipe.witdh", "recipe.init_args.witdh: unknown key; did you mean recipe.init_args.width?"),
        ("recipe.init_arg.width", "recipe.init_args.init_arg: unknown key"),
        ("recipe.noise.scael", "recipe.init_args.noise.scael: unknown key; did you mean recipe.init_args.noise.scale?"),
        ("data.cuont", "data.init_args.cuont: unknown key; did you mean data.init_args.count?"),
        ("trainer.zzz", "trainer.zzz: unknown key; known here: steps, batch"),
        ("recipe.activation", "recipe.init_args.activation: unknown key"),
    ],
)
def test_misspelt_keys_are_answered_with_the_nearest(load, key: str, message: str):
    with pytest.raises(ConfigError) as caught:
        load(**{key.replace(".", "__"): "1"})
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("steps: 4", "stpes: 4"), "trainer.stpes: unknown key; did you mean trainer.steps?"),
        (
            ("class_path: toy_recipes.ToyRecipe", "classpath: x"),
            "recipe.classpath: unknown key; did you mean",
        ),
        (("ToyRecipe}", "ToyRecpie}"), "toy_recipes has no class ToyRecpie; did you mean toy_recipes.ToyRecipe?"),
        (("ToyRecipe}", "ToyRecipe, init_arg: {}}"), "recipe.init_arg: unknown key; did you mean recipe.init_args?"),
        (
            ("ToyRecipe}", "ToyRecipe, init_args: {heads: [{class_path: toy_recipes.Head, init_args: {bais: 1}}]}}"),
            "heads[0].init_args.bais: unknown key; did you mean recipe.init_args.heads[0].init_args.bias?",
        ),
    ],
)
def test_misspelt_keys_in_files(load, toy, change: tuple[str, str], message: str):
    with pytest.raises(ConfigError) as caught:
        load(toy.replace(*change))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("trainer.steps", "many", "trainer.steps: expected int, got 'many'"),
        ("trainer.steps", "1.5", "trainer.steps: expected int"),
        ("trainer.steps", "null", "trainer.steps: expected int, got null"),
        ("trainer.precision", "fp64", "trainer.precision: expected one of auto, fp32, bf16, fp16, got 'fp64'"),
        ("trainer.compile", "1", "trainer.compile: expected bool"),
        ("optimizer.lr", ".nan", "optimizer.lr: expected a number"),
        ("optimizer.betas", "[0.9]", "optimizer.betas: expected tuple[float, float], got [0.9]"),
        ("optimizer.betas", "{a: 1}", "optimizer.betas: expected tuple[float, float]"),
        ("trainer", "5", "trainer: expected a mapping of keys, got '5'"),
        ("trainer", "[5]", "trainer: expected a mapping of keys"),
        ("ema", "yes", "ema: expected EmaConfig or null, got 'yes'"),
        ("recipe.heads", "{a: 1}", "recipe.init_args.heads: expected list[Head] or null"),
        ("recipe.heads", "[1]", "recipe.init_args.heads[0]: expected a mapping of class_path and init_args, got 1"),
        ("recipe.head", "{width: 2}", "recipe.init_args.head.width: unknown key"),
        ("recipe.head", "{}", "recipe.init_args.head: class_path is missing; expected the name of a Head"),
        ("recipe.init_args", "[1]", "recipe.init_args: expected a mapping"),
        ("trainer.steps.more", "1", "--trainer.steps: not a mapping of keys"),
        ("trainer.", "1", "expected a dotted key"),
        ("trainer.steps", "[1", "--trainer.steps: line 1, column 3"),
    ],
)
def test_wrong_values_name_key_value_and_type(load, key: str, value: str, message: str):
    with pytest.raises(ConfigError) as caught:
        load(**{key.replace(".", "__"): value})
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_missing_is_named(load):
    with pytest.raises(ConfigError, match=r"^data: missing; expected Data$"):
        load("recipe: {class_path: toy_recipes.ToyRecipe}")


def test_a_class_that_refuses_its_values_is_answered_in_one_line(load, allowed):
    config = load(log__every="0")
    with pytest.raises(ConfigError, match=r"log\.every"):
        build_config(config, allowed)


class Colour(Enum):
    red = 1
    blue = 2


@pytest.mark.parametrize(
    ("hint", "value", "result"),
    [
        (float, "1e-4", 1e-4),
        (float, 1, 1.0),
        (str, "1e-4", "1e-4"),
        (str, "true", "true"),
        (int | Literal["auto"] | None, "8", 8),
        (int | Literal["auto"] | None, "auto", "auto"),
        (int | Literal["auto"] | None, None, None),
        (Path, "a/b", Path("a/b")),
        (Path | None, None, None),
        (tuple[int, ...], [1, 2, 3], (1, 2, 3)),
        (dict[str, float], {"a": 1}, {"a": 1.0}),
        (Colour, "red", Colour.red),
    ],
)
def test_leaves_are_typed(hint: Any, value: Any, result: Any):
    found = typed(value, hint, "key")
    assert found == result
    assert type(found) is type(result)


def test_types_in_words():
    assert describe(int | Literal["auto"] | None) == "int or one of auto or null"
    assert describe(tuple[float, ...]) == "tuple[float, ...]"
    assert describe(Colour) == "one of red, blue"
