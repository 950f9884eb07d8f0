"""Samples of objects that are seen by several cameras."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Generator, Tensor

from salticid.data.grids import choose, orbit_camera, span, window
from salticid.data.motion import lens_parameters
from salticid.data.order import mix
from salticid.data.readers.grids.subject import Film, Subject
from salticid.data.source import Sample, Source
from salticid.errors import UnreadableSample
from salticid.geometry.cameras import Pinhole

if TYPE_CHECKING:
    from jaxtyping import UInt8

    from salticid.data.readers.grids.base import GridData


class Grids(Source):
    """Samples as `salticid.data.grids` says, without depth; `intrinsics` where those of all objects are known, to half
    a pixel where pictures are cut."""

    def __init__(self, data: GridData, subjects: Sequence[Subject], *, training: bool) -> None:
        self.data, self.training = data, training
        each = data.context == "each"
        self.entries = [(s, view) for s in subjects for view in (range(len(s.views)) if each else (None,))]
        self.calibrated = all(subject.angle for subject in subjects)

    def __len__(self) -> int:
        return len(self.entries)

    def id(self, index: int) -> str:
        subject, context = self.entries[index]
        return subject.name if context is None else f"{subject.name}/{subject.views[context]}"

    @property
    def outcomes(self) -> int | None:
        return self.data.windows if self.training else 1

    def outcome(self, index: int, which: int) -> Sample:
        """A pure function of the sample's id and `which`."""
        if self.outcomes is None:
            return super().outcome(index, which)
        return self._grid(index, Generator().manual_seed(mix("grid", self.id(index), which)) if which else None)

    def sample(self, index: int, augment: Generator | None) -> Sample:
        if self.outcomes is not None:
            return self.outcome(index, self.draw(augment))
        return self._grid(index, augment)

    def _grid(self, index: int, generator: Generator | None) -> Sample:
        data, (subject, context) = self.data, self.entries[index]
        if context is None:
            drawn = data.context == "random" and generator is not None
            context = int(torch.randint(len(subject.views), (), generator=generator)) if drawn else 0
        camera = orbit_camera(subject.poses, subject.centre, subject.up, subject.poses[context])
        others = [place for place in camera[:, 1].argsort(stable=True).tolist() if place != context]
        chosen = [others[place] for place in choose(len(others), data.others, generator)]
        chosen += [context] if data.context_view else []
        films = [subject.films[place] for place in (context, *chosen)]
        frames = self._frames(index, films, generator)
        grid = frames[-data.frames :]
        sample = {
            "image": grid[:, 1:].permute(2, 0, 1, 3, 4).contiguous(),
            "context": grid[:, 0].contiguous(),
            "reference": frames[0, 1:].clone(),
            "camera": camera[chosen].float(),
            "fps": torch.tensor((subject.fps or films[0].rate or data.fps) / data.stride),
        }
        if self.training:
            return sample
        if self.calibrated and subject.angle:
            sample["intrinsics"] = self._intrinsics(films[0].shape, subject.angle)
        return sample | {"poses": subject.poses[chosen].float()}

    def _frames(self, index: int, films: Sequence[Film], generator: Generator | None) -> UInt8[Tensor, "n v 3 h w"]:
        """The first frames of the films, and those of a window, together."""
        data = self.data
        count, needed = min(map(len, films)), span(data.frames, data.stride)
        if count < needed:
            raise UnreadableSample(f"{self.id(index)}: {count} frames; expected {needed}")
        numbers = sorted({0, *window(count, data.frames, data.stride, generator)})
        return torch.stack([film.read(numbers, data.size) for film in films], dim=1)

    def _intrinsics(self, shape: tuple[int, int], angle: float) -> Tensor:
        """Of pictures of (height, width) `shape` once they are at `size`."""
        height, width = self.data.size
        scale = max(height / shape[0], width / shape[1])
        return lens_parameters(Pinhole.centred(height, width, scale * shape[1] / 2 / math.tan(angle / 2)))
