"""Samples of sequences of frames: what all motion data sets share once it is known which files there are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from salticid.data.motion import lens_parameters
from salticid.data.readers.motion.film import Film, Target
from salticid.data.readers.motion.frames import Frame, check_shapes, scaled_alike
from salticid.data.source import Sample, Source
from salticid.errors import UnreadableSample
from salticid.geometry import se3
from salticid.geometry.lens import Lens

if TYPE_CHECKING:
    from salticid.data.readers.motion.base import MotionData


class MotionFrames(Source):
    """Samples as `salticid.data.motion` says; the sequences are numbered in the order of the first of their targets.

    Args:
        truth: what of `Film` the samples hold: depths, poses, ways.
    """

    def __init__(
        self, data: MotionData, targets: Sequence[Target], truth: Sequence[str], offsets: Sequence[int], training: bool
    ) -> None:
        self.data, self.targets, self.truth, self.offsets, self.training = data, targets, truth, offsets, training
        self.numbers: dict[Film, int] = {}
        for target in targets:
            self.numbers.setdefault(target.film, len(self.numbers))
        self.kept: dict[str, Frame] = {}

    def __len__(self) -> int:
        return len(self.targets)

    def id(self, index: int) -> str:
        return self.targets[index].id

    @property
    def outcomes(self) -> int | None:
        """Augmentation has endlessly many."""
        return None if self.training else 1

    def outcome(self, index: int, which: int) -> Sample:
        return self.sample(index, None) if not self.training else super().outcome(index, which)

    def sample(self, index: int, augment: Generator | None) -> Sample:
        data, target = self.data, self.targets[index]
        film, number = target.film, target.number
        paths = [film.frames[number + offset] for offset in self.offsets]
        paths += [film.partners[number]] if data.stereo else []
        frames = [self._frame(path) for path in paths]
        shape = check_shapes(
            {data.root / path: frame.shape for path, frame in zip(paths, frames, strict=True)},
        )
        pixels = torch.stack([frame.pixels for frame in frames])
        lens = self._lens(film, data.root / paths[0], shape).resized(*pixels.shape[-2:])
        sample = {
            "frames": pixels,
            "intrinsics": lens_parameters(lens),
            "place": torch.tensor([self.numbers[film], number]),
        }
        if data.stereo and film.stereo_pose is not None:
            sample["stereo_pose"] = film.stereo_pose.float()
        sample |= self._motion(film, [number + offset for offset in self.offsets])
        if "depths" in self.truth:
            sample |= self._depth(film, number)
        return data.augmentation(sample, augment if self.training else None)

    def _frame(self, path: str) -> Frame:
        """The frame from memory or from its file."""
        if path in self.kept:
            return self.kept[path]
        frame = self.data.read_frame(path)
        if len(self.kept) < self.data.keep:
            self.kept[path] = frame
        return frame

    def _lens(self, film: Film, path: Path, shape: tuple[int, int]) -> Lens:
        """The lens at the size of the files."""
        lens = film.lens
        if (lens.height, lens.width) != (1, 1) and not scaled_alike(shape, (lens.height, lens.width)):
            sizes = f"{shape[0]}×{shape[1]} pixels, but {film.name} is calibrated at {lens.height}×{lens.width}"
            raise UnreadableSample(f"{path}: {sizes}")
        return lens.resized(*shape)

    def _motion(self, film: Film, numbers: Sequence[int]) -> Sample:
        """How the camera moved, if that is known."""
        motion = {}
        if "poses" in self.truth:
            back = se3.inverse(film.poses[numbers[0]])
            others = [se3.compose(back, film.poses[number]) for number in numbers[1:]]
            poses = torch.stack([torch.eye(4, dtype=torch.float64), *others])
            motion = {"poses": poses.float(), "travel": torch.linalg.vector_norm(poses[1:, :3, 3], dim=-1).float()}
        if "ways" in self.truth:
            ways = [film.ways[number] for number in numbers]
            motion["travel"] = torch.tensor([abs(way - ways[0]) for way in ways[1:]])
        return motion

    def _depth(self, film: Film, number: int) -> Sample:
        data = self.data
        depth = data.read_depth(film, number)
        near, far = data.limits
        valid = (depth > near) & (depth < far)  # NaN is neither
        if not self.training:
            judged = np.zeros_like(valid)
            judged[data.judged(*valid.shape)] = True
            valid &= judged
        if not valid.any():
            raise UnreadableSample(f"{data.root / film.depths[number]}: no valid depth between {near:g} and {far:g} m")
        values = torch.from_numpy(np.where(valid, depth, np.float32(0)).astype(np.float32, copy=False))[None]
        if data.depth_size:
            values = _nearest(values, data.depth_size)
        return {"depth": values, "valid": values > 0, "limits": torch.tensor(data.limits)}


def _nearest(values: Tensor, size: tuple[int, int]) -> Tensor:
    """Depth is never averaged: between an edge and what is behind it there is nothing."""
    return F.interpolate(values[None], size, mode="nearest-exact")[0]
