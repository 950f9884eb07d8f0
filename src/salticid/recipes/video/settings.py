"""Settings of the video recipes, and the refusal of values that make no sense."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from salticid.diffusion.guide import linear_scale, spatiotemporal_scale, triangle_scale
from salticid.diffusion.loss import EDMWeighting, NoiseWeighting, Uniform, Weighting
from salticid.diffusion.path import VP, beta_table
from salticid.diffusion.sigma import LevelIndex, Scaling, edm_scaling, epsilon_scaling, noise_levels, v_scaling
from salticid.diffusion.solve import dpmpp_2m, first_order, heun, identity, quarter_log
from salticid.diffusion.times import LogNormal, TimeSampler, UniformLevels, karras_grid
from salticid.errors import require

SOLVERS = {"euler": first_order, "heun": heun, "dpmpp_2m": dpmpp_2m}


def legacy_levels() -> Tensor:
    """The 1000 noise levels of Stable Diffusion's table of betas (√-linear, 0.00085 to 0.0120), ascending."""
    return noise_levels(VP(beta_table("scaled_linear", 1000, 0.00085, 0.0120)))


@dataclass(frozen=True)
class Preconditioning:
    """What the UNet sees and predicts (`sigma.Scaling`): denoiser scaling, in the terms of generative-models."""

    kind: Literal["v", "edm", "epsilon"] = "v"
    """`v` with the clock `quarter_log`: `VScalingWithEDMcNoise`, that of SVD, SV3D and SV4D."""
    clock: Literal["quarter_log", "sigma", "index"] = "quarter_log"
    """What the UNet is told of a level: ¼ ln σ, σ, or the index of the nearest of Stable Diffusion's 1000 levels."""
    sigma_data: float = 0.5
    """Of `edm`: standard deviation of the latents."""

    def __post_init__(self) -> None:
        require(
            "recipe.diffusion.preconditioning.sigma_data", self.sigma_data, 0 < self.sigma_data < math.inf, "above 0"
        )
        fits = self.kind != "edm" or self.clock == "quarter_log"
        require("recipe.diffusion.preconditioning.clock", self.clock, fits, "quarter_log for edm")

    def scaling(self) -> Scaling:
        if self.kind == "edm":
            return edm_scaling(self.sigma_data)
        clock = {"quarter_log": quarter_log, "sigma": identity}.get(self.clock) or LevelIndex(legacy_levels())
        return v_scaling(clock) if self.kind == "v" else epsilon_scaling(clock)


@dataclass(frozen=True)
class Levels:
    """Noise levels of training, one for each clip."""

    kind: Literal["lognormal", "discrete"] = "lognormal"
    """`discrete`: uniform over Stable Diffusion's 1000 levels."""
    mean: float = 1.0
    """P_mean of ln σ. SVD's last stage; its earlier ones had −1.2, 0, 0.5 and 0.7 (Blattmann et al. 2023, app. D)."""
    std: float = 1.6
    """P_std of ln σ."""

    def __post_init__(self) -> None:
        require("recipe.diffusion.levels.mean", self.mean, math.isfinite(self.mean), "a finite number")
        require("recipe.diffusion.levels.std", self.std, 0 < self.std < math.inf, "a number above 0")

    def sampler(self) -> TimeSampler:
        if self.kind == "discrete":
            return UniformLevels(levels=legacy_levels())
        return LogNormal(mean=self.mean, std=self.std)

    def midpoints(self, count: int) -> Tensor:
        """The levels in the middle of so many equally likely parts of the distribution, ascending."""
        return self.sampler().usual((torch.arange(count, dtype=torch.float64) + 0.5) / count)


WeightingName = Literal["unit", "edm", "epsilon"]
WEIGHTINGS: dict[WeightingName, Weighting] = {
    "unit": Uniform(),
    "edm": EDMWeighting(),
    "epsilon": NoiseWeighting(),
}


@dataclass(frozen=True)
class FrameNoise:
    """Noise that is added to the conditioning frame, in pixels: its standard deviation is exp(N(mean, std²)) in
    training (Blattmann et al. 2023, app. D.3), and the UNet is told of it."""

    mean: float = -3.0
    std: float = 0.5
    sampling: float = 0.02
    """Its standard deviation in evaluation and prediction."""

    def __post_init__(self) -> None:
        require("recipe.diffusion.frame_noise.mean", self.mean, self.mean < 10, "ln of a standard deviation, below 10")
        require("recipe.diffusion.frame_noise.std", self.std, 0 < self.std < math.inf, "a number above 0")
        require("recipe.diffusion.frame_noise.sampling", self.sampling, 0 <= self.sampling < math.inf, "0 or more")

    def sampler(self) -> LogNormal:
        return LogNormal(mean=self.mean, std=self.std)


@dataclass(frozen=True)
class Diffusion:
    """What the UNet is trained for."""

    preconditioning: Preconditioning = Preconditioning()
    levels: Levels = Levels()
    weighting: WeightingName = "unit"
    """Of the loss: `unit` weighs the error of the output, which for v is that of EDM with sigma_data 1; `edm` and
    `epsilon` are those of EDM with 0.5, and of noise prediction."""
    loss: Literal["l2", "l1"] = "l2"
    offset_noise: float = 0.0
    """Strength of the noise that all frames of a clip share in each channel."""
    frame_noise: FrameNoise = FrameNoise()

    def __post_init__(self) -> None:
        level = self.offset_noise
        require("recipe.diffusion.offset_noise", level, 0 <= level < math.inf, "a number, 0 or more")


@dataclass(frozen=True)
class Network:
    """Sizes of a UNet that begins from nothing, in place of the base's; see `VideoUNetConfig`."""

    widths: tuple[int, ...] = (64, 128)
    blocks: int = 1
    attention: tuple[bool, ...] = (True, True)
    heads: tuple[int, ...] = (2, 4)

    def __post_init__(self) -> None:
        levels = len(self.widths) == len(self.attention) == len(self.heads) > 0
        require("recipe.network.widths", list(self.widths), levels, "as many numbers as heads and attention")
        divided = all(heads > 0 and width % heads == 0 for width, heads in zip(self.widths, self.heads, strict=True))
        require("recipe.network.heads", list(self.heads), divided, "divisors of the widths")
        require("recipe.network.blocks", self.blocks, self.blocks >= 1, "at least 1")


@dataclass(frozen=True)
class Guider:
    """Classifier-free guidance by a scale that grows along the clip: `linear` over frames (SVD), `triangle` over an
    orbit and back (SV3D), `spatiotemporal` half of each (SV4D), or `constant` (high)."""

    kind: Literal["none", "constant", "linear", "triangle", "spatiotemporal"] = "linear"
    low: float = 1.0
    high: float = 2.5
    unconditional: Sequence[str] | None = None
    """Input keys whose embeddings are zero where guidance compares with nothing; null: those of all content."""

    def __post_init__(self) -> None:
        for key, value in (("low", self.low), ("high", self.high)):
            require(f"recipe.sampler.guider.{key}", value, 0 <= value < math.inf, "a number, 0 or more")

    def scale(self, frames: int, views: int = 1) -> Tensor | None:
        """Of each row of the grid (frames · views,), views innermost; None: there is no guidance."""
        count = frames * views
        scales = {
            "constant": lambda: torch.full((count,), self.high),
            "linear": lambda: linear_scale(frames, self.low, self.high).repeat_interleave(views),
            "triangle": lambda: triangle_scale(count, self.low, self.high),
            "spatiotemporal": lambda: spatiotemporal_scale(frames, views, self.low, self.high),
        }
        if self.kind == "none" or self.low == self.high == 1:
            return None
        return scales[self.kind]()


@dataclass(frozen=True)
class Sampler:
    """How evaluation, previews and predictions sample."""

    steps: int = 25
    solver: Literal["euler", "heun", "dpmpp_2m"] = "euler"
    sigma_min: float = 0.002
    sigma_max: float = 700.0
    rho: float = 7.0
    """Of the grid of levels (Karras et al. 2022, eq. 5)."""
    guider: Guider = Guider()

    def __post_init__(self) -> None:
        require("recipe.sampler.steps", self.steps, self.steps >= 1, "at least 1")
        ordered = 0 < self.sigma_min < self.sigma_max < math.inf
        require("recipe.sampler.sigma_max", self.sigma_max, ordered, f"a level above sigma_min, {self.sigma_min}")
        require("recipe.sampler.rho", self.rho, 0 < self.rho < math.inf, "a number above 0")

    def grid(self, steps: int | None = None) -> Tensor:
        """Levels from sigma_max to 0, (steps + 1,)."""
        return karras_grid(steps or self.steps, self.sigma_min, self.sigma_max, rho=self.rho)


@dataclass(frozen=True)
class Scoring:
    """What evaluation measures besides the loss; sampling is what takes its time."""

    levels: int = 5
    """At how many noise levels, the midpoints of so many equal parts of their distribution, the loss is measured."""
    sample: bool = True
    """Whether clips are sampled and compared with the truth."""
    fvd: str | None = None
    """A file with the I3D network (TorchScript), for FVD; null: none."""
    lpips: str | None = None
    """A file with LPIPS's weights; null: none."""

    def __post_init__(self) -> None:
        require("recipe.scoring.levels", self.levels, self.levels >= 1, "at least 1")
