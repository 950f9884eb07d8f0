"""What a recipe offers the engine. A recipe owns its networks, losses and pictures; it never owns a loop."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from salticid.data.source import Batch, Data
from salticid.errors import ConfigError, UserError


@dataclass(frozen=True)
class Phase:
    """One optimiser step on one group of parameters; all phases run once in every training step, in order.

    A diffusion model has one phase; alternating self-supervised motion, or a GAN, has two.
    """

    name: str
    modules: tuple[str, ...]
    """Names of the recipe's submodules (dotted) whose trainable parameters this phase's optimiser owns."""
    lr_scale: float = 1.0
    lr_scales: Mapping[str, float] = field(default_factory=dict)
    """Further factors of the learning rate, for some of `modules`."""
    start: int = 0
    """First step at which the phase runs."""

    def rate(self, parameter: str) -> float:
        """Factor of the learning rate of a parameter, by its dotted name in the recipe."""
        further = (scale for module, scale in self.lr_scales.items() if parameter.startswith(f"{module}."))
        return self.lr_scale * next(further, 1.0)


@dataclass
class Loss:
    """The loss of one micro-batch."""

    total: Tensor
    """Scalar float32, the mean over the micro-batch (or over its valid elements, where `weight` is given)."""
    terms: dict[str, Tensor] = field(default_factory=dict)
    """Detached scalars for the log, by name."""
    weight: Tensor | None = None
    """Scalar: how much this micro-batch counts against the others of the step, e.g. its number of valid
    latent cells. None: the number of samples. Zero is allowed (nothing valid): the micro-batch adds nothing."""


@dataclass(frozen=True)
class Clock:
    """Where the run stands; with `batch["key"]`, all that randomness in a loss may depend on."""

    step: int
    """Number of the step being taken, from 0."""
    steps: int
    seed: int


class Recipe(nn.Module, ABC):
    """A model with its losses, metrics and pictures. The `recipe:` entry of a configuration.

    Its `state_dict` is what `model.safetensors` holds. Parameters with `requires_grad=False` are frozen:
    neither optimised nor averaged nor checkpointed unless `save_frozen` is True.
    """

    save_frozen: bool = True

    @abstractmethod
    def phases(self) -> tuple[Phase, ...]: ...

    @abstractmethod
    def loss(self, phase: str, batch: Batch, clock: Clock) -> Loss:
        """The loss of one micro-batch. The batch is on the model's device; autocast is already on."""

    def forward(self, phase: str, batch: Batch, clock: Clock) -> Loss:
        """`loss`, as a module call, so that DDP and FSDP hooks run."""
        return self.loss(phase, batch, clock)

    @abstractmethod
    def evaluate(self, batch: Batch, *, seed: int) -> dict[str, Tensor]:
        """Metrics of every sample, each (B,) float; or vectors (B, K), features from which `summarise` computes a
        metric of the whole set and which are kept no longer. Noise depends on (seed, batch["key"]) alone, so that
        neither batch size nor the number of ranks changes a digit."""

    def summarise(self, records: dict[str, Tensor]) -> dict[str, float]:
        """One number a metric from those of all samples (each (N,) float64, vectors (N, K), in the order of the
        source)."""
        return {name: float(values.mean()) for name, values in records.items()}

    @abstractmethod
    def preview(self, batch: Batch, *, seed: int) -> Tensor:
        """A picture of what the model makes of the batch: uint8 (3, H, W)."""

    def legend(self) -> str:
        """What the rows or columns of `preview` show, for captions."""
        return ""

    def spheres(self, batch: Batch, *, seed: int) -> dict[str, Tensor]:
        """Pictures to look around in, under the same conditions as `preview`: for each name ("12-step", "truth") the
        equirectangular pictures of the batch's samples, or of the first of them, uint8 (b, 3, H, 2H). The first name
        is shown first. Names are lower-case letters, digits, `-` and `.`. Default: none."""
        return {}

    def predict(self, inputs: list[Path], output: Path) -> list[Path]:
        """Run on files and write results; a recipe adds keyword options of its own, which become `salticid
        predict` flags. Returns the files written."""
        raise UserError(f"{type(self).__name__} has no prediction from files")

    def export(self, output: Path) -> list[Path]:
        """Write the model to the folder `output` in the format of others, on the CPU and in evaluation mode; keyword
        options of a recipe become `salticid export` flags. Returns the files written."""
        raise UserError(f"{type(self).__name__} has no export")

    def check(self, data: Data) -> None:
        """Raise ConfigError where data and recipe do not fit; called before anything is written."""

    def start(self, *, fresh: bool) -> None:
        """Get ready to train, on the CPU and on every rank, before anything is written: load what only training needs
        (frozen networks of a loss, a teacher) and, in a `fresh` run that no checkpoint will overwrite, pretrained
        weights.

        Raises:
            UserError: they cannot be loaded.
        """

    def encode(self, batch: Batch) -> dict[str, Tensor]:
        """What the frozen parts make of a training batch, (B, …) each: `salticid encode` keeps it, and `loss` must
        accept batches that hold it in place of what it was made from (`id`, `key` and `replaced` are always there).

        A pure function of each sample: of the batch it may use neither `key` nor the other samples; nothing is drawn,
        and the mode of modules does not matter. Called without gradients, under the precision of training.

        Raises:
            ConfigError: the recipe has nothing to encode.
        """
        raise ConfigError(f"{type(self).__name__} has nothing to encode: no frozen part looks at its samples first")

    def encoding(self) -> dict[str, Any]:
        """All that the result of `encode` depends on beside the batch, as plain JSON: a version number of its code,
        settings, digests of frozen weights (`engine.latents.digest`). Right once `start` has been called, fresh or
        not. Raises as `encode` does."""
        raise ConfigError(f"{type(self).__name__} has nothing to encode: no frozen part looks at its samples first")

    def blocks(self) -> Iterable[nn.Module]:
        """Submodules that FSDP shards one by one and `torch.compile` compiles; default: the direct children."""
        return self.children()

    def checkpoint_activations(self) -> None:
        """Turn gradient checkpointing on; called once, before training. A recipe that has none raises ConfigError."""
        raise ConfigError(
            f"trainer.checkpoint_activations is true, but {type(self).__name__} has no gradient checkpointing"
        )
