"""Samples of clips: windows of T frames at one size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Generator, Tensor

from salticid.data.readers.clips.clip import Clip
from salticid.data.readers.clips.window import Window
from salticid.data.source import Sample, Source
from salticid.data.video import clip_sample, mirrored, motion_bucket

if TYPE_CHECKING:
    from salticid.data.readers.clips.folder import ClipFolder


class ClipSamples(Source):
    """Samples as `salticid.data.video` says, one a clip.

    Training samples are drawn out of endlessly many windows, or out of `data.windows`; without a generator, and in
    validation, they are the middle of the clip, not mirrored.
    """

    def __init__(self, data: ClipFolder, clips: Sequence[Clip], size: tuple[int, int], training: bool) -> None:
        self.data, self.clips, self.size, self.training = data, clips, size, training
        self.kept: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return len(self.clips)

    def id(self, index: int) -> str:
        return self.clips[index].id

    @property
    def outcomes(self) -> int | None:
        """The windows, and then the same windows mirrored."""
        if not self.training:
            return 1
        return self.data.windows and self.data.windows * (2 if self.data.flip else 1)

    def outcome(self, index: int, which: int) -> Sample:
        if self.outcomes is None:
            return super().outcome(index, which)
        flipped, number = divmod(which, self.data.windows or 1)
        return self._sample(index, self.data.window.numbered(self.clips[index], number), bool(flipped))

    def draw(self, augment: Generator | None) -> int:
        if augment is None or not self.training or not self.data.windows:
            return 0
        number = int(torch.randint(self.data.windows, (), generator=augment))
        return number + self.data.windows * self._flip(augment)

    def sample(self, index: int, augment: Generator | None) -> Sample:
        if self.outcomes is not None:
            return self.outcome(index, self.draw(augment))
        clip, window = self.clips[index], self.data.window
        if augment is None:
            return self._sample(index, window.middle(clip), flipped=False)
        return self._sample(index, window.draw(clip, augment), self._flip(augment))

    def _flip(self, augment: Generator) -> bool:
        return float(torch.rand((), generator=augment)) < self.data.flip

    def _sample(self, index: int, window: Window, flipped: bool) -> Sample:
        data, id = self.data, self.clips[index].id
        video = self._frames(index, window.numbers).transpose(0, 1).contiguous()
        sample = clip_sample(video, window.fps, motion_bucket(video, window.fps, data.motion))
        if data.labels is not None:
            sample["label"] = torch.tensor(data.label_of[id])
        if data.captions is not None:
            sample["caption"] = data.caption_of[id]
        return mirrored(sample) if flipped else sample

    def _frames(self, index: int, numbers: Sequence[int]) -> Tensor:
        """uint8 (T, 3, H, W), from memory or from the file."""
        clip = self.clips[index]
        if index not in self.kept and len(self.kept) < self.data.keep:
            self.kept[index] = clip.read(range(len(clip)), self.size)
        if index in self.kept:
            return self.kept[index][list(numbers)]
        return clip.read(numbers, self.size)
