"""Frames at which the camera hardly moves: nothing can be learnt of depth from them."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from salticid.data.readers.motion.film import Film, Target
from salticid.data.readers.pictures import opened
from salticid.errors import ConfigError, UnreadableSample

if TYPE_CHECKING:
    from jaxtyping import Float32

_THUMB = 48, 32
"""Width and height of the pictures that are compared."""


@dataclass(frozen=True)
class Still:
    """What counts as standing still; a target does where any of the two says so of any of its neighbours.

    Args:
        distance: metres between the cameras of target and neighbour, below which they are; needs poses or speeds.
        difference: mean difference of grey values (0 to 255) of small copies, below which they are. All frames are
            decoded once for that when a run begins: about 1 ms for a JPEG of KITTI, 12 ms for a PNG.

    Raises:
        ConfigError: a negative value.
    """

    distance: float = 0.0
    difference: float = 0.0

    def __post_init__(self) -> None:
        for key in ("distance", "difference"):
            if getattr(self, key) < 0:
                raise ConfigError(f"data.still.{key} is {getattr(self, key)}; expected 0 or more")


def moving(still: Still, targets: Sequence[Target], offsets: Sequence[int], root: Path) -> list[Target]:
    """The targets that do not stand still, in their order. Frames that cannot be read count as moving: reading them
    will say what is wrong.

    Raises:
        ConfigError: distances are asked for, and a sequence has neither poses nor speeds.
    """
    if still.distance:
        targets = [t for t in targets if _distance(t, offsets) >= still.distance]
    if not still.difference:
        return list(targets)
    wanted = {(t.film, t.number + offset): None for t in targets for offset in offsets}
    with ThreadPoolExecutor() as pool:  # Pillow decodes without the interpreter's lock
        thumbs = dict(zip(wanted, pool.map(lambda key: _thumb(root / key[0].frames[key[1]]), wanted), strict=True))
    return [t for t in targets if _difference(t, offsets, thumbs) >= still.difference]


def _distance(target: Target, offsets: Sequence[int]) -> float:
    """Least distance to a neighbour, m."""
    film, number = target.film, target.number
    numbers = [number + offset for offset in offsets[1:]]
    if film.poses:
        known = [n for n in numbers if n in film.poses and number in film.poses]
        return min(((film.poses[n] - film.poses[number])[:3, 3].norm().item() for n in known), default=0.0)
    if film.ways:
        known = [n for n in numbers if n in film.ways and number in film.ways]
        return min((abs(film.ways[n] - film.ways[number]) for n in known), default=0.0)
    raise ConfigError(f"data.still.distance: {film.name} has neither poses nor speeds; give data.still.difference")


def _difference(
    target: Target, offsets: Sequence[int], thumbs: dict[tuple[Film, int], Float32[np.ndarray, "h w"] | None]
) -> float:
    """Least mean difference of grey values to a neighbour."""
    own, *others = (thumbs[target.film, target.number + offset] for offset in offsets)
    if own is None or any(other is None for other in others):
        return 256.0
    return min((float(np.abs(own - other).mean()) for other in others if other is not None), default=256.0)


def _thumb(path: Path) -> Float32[np.ndarray, "h w"] | None:
    try:
        with opened(path) as image:
            image.draft("L", _THUMB)
            return np.asarray(image.convert("L").resize(_THUMB, Image.Resampling.BOX), np.float32)
    except UnreadableSample:
        return None
