"""The pixelwise median of a few maps, by comparing whole maps: many times faster than sorting every pixel."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Float


CACHED = 1 << 15
"""Pixels of a map that are worked on at a time on the CPU, so that they stay in its cache."""


def lower_median(values: Float[Tensor, "b e ..."]) -> Float[Tensor, "b ..."]:
    """The median over the second dimension; of an even number the lower of the two middle ones, as `torch.median`."""
    flat = values.flatten(2)
    parts = flat.split(CACHED, dim=2) if values.device.type == "cpu" else (flat,)
    return torch.cat([_middle(list(part.unbind(1))) for part in parts], dim=1).view(len(values), *values.shape[2:])


def _middle(rows: list[Tensor]) -> Tensor:
    middle = (len(rows) - 1) // 2
    for i, j in comparators(len(rows), middle):
        rows[i], rows[j] = torch.minimum(rows[i], rows[j]), torch.maximum(rows[i], rows[j])
    return rows[middle]


@cache
def comparators(count: int, wanted: int) -> tuple[tuple[int, int], ...]:
    """Pairs i < j, in order, that bring the value of rank `wanted` to its place: Batcher's odd-even merge sort (Knuth,
    The Art of Computer Programming 3, 5.2.2, algorithm M), without the comparisons that place `wanted` never sees."""
    needed, kept = {wanted}, []
    for pair in reversed(_sorting_network(count)):
        if needed & set(pair):
            needed |= set(pair)
            kept.append(pair)
    return tuple(reversed(kept))


def _sorting_network(count: int) -> list[tuple[int, int]]:
    pairs = []
    top = 1 << max((count - 1).bit_length() - 1, 0)
    p = top
    while p > 0:
        q, r, d = top, 0, p
        while True:
            pairs += [(i, i + d) for i in range(count - d) if i & p == r]
            if q == p:
                break
            d, q, r = q - p, q // 2, p
        p //= 2
    return pairs
