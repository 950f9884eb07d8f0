"""Frames of one's own: folders of pictures or video files, with intrinsics, and with depth and poses if there are."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from salticid.data.motion import lens_of
from salticid.data.readers.depth.decode import DEPTH_SUFFIXES, read_values
from salticid.data.readers.depth.files import Files
from salticid.data.readers.motion.clip import Clip, default_cache, frame_name
from salticid.data.readers.motion.film import Film, check_lens, normalised
from salticid.data.readers.motion.frames import Frame
from salticid.data.readers.motion.sequences import SequenceData
from salticid.data.readers.motion.tables import read_poses
from salticid.data.readers.pictures import is_picture, picture_size
from salticid.data.readers.video import is_video
from salticid.errors import ConfigError
from salticid.geometry import calibration
from salticid.geometry.cameras import Pinhole
from salticid.geometry.lens import Lens

if TYPE_CHECKING:
    from jaxtyping import Float


@dataclass(kw_only=True, eq=False)
class FrameFolder(SequenceData):
    """A video file, a folder of frames, or a folder of such folders and video files, each a sequence; see
    `SequenceData`. Frames count by the last number in their names, or else from 0 in the order of the names; those of a
    video from 0.

    Args:
        intrinsics: in pixels of the files, centres at integers: fx, fy, cx, cy of a pinhole; with ξ, of the UCM; with
            ξ and α, of the double sphere; with k1 … k4, of Kannala–Brandt.
        relative: they are four shares of width and height from the corner instead, as Monodepth2's (0.58, 1.92, 0.5,
            0.5).
        calibration: a calibration file instead: `salticid.geometry.calibration`.
        camera: name of the camera in it; null: the only one.
        frames: folder with the frames inside that of the sequence; null: itself.
        depth: folder with files of the same names beside the frames; null: none.
        depth_per_metre: value in them at one metre: 1000 for millimetres.
        trajectory: name of a file with poses in the sequence's folder, as `tables.read_poses` takes them; times of
            TUM's format are the frames' names, or frames of a video over its rate.
        exclude: glob patterns of names of pictures and videos that are no frames.
        cache: folder for the decoded frames of videos; null: one among the temporary files.

    Raises:
        ConfigError: besides what `SequenceData` says, intrinsics or a calibration that make no camera.
    """

    intrinsics: tuple[float, ...] | None = None
    relative: bool = False
    calibration: Path | None = None
    camera: str | None = None
    frames: str | None = None
    depth: str | None = None
    depth_per_metre: float = 1000.0
    trajectory: str | None = None
    exclude: Sequence[str] = ()
    cache: Path | None = None
    clips: dict[str, Clip] = field(init=False, repr=False, default_factory=dict)

    layout = "expected pictures or a video file in it, or in folders of it"

    def films(self, files: Files) -> list[Film]:
        if (self.intrinsics is None) == (self.calibration is None):
            raise ConfigError("data.intrinsics: expected numbers here or a file in data.calibration, and not both")
        if self.depth_per_metre <= 0:
            raise ConfigError(f"data.depth_per_metre is {self.depth_per_metre}; expected more than 0")
        if self.root.is_file():
            self.root, name = self.root.parent, self.root.name
            return [self._clip(name)]
        folders = [".", *(folder for folder in files.folders("*") if folder != self.depth)]
        pictures = {folder: self._pictures(files, folder) for folder in folders}
        found = [self._folder(files, folder, names) for folder, names in pictures.items() if names]
        return found + [self._clip(name) for name in self._names(files, ".") if is_video(Path(name))]

    def _names(self, files: Files, folder: str) -> list[str]:
        return sorted(n for n in files.names(folder) if not any(fnmatch(n, pattern) for pattern in self.exclude))

    def _pictures(self, files: Files, folder: str) -> list[str]:
        below = posixpath.normpath(posixpath.join(folder, self.frames or "."))
        return [
            posixpath.normpath(posixpath.join(below, name))
            for name in self._names(files, below)
            if is_picture(Path(name))
        ]

    def _folder(self, files: Files, folder: str, paths: list[str]) -> Film:
        numbers = _numbers(paths)
        frames = dict(sorted(zip(numbers, paths, strict=True)))
        depths = {}
        if self.depth:
            below = posixpath.normpath(posixpath.join(folder, self.depth))
            by_stem = {PurePosixPath(name).stem: name for name in files.names(below) if _is_depth(name)}
            stems = {number: PurePosixPath(path).stem for number, path in frames.items()}
            depths = {n: posixpath.join(below, by_stem[stem]) for n, stem in stems.items() if stem in by_stem}
        name = folder if folder != "." else self.root.resolve().name
        first = self.root / next(iter(frames.values()))
        return Film(
            name=name,
            lens=self._lens(picture_size(first)),
            frames=frames,
            depths=depths,
            poses=read_poses(self.root / folder / self.trajectory, _times(frames)) if self.trajectory else {},
        )

    def _clip(self, name: str) -> Film:
        clip = Clip(self.root / name, self.size, Path(self.cache or default_cache()))
        self.clips[name] = clip
        times = {number: number / clip.rate for number in range(clip.count)}
        return Film(
            name=name,
            lens=self._lens(clip.shape),
            frames={number: frame_name(name, number) for number in times},
            poses=read_poses(self.root / self.trajectory, times) if self.trajectory else {},
        )

    def read_frame(self, path: str) -> Frame:
        name, _, number = path.rpartition("/")
        if name in self.clips:
            return self.clips[name].frame(int(number))
        return super().read_frame(path)

    def read_depth(self, film: Film, number: int) -> Float[np.ndarray, "h w"]:
        return read_values(self.root / film.depths[number]).astype(np.float32) / np.float32(self.depth_per_metre)

    def _lens(self, shape: tuple[int, int]) -> Lens:
        """The camera of pictures of (height, width) `shape`; that of a calibration at its own size."""
        if self.calibration:
            return self._calibrated(Path(self.calibration))
        values = self.intrinsics or ()
        if self.relative:
            if len(values) != 4:
                raise ConfigError(f"data.intrinsics: {len(values)} numbers; expected four shares with data.relative")
            lens = normalised(Pinhole, *values).resized(*shape)
        else:
            lens = lens_of(values, *shape)
        check_lens(lens, "data.intrinsics")
        return lens

    def _calibrated(self, path: Path) -> Lens:
        cameras, _, names = calibration.read(path)
        if self.camera is None and len(cameras) > 1:
            raise ConfigError(f"data.camera: {path} has {', '.join(names)}; expected one of them")
        if self.camera is not None and self.camera not in names:
            raise ConfigError(f"data.camera: {path} has no {self.camera!r}; it has {', '.join(names)}")
        lens = cameras[names.index(self.camera) if self.camera else 0]
        if not isinstance(lens, Lens):
            raise ConfigError(f"data.calibration: {path}: a panorama has no intrinsics; expected a lens")
        check_lens(lens, f"data.calibration: {path}")
        return lens


def _is_depth(name: str) -> bool:
    return Path(name).suffix.lower() in DEPTH_SUFFIXES


def _numbers(paths: list[str]) -> Iterable[int]:
    """The last number in each name, if all have one and no two the same; else 0, 1, 2, …"""
    digits = [re.findall(r"\d+", PurePosixPath(path).stem) for path in paths]
    numbers = [int(found[-1]) for found in digits if found]
    return numbers if len(set(numbers)) == len(paths) else range(len(paths))


def _times(frames: dict[int, str]) -> dict[int, float]:
    """Names that are numbers, as times in seconds; else the frames' numbers."""
    try:
        return {number: float(PurePosixPath(path).stem) for number, path in frames.items()}
    except ValueError:
        return {number: float(number) for number in frames}
