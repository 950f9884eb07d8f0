"""Several predictions of one picture, aligned with each other and reduced to one.

Marigold's objective (Ke et al. 2024, section 3.3) is, over a scale sᵢ and a shift tᵢ for each prediction xᵢ,

    Σ_{i<j} RMSE(sᵢxᵢ + tᵢ, sⱼxⱼ + tⱼ) + 0.02 (|min m| + |1 − max m|),    m the pixelwise median of the sᵢxᵢ + tᵢ,

and m is brought to [0, 1] at the end. Multiplying all sᵢ, tᵢ by k multiplies the sum by k and costs 0.02 (1 − k) at
most: wherever the sum is above 0.02, and for ten predictions it nearly always is, the minimum is k = 0, and what a
solver returns is where it gave up on its way there. So the objective here is theirs of the maps that are returned,
after the last step: k, and a shift that all share, then do not matter. Where their minimum is not at 0 it is this one,
for there min m = 0 and max m = 1 (the penalty is exact).

The sum is a function of the E×E second moments of the predictions, for which they are read once; the minimum and the
maximum of m are looked for among the pixels where it is lowest and highest to begin with. So no iteration looks at an
image, and the gradient is exact. The range of m makes the objective neither smooth nor convex: what is found is the
lower of two local minima, sought from the published start and from the minimum of a convex sibling (`by_spread`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from salticid.errors import ConfigError
from salticid.evaluate.alignment import thinned
from salticid.recipes.marigold.bfgs import minimise
from salticid.recipes.marigold.disagreement import SMALLEST, Disagreement, Published
from salticid.recipes.marigold.selection import lower_median

if TYPE_CHECKING:
    from jaxtyping import Float, Float64

EXTREMES = 4096
"""Pixels among which the minimum of the reduced map is looked for, and as many for the maximum."""
CHUNK = 1 << 16
"""Pixels that are summed at a time."""


@dataclass(frozen=True)
class Ensemble:
    """How predictions are made one. Refuses, with a ConfigError, settings that make no sense."""

    reduction: Literal["median", "mean"] = "median"
    scale_invariant: bool = True
    """Predictions are alike up to a factor."""
    shift_invariant: bool = True
    """They are alike up to a summand too."""
    max_resolution: int | None = 1024
    """Longest side, in pixels, at which they are compared; larger maps are thinned out; null: all pixels."""
    max_iter: int = 200
    tol: float = 1e-7
    """Relative decrease of the objective in an iteration at which the alignment ends."""

    def __post_init__(self) -> None:
        if self.shift_invariant and not self.scale_invariant:
            raise ConfigError("ensemble.shift_invariant is true without scale_invariant; expected both, or scale alone")
        pixels = self.max_resolution
        for name, value, expected, good in (
            ("max_resolution", pixels, "a number of pixels or null", pixels is None or pixels >= 1),
            ("max_iter", self.max_iter, "0 or more", self.max_iter >= 0),
            ("tol", self.tol, "a number from 0", self.tol >= 0),
        ):
            if not good:
                raise ConfigError(f"ensemble.{name} is {value}; expected {expected}")

    def __call__(
        self, predictions: Float[Tensor, "b e h w"]
    ) -> tuple[Float[Tensor, "b 1 h w"], Float[Tensor, "b 1 h w"]]:
        """One map and its uncertainty for each picture.

        Args:
            predictions: E maps of each of B pictures, values not negative. Pictures do not see each other.

        Returns:
            The pixelwise median (of an even number the lower middle) or mean of the aligned predictions, moved and
            scaled to [0, 1]; scaled alone, to a maximum of 1, without `shift_invariant`; as it is without
            `scale_invariant`. And how much they differ, in the same unit: the median absolute deviation from it, or
            the standard deviation (divisor E − 1).
        """
        predictions = predictions.float()
        if not self.scale_invariant:
            reduced = self.reduced(predictions)
            return reduced, self._spread(predictions, reduced)
        scale, shift = (v.to(predictions)[..., None, None] for v in self.align(predictions))
        aligned = predictions * scale + shift
        reduced = self.reduced(aligned)
        spread = self._spread(aligned, reduced)
        low = reduced.amin(dim=(2, 3), keepdim=True) if self.shift_invariant else torch.zeros_like(scale[:, :1])
        width = (reduced.amax(dim=(2, 3), keepdim=True) - low).clamp(min=SMALLEST)
        return (reduced - low) / width, spread / width

    def align(self, predictions: Float[Tensor, "b e h w"]) -> tuple[Float64[Tensor, "b e"], Float64[Tensor, "b e"]]:
        """The scale and the shift of each prediction, up to a factor and a summand that all share; on the CPU, where
        the solver works, whatever device the predictions are on."""
        maps = thinned(predictions.float(), self.max_resolution).flatten(2)
        low = maps.amin(dim=2) if self.shift_invariant else torch.zeros_like(maps[..., 0])
        width = maps.amax(dim=2) - low
        width = torch.where(width > SMALLEST, width, 1.0)
        members = _Members(maps, low.double(), width.double())
        ones = torch.ones_like(low, device="cpu", dtype=torch.float64)
        start = torch.cat((ones, torch.zeros_like(ones)), dim=1) if self.shift_invariant else ones
        disagreement = members.disagreement()
        near = minimise(disagreement.by_spread, start, self.max_iter, self.tol)
        extremes = members.extremes(near, self.reduced)
        published = Published(disagreement, extremes, self.reduced, self.reduction == "median")
        a, b = (minimise(published, p, self.max_iter, self.tol) for p in (near, start))
        return members.unscaled(torch.where((published(a)[0] <= published(b)[0])[:, None], a, b))

    def reduced(self, maps: Tensor) -> Tensor:
        """(B, E, …) → (B, 1, …)."""
        return maps.mean(dim=1, keepdim=True) if self.reduction == "mean" else lower_median(maps)[:, None]

    def _spread(self, maps: Tensor, reduced: Tensor) -> Tensor:
        if self.reduction == "median":
            return lower_median((maps - reduced).abs())[:, None]
        return maps.std(dim=1, keepdim=True, correction=min(1, maps.shape[1] - 1))


@dataclass(frozen=True)
class _Members:
    """Predictions (B, E, pixels), float32, that the solver sees shifted and scaled to [0, 1], each by itself."""

    maps: Tensor
    low: Tensor
    width: Tensor

    def disagreement(self) -> Disagreement:
        mean, covariance = _moments(self.maps)
        unit = self.width[:, :, None] * self.width[:, None]
        return Disagreement(((mean - self.low) / self.width).cpu(), (covariance / unit).cpu())

    def unscaled(self, p: Tensor) -> tuple[Tensor, Tensor]:
        """Scales and shifts (B, E) of the predictions themselves."""
        members = self.maps.shape[1]
        scale = p[:, :members] / self.width.cpu()
        return scale, (p[:, members:] if p.shape[1] > members else 0) - scale * self.low.cpu()

    def extremes(self, p: Tensor, reduced: Callable[[Tensor], Tensor]) -> Tensor:
        """The pixels (B, E, N) at which the reduced map is lowest and highest at the point p."""
        scale, shift = (v.to(self.maps)[..., None] for v in self.unscaled(p))
        m = reduced(self.maps * scale + shift)[:, 0]
        count = min(EXTREMES, m.shape[1])
        places = torch.cat([m.topk(count, largest=largest, sorted=False).indices for largest in (False, True)], dim=1)
        values = self.maps.gather(2, places[:, None].expand(-1, self.maps.shape[1], -1)).double()
        return ((values - self.low[..., None]) / self.width[..., None]).cpu()


def _moments(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Means (B, E) and covariances (B, E, E) over the pixels of maps (B, E, pixels), in float64."""
    pixels = maps.shape[2]
    parts = maps.split(CHUNK, dim=2)
    mean = torch.stack([part.double().sum(dim=2) for part in parts]).sum(dim=0) / pixels
    centred = (part.double() - mean[..., None] for part in parts)
    return mean, torch.stack([part @ part.mT for part in centred]).sum(dim=0) / pixels
