"""Bring predicted depth to the scale of the truth, sample by sample, as evaluations of relative depth do.

What fits what, with prediction x, true depth z > 0 in metres, over the valid pixels of a sample:

- `depth`: z ≈ a x + b, least squares;
- `disparity`: 1/z ≈ a x + b, least squares; disparities below 1/`FARTHEST` are raised to it before the inversion;
- `ransac`: ln(z + offset) ≈ a x + b, see `Ransac`;
- `median`: z ≈ x · median(z) / median(x);
- `none`: z ≈ x.

x is what the network predicts: depth, disparity or log depth, each up to scale and shift where the method fits both.
Where the method fits in another space than that, x is first brought to metres by least squares in its own space, no
nearer than the nearest true pixel, and what this gives is mapped to the method's space and fitted there. `median` and
`none` take x as it is, 1/x or eˣ. Everything is float64 and batched.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from salticid.errors import ConfigError
from salticid.evaluate.consensus import Ransac, least_squares, masked_median

if TYPE_CHECKING:
    from collections.abc import Callable

    from jaxtyping import Bool, Float, Float64, Int64

    Solve: TypeAlias = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]

Method = Literal["depth", "disparity", "ransac", "median", "none"]
Space = Literal["depth", "disparity", "log"]

FARTHEST = 1000.0
"""Metres: what a disparity that is not positive stands for (as in Marigold's evaluation)."""


@dataclass(frozen=True)
class Alignment:
    """One way to align. Refuses, with a ConfigError, settings that make no sense."""

    method: Method = "depth"
    predicts: Space = "depth"
    """What the aligned values are: `depth`, `disparity` or `log` (of depth)."""
    max_resolution: int | None = None
    """Longest side, in pixels, at which the fit looks: larger maps are thinned out (`thinned`); null: all pixels."""
    ransac: Ransac = field(default_factory=Ransac)

    def __post_init__(self) -> None:
        if self.max_resolution is not None and self.max_resolution < 1:
            raise ConfigError(f"alignment.max_resolution is {self.max_resolution}; expected a number of pixels or null")

    def __call__(
        self,
        prediction: Float[Tensor, "b 1 h w"],
        truth: Float[Tensor, "b 1 h w"],
        mask: Bool[Tensor, "b 1 h w"],
        *,
        limits: Float[Tensor, "b 2"] | None = None,
        keys: Int64[Tensor, " b"] | None = None,
    ) -> Float64[Tensor, "b 1 h w"]:
        """The prediction in metres, at all pixels; NaN for a sample whose mask is empty and that needs a fit.

        Args:
            prediction: in the space `predicts`.
            truth: metres; positive and finite in the mask, anything elsewhere.
            mask: which pixels the fit may look at.
            limits: the nearest and the farthest depth of each sample, metres; the result is clipped to them.
            keys: what RANSAC's draws are keyed by, e.g. `batch["key"]`; None: by the same for all.
        """
        x, z = prediction.double(), torch.where(mask, truth.double(), 1.0)
        keys = torch.zeros(len(x), dtype=torch.int64) if keys is None else keys
        depth = self._metric(x, z, mask, lambda x, y, seen: self.ransac.fit_line(x, y, seen, keys))
        if limits is None:
            return depth
        near, far = limits.double().view(-1, 2, 1, 1, 1).unbind(1)
        return depth.clamp(near, far)

    def _metric(self, x: Tensor, z: Tensor, mask: Tensor, ransac: Solve) -> Tensor:
        if self.method == "none":
            return to_depth(x, self.predicts)
        if self.method == "median":
            depth = to_depth(x, self.predicts)
            ours, theirs, seen = (thinned(m, self.max_resolution).flatten(1) for m in (depth, z, mask))
            return depth * (masked_median(theirs, seen) / masked_median(ours, seen)).view(-1, 1, 1, 1)
        space: Space = "log" if self.method == "ransac" else self.method
        if space != self.predicts:
            metres = self._fitted(x, z, mask, self.predicts, least_squares)
            nearest = torch.where(mask, z, torch.inf).amin(dim=(1, 2, 3), keepdim=True)
            x = self._from_depth(metres.clamp(min=nearest), space)
        return self._fitted(x, z, mask, space, ransac if self.method == "ransac" else least_squares)

    def _fitted(self, x: Tensor, z: Tensor, mask: Tensor, space: Space, solve: Solve) -> Tensor:
        """Metres from the line through (x, z in `space`)."""
        known, wanted, seen = (
            thinned(m, self.max_resolution).flatten(1) for m in (x, self._from_depth(z, space), mask)
        )
        a, b = (value.view(-1, 1, 1, 1) for value in solve(known, wanted, seen))
        return to_depth(a * x + b, space) - (self.ransac.offset if space == "log" else 0.0)

    def _from_depth(self, z: Tensor, space: Space) -> Tensor:
        if space == "log":
            return (z + self.ransac.offset).log()
        return 1 / z if space == "disparity" else z


def to_depth(x: Tensor, space: Space) -> Tensor:
    """Depth of what is depth, disparity (at least 1/`FARTHEST`) or the logarithm of depth."""
    if space == "log":
        return x.exp()
    return 1 / x.clamp(min=1 / FARTHEST) if space == "disparity" else x


def thinned(maps: Tensor, longest: int | None) -> Tensor:
    """Maps (B, C, H, W) of any type, down to `longest` pixels on the longer side by leaving pixels out (nearest-exact,
    the other side rounded down); smaller ones, and all where `longest` is None, as they are."""
    height, width = maps.shape[-2:]
    now = max(height, width)
    if longest is None or now <= longest:
        return maps
    size = max(height * longest // now, 1), max(width * longest // now, 1)
    kept = F.interpolate(maps.to(torch.uint8) if maps.dtype == torch.bool else maps, size, mode="nearest-exact")
    return kept.to(maps.dtype)
