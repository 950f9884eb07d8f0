"""What is known of an object before its pictures are read: its cameras, and what each of them saw."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Self

import torch
from PIL import Image, ImageOps

from salticid.data.readers.clips.clip import VideoClip
from salticid.data.readers.pictures import RADIANCE_SUFFIXES, as_tensor, opened, picture_size, read_picture
from salticid.data.video import covering

if TYPE_CHECKING:
    from jaxtyping import Float64, UInt8
    from torch import Tensor

Colour = tuple[int, int, int]


class Film(ABC):
    """What one camera saw."""

    @abstractmethod
    def __len__(self) -> int: ...

    @property
    @abstractmethod
    def rate(self) -> float | None:
        """Frames per second, if the files say so."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int]:
        """Height and width of the first frame."""

    @abstractmethod
    def read(self, numbers: Sequence[int], size: tuple[int, int]) -> UInt8[Tensor, "n 3 H W"]:
        """Frames by their numbers, ascending, as `covering` brings them to `size`. Raises UnreadableSample."""


@dataclass(frozen=True, eq=False)
class Pictures(Film):
    """A file a frame."""

    files: Sequence[Path]
    background: Colour
    """What shows where they are transparent."""

    rate = None

    def __len__(self) -> int:
        return len(self.files)

    @property
    def shape(self) -> tuple[int, int]:
        return picture_size(self.files[0])

    def read(self, numbers: Sequence[int], size: tuple[int, int]) -> UInt8[Tensor, "n 3 H W"]:
        pictures = (read_opaque(self.files[number], self.background) for number in numbers)
        return torch.cat([covering(picture[None], size) for picture in pictures])


@dataclass(frozen=True, eq=False)
class Footage(Film):
    """A video file. All that it tells raises UnreadableSample where it is damaged."""

    path: Path

    @cached_property
    def clip(self) -> VideoClip:
        return VideoClip.surveyed(self.path.name, self.path)

    def __len__(self) -> int:
        return len(self.clip)

    @property
    def rate(self) -> float | None:
        return self.clip.rate or None

    @property
    def shape(self) -> tuple[int, int]:
        return self.clip.shape

    def read(self, numbers: Sequence[int], size: tuple[int, int]) -> UInt8[Tensor, "n 3 H W"]:
        return self.clip.read(numbers, size)


@dataclass(frozen=True, eq=False)
class Subject:
    """An object and its cameras."""

    name: str
    """Readable, unique in its data set."""
    views: Sequence[str]
    """Names of the cameras, the first of which may be the context camera."""
    films: Sequence[Film]
    poses: Float64[Tensor, "v 4 4"]
    """Camera to world, of each view."""
    centre: Tensor = field(default_factory=lambda: torch.zeros(3, dtype=torch.float64))
    """The point that azimuths go around, float64 (3,)."""
    up: Tensor = field(default_factory=lambda: torch.tensor((0.0, 0.0, 1.0), dtype=torch.float64))
    angle: float | None = None
    """Horizontal field of view of all cameras, rad."""
    fps: float | None = None
    """Frames per second, if the data set says so."""

    def only(self, places: Sequence[int]) -> Self:
        """With some of its views."""
        return replace(
            self,
            views=[self.views[place] for place in places],
            films=[self.films[place] for place in places],
            poses=self.poses[list(places)],
        )


def read_opaque(path: Path, background: Colour) -> UInt8[Tensor, "3 h w"]:
    """A picture, upright, in front of `background` where it is transparent. Raises as `pictures.decode`."""
    if path.suffix.lower() in RADIANCE_SUFFIXES:
        return read_picture(path)
    with opened(path) as image:
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
        if image.has_transparency_data:
            behind = Image.new("RGBA", image.size, (*background, 255))
            return as_tensor(Image.alpha_composite(behind, image.convert("RGBA")).convert("RGB"))
        return as_tensor(image.convert("RGB"))


def natural(name: str) -> list[tuple[int, str]]:
    """A key that sorts 2 before 10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]
