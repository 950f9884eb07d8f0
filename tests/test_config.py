"""Configurations: what is read, what is refused and how, and that reading and writing agree."""

import dataclasses
import random
import string
from enum import Enum
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from salticid import presets
from salticid.config import KEYS, reader
from salticid.config.classes import allowed_packages, check_class_paths, find_class
from salticid.config.difference import CHANGEABLE, Change, check_resumable, difference
from salticid.config.leaves import describe, typed
from salticid.config.overrides import apply_overrides, split_overrides
from salticid.config.reader import parse_yaml, read_yaml
from salticid.config.run import RunConfig, build_config, load_config
from salticid.config.writer import to_yaml
from salticid.data.source import Data
from salticid.engine.optim import OptimizerConfig
from salticid.errors import ConfigError

ALLOWED = ("salticid", "toy_recipes")
TOY = """
recipe: {class_path: toy_recipes.ToyRecipe}
data: {class_path: toy_recipes.ToyData}
trainer: {steps: 4, batch: 4}
"""


@pytest.fixture(autouse=True)
def _toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


@pytest.fixture
def load(tmp_path: Path):
    def load(text: str = TOY, **overrides: str) -> dict[str, Any]:
        path = tmp_path / "toy.yaml"
        path.write_text(text)
        return load_config(path, [(key.replace("__", "."), value) for key, value in overrides.items()], ALLOWED)

    return load


# --- reading YAML ---------------------------------------------------------------------------------------------------


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
        assert isinstance(read_yaml(path), dict)
    except ConfigError as error:
        assert str(path) in str(error)


# --- round trips ----------------------------------------------------------------------------------------------------


def test_a_resolved_configuration_reads_back_to_itself(load, tmp_path: Path):
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


@pytest.mark.parametrize("name", presets.names())
def test_presets_resolve_build_and_round_trip(name: str, tmp_path: Path):
    config = load_config(presets.find(name), [], ("salticid",))
    assert presets.summary(name)
    built = build_config(config, ("salticid",))
    assert built.trainer.steps == config["trainer"]["steps"]
    copy = tmp_path / "copy.yaml"
    copy.write_text(to_yaml(config))
    assert load_config(copy, [], ("salticid",)) == config


def test_defaults_are_written_out(load):
    config = load()
    assert config["optimizer"]["betas"] == list(OptimizerConfig().betas)
    assert config["data"] == {"class_path": "toy_recipes.ToyData", "init_args": {"count": 32, "held_out": 8}}
    assert load(ema="null")["ema"] is None


def test_top_level_keys_are_the_fields_of_a_run():
    assert list(KEYS) == [field.name for field in dataclasses.fields(RunConfig)]


# --- building -------------------------------------------------------------------------------------------------------


def test_building_makes_typed_objects(load):
    text = TOY.replace(
        "toy_recipes.ToyRecipe}",
        "toy_recipes.ToyRecipe, init_args: {head: {class_path: toy_recipes.Head, init_args: {bias: false}}, "
        "heads: [{class_path: toy_recipes.Head}], noise: {scale: 2}, folder: some/where}}",
    )
    built = build_config(load(text), ALLOWED)
    assert built.recipe.head.linear.bias is None
    assert [type(head).__name__ for head in built.recipe.heads] == ["Head"]
    assert built.recipe.noise.scale == 2.0
    assert built.optimizer.betas == (0.9, 0.999)
    assert built.data.count == 32


def test_weights_are_drawn_from_the_seed_alone(load):
    torch.manual_seed(1)
    first = build_config(load(trainer__seed="5"), ALLOWED).recipe.state_dict()
    before = torch.random.get_rng_state()
    again = build_config(load(trainer__seed="5"), ALLOWED).recipe.state_dict()
    other = build_config(load(trainer__seed="6"), ALLOWED).recipe.state_dict()
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["head.linear.weight"], other["head.linear.weight"])


# --- misspelt keys and wrong values -----------------------------------------------------------------------------------


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
            "recipe.classpath: unknown key; did you mean recipe.class",
        ),
        (("ToyRecipe}", "ToyRecpie}"), "toy_recipes has no class ToyRecpie; did you mean toy_recipes.ToyRecipe?"),
        (("ToyRecipe}", "ToyRecipe, init_arg: {}}"), "recipe.init_arg: unknown key; did you mean recipe.init_args?"),
        (
            ("ToyRecipe}", "ToyRecipe, init_args: {heads: [{class_path: toy_recipes.Head, init_args: {bais: true}}]}}"),
            "recipe.init_args.heads[0].init_args.bais: unknown key; did you mean recipe.init_args.heads[0].init_args.bias",
        ),
    ],
)
def test_misspelt_keys_in_files(load, change: tuple[str, str], message: str):
    with pytest.raises(ConfigError) as caught:
        load(TOY.replace(*change))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("trainer.steps", "many", "trainer.steps: expected int, got 'many'"),
        ("trainer.steps", "1.5", "trainer.steps: expected int"),
        ("trainer.steps", "null", "trainer.steps: expected int, got null"),
        ("trainer.precision", "fp64", "trainer.precision: expected one of fp32, bf16, fp16, got 'fp64'"),
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


def test_a_class_that_refuses_its_values_is_answered_in_one_line(load):
    config = load(log__every="0")
    with pytest.raises(ConfigError, match=r"log\.every"):
        build_config(config, ALLOWED)


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


# --- overrides --------------------------------------------------------------------------------------------------------


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


# --- classes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "os.system",
        "salticid",
        "salticidx.Y",
        "salticid.",
        ".salticid.X",
        "salticid..X",
        "salticid/../os.X",
        "salticid.__main__.X",
        "salticid.cli.__builtins__",
        "salticid._private.X",
        "ѕalticid.recipes.X",  # a Cyrillic letter
        "salticid.recipes.X\n",
        "salticid.recipes.X()",
        "salticid.recipes.X; import os",
        "",
        3,
        None,
        ["salticid.recipes.X"],
        {"class_path": "os.system"},
    ],
)
def test_paths_are_refused_before_anything_is_imported(path: object, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("importlib.import_module", lambda name: pytest.fail(f"imported {name}"))
    for nested in ({"class_path": path}, {"a": [{"b": {"class_path": path}}]}):
        with pytest.raises(ConfigError):
            check_class_paths(nested, ("salticid",))
    with pytest.raises(ConfigError):
        find_class(path, Data, ("salticid",), "data.class_path")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("salticid.cli.os", "not a class"),
        ("salticid.cli.os.system", "no module salticid.cli.os"),
        ("salticid.engine.run.Path", "not a class of the allowed packages"),
        ("salticid.engine.run.environment", "not a class"),
        ("salticid.config.leaves.Enum", "not a class of the allowed packages"),
        ("salticid.errors.UserError", "not a kind of salticid.data.source.Data"),
        ("salticid.data.source.Data", "is abstract"),
        ("toy_recipes.AbstractData", "is abstract"),
        ("toy_recipes.not_a_class", "not a class"),
        ("salticid.nowhere.X", "there is no module salticid.nowhere"),
    ],
)
def test_only_a_subclass_from_an_allowed_package_is_accepted(path: str, message: str):
    with pytest.raises(ConfigError, match=message):
        find_class(path, Data, ALLOWED, "data.class_path")


def test_packages_are_allowed_by_flag_and_environment(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SALTICID_ALLOW", "mylab, other.part")
    assert allowed_packages(["third"]) == ("salticid", "mylab", "other.part", "third")
    check_class_paths({"class_path": "other.part.X"}, allowed_packages())
    with pytest.raises(ConfigError, match="other.X is outside"):
        check_class_paths({"class_path": "other.X"}, allowed_packages())
    with pytest.raises(ConfigError, match="expected a package"):
        allowed_packages(["../x"])


# --- differences --------------------------------------------------------------------------------------------------------


def test_differences_are_listed_key_by_key(load):
    changes = difference(load(), load(trainer__steps="9", ema="{decay: 0.5}", recipe__title="x"))
    assert Change("trainer.steps", 4, 9) in changes
    assert Change("recipe.init_args.title", "toy", "x") in changes
    assert [c.key for c in changes] == ["recipe.init_args.title", "trainer.steps", "ema.decay"]
    assert difference(load(), load()) == []


@pytest.mark.parametrize(
    "key", ["trainer.steps", "trainer.seed", "trainer.batch", "optimizer.lr", "data.count", "ema.decay"]
)
def test_a_run_is_not_resumed_with_another_result(load, key: str):
    values = {"trainer.steps": "9", "trainer.seed": "9", "trainer.batch": "2", "optimizer.lr": "0.5", "data.count": "9"}
    with pytest.raises(ConfigError) as caught:
        check_resumable(load(), load(**{key.replace(".", "__"): values.get(key, "0.5")}))
    assert key.split(".")[0] in str(caught.value)
    assert "→" in str(caught.value)


def test_a_run_is_resumed_with_what_does_not_change_it(load):
    changed = {
        "log.every": "3",
        "log.tensorboard": "true",
        "checkpoint.every": "2",
        "checkpoint.keep_last": "5",
        "trainer.workers": "2",
        "trainer.micro_batch": "1",
        "trainer.parallel": "fsdp",
        "trainer.on_nonfinite": "skip",
    }
    changes = check_resumable(load(), load(**{key.replace(".", "__"): value for key, value in changed.items()}))
    assert {c.key for c in changes} == set(changed)


def test_changeable_keys_exist(load):
    config = load()
    for key in CHANGEABLE:
        inner: Any = config
        for part in key.split("."):
            inner = inner[part]


# --- presets ------------------------------------------------------------------------------------------------------------


def test_sources_are_presets_or_files(tmp_path: Path):
    with pytest.raises(ConfigError, match="did you mean panorama-tiny"):
        presets.find("panorama-tny")
    with pytest.raises(ConfigError, match=r"there is no such configuration file"):
        presets.find(str(tmp_path / "none.yaml"))
    with pytest.raises(ConfigError, match="neither a preset nor"):
        presets.find("".join(random.choices(string.ascii_lowercase, k=12)))
