"""Sampling frames × views of any number with a network that was trained on a window of them (Xie et al. 2024, 3.3).

The first frame's views are known. Anchors, one in T − 1 frames, are sampled first, together; then all frames between.
Each denoising step covers the matrix with windows between two anchors, which take turns: in one step time runs forward
from the earlier anchor's views, in the next backward from the later one's. Where there are more views than a window
has, windows go around the orbit, and start half a window farther along in every second step.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from salticid.diffusion.noise import keyed_normal
from salticid.nets.conditioner import Conditions, Embedded
from salticid.recipes.video.model import VideoModel
from salticid.recipes.video.settings import Sampler


@dataclass(frozen=True)
class Window:
    """Frames × views that the network sees together."""

    frames: list[int]
    """Of the matrix, in the order in which time runs."""
    views: list[int]
    reference: int
    """The frame whose views it looks at."""


Plan = Callable[[int], list[Window]]
"""Number of the denoising step → windows that together hold all that is to be made."""


class Matrix:
    """A matrix of frames × views in the making.

    Args:
        embedded: embeddings of the whole matrix, (1, frames or 1, views or 1, …), and their unconditional variant.
        window: frames and views of training.
        first: scaled latents (views, c, h, w) of the first frame's views.
        frames: of the matrix.
        seed: of the noise, which is a function of (seed, frame).
    """

    def __init__(
        self,
        model: VideoModel,
        sampler: Sampler,
        embedded: tuple[Embedded, Embedded],
        window: tuple[int, int],
        first: Tensor,
        frames: int,
        *,
        seed: int,
        steps: int | None = None,
    ):
        self.model, self.sampler, self.embedded, self.window = model, sampler, embedded, window
        self.frames, self.views, self.steps = frames, len(first), steps
        keys = torch.arange(frames, device=first.device)
        self.noise = keyed_normal(keys, tuple(first.shape), seed=seed, stream="sample", device=first.device)
        self.known = {0: first}
        """Scaled latents (views, c, h, w) by frame."""

    def __call__(self) -> Tensor:
        """Scaled latents (frames, views, c, h, w); the first frame's are those that were given."""
        marks = anchors(self.frames, self.window[0])
        for group in _groups(marks[1:], self.window[0]):
            before = max(self.known)
            self._make(group, lambda step, before=before, group=group: self._around(group, before, step))
        between = [frame for frame in range(self.frames) if frame not in self.known]
        segments = list(pairwise(marks))
        if between:
            self._make(between, lambda step: [w for a, b in segments if b - a > 1 for w in self._between(a, b, step)])
        return torch.stack([self.known[frame] for frame in range(self.frames)])

    def _around(self, frames: list[int], reference: int, step: int) -> list[Window]:
        return [Window(frames, views, reference) for views in self._view_windows(step)]

    def _between(self, start: int, end: int, step: int) -> list[Window]:
        """Forward from the views of `start` in every second step, backward from those of `end` in the others."""
        frames = list(range(start, end + 1))
        forward = step % 2 == 1
        return self._around(frames if forward else frames[::-1], start if forward else end, step)

    def _view_windows(self, step: int) -> Iterator[list[int]]:
        size = self.window[1]
        if self.views <= size:
            yield list(range(self.views))
            return
        offset = size // 2 if step % 2 else 0
        for start in range(offset, offset + self.views, size):
            yield [view % self.views for view in range(start, start + size)]

    def _make(self, frames: Sequence[int], plan: Plan) -> None:
        """Sample some frames, all views of them, with windows as planned for each step."""
        step = 0

        def denoise(x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
            nonlocal step
            now = dict(zip(frames, x[0].unflatten(0, (len(frames), self.views)), strict=True))
            total = {frame: torch.zeros_like(noisy) for frame, noisy in now.items()}
            count = {frame: torch.zeros(self.views, device=x.device) for frame in now}
            for window in plan(step):
                found = self._denoised(window, now, sigma)
                for row, frame in zip(found, window.frames, strict=True):
                    if frame in total:
                        total[frame][window.views] += row
                        count[frame][window.views] += 1
            step += 1
            x0 = torch.stack([total[f] / count[f].view(-1, 1, 1, 1) for f in frames]).flatten(0, 1)[None]
            return x0, (x - x0) / sigma.to(x)

        noise = self.noise[list(frames)].flatten(0, 1)[None]
        made = self.model.sample(denoise, noise, self.sampler, self.steps)[0].unflatten(0, (len(frames), self.views))
        self.known |= dict(zip(frames, made, strict=True))

    def _denoised(self, window: Window, now: dict[int, Tensor], sigma: Tensor) -> Tensor:
        """The network's x0 (frames, views, c, h, w) of a window, in which what is known has the noise of the level."""

        def noisy(frame: int) -> Tensor:
            if frame in now:
                return now[frame][window.views]
            return (self.known[frame] + sigma.to(self.noise) * self.noise[frame])[window.views]

        x = torch.stack([noisy(frame) for frame in window.frames]).flatten(0, 1)[None]
        conditions, free = (self._conditions(embedded, window) for embedded in self.embedded)
        scale = self.sampler.guider.scale(len(window.frames), len(window.views))
        x0, _ = self.model.guided(conditions, free, scale)(x, sigma)
        return x0[0].unflatten(0, (len(window.frames), len(window.views)))

    def _conditions(self, embedded: Embedded, window: Window) -> Conditions:
        """Of one window, with the reference's views: those of the first frame were embedded, others were sampled."""
        cut = {name: _cut(_cut(value, 1, window.frames), 2, window.views) for name, value in embedded.items()}
        grid = len(window.frames), len(window.views)
        conditions = self.model.conditioner.assemble(cut, grid)
        if window.reference == 0 or conditions.reference is None or not conditions.reference.any():
            return conditions
        looked_at = self.known[window.reference][window.views] / self.model.first_stage.scale
        return replace(conditions, reference=looked_at[None])


def anchors(frames: int, window: int) -> list[int]:
    """0, the last frame, and evenly between them frames that are at most `window` − 1 apart; none between where all
    that is not known fits into one window."""
    if frames - 1 <= window:
        return list(range(frames))
    gaps = -(-(frames - 1) // max(window - 1, 1))
    return [round(number * (frames - 1) / gaps) for number in range(gaps + 1)]


def _groups(marks: list[int], size: int) -> Iterator[list[int]]:
    for start in range(0, len(marks), size):
        yield marks[start : start + size]


def _cut(value: Tensor, axis: int, places: list[int]) -> Tensor:
    """Some places along an axis of the grid; all share a single one."""
    return value if value.shape[axis] == 1 else value[(slice(None),) * axis + (places,)]
