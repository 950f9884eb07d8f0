"""The settings of a run, but for those that live beside their component."""

import math
from dataclasses import dataclass, field
from typing import Literal

from salticid.engine.checkpoint import CheckpointConfig
from salticid.engine.ema import EmaConfig
from salticid.engine.optim import OptimizerConfig, ScheduleConfig
from salticid.engine.parallel import Mode
from salticid.engine.precision import WantedPrecision
from salticid.errors import ConfigError


@dataclass(frozen=True)
class TrainerConfig:
    """How a run is trained. A step takes `batch` samples, over all ranks, in micro-batches of `micro_batch`."""

    steps: int = 1000
    """0: the checkpoint of step 0 is all that is made, from the weights that the recipe begins with."""
    batch: int = 8
    micro_batch: int | Literal["auto"] | None = None
    """Samples that go through the network at a time, on a rank: a number, `auto` (the most that memory holds, found
    by trial), or null for all of them. The loss of a step does not depend on it."""
    precision: WantedPrecision = "fp32"
    """`auto`: bf16 where the device multiplies it natively, fp32 elsewhere; a run keeps what it began with."""
    clip: float | None = None
    """Largest norm of the gradient of a phase."""
    workers: int = 0
    """Processes that read data, on each rank; 0: the training process does."""
    seed: int = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    parallel: Mode = "auto"
    """Under torchrun: `ddp` (also auto) or `fsdp`."""
    compile: bool = False
    channels_last: bool = False
    checkpoint_activations: bool = False
    on_nonfinite: Literal["stop", "skip"] = "stop"
    """Whether a non-finite loss or gradient ends the run, or the step is left out and logged with its samples."""
    tf32: bool = True
    deterministic: bool = False
    """On GPUs, use deterministic kernels where torch has them, so that a resumed run is bit-identical."""
    timeout: float = 600.0
    """Seconds after which a rank that waits for another gives up."""

    def check(self) -> None:
        for name, least in (("steps", 0), ("batch", 1)):
            if getattr(self, name) < least:
                raise ConfigError(f"trainer.{name} is {getattr(self, name)}; it must be at least {least}")
        if isinstance(self.micro_batch, int) and self.micro_batch < 1:
            raise ConfigError(f"trainer.micro_batch is {self.micro_batch}; it must be at least 1, `auto` or null")
        if self.clip is not None and not self.clip > 0:
            raise ConfigError(f"trainer.clip is {self.clip}; it must be above 0, or null")
        if self.workers < 0:
            raise ConfigError(f"trainer.workers is {self.workers}; it must not be negative")
        if not 0 < self.timeout < math.inf:
            raise ConfigError(f"trainer.timeout is {self.timeout}; it must be above 0 (seconds)")


@dataclass(frozen=True)
class ValidationConfig:
    """When and how a run is judged; after the last step it always is, unless `samples` is 0."""

    every_steps: int | None = None
    every_epochs: int | None = None
    samples: int | None = None
    """How many of the validation samples, spread evenly; null: all; 0: no validation."""
    weights: Literal["raw", "ema", "both"] = "ema"
    """An average that does not exist (yet) is not judged; the raw weights are, in its place."""
    previews: int = 4
    """Samples in the picture that goes with it; 0: none."""
    batch: int | None = None
    """Samples at a time on each rank; null: the micro-batch of training."""

    def check(self) -> None:
        for name in ("every_steps", "every_epochs", "batch"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ConfigError(f"validation.{name} is {value}; it must be at least 1, or null")
        for name in ("samples", "previews"):
            if (getattr(self, name) or 0) < 0:
                raise ConfigError(f"validation.{name} is {getattr(self, name)}; it must not be negative")


@dataclass(frozen=True)
class Settings:
    """All settings of a run, checked together."""

    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    ema: EmaConfig | None = field(default_factory=EmaConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)

    def check(self) -> None:
        """Raise ConfigError, naming key and value, where the settings cannot be run."""
        self.trainer.check()
        self.optimizer.check()
        if self.trainer.steps:  # else there is nothing to schedule or to average
            self.schedule.check(self.trainer.steps, self.optimizer)
            if self.ema:
                self.ema.check(self.trainer.steps)
        self.validation.check()
        self.checkpoint.check()
        self._check_best()

    def _check_best(self) -> None:
        name, judged = self.checkpoint.best_metric, self.validation
        if name is None:
            return
        if judged.samples == 0:
            raise ConfigError(f"checkpoint.best_metric is {name}, but validation.samples is 0")
        if name.startswith("ema/") and (self.ema is None or judged.weights == "raw"):
            raise ConfigError(f"checkpoint.best_metric is {name}, but the EMA is not validated")
        if name.startswith("raw/") and judged.weights == "ema" and self.ema is not None:
            raise ConfigError(f"checkpoint.best_metric is {name}, but validation.weights is ema")
