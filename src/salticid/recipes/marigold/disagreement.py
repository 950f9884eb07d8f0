"""How much aligned predictions of a picture differ, as a function of a few numbers instead of images.

Aligned predictions are sᵢxᵢ + tᵢ. A point p is (B, 2E), all s and then all t, or (B, E), s alone with t = 0. All
objectives return values (B,) and exact gradients of p's shape, in float64, and none changes when p is multiplied by a
positive number.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Float64

SMOOTH = 1e-7
"""Differences between maps of range 1 that count as none: the root has no gradient at 0."""
SMALLEST = 1e-6
"""Ranges below are taken as this."""
REGULARISER = 0.02
"""Marigold's weight of how far the reduced map is from spanning [0, 1]."""


@dataclass(frozen=True)
class Disagreement:
    """Σ_{i<j} RMSE(sᵢxᵢ + tᵢ, sⱼxⱼ + tⱼ), from the moments of the predictions over the pixels: the mean square of
    a difference of aligned predictions is a quadratic form of (s, t)."""

    mean: Float64[Tensor, "b e"]
    covariance: Float64[Tensor, "b e e"]

    def __call__(self, p: Float64[Tensor, "b n"]) -> tuple[Tensor, Tensor]:
        """The sum and its gradient (not divided by anything: p multiplied by k multiplies it by k)."""
        members = self.mean.shape[1]
        s, t = p[:, :members], p[:, members:]
        centre = s * self.mean + (t if t.shape[1] else 0)
        apart = centre[:, :, None] - centre[:, None]
        shared = self.covariance * s[:, None]  # (b, i, j): covariance of xᵢ and sⱼxⱼ
        variance = s[:, :, None] * shared
        own = variance.diagonal(dim1=1, dim2=2)
        squared = (own[:, :, None] + own[:, None] - 2 * variance).clamp(min=0) + apart.square()
        root = (squared + SMOOTH**2).sqrt()
        others = 1 - torch.eye(members, dtype=p.dtype, device=p.device)
        inverse = others / root
        by_shift = (inverse * apart).sum(dim=2)
        spread = self.covariance.diagonal(dim1=1, dim2=2) * s
        by_scale = spread * inverse.sum(dim=2) - (inverse * shared).sum(dim=2) + by_shift * self.mean
        gradient = torch.cat((by_scale, by_shift), dim=1)[:, : p.shape[1]]
        return (root * others).sum(dim=(1, 2)) / 2, gradient

    def by_spread(self, p: Float64[Tensor, "b n"]) -> tuple[Tensor, Tensor]:
        """The sum relative to the mean standard deviation of the aligned predictions: a convex sum under a linear
        constraint, hence without local minima."""
        total, by_total = self(p)
        members = self.mean.shape[1]
        by_size = torch.zeros_like(p)
        by_size[:, :members] = self.covariance.diagonal(dim1=1, dim2=2).sqrt() / members
        return _ratio(total, by_total, (by_size * p).sum(dim=1), by_size)


@dataclass(frozen=True)
class Published:
    """Marigold's objective of the maps as they are returned, brought to [0, 1]: the sum relative to the range of the
    reduced map m. Without shifts it is relative to the maximum, and the regulariser |min m| stays.

    `extremes` (B, E, N) are pixels of the predictions among which the minimum and the maximum of m are looked for.
    All pixels can only span a larger range, hence have a lower objective.
    """

    disagreement: Disagreement
    extremes: Float64[Tensor, "b e n"]
    reduced: Callable[[Tensor], Tensor]
    """(B, E, N) → (B, 1, N)."""
    median: bool

    def __call__(self, p: Float64[Tensor, "b n"]) -> tuple[Tensor, Tensor]:
        total, by_total = self.disagreement(p)
        members = self.extremes.shape[1]
        s, t = p[:, :members, None], p[:, members:, None]
        aligned = self.extremes * s + (t if t.shape[1] else 0)
        m = self.reduced(aligned)[:, 0]
        low, by_low = self._at(m.argmin(dim=1), m, aligned, p)
        high, by_high = self._at(m.argmax(dim=1), m, aligned, p)
        if t.shape[1]:
            return _ratio(total, by_total, high - low, by_high - by_low)
        total, by_total = total + REGULARISER * low.abs(), by_total + REGULARISER * low.sign()[:, None] * by_low
        return _ratio(total, by_total, high, by_high)

    def _at(self, place: Tensor, m: Tensor, aligned: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
        """m at one pixel of each picture, and its gradient."""
        index = place[:, None, None].expand(-1, aligned.shape[1], 1)
        value = m.gather(1, place[:, None])
        share = (
            (aligned.gather(2, index)[..., 0] == value).to(p.dtype)
            if self.median
            else torch.ones_like(index[..., 0], dtype=p.dtype)
        )
        share = share / share.sum(dim=1, keepdim=True)
        by_scale = share * self.extremes.gather(2, index)[..., 0]
        return value[:, 0], torch.cat((by_scale, share), dim=1)[:, : p.shape[1]]


def _ratio(top: Tensor, by_top: Tensor, bottom: Tensor, by_bottom: Tensor) -> tuple[Tensor, Tensor]:
    """top / bottom; a bottom that is not positive makes it huge."""
    bottom = bottom.clamp(min=SMALLEST)
    value = top / bottom
    return value, (by_top - value[:, None] * by_bottom) / bottom[:, None]
