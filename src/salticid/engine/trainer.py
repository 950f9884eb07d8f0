"""Train a recipe: the settings of a run, and what can be done with them."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from salticid.data.source import Data
from salticid.engine import checkpoint as checkpoints
from salticid.engine import microbatch
from salticid.engine.latents import Latents
from salticid.engine.log import LogConfig, RunLog
from salticid.engine.loop import Run, Status
from salticid.engine.parallel import Ranks, joined, pick_device, world_size
from salticid.engine.precision import settled
from salticid.engine.recipe import Recipe
from salticid.engine.rehearsal import rehearse
from salticid.engine.settings import Settings, TrainerConfig, ValidationConfig
from salticid.engine.signals import StopFlag
from salticid.engine.state import parameters_by_phase
from salticid.errors import ConfigError, UserError

__all__ = ["Settings", "Trainer", "TrainerConfig", "ValidationConfig"]


class Trainer:
    """Trains `recipe` on `data` in the run directory `directory`.

    Under torchrun every rank makes one, with the same arguments.
    """

    def __init__(
        self,
        recipe: Recipe,
        data: Data,
        directory: Path,
        settings: Settings,
        config: str = "",
        latents: Latents | None = None,
    ) -> None:
        """`config`: the resolved configuration, kept in every checkpoint; `latents`: what to train from in place of
        the training samples.

        Raises:
            ConfigError: the settings, the recipe and the data do not fit; nothing has been written.
        """
        settings.check()
        # Told before the ranks join: one that leaves while another still connects would break it.
        if settings.trainer.batch % (world := world_size()):
            raise ConfigError(f"trainer.batch is {settings.trainer.batch}; it must be a multiple of the {world} ranks")
        if settings.trainer.steps:
            _check_data(recipe, data, settings)
        parameters_by_phase(recipe)
        if settings.trainer.checkpoint_activations:
            _check_checkpointing(recipe)
        self.recipe, self.data, self.directory, self.settings = recipe, data, directory, settings
        self.config, self.latents = config, latents
        self.started = False

    def start(self, resume: bool = False) -> None:
        """Let the recipe load what training needs, before anything is written; `fit` does it, if nobody has.

        Raises:
            UserError: it cannot be loaded, or there are no such latents.
        """
        if self.started:
            return
        self.recipe.start(fresh=not (resume and checkpoints.listing(self.directory / checkpoints.FOLDER)))
        if self.latents:
            trainer = self.settings.trainer
            precision = settled(trainer.precision, pick_device(trainer.device))
            self.data = self.latents.replace(self.recipe, self.data, precision)
        self.started = True

    def fit(self, log: RunLog, resume: bool = False) -> Status:
        """Train to the last step, or to the first SIGTERM or SIGINT: then the step is completed and saved, and the
        answer is `interrupted`. With `resume`, go on from the newest checkpoint that is whole.

        `log` is quiet on all ranks but the first; it is closed in any case.

        Raises:
            UserError: see the message; the newest checkpoint is whole.
        """
        status = "failed"
        try:
            self.start(resume)
            device = pick_device(self.settings.trainer.device)
            micro_batch = self._micro_batch(device, self.directory, known=resume)
            with StopFlag() as stop, joined(device, self.settings.trainer.timeout) as ranks:
                run = self._run(self.directory, log, ranks, stop, micro_batch)
                run.resume() if resume else run.begin()
                status = run.loop()
                return status
        finally:
            log.close(status)

    def dry_run(self) -> dict[str, float]:
        """One of everything (see `rehearse`), in a directory of its own that is removed; the run itself is not begun.

        Raises:
            UserError: what would stop the run as well; there are no samples, as of a run of no steps.
        """
        if not len(self.data.train()):
            raise UserError("a dry run takes two steps, but there are no training samples (trainer.steps is 0?)")
        self.start()
        device = pick_device(self.settings.trainer.device)
        with (
            StopFlag() as stop,
            joined(device, self.settings.trainer.timeout) as ranks,
            _scratch(self.directory) as place,
        ):
            trainer = self.settings.trainer
            log = RunLog(place, LogConfig(), steps=trainer.steps, batch=trainer.batch, quiet=True)
            micro_batch = self._micro_batch(device, place, known=False)
            directory = Path(ranks.broadcast(str(place)))
            return rehearse(self._run(directory, log, ranks, stop, micro_batch))

    def _run(self, directory: Path, log: RunLog, ranks: Ranks, stop: StopFlag, micro_batch: int | None) -> Run:
        return Run(self.recipe, self.data, directory, self.settings, log, self.config, ranks, stop, micro_batch)

    def _micro_batch(self, device: torch.device, directory: Path, known: bool) -> int | None:
        """What the settings say; where they say `auto`, what is found by trial on the first rank, and noted in
        `directory`, or with `known` what was noted there before."""
        wanted = self.settings.trainer.micro_batch
        if wanted == "auto" and self.settings.trainer.steps == 0:
            return 1  # nothing to try; evaluation, which takes as many as the run did, is to fit into any memory
        if wanted != "auto" or os.environ.get("RANK", "0") != "0":
            return None if wanted == "auto" else wanted
        found = microbatch.recall(directory) if known else None
        if found is None:
            world = world_size()
            found = microbatch.find(self.recipe, self.data.train(), self.settings, device, world)
            microbatch.remember(directory, found)
        return found


def _check_data(recipe: Recipe, data: Data, settings: Settings) -> None:
    recipe.check(data)
    if len(data.train()) == 0:
        raise ConfigError("data: the training source is empty")
    if settings.validation.samples != 0 and len(data.val()) == 0:
        raise ConfigError("data: the validation source is empty; validation.samples: 0 trains without validation")


def _check_checkpointing(recipe: Recipe) -> None:
    if type(recipe).checkpoint_activations is Recipe.checkpoint_activations:
        recipe.checkpoint_activations()  # raises: now, rather than when the run has begun


@contextmanager
def _scratch(directory: Path) -> Iterator[Path]:
    """A folder on the disk of `directory`, for a while."""
    parent = next((path for path in directory.absolute().parents if path.is_dir()), None)
    with tempfile.TemporaryDirectory(prefix=".dry-run-", dir=parent) as place:
        yield Path(place)
