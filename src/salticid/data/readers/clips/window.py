"""Windows: which frames of a clip become a sample, and at what rate."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Generator

from salticid.data.order import mix
from salticid.data.readers.clips.clip import Clip

_SLACK = 1e-6
"""Share of a rate that rounding of time stamps may take."""


class Window(NamedTuple):
    numbers: list[int]
    """Of its frames in the clip, ascending."""
    fps: float


class Windows(NamedTuple):
    """How windows are drawn.

    Args:
        frames: T.
        fps: lowest and highest frame rate. A window has a rate between them at which the clip has T frames, but not
            above the clip's own; its frames are those nearest in time. None: every frame counts, at the clip's rate.
    """

    frames: int
    fps: tuple[float, float] | None = None

    def lack(self, clip: Clip) -> str | None:
        """Why a clip has no window; None: it has."""
        if len(clip) < self.frames:
            return f"too short: {len(clip)} frames; expected {self.frames}"
        if self.fps is None:
            return None
        low, high = self._rates(clip, self.fps)
        if low <= high:
            return None
        if clip.rate < self.fps[0]:
            return f"too slow: {clip.rate:g} frames per second; data.fps begins at {self.fps[0]:g}"
        wanted = f"{(self.frames - 1) / self.fps[1]:.3g} s for {self.frames} frames at {self.fps[1]:g} a second"
        return f"too short: {clip.duration:.3g} s; expected {wanted}"

    def middle(self, clip: Clip) -> Window:
        """The window in the middle of the clip, at the middle of its rates."""
        return self._at(clip, 0.5, 0.5)

    def draw(self, clip: Clip, generator: Generator) -> Window:
        """Rate and first frame are drawn uniformly."""
        rate, start = torch.rand(2, generator=generator, dtype=torch.float64).tolist()
        return self._at(clip, rate, start)

    def numbered(self, clip: Clip, number: int) -> Window:
        """Window `number` of a clip, a pure function of its id: 0 is the middle one, the others are drawn."""
        if number == 0:
            return self.middle(clip)
        return self.draw(clip, Generator().manual_seed(mix("window", clip.id, number)))

    def _rates(self, clip: Clip, fps: tuple[float, float]) -> tuple[float, float]:
        """Lowest and highest rate of windows of this clip; there are none if they do not ascend."""
        least = (self.frames - 1) / clip.duration * (1 - _SLACK)
        return max(fps[0], least), min(fps[1], clip.rate * (1 + _SLACK))

    def _at(self, clip: Clip, rate: float, start: float) -> Window:
        """Rate and start as shares, [0, 1), of what there is."""
        if self.fps is None:
            first = int(start * (len(clip) - self.frames + 1))
            return Window(list(range(first, first + self.frames)), clip.rate)
        low, high = self._rates(clip, self.fps)
        fps = low + rate * (high - low)
        span = (self.frames - 1) / fps
        starts = int(np.searchsorted(clip.times, clip.duration - span * (1 - 2 * _SLACK), side="right"))
        times = clip.times[int(start * max(starts, 1))] + np.arange(self.frames) / fps
        return Window(_nearest(clip.times, times), fps)


def _nearest(times: np.ndarray, wanted: np.ndarray) -> list[int]:
    """Places in ascending `times` of those nearest to `wanted`; the earlier one of two."""
    after = np.searchsorted(times, wanted).clip(1, len(times) - 1)
    before = wanted - times[after - 1] <= times[after] - wanted
    return (after - before).tolist()
