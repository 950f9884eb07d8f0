"""From depth in metres to the map in [−1, 1] that the model learns to make, sample by sample."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from salticid.errors import ConfigError

Space = Literal["depth", "log", "disparity", "metric"]


@dataclass(frozen=True)
class DepthCoding:
    """What −1 and 1 stand for.

    `depth`: the quantiles of a sample's valid depths, as Marigold has it (Ke et al. 2024, section 3.2); `log`: those
    of their logarithms; `disparity`: those of 1/depth, near at +1; `metric`: `near` and `far`, the same for all
    samples, so that predictions are metres. Beyond −1 and 1 is clipped.
    """

    space: Space = "depth"
    low: float = 0.02
    high: float = 0.98
    near: float = 0.1
    far: float = 80.0
    """Metres, of `metric`."""
    invalid: Literal["near", "far"] = "near"
    """What pixels without depth become. `near`, as in Marigold, where they are zeros that are clipped, and where depth
    beyond the limits is clipped as any other; `far`, for all that is not valid, suits data without depth in the sky."""

    def __post_init__(self) -> None:
        if not 0 <= self.low < self.high <= 1:
            raise ConfigError(f"recipe.coding.low and high are {self.low}, {self.high}; expected 0 ≤ low < high ≤ 1")
        if not 0 < self.near < self.far:
            raise ConfigError(f"recipe.coding.near and far are {self.near}, {self.far}; expected 0 < near < far")

    @property
    def metric(self) -> bool:
        return self.space == "metric"

    @property
    def predicts(self) -> Literal["depth", "log", "disparity"]:
        """What the coded values are, up to scale and shift."""
        return "depth" if self.space == "metric" else self.space

    def __call__(self, depth: Tensor, valid: Tensor) -> Tensor:
        """Depth (B, 1, H, W) in metres and where it is valid → (B, 1, H, W) in [−1, 1], float32. A sample without a
        valid pixel, or with one depth alone, is −1 where valid."""
        value = self.value(depth.float())
        low, high = self.range(value, valid)
        coded = ((value - low) / (high - low).clamp_min(1e-6) * 2 - 1).nan_to_num(-1.0).clamp(-1, 1)
        if self.invalid == "near":
            return coded
        return coded.where(valid, -1.0 if self.space == "disparity" else 1.0)

    def range(self, value: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """What is coded as −1 and 1, (B, 1, 1, 1) each; NaN for a sample without a valid pixel."""
        if self.metric:
            ends = value.new_tensor([self.near, self.far])[:, None].expand(2, len(value))
        else:
            known = value.where(valid, torch.nan).flatten(1)
            ends = known.nanquantile(value.new_tensor([self.low, self.high]), dim=1)
        low, high = ends[..., None, None, None]
        return low, high

    def decode(self, coded: Tensor) -> Tensor:
        """What the model has made → [0, 1], of the coding's space; metres where it is `metric`."""
        unit = ((coded.float() + 1) / 2).clamp(0, 1)
        return self.near + unit * (self.far - self.near) if self.metric else unit

    def value(self, depth: Tensor) -> Tensor:
        """Depth in the coding's space."""
        match self.space:
            case "log":
                return depth.clamp_min(1e-6).log()
            case "disparity":
                return 1 / depth.clamp_min(1e-6)
            case _:
                return depth
