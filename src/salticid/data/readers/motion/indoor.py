"""7-Scenes (Shotton et al. 2013) and TUM RGB-D (Sturm et al. 2012): hand-held cameras indoors."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from PIL import Image

from salticid.data.readers.depth.decode import read_values
from salticid.data.readers.depth.files import Files
from salticid.data.readers.motion.film import Film, check_lens, numbered
from salticid.data.readers.motion.sequences import SequenceData
from salticid.data.readers.motion.tables import nearest, read_poses, read_text, read_times
from salticid.errors import ConfigError
from salticid.geometry.cameras import Pinhole

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

KINECT = Pinhole(480, 640, 525.0, 525.0, 319.5, 239.5)
"""The colour camera of a Kinect, from the factory."""
TUM_CAMERAS = {
    "freiburg1": Pinhole(480, 640, 517.3, 516.5, 318.6, 255.3),
    "freiburg2": Pinhole(480, 640, 520.9, 521.0, 325.1, 249.7),
    "freiburg3": Pinhole(480, 640, 535.4, 539.2, 320.1, 247.6),
}
"""Calibrations of the benchmark, without their distortion."""
DEPTH_ZOOM, DEPTH_SHIFT = 525 / 585, (-4.0, -2.0)
"""7-Scenes' depth camera has a focal length of 585 pixels: its pixel p is the colour camera's c + zoom · (p − c) +
shift, (x, y), c the middle. The shift was measured on the scene RedKitchen."""


@dataclass(kw_only=True, eq=False)
class SevenScenes(SequenceData):
    """7-Scenes, `frame-000000.color.png` (or .jpg), `.depth.png` (millimetres; 0 and 65535 are not valid) and
    `.pose.txt` (camera to world), in root itself or in folders below it; see `SequenceData`. Where a folder of
    sequences has `TestSplit.txt`, the sequences that it names validate, unless `val_sequences` says otherwise.

    Args:
        register: depth is brought to the colour camera, whose frames it does not fit as published.
    """

    register: bool = True

    per_metre: ClassVar[float] = 1000.0
    layout: ClassVar[str] = "expected frame-*.color.png or .jpg in it or in folders below it"

    def films(self, files: Files) -> list[Film]:
        found = {posixpath.dirname(path) for path in files.all() if re.search(r"frame-\d+\.color\.(png|jpg)$", path)}
        return [self._film(files, folder or ".") for folder in sorted(found)]

    def _film(self, files: Files, folder: str) -> Film:
        names = files.names(folder)
        frames, depths, poses = (
            numbered(folder, names, rf"frame-(\d+)\.{ending}")
            for ending in (r"color\.(?:png|jpg)", r"depth\.png", r"pose\.txt")
        )
        return Film(
            name=folder if folder != "." else self.root.name,
            lens=KINECT,
            frames=frames,
            depths=depths,
            poses={number: _pose(self.root / path) for number, path in poses.items()},
        )

    def named(self, films: Sequence[Film]) -> Sequence[str]:
        if self.val_sequences:
            return self.val_sequences
        names = []
        for scene in dict.fromkeys(posixpath.dirname(film.name) for film in films):
            split = self.root / scene / "TestSplit.txt"
            numbers = re.findall(r"\d+", read_text(split, "data.root")) if split.is_file() else []
            names += [posixpath.join(scene, f"seq-{int(number):02d}") for number in numbers]
        return [name for name in names if name in {film.name for film in films}]

    def read_depth(self, film: Film, number: int) -> Float[np.ndarray, "h w"]:
        values = read_values(self.root / film.depths[number])
        depth = np.where(values == 65535, 0, values).astype(np.float32) / np.float32(self.per_metre)
        return _registered(depth) if self.register else depth


def _pose(path: Path) -> Tensor:
    try:
        pose = torch.tensor([float(word) for word in read_text(path, "data.root").split()], dtype=torch.float64)
    except ValueError:
        pose = torch.zeros(0)
    if len(pose) != 16 or not pose.isfinite().all():
        raise ConfigError(f"data.root: {path}: expected the 16 numbers of a pose")
    pose = pose.view(4, 4)
    pose[3] = torch.tensor((0.0, 0.0, 0.0, 1.0))  # some files of the data set have zeros there
    return pose


def _registered(depth: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """Depth in the pixels of the colour camera, by the nearest one; 0 beyond the depth camera's view."""
    height, width = depth.shape
    across, down = (
        (size - 1) / 2 * (1 - 1 / DEPTH_ZOOM) - shift / DEPTH_ZOOM
        for size, shift in zip((width, height), DEPTH_SHIFT, strict=True)
    )
    half = 0.5 - 0.5 / DEPTH_ZOOM  # Pillow counts from the corner
    matrix = (1 / DEPTH_ZOOM, 0, across + half, 0, 1 / DEPTH_ZOOM, down + half)
    return np.asarray(Image.fromarray(depth).transform((width, height), Image.Transform.AFFINE, matrix))


@dataclass(kw_only=True, eq=False)
class TumRgbd(SequenceData):
    """TUM RGB-D, `rgb.txt`, `depth.txt` (PNG, metres × 5000) and `groundtruth.txt` of each sequence, root itself or
    folders in it; see `SequenceData`. Depth and poses belong to the frame whose time is at most 20 ms away. Frames
    count from 0 in the order of `rgb.txt`.

    Args:
        intrinsics: fx, fy, cx, cy, pixels of 640 × 480; null: the benchmark's for `freiburg1` to `freiburg3` in the
            name of the sequence, else 525, 525, 319.5, 239.5.
    """

    intrinsics: tuple[float, float, float, float] | None = None

    per_metre: ClassVar[float] = 5000.0
    layout: ClassVar[str] = "expected rgb.txt in it or in folders of it"

    def films(self, files: Files) -> list[Film]:
        folders = ["."] if "rgb.txt" in files else [f for f in files.folders("*") if f"{f}/rgb.txt" in files]
        return [self._film(folder) for folder in folders]

    def _film(self, folder: str) -> Film:
        place = self.root / folder
        name = folder if folder != "." else self.root.resolve().name
        stamps, frames = read_times(place / "rgb.txt")
        times = dict(enumerate(stamps))
        depths: dict[int, str] = {}
        if (place / "depth.txt").is_file():
            others, paths = read_times(place / "depth.txt")
            depths = {number: posixpath.join(folder, paths[i]) for number, i in nearest(times, others).items()}
        truth = place / "groundtruth.txt"
        return Film(
            name=name,
            lens=self._lens(name),
            frames={number: posixpath.join(folder, path) for number, path in enumerate(frames)},
            depths=depths,
            poses=read_poses(truth, times) if truth.is_file() else {},
        )

    def _lens(self, name: str) -> Pinhole:
        if self.intrinsics:
            lens = Pinhole(480, 640, *self.intrinsics)
            check_lens(lens, "data.intrinsics")
            return lens
        return next((lens for key, lens in TUM_CAMERAS.items() if key in name), KINECT)
