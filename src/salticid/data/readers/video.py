"""Video files, read frame by frame, by PyAV."""

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
import torch
from torch import Tensor

from salticid.errors import UnreadableSample

if TYPE_CHECKING:
    from av.container import InputContainer

VIDEO_SUFFIXES = frozenset({".mp4", ".mkv", ".mov", ".webm", ".gif"})


def is_video(path: Path) -> bool:
    return path.suffix.lower() in VIDEO_SUFFIXES


class Video:
    """A video file that is open for reading.

    Raises:
        UnreadableSample: from `opened` and while frames are read: no video, or a damaged one.
    """

    def __init__(self, path: Path, container: "InputContainer") -> None:
        self.path, self.container = path, container
        self.stream = container.streams.video[0]
        self.stream.thread_type = "AUTO"

    @classmethod
    @contextmanager
    def opened(cls, path: Path) -> Iterator[Self]:
        import av

        try:
            container = av.open(str(path))
        except (av.FFmpegError, OSError) as error:
            raise UnreadableSample(f"{path}: not a readable video ({error.strerror or error})") from None
        with container:
            if not container.streams.video:
                raise UnreadableSample(f"{path}: has no pictures; expected a video")
            yield cls(path, container)

    @property
    def rate(self) -> Fraction:
        """Frames per second, on average."""
        return self.stream.average_rate or self.stream.guessed_rate or Fraction(25)

    def frames(self) -> Iterator[Tensor]:
        """uint8 (3, H, W), upright, all of the size of the first."""
        import av

        size: tuple[int, int] | None = None
        try:
            for frame in self.container.decode(self.stream):
                width, height = size = size or (frame.width, frame.height)
                pixels = frame.to_ndarray(format="rgb24", width=width, height=height)
                turned = np.rot90(pixels, round(frame.rotation / 90))
                yield torch.from_numpy(np.ascontiguousarray(turned.transpose(2, 0, 1)))
        except av.FFmpegError as error:
            raise UnreadableSample(f"{self.path}: the video is damaged ({error.strerror or error})") from None
        if not size:
            raise UnreadableSample(f"{self.path}: the video has no frames")
