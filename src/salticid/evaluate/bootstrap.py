"""Confidence intervals of metrics, by the percentile bootstrap (Efron 1979)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from salticid.diffusion.noise import keyed_uniform
from salticid.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable

    from jaxtyping import Float, Float64, Int64

    Statistic = Callable[[Float64[Tensor, "r n ..."]], Float64[Tensor, "r ..."]]

CHUNK = 1 << 22
"""Resampled values at a time, which bounds the memory (32 MB)."""


@dataclass(frozen=True)
class Interval:
    """A statistic and the interval that covers it; all of the shape that the statistic has."""

    value: Float64[Tensor, " ..."]
    low: Float64[Tensor, " ..."]
    high: Float64[Tensor, " ..."]


def mean(samples: Float64[Tensor, "r n ..."]) -> Float64[Tensor, "r ..."]:
    """The mean of each resample."""
    return samples.mean(dim=1)


def bootstrap(
    values: Float[Tensor, "n ..."],
    statistic: Statistic = mean,
    *,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
    blocks: Int64[Tensor, " n"] | None = None,
) -> Interval:
    """The statistic of all samples, and the quantiles (1 ∓ level)/2 of what it is over resamples of as many samples,
    drawn with replacement.

    Samples of one video are alike; drawn one by one they make the interval too narrow. With `blocks` whole sequences
    are drawn, as many as there are, so that resamples differ in size where sequences do. From a single block no
    interval can be told: its ends are NaN, as they are for a single sample.

    The draws follow from the seed alone, whatever the device; every metric of a row goes with its sample.

    Args:
        values: one row a sample: a number, or several metrics, for each of which there is an interval.
        statistic: of resamples (R, n, …), over dimension 1, in float64: e.g. `lambda x: x.median(dim=1).values`.
        blocks: number of the sequence that each sample is of, in any order.

    Raises:
        UserError: there are no samples, some are not finite, `blocks` has another length, `level` is not inside (0, 1)
            or `resamples` is below 1.
    """
    _check(values, level, resamples, blocks)
    values = values.detach().double()
    order, sizes = _grouped(len(values), blocks, values.device)
    value = statistic(values[None])[0]
    if len(sizes) == 1:
        nothing = torch.full_like(value, torch.nan)
        return Interval(value, nothing, nothing)
    starts = sizes.cumsum(0) - sizes
    found = value.new_empty(resamples, *value.shape)
    row = max(int(len(sizes) * sizes.max()) * (values[0].numel() or 1), 1)
    for keys in torch.arange(resamples, device=values.device).split(max(CHUNK // row, 1)):
        share = keyed_uniform(keys, (len(sizes),), seed=seed, stream="bootstrap", device=values.device)
        drawn = (share * len(sizes)).long()
        totals = sizes[drawn].sum(dim=1)
        for total in totals.unique():  # one where blocks are of equal size
            same = totals == total
            places = order[_places(starts, sizes, drawn[same].flatten())]
            found[keys[same]] = statistic(values[places.view(-1, int(total))])
    ends = found.new_tensor(((1 - level) / 2, (1 + level) / 2))
    low, high = torch.quantile(found, ends, dim=0)
    return Interval(value, low, high)


def _check(values: Tensor, level: float, resamples: int, blocks: Tensor | None) -> None:
    if values.ndim == 0 or len(values) == 0:
        raise UserError("bootstrap: there are no samples")
    broken = int((~values.isfinite()).reshape(len(values), -1).any(dim=1).sum())
    if broken:
        raise UserError(f"bootstrap: {broken} of {len(values)} samples are not finite; leave them out and say so")
    if blocks is not None and blocks.shape != values.shape[:1]:
        raise UserError(f"bootstrap: {len(values)} samples but {tuple(blocks.shape)} numbers of blocks")
    if not 0 < level < 1:
        raise UserError(f"bootstrap: level is {level}; expected a share inside (0, 1), such as 0.95")
    if resamples < 1:
        raise UserError(f"bootstrap: resamples is {resamples}; expected at least 1")


def _grouped(count: int, blocks: Tensor | None, device: torch.device) -> tuple[Tensor, Tensor]:
    """Places of the samples, block by block, and the sizes of the blocks; without blocks each sample is one."""
    if blocks is None:
        return torch.arange(count, device=device), torch.ones(count, dtype=torch.int64, device=device)
    _, sizes = blocks.to(device).unique(return_counts=True)  # sorted by number, as the places are
    return torch.argsort(blocks.to(device), stable=True), sizes


def _places(starts: Tensor, sizes: Tensor, drawn: Tensor) -> Tensor:
    """Where the samples of the drawn blocks stand, one block after the other."""
    counts = sizes[drawn]
    ends = counts.cumsum(0)
    within = torch.arange(int(ends[-1]), device=drawn.device) - (ends - counts).repeat_interleave(counts)
    return starts[drawn].repeat_interleave(counts) + within
