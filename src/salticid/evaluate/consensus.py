"""Lines through masked samples: least squares, and RANSAC (Fischler & Bolles 1981); batched, in float64.

Everywhere: x, y (B, N), mask (B, N) bool; what x and y are outside the mask does not matter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from salticid.diffusion.noise import keyed_uniform
from salticid.errors import ConfigError

if TYPE_CHECKING:
    from jaxtyping import Bool, Float64, Int64

CHUNK = 128
"""Hypotheses that are judged at a time, which bounds the memory."""


@dataclass(frozen=True)
class Ransac:
    """A line through the truth's logarithm that outliers do not sway: ln(z + offset) ≈ a x + b.

    `iterations` hypotheses, each the line through two pixels drawn from the mask (for `scale`, through one); two
    pixels with the same x give a level line. Each is judged on `points` pixels drawn from the mask with replacement,
    the same for all: most pixels within `threshold` wins, and the smaller sum of their squared residuals decides a
    tie. All pixels of the mask within `threshold` of the winner are then fitted by least squares.

    The draws follow from `seed` and the sample's key alone. Pixel-Perfect Depth's evaluation is `offset=1` with the
    other defaults, but stops early and judges on all pixels.
    """

    iterations: int = 1000
    threshold: float | None = None
    """Largest residual of an inlier, in ln(metres); null: the median absolute deviation of ln(z + offset)."""
    points: int = 4096
    offset: float = 0.0
    """Metres."""
    model: Literal["affine", "scale"] = "affine"
    """`scale`: a is 1, so that depth is changed by a factor alone (where the offset is 0)."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value, expected, good in (
            ("iterations", self.iterations, "at least 1", self.iterations >= 1),
            ("threshold", self.threshold, "a number above 0 or null", self.threshold is None or self.threshold > 0),
            ("points", self.points, "at least 1", self.points >= 1),
            ("offset", self.offset, "metres from 0", self.offset >= 0),
        ):
            if not good:
                raise ConfigError(f"alignment.ransac.{name} is {value}; expected {expected}")

    def fit_line(
        self, x: Float64[Tensor, "b n"], y: Float64[Tensor, "b n"], mask: Bool[Tensor, "b n"], keys: Int64[Tensor, " b"]
    ) -> tuple[Float64[Tensor, " b"], Float64[Tensor, " b"]]:
        """a, b of every sample; NaN where the mask is empty."""
        threshold = self._threshold(y, mask)
        slopes, levels = self._hypotheses(x, y, self._drawn(mask, keys, "pairs", self.iterations * 2))
        judged = self._drawn(mask, keys, "points", self.points)
        best = _most_inliers(slopes, levels, x.gather(1, judged), y.gather(1, judged), threshold)
        a, b = slopes.gather(1, best), levels.gather(1, best)
        inliers = mask & ((a * x + b - y).abs() <= threshold)
        slope, level = _offset(x, y, inliers) if self.model == "scale" else least_squares(x, y, inliers)
        # Without two inliers the hypothesis stands; without any pixel there is nothing that could.
        refined = (inliers.sum(dim=1) >= 2) | ~mask.any(dim=1)
        return torch.where(refined, slope, a[:, 0]), torch.where(refined, level, b[:, 0])

    def _threshold(self, y: Tensor, mask: Tensor) -> Tensor:
        if self.threshold is not None:
            return y.new_full((len(y), 1), self.threshold)
        return masked_median((y - masked_median(y, mask)[:, None]).abs(), mask)[:, None]

    def _drawn(self, mask: Tensor, keys: Tensor, what: str, count: int) -> Tensor:
        """Places (B, count) of pixels of the mask, drawn with replacement."""
        share = keyed_uniform(keys, (count,), seed=self.seed, stream=f"ransac/{what}", device=mask.device)
        up_to = mask.cumsum(dim=1)
        rank = (share * up_to[:, -1:]).long() + 1
        return torch.searchsorted(up_to, rank).clamp(max=mask.shape[1] - 1)

    def _hypotheses(self, x: Tensor, y: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
        """a, b (B, iterations) of the lines through the drawn pixels."""
        x1, x2 = x.gather(1, places).chunk(2, dim=1)
        y1, y2 = y.gather(1, places).chunk(2, dim=1)
        if self.model == "scale":
            return torch.ones_like(x1), y1 - x1
        slope = torch.where(x1 == x2, 0.0, (y2 - y1) / torch.where(x1 == x2, 1.0, x2 - x1))
        return slope, y1 - slope * x1


def _most_inliers(slopes: Tensor, levels: Tensor, x: Tensor, y: Tensor, threshold: Tensor) -> Tensor:
    """Place (B, 1) of the best hypothesis by (x, y), the pixels that all are judged on."""
    scores = []
    for a, b in zip(slopes.split(CHUNK, dim=1), levels.split(CHUNK, dim=1), strict=True):
        residual = (a[..., None] * x[:, None] + b[..., None] - y[:, None]).abs_()
        inside = residual <= threshold[..., None]
        # In units of the threshold a residual is at most 1, so that their mean never outweighs an inlier.
        share = (residual / threshold[..., None]).nan_to_num_().square_().where(inside, 0.0)
        scores.append(inside.sum(dim=2) - share.mean(dim=2))
    return torch.cat(scores, dim=1).argmax(dim=1, keepdim=True)


def least_squares(x: Tensor, y: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """a, b (B,) of the line a x + b nearest to y; NaN where the mask is empty, level where x is constant.

    The normal equations of centred values: as well conditioned as the problem itself.
    """
    count = mask.sum(dim=1)

    def mean(values: Tensor) -> Tensor:
        return torch.where(mask, values, 0.0).sum(dim=1) / count

    mean_x, mean_y = mean(x), mean(y)
    dx = torch.where(mask, x - mean_x[:, None], 0.0)
    spread = dx.square().sum(dim=1)
    slope = (dx * torch.where(mask, y - mean_y[:, None], 0.0)).sum(dim=1) / torch.where(spread > 0, spread, 1.0)
    return slope, mean_y - slope * mean_x


def _offset(x: Tensor, y: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """1 and the b of the line x + b nearest to y."""
    difference = torch.where(mask, y - x, 0.0).sum(dim=1) / mask.sum(dim=1)
    return torch.ones_like(difference), difference


def masked_median(values: Tensor, mask: Tensor) -> Tensor:
    """Median (B,) over the mask, the mean of the two middle ones of an even number; NaN where the mask is empty."""
    count = mask.sum(dim=1, keepdim=True)
    ordered = torch.where(mask, values, torch.inf).sort(dim=1).values
    middle = torch.cat(((count - 1) // 2, count // 2), dim=1).clamp(0, values.shape[1] - 1)
    return torch.where(count > 0, ordered.gather(1, middle), torch.nan).mean(dim=1)
