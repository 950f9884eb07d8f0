"""NYU Depth v2 (Silberman et al. 2012) and ScanNet (Dai et al. 2017)."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from salticid.data.readers.depth.base import WHOLE, DepthData, Window
from salticid.data.readers.depth.decode import fitted, needed, read_colour, read_hdf5, read_values
from salticid.data.readers.depth.files import Files
from salticid.data.readers.depth.pairs import Decoded, Pair
from salticid.data.readers.pictures import one_line
from salticid.errors import ConfigError

if TYPE_CHECKING:
    from jaxtyping import Float

MAT = "nyu_depth_v2_labeled.mat"
EIGEN = slice(45, 471), slice(41, 601)
"""Rows and columns of 480 × 640 pixels that are judged (Eigen et al. 2014)."""


@dataclass(frozen=True, slots=True)
class Labelled(Pair):
    """One entry (from 0) of NYU's file of labelled pictures."""

    entry: int = 0

    @property
    def id(self) -> str:
        return f"{self.image}/{self.entry + 1:04d}"


def millimetres(path: Path) -> Float[np.ndarray, "h w"]:
    """Metres of a 16-bit PNG of millimetres. Raises as `read_values`."""
    return read_values(path).astype(np.float32) / np.float32(1000)


@dataclass(kw_only=True, eq=False)
class Nyu(DepthData):
    """NYU Depth v2, the 1449 labelled pictures; see `DepthData` for what is not said here.

    Lists are Marigold's: picture, depth, depth with holes filled, 8-bit and 16-bit PNG (millimetres). The own layout is
    `nyu_depth_v2_labeled.mat` with `splits.mat` beside it: 795 pictures to train on, 654 to validate.

    Args:
        filled: depth whose holes are filled, instead of what was measured, which benchmarks are judged by.
        mask: what validation judges: Eigen's region, or everything.
    """

    limits: tuple[float, float] = (1e-3, 10.0)
    filled: bool = False
    mask: Literal["eigen", "none"] = "eigen"

    layout: ClassVar[str] = f"expected {MAT} and splits.mat, or data.train_list, data.val_list"
    line: ClassVar[str] = "picture, depth and, for data.filled, filled depth"

    def columns(self, columns: list[str]) -> Sequence[str]:
        return columns[0], columns[2 if self.filled else 1]

    def decode(self, pair: Pair) -> Decoded:
        if isinstance(pair, Labelled):
            path = self.root / pair.image
            picture = read_hdf5(path, "images", pair.entry).transpose(2, 1, 0)  # MATLAB's axes are the other way round
            return Decoded(picture, read_hdf5(path, "depths" if self.filled else "rawDepths", pair.entry).T)
        depth = millimetres(self.root / pair.depth)
        return Decoded(read_colour(self.root / pair.image, depth.shape), depth)

    def judged(self, height: int, width: int) -> Window:
        return EIGEN if self.mask == "eigen" else WHOLE

    def found(self, files: Files) -> tuple[list[Pair], list[Pair]]:
        if MAT not in files:
            return [], []
        if "splits.mat" not in files:
            raise ConfigError(f"data.root: {self.root / MAT} lacks the splits.mat that is published with it")
        numbers = read_splits(self.root / "splits.mat")
        train, val = ([Labelled(MAT, MAT, entry=n - 1) for n in side] for side in numbers)
        return [*train], [*val]


def read_splits(path: Path) -> tuple[list[int], list[int]]:
    """Numbers (from 1) of the pictures of training and of test, of NYU's splits.mat.

    Raises:
        ConfigError: it cannot be read, or holds something else.
        UserError: SciPy is not installed.
    """
    io = needed("scipy.io", "SciPy", path)
    try:
        content = io.loadmat(path)
        train, test = (content[name].ravel().astype(int).tolist() for name in ("trainNdxs", "testNdxs"))
    except Exception as error:  # SciPy's own errors have no common class
        raise ConfigError(f"data.root: {path} is not NYU's table of the split ({one_line(error)})") from None
    return train, test


@dataclass(kw_only=True, eq=False)
class ScanNet(DepthData):
    """ScanNet's frames, depth as 16-bit PNG in millimetres; see `DepthData` for what is not said here.

    Lists are Marigold's. The own layout is that of the export of the sensor streams: `scene0406_02/color/300.jpg` and
    `scene0406_02/depth/300.png`, in root or in its `scans`. If root holds `scannetv2_val.txt`, the scenes that it names
    validate and the others are trained on; else all validate. Pictures (1296×968 in the export) are reduced to the size
    of their depth (640×480) by area averages.
    """

    limits: tuple[float, float] = (1e-3, 10.0)

    layout: ClassVar[str] = "expected scene*/color/*.jpg and scene*/depth/*.png, or data.val_list"
    places: ClassVar[Sequence[str]] = ("scans",)

    def spellings(self, entry: str) -> Iterable[str]:
        folder, name = posixpath.split(entry)
        return entry, posixpath.join(folder, name.lstrip("0") if name[:-4].strip("0") else f"0{name[-4:]}")

    def decode(self, pair: Pair) -> Decoded:
        depth = millimetres(self.root / pair.depth)
        return Decoded(fitted(read_colour(self.root / pair.image, depth.shape), depth.shape), depth)

    def found(self, files: Files) -> tuple[list[Pair], list[Pair]]:
        val_scenes = self._val_scenes(files)
        sides: tuple[list[Pair], list[Pair]] = [], []
        for folder in files.folders("scene*/color", "scans/scene*/color"):
            scene = posixpath.dirname(folder)
            validates = val_scenes is None or posixpath.basename(scene) in val_scenes
            for name in sorted(files.names(folder), key=lambda name: (len(name), name)):
                sides[validates].append(Pair(f"{folder}/{name}", f"{scene}/depth/{name.replace('.jpg', '.png')}"))
        return sides

    def _val_scenes(self, files: Files) -> set[str] | None:
        if "scannetv2_val.txt" not in files:
            return None
        return set((self.root / "scannetv2_val.txt").read_text(encoding="utf-8").split())
