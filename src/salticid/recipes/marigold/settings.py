"""Settings of the marigold recipe, and the refusal of values that make no sense."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from salticid.diffusion.target import X0, Epsilon, Target, V
from salticid.errors import require
from salticid.evaluate.alignment import Method
from salticid.evaluate.consensus import Ransac

TargetName = Literal["epsilon", "x0", "v"]
Spacing = Literal["trailing", "leading", "lcm"]
Start = Literal["gaussian", "zeros", "image"]

TARGETS: dict[TargetName, Target] = {"epsilon": Epsilon(), "x0": X0(), "v": V()}


@dataclass(frozen=True)
class Noise:
    """The noise of training. Sampling starts from plain Gaussian noise whatever it is."""

    kind: Literal["gaussian", "multi_resolution"] = "gaussian"
    strength: float = 0.9
    """Of the coarse layers of `multi_resolution`, at the noisiest time; annealed in proportion to time."""
    divide_by: Literal["expected", "batch"] = "expected"
    """What brings `multi_resolution` to unit variance. `batch`, the standard deviation of the whole micro-batch, as
    in Marigold: a sample's noise then depends on the others."""

    def __post_init__(self) -> None:
        require("recipe.noise.strength", self.strength, 0 <= self.strength <= 1, "a number in [0, 1]")


@dataclass(frozen=True)
class OneStep:
    """End-to-end fine-tuning (Martin Garcia et al. 2024): always the last time, through the VAE's decoder, with an
    affine-invariant loss of depth."""

    start: Start = "zeros"
    """What stands for the noise, in training and in sampling: zeros, the picture's latent, or Gaussian noise."""


@dataclass(frozen=True)
class Sampler:
    """How evaluation and previews sample."""

    steps: Sequence[int] = (1, 4)
    """One variant for each number of DDIM steps."""
    ensemble: int = 1
    """How many predictions of each picture are aligned and reduced to one."""
    processing: int = 0
    """Longest side, in pixels, at which pictures are looked at; 0: their own."""
    resolution: int = 768
    """The same in `salticid predict` and in an exported pipeline, where nobody says otherwise."""

    def __post_init__(self) -> None:
        require("recipe.sampler.steps", list(self.steps), bool(self.steps) and min(self.steps) >= 1, "at least 1 each")
        require("recipe.sampler.ensemble", self.ensemble, self.ensemble >= 1, "at least 1")
        require("recipe.sampler.processing", self.processing, self.processing >= 0, "0 or a number of pixels")
        require("recipe.sampler.resolution", self.resolution, self.resolution >= 0, "0 or a number of pixels")


@dataclass(frozen=True)
class Protocol:
    """How predictions are compared with true depth."""

    alignments: Sequence[Method] = ("depth",)
    """What brings a prediction to metres; the first names the plain metrics, further ones are `metric/variant-name`."""
    max_resolution: int | None = None
    """Longest side at which the alignment is fitted (1024 for ETH3D); null: all pixels."""
    ransac: Ransac = Ransac()

    def __post_init__(self) -> None:
        pixels = self.max_resolution
        require("recipe.protocol.max_resolution", pixels, pixels is None or pixels >= 1, "a number of pixels, or null")
        require("recipe.protocol.alignments", list(self.alignments), len(self.alignments) > 0, "at least one")
