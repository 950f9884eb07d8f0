"""The configuration of a run: what it holds, and how it is read and built."""

import dataclasses
from pathlib import Path

import torch

from salticid.config.classes import check_class_paths
from salticid.config.difference import Plain
from salticid.config.overrides import Override, apply_overrides
from salticid.config.reader import read_yaml
from salticid.config.schema import build, resolve
from salticid.data.source import Data, NoData
from salticid.engine.checkpoint import CheckpointConfig
from salticid.engine.ema import EmaConfig
from salticid.engine.log import LogConfig
from salticid.engine.optim import OptimizerConfig, ScheduleConfig
from salticid.engine.recipe import Recipe
from salticid.engine.settings import Settings, TrainerConfig, ValidationConfig


@dataclasses.dataclass
class RunConfig:
    """All that decides a run. Each part is declared beside the component that it configures."""

    recipe: Recipe
    data: Data
    latents: Path | None = None
    """What `salticid encode` has written of the training samples; None: they are encoded while training."""
    trainer: TrainerConfig = dataclasses.field(default_factory=TrainerConfig)
    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = dataclasses.field(default_factory=ScheduleConfig)
    ema: EmaConfig | None = dataclasses.field(default_factory=EmaConfig)
    validation: ValidationConfig = dataclasses.field(default_factory=ValidationConfig)
    checkpoint: CheckpointConfig = dataclasses.field(default_factory=CheckpointConfig)
    log: LogConfig = dataclasses.field(default_factory=LogConfig)

    def settings(self) -> Settings:
        """What the trainer is to know of it."""
        return Settings(**{field.name: getattr(self, field.name) for field in dataclasses.fields(Settings)})


def load_config(path: Path, overrides: list[Override], allowed: tuple[str, ...]) -> Plain:
    """Read a configuration file, apply overrides, check every key and value, and write out the defaults.

    Args:
        path: a YAML file; see `presets.find`.
        overrides: dotted keys and the text of their values.
        allowed: packages whose classes may be named; see `classes.allowed_packages`.

    Raises:
        ConfigError: naming the file, or the key and what was expected of it.
    """
    raw = read_yaml(path)
    check_class_paths(raw, allowed)
    apply_overrides(raw, overrides)
    check_class_paths(raw, allowed)
    return resolve(raw, RunConfig, "", allowed)


def build_config(config: Plain, allowed: tuple[str, ...], *, with_data: bool = True) -> RunConfig:
    """Make the objects of a resolved configuration; the recipe's weights are drawn from `trainer.seed`. Without data,
    `data` is `NoData`: a run of no steps goes where its data is not.

    Raises:
        ConfigError: a class refuses its values; the message names the key.
    """
    if not with_data:
        config = config | {"data": {"class_path": f"{NoData.__module__}.{NoData.__name__}", "init_args": {}}}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config["trainer"].get("seed", 0))
        return build(config, RunConfig, "", allowed)


def build_model(config: Plain, allowed: tuple[str, ...]) -> tuple[Recipe, TrainerConfig]:
    """The recipe of a resolved configuration and how it was trained, without its data: a model goes where its data
    is not."""
    recipe = build(config["recipe"], Recipe, "recipe", allowed)
    return recipe, build(config["trainer"], TrainerConfig, "trainer", allowed)
