"""Train a recipe: the settings of a run, and what can be done with them."""

from pathlib import Path

import torch

from salticid.data.source import Data
from salticid.engine.log import RunLog
from salticid.engine.loop import Run, Status
from salticid.engine.parallel import joined, pick_device
from salticid.engine.recipe import Recipe
from salticid.engine.settings import Settings, TrainerConfig, ValidationConfig
from salticid.engine.signals import StopFlag
from salticid.engine.state import parameters_by_phase
from salticid.errors import ConfigError

__all__ = ["Settings", "Trainer", "TrainerConfig", "ValidationConfig"]


class Trainer:
    """Trains `recipe` on `data` in the run directory `directory`.

    Under torchrun every rank makes one, with the same arguments (`log` quiet on all but the first).
    """

    def __init__(
        self, recipe: Recipe, data: Data, directory: Path, settings: Settings, log: RunLog, config: str = ""
    ) -> None:
        """`config`: the resolved configuration, kept in every checkpoint.

        Raises:
            ConfigError: the settings, the recipe and the data do not fit; nothing has been written.
        """
        settings.check()
        recipe.check(data)
        parameters_by_phase(recipe)
        if len(data.train()) == 0:
            raise ConfigError("data: the training source is empty")
        self.recipe, self.data, self.directory, self.settings = recipe, data, directory, settings
        self.log, self.config = log, config

    def fit(self, resume: bool = False) -> Status:
        """Train to the last step, or to the first SIGTERM or SIGINT: then the step is completed and saved, and the
        answer is `interrupted`. With `resume`, go on from the newest checkpoint that is whole.

        Raises:
            UserError: see the message; the newest checkpoint is whole.
        """
        status = "failed"
        try:
            with StopFlag() as stop, joined(self._device(), self.settings.trainer.timeout) as ranks:
                run = Run(self.recipe, self.data, self.directory, self.settings, self.log, self.config, ranks, stop)
                run.resume() if resume else run.begin()
                status = run.loop()
                return status
        finally:
            self.log.close(status)

    def _device(self) -> torch.device:
        return pick_device(self.settings.trainer.device)
