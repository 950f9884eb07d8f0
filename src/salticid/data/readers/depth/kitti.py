"""KITTI (Geiger et al. 2013; depth of Uhrig et al. 2017) and Virtual KITTI 2 (Cabon et al. 2020)."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from salticid.data.readers.depth.base import WHOLE, DepthData, Window
from salticid.data.readers.depth.decode import read_colour, read_values
from salticid.data.readers.depth.files import Files
from salticid.data.readers.depth.pairs import Decoded, Pair
from salticid.errors import UnreadableSample

BENCHMARK = 352, 1216
"""Height and width of KITTI's depth benchmark."""

REGIONS = {
    "eigen": ((0.3324324, 0.91351351), (0.0359477, 0.96405229)),
    "garg": ((0.40810811, 0.99189189), (0.03594771, 0.96405229)),
}
"""Shares of height and width that are judged: Eigen et al. 2014, Garg et al. 2016."""


@dataclass(kw_only=True, eq=False)
class Driving(DepthData):
    """Pictures from a car, cut to the size of KITTI's depth benchmark; see `DepthData` for what is not said here.

    Args:
        benchmark_crop: keep the bottom 352 rows and the middle 1216 columns.
        mask: what validation judges of that: Eigen's region, Garg's, or everything.
    """

    limits: tuple[float, float] = (1e-5, 80.0)
    benchmark_crop: bool = True
    mask: Literal["eigen", "garg", "none"] = "none"

    per_metre: ClassVar[float]
    """Pixel value of depth at one metre."""

    def decode(self, pair: Pair) -> Decoded:
        depth = read_values(self.root / pair.depth).astype(np.float32) / np.float32(self.per_metre)
        return Decoded(read_colour(self.root / pair.image, depth.shape), depth)

    def window(self, pair: Pair, shape: tuple[int, ...]) -> Window:
        if not self.benchmark_crop:
            return WHOLE
        height, width = BENCHMARK
        top, left = shape[0] - height, (shape[1] - width) // 2
        if top < 0 or left < 0:
            sizes = f"{shape[0]}×{shape[1]} is smaller than the benchmark's crop, {height}×{width}"
            raise UnreadableSample(f"{self.root / pair.image}: {sizes} (data.benchmark_crop)")
        return slice(top, top + height), slice(left, left + width)

    def judged(self, height: int, width: int) -> Window:
        if self.mask == "none":
            return WHOLE
        (top, bottom), (left, right) = REGIONS[self.mask]
        return slice(int(top * height), int(bottom * height)), slice(int(left * width), int(right * width))


@dataclass(kw_only=True, eq=False)
class Kitti(Driving):
    """KITTI's raw recordings with its annotated depth maps (16-bit PNG, metres × 256); see `Driving`.

    Lists are Marigold's: picture, depth (None: left out), focal length (not needed). The own layout is that of the
    archives, all in root: `2011_09_26/2011_09_26_drive_0001_sync/image_02/data/0000000005.png` (or under `raw_data`)
    and `train/2011_09_26_drive_0001_sync/proj_depth/groundtruth/image_02/0000000005.png`; drives under `val` validate.

    Args:
        cameras: of the own layout.
    """

    mask: Literal["eigen", "garg", "none"] = "eigen"
    cameras: Sequence[str] = ("image_02", "image_03")

    per_metre: ClassVar[float] = 256.0
    layout: ClassVar[str] = "expected {train,val}/*_sync/proj_depth/groundtruth/image_0*/*.png and the raw recordings"
    places: ClassVar[Sequence[str]] = ("raw_data", "data_depth_annotated/train", "data_depth_annotated/val")

    def found(self, files: Files) -> tuple[list[Pair], list[Pair]]:
        return self._side(files, "train"), self._side(files, "val")

    def _side(self, files: Files, side: str) -> list[Pair]:
        below = "*_sync/proj_depth/groundtruth/image_0?"
        pairs = []
        for folder in files.folders(f"{side}/{below}", f"data_depth_annotated/{side}/{below}"):
            camera, drive = posixpath.basename(folder), folder.split("/")[-4]
            if camera not in self.cameras:
                continue
            recorded = f"{drive[:10]}/{drive}/{camera}/data"  # a drive's name begins with its date
            recorded = f"raw_data/{recorded}" if files.names(f"raw_data/{recorded}") else recorded
            pairs += [Pair(f"{recorded}/{name}", f"{folder}/{name}") for name in sorted(files.names(folder))]
        return pairs


@dataclass(kw_only=True, eq=False)
class VirtualKitti(Driving):
    """Virtual KITTI 2 (depth as 16-bit PNG, centimetres; what is 80 m away or more, sky above all, is not valid); see
    `Driving`.

    Lists are Marigold's. The own layout is that of the archives: `Scene01/clone/frames/rgb/Camera_0/rgb_00000.jpg` and
    `Scene01/clone/frames/depth/Camera_0/depth_00000.png`, both in root or each below `rgb` and `depth`, or below
    `vkitti_2.0.3_rgb` and `vkitti_2.0.3_depth`.

    Args:
        val_scenes: of the own layout; the others are trained on.
        variations: of the own layout; default: Marigold's six, without fog, rain and the sharper turns.
    """

    val_scenes: Sequence[str] = ("Scene01",)
    variations: Sequence[str] = ("15-deg-left", "15-deg-right", "clone", "morning", "overcast", "sunset")

    per_metre: ClassVar[float] = 100.0
    layout: ClassVar[str] = "expected Scene*/*/frames/{rgb,depth}/Camera_*/ in it, in rgb and depth, or as unpacked"
    places: ClassVar[Sequence[str]] = ("vkitti_2.0.3_rgb", "vkitti_2.0.3_depth")

    def spellings(self, entry: str) -> Iterable[str]:
        return entry, entry.partition("/")[2]  # Marigold's lists put rgb/ and depth/ before the archives' paths

    def found(self, files: Files) -> tuple[list[Pair], list[Pair]]:
        sides: tuple[list[Pair], list[Pair]] = [], []
        for prefix in ("", "rgb/", "vkitti_2.0.3_rgb/"):
            for folder in files.folders(f"{prefix}Scene*/*/frames/rgb/Camera_*"):
                scene, variation, _, _, camera = folder.removeprefix(prefix).split("/")
                if variation not in self.variations:
                    continue
                depths = f"{prefix.replace('rgb', 'depth')}{scene}/{variation}/frames/depth/{camera}"
                sides[scene in self.val_scenes].extend(
                    Pair(f"{folder}/{name}", f"{depths}/{name.replace('rgb', 'depth').replace('.jpg', '.png')}")
                    for name in sorted(files.names(folder))
                )
        return sides
