"""ETH3D (Schöps et al. 2017) and DIODE (Vasiljevic et al. 2019): depth from laser scanners."""

from __future__ import annotations

import math
import posixpath
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from salticid.data.readers.depth.base import DepthData
from salticid.data.readers.depth.decode import decoding, read_colour, read_mask, read_values
from salticid.data.readers.depth.files import Files
from salticid.data.readers.depth.pairs import Decoded, Pair
from salticid.errors import UnreadableSample

if TYPE_CHECKING:
    from jaxtyping import Bool, Float


@dataclass(kw_only=True, eq=False)
class Eth3d(DepthData):
    """ETH3D's multi-view training set, the pictures of its DSLR camera (6048×4032); see `DepthData` for what is not
    said here. Depth files are named like pictures (.JPG), and hold the rows of a float32 array without a header,
    metres, infinite where nothing was measured.

    Lists are Marigold's. The own layout is that of the archives: `office/images/dslr_images/DSC_0219.JPG` and
    `office/ground_truth_depth/dslr_images/DSC_0219.JPG`, in root or, as in the lists, below `rgb` and below
    `depth/office_dslr_depth`. All pictures validate.
    """

    limits: tuple[float, float] = (1e-5, math.inf)

    layout: ClassVar[str] = "expected */ground_truth_depth/dslr_images/*.JPG and */images/dslr_images/*.JPG"

    def spellings(self, entry: str) -> Iterable[str]:
        # rgb/SCENE/images/… and depth/SCENE_dslr_depth/SCENE/ground_truth_depth/… are SCENE/… in the archives.
        return entry, "/".join(entry.split("/")[-4:])

    def decode(self, pair: Pair) -> Decoded:
        path = self.root / pair.depth
        with decoding(path):
            depth = np.fromfile(path, "<f4")
        picture = read_colour(self.root / pair.image)
        if depth.size != picture.shape[0] * picture.shape[1]:
            sizes = f"{depth.size} numbers do not fill {picture.shape[0]}×{picture.shape[1]} pixels"
            raise UnreadableSample(f"{path}: {sizes}")
        return Decoded(picture, depth.reshape(picture.shape[:2]))

    def found(self, files: Files) -> tuple[list[Pair], list[Pair]]:
        pairs = []
        below = "ground_truth_depth/dslr_images"
        for folder in files.folders(f"*/{below}", f"depth/*/*/{below}"):
            scene = folder.split("/")[-3]
            pictures = f"{scene}/images/dslr_images"
            pictures = pictures if files.names(pictures) else f"rgb/{pictures}"
            pairs += [Pair(f"{pictures}/{name}", f"{folder}/{name}") for name in sorted(files.names(folder))]
        return [], pairs


@dataclass(kw_only=True, eq=False)
class Diode(DepthData):
    """DIODE's indoor and outdoor scans; see `DepthData` for what is not said here. `X.png` goes with `X_depth.npy`,
    float32 metres, and `X_depth_mask.npy`, which alone says what is valid: `limits` are for predictions.

    Lists are Marigold's, relative to `val`. The own layout is that of the archives, found by walking through root:
    what lies in a folder `train` is trained on, all else validates.
    """

    limits: tuple[float, float] = (0.6, 350.0)

    layout: ClassVar[str] = "expected *.png with *_depth.npy and *_depth_mask.npy"
    line: ClassVar[str] = "picture, depth and mask"

    def columns(self, columns: list[str]) -> Sequence[str]:
        return columns[0], columns[1], columns[2]

    def valid(self, depth: Float[np.ndarray, "h w"], mask: Bool[np.ndarray, "h w"] | None) -> Bool[np.ndarray, "h w"]:
        known = np.isfinite(depth) & (depth > 0)
        return known if mask is None else known & mask

    def decode(self, pair: Pair) -> Decoded:
        depth = read_values(self.root / pair.depth).astype(np.float32)
        return Decoded(read_colour(self.root / pair.image, depth.shape), depth, read_mask(self.root / pair.mask))

    def found(self, files: Files) -> tuple[list[Pair], list[Pair]]:
        sides: tuple[list[Pair], list[Pair]] = [], []
        for path in files.all():
            if path.endswith("_depth.npy"):
                stem = path.removesuffix("_depth.npy")
                trained = "train" in posixpath.dirname(path).split("/")
                sides[not trained].append(Pair(f"{stem}.png", path, f"{stem}_depth_mask.npy"))
        return sides
