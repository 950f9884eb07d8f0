"""Pictures that are trained on beside films: clips of pictures that have nothing to do with each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Generator

from salticid.data.readers.clips.found import check_size, divided_by_scene, report_skipped, surveyed
from salticid.data.readers.pictures import picture_size, read_picture
from salticid.data.readers.survey import pictures_under, without_excluded
from salticid.data.source import Data, Sample, Source
from salticid.data.video import covering, mirrored
from salticid.errors import ConfigError, require


@dataclass(kw_only=True, eq=False)
class Stills(Data):
    """Clips of T pictures of a folder whose rows are marked as pictures of their own (`image_only`), to be mixed with
    films by `Mixture`. What samples hold says `salticid.data.video`; `fps` and `motion_bucket` are 0, as of no film
    that moves. There are neither captions nor labels.

    Args:
        root: the folder, searched recursively. Links to folders are not followed.
        frames: T, of a sample.
        size: height and width; pictures are resized to cover them and cut evenly to them.
        flip: probability that a training sample is mirrored.
        scene, val_share, val_scenes, exclude: as of `ClipFolder`.

    Pictures that cannot be read are left out, named in the log and kept in `skipped`: path → reason.

    Raises:
        ConfigError: a value out of range, no such folder, fewer than T usable pictures on a side that is not empty.
    """

    root: Path = field(kw_only=False)
    frames: int = 14
    size: tuple[int, int]
    flip: float = 0.5
    scene: str = "stem"
    val_share: float = 0.0
    val_scenes: Sequence[str] = ()
    exclude: Sequence[str] = ()
    skipped: dict[str, str] = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.root = Path(self.root)
        if not self.root.is_dir():
            raise ConfigError(f"data.root: {self.root} is not a folder")
        check_size("data.size", self.size)
        require("data.frames", self.frames, self.frames >= 1, "at least 1")
        require("data.flip", self.flip, 0 <= self.flip <= 1, "0 to 1")
        paths = [path.as_posix() for path in without_excluded(self.root, pictures_under(self.root), self.exclude)]
        usable = surveyed(paths, self._survey, self.skipped)
        report_skipped(self.root, self.skipped, len(usable), "picture")
        self.train_files, self.val_files = divided_by_scene(usable, self.scene, self.val_scenes, self.val_share)
        for side in (self.train_files, self.val_files):
            if 0 < len(side) < self.frames:
                raise ConfigError(f"data.frames is {self.frames}, but one side has {len(side)} pictures")

    def train(self) -> Source:
        return _Pictures(self, self.train_files, training=True)

    def val(self) -> Source:
        return _Pictures(self, self.val_files, training=False)

    def _survey(self, path: str) -> str:
        picture_size(self.root / path)
        return path


class _Pictures(Source):
    """Sample i begins with picture i. The others are drawn; without a generator they are those that follow."""

    def __init__(self, data: Stills, files: Sequence[str], training: bool) -> None:
        self.data, self.files, self.training = data, files, training

    def __len__(self) -> int:
        return len(self.files)

    def id(self, index: int) -> str:
        return self.files[index]

    @property
    def outcomes(self) -> int | None:
        return None if self.training else 1

    def outcome(self, index: int, which: int) -> Sample:
        return super().outcome(index, which) if self.training else self.sample(index, None)

    def sample(self, index: int, augment: Generator | None) -> Sample:
        data = self.data
        augment = augment if self.training else None
        steps = torch.arange(1, data.frames)
        if augment is not None:
            steps = 1 + torch.randperm(len(self) - 1, generator=augment)[: data.frames - 1]
        numbers = [index, *((index + steps) % len(self)).tolist()]
        pictures = [covering(read_picture(data.root / self.files[number])[None], data.size) for number in numbers]
        sample = {
            "video": torch.cat(pictures).transpose(0, 1).contiguous(),
            "fps": torch.tensor(0.0),
            "motion_bucket": torch.tensor(0.0),
            "image_only": torch.ones(data.frames, dtype=torch.bool),
        }
        flip = augment is not None and float(torch.rand((), generator=augment)) < data.flip
        return mirrored(sample) if flip else sample
