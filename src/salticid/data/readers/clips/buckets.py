"""Clips of several sizes: which clip gets which, and the order in which groups of one size take turns."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from salticid.data.mixture import BLOCK, Joined, Mixed
from salticid.data.readers.clips.clip import Clip
from salticid.data.source import Source

Size = tuple[int, int]


def bucketed(clips: Sequence[Clip], sizes: Sequence[Size]) -> dict[Size, list[Clip]]:
    """The clips by the size, (height, width), nearest in aspect ratio: the least |log ratio|. Sizes without clips are
    left out."""
    buckets: dict[Size, list[Clip]] = {size: [] for size in sizes}
    for clip in clips:
        buckets[nearest(clip.shape, sizes)].append(clip)
    return {size: mine for size, mine in buckets.items() if mine}


def nearest(shape: Size, sizes: Sequence[Size]) -> Size:
    """Of sizes alike in aspect ratio the nearest in area, too."""
    return min(sizes, key=lambda size: (round(abs(_log_ratio(size, shape)), 6), abs(_log_area(size, shape))))


def mixed(sources: Mapping[Size, Source], group: int) -> Source:
    """The sources in groups of `group` samples of one size; of a single source, itself.

    A block of the order holds every clip once, where `group` divides the number of clips of each size; where it does
    not, the last group of a size begins its next round. Beyond `BLOCK` groups, sizes have their shares of a block,
    rounded.
    """
    if len(sources) == 1:
        return next(iter(sources.values()))
    groups = [-(-len(source) // group) for source in sources.values()]
    if sum(groups) > BLOCK:
        groups = [max(1, round(count * BLOCK / sum(groups))) for count in groups]
    return Mixed(_named(sources), groups, group)


def joined(sources: Mapping[Size, Source]) -> Source:
    """One source after the other; of a single one, itself."""
    return next(iter(sources.values())) if len(sources) == 1 else Joined(_named(sources))


def _named(sources: Mapping[Size, Source]) -> dict[str, Source]:
    return {f"{height}x{width}": source for (height, width), source in sources.items()}


def _log_ratio(size: Size, other: Size) -> float:
    return math.log(size[0] * other[1] / (size[1] * other[0]))


def _log_area(size: Size, other: Size) -> float:
    return math.log(size[0] * size[1] / (other[0] * other[1]))
