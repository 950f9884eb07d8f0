"""The configuration of a run: presets, defaults, the objects that are built."""

import dataclasses
from pathlib import Path

import pytest
import torch

from salticid import presets
from salticid.config import KEYS
from salticid.config.run import RunConfig, build_config, load_config
from salticid.config.writer import to_yaml
from salticid.engine.optim import OptimizerConfig
from salticid.engine.settings import Settings
from salticid.errors import ConfigError


@pytest.mark.parametrize("name", presets.names())
def test_presets_resolve_build_and_round_trip(name: str, tmp_path: Path):
    config = load_config(presets.find(name), [], ("salticid",))
    assert presets.summary(name)
    copy = tmp_path / "copy.yaml"
    copy.write_text(to_yaml(config))
    assert load_config(copy, [], ("salticid",)) == config
    if config["data"]["init_args"].keys() & {"root", "parts"}:  # folders of the user's
        config["data"] = load_config(presets.find("panorama-tiny"), [], ("salticid",))["data"]
    if "base" in config["recipe"]["init_args"]:  # of the hub
        config["recipe"]["init_args"]["base"] = "tiny-video" if name.startswith("sv") else "tiny"
    built = build_config(config, ("salticid",))
    assert built.trainer.steps == config["trainer"]["steps"]
    built.settings().check()


def test_defaults_are_written_out(load):
    config = load()
    assert config["optimizer"]["betas"] == list(OptimizerConfig().betas)
    assert config["data"] == {"class_path": "toy_recipes.ToyData", "init_args": {"count": 32, "held_out": 8}}
    assert load(ema="null")["ema"] is None


def test_top_level_keys_are_the_fields_of_a_run():
    names = [field.name for field in dataclasses.fields(RunConfig)]
    assert list(KEYS) == names
    assert {field.name for field in dataclasses.fields(Settings)} <= set(names)


def test_building_makes_typed_objects(load, toy, allowed):
    text = toy.replace(
        "toy_recipes.ToyRecipe}",
        "toy_recipes.ToyRecipe, init_args: {head: {class_path: toy_recipes.Head, init_args: {bias: false}}, "
        "heads: [{class_path: toy_recipes.Head}], noise: {scale: 2}, folder: some/where}}",
    )
    built = build_config(load(text), allowed)
    assert built.recipe.head.linear.bias is None
    assert [type(head).__name__ for head in built.recipe.heads] == ["Head"]
    assert built.recipe.noise.scale == 2.0
    assert built.optimizer.betas == (0.9, 0.999)
    assert built.data.count == 32


def test_weights_are_drawn_from_the_seed_alone(load, allowed):
    torch.manual_seed(1)
    first = build_config(load(trainer__seed="5"), allowed).recipe.state_dict()
    before = torch.random.get_rng_state()
    again = build_config(load(trainer__seed="5"), allowed).recipe.state_dict()
    other = build_config(load(trainer__seed="6"), allowed).recipe.state_dict()
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["head.linear.weight"], other["head.linear.weight"])


def test_sources_are_presets_or_files(tmp_path: Path):
    with pytest.raises(ConfigError, match="did you mean panorama-tiny"):
        presets.find("panorama-tny")
    with pytest.raises(ConfigError, match=r"there is no such configuration file"):
        presets.find(str(tmp_path / "none.yaml"))
    with pytest.raises(ConfigError, match="neither a preset nor"):
        presets.find("qqqqqq")


@pytest.mark.parametrize("name", presets.protocols())
def test_protocols_fit_a_run_of_marigold(name):
    known = presets.protocol(name)
    config = load_config(presets.find("marigold-tiny"), [*known.settings, ("data.root", "x")], ("salticid",))
    assert config["data"]["init_args"]["root"] == "x"
    assert config["validation"]["batch"] == 1
    assert known.samples > 400
