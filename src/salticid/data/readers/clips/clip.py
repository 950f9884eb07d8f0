"""Clips: video files and folders of numbered frames, whose frames are known by their times before they are read."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from salticid.data.readers.clips.seek import frames_at, survey_video
from salticid.data.readers.pictures import picture_size, read_picture
from salticid.data.video import covering
from salticid.errors import UnreadableSample

if TYPE_CHECKING:
    from jaxtyping import Float64, Int64, UInt8


@dataclass(frozen=True, eq=False)
class Clip(ABC):
    id: str
    """Path relative to the root of the data set."""
    path: Path
    shape: tuple[int, int]
    """Height and width of its first frame, upright."""
    stamps: Int64[np.ndarray, " n"]
    """When each frame is shown, ascending, in units of its own."""
    unit: float
    """Seconds."""

    def __len__(self) -> int:
        return len(self.stamps)

    @cached_property
    def times(self) -> Float64[np.ndarray, " n"]:
        """Seconds from the first frame."""
        return (self.stamps - self.stamps[0]) * self.unit

    @property
    def duration(self) -> float:
        """Seconds from the first frame to the last."""
        return float(self.times[-1])

    @property
    def rate(self) -> float:
        """Frames per second, on average; 0 for a single one."""
        return (len(self) - 1) / self.duration if self.duration else 0.0

    @abstractmethod
    def read(self, numbers: Sequence[int], size: tuple[int, int]) -> UInt8[Tensor, "n 3 H W"]:
        """Frames by their numbers, ascending, as `covering` brings them to `size`. Raises UnreadableSample."""


class VideoClip(Clip):
    @classmethod
    def surveyed(cls, id: str, path: Path) -> VideoClip:
        """Raises UnreadableSample."""
        return cls(id, path, *survey_video(path))

    def read(self, numbers: Sequence[int], size: tuple[int, int]) -> UInt8[Tensor, "n 3 H W"]:
        frames = frames_at(self.path, self.stamps[list(numbers)].tolist(), lambda frame: covering(frame[None], size))
        return torch.cat(frames)


@dataclass(frozen=True, eq=False)
class PictureClip(Clip):
    """A folder whose pictures are frames, by the last number in their names: one that is missing is a gap in time."""

    files: Sequence[Path]

    @classmethod
    def surveyed(cls, id: str, path: Path, files: Sequence[Path], fps: float) -> PictureClip:
        """`files`: the pictures in `path`. Raises UnreadableSample for the first."""
        by_number = dict(sorted(zip(_numbers(files), files, strict=True)))
        files = list(by_number.values())
        return cls(id, path, picture_size(files[0]), np.array(list(by_number)), 1 / fps, files)

    def read(self, numbers: Sequence[int], size: tuple[int, int]) -> UInt8[Tensor, "n 3 H W"]:
        return torch.cat([self._frame(self.files[number], size) for number in numbers])

    def _frame(self, file: Path, size: tuple[int, int]) -> UInt8[Tensor, "1 3 H W"]:
        picture = read_picture(file)
        if picture.shape[1:] != self.shape:
            sizes = f"{picture.shape[1]}×{picture.shape[2]}, not {self.shape[0]}×{self.shape[1]}"
            raise UnreadableSample(f"{file}: a frame of {sizes} as the first of its folder")
        return covering(picture[None], size)


def _numbers(files: Sequence[Path]) -> Sequence[int]:
    """The last number in each name, if all have one and no two the same; else 0, 1, 2, …"""
    digits = [re.findall(r"\d+", file.stem) for file in files]
    numbers = [int(found[-1]) for found in digits if found]
    return numbers if len(set(numbers)) == len(files) else range(len(files))
