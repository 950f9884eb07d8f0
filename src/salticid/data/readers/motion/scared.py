"""SCARED (Allan et al. 2021): stereo endoscopy with structured light."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from salticid.data.readers.depth.decode import decoding, needed
from salticid.data.readers.depth.files import Files
from salticid.data.readers.motion.film import Film, Target, normalised, numbered
from salticid.data.readers.motion.listed import PICTURE, ListedData
from salticid.errors import ConfigError, UnreadableSample
from salticid.geometry.cameras import Pinhole

if TYPE_CHECKING:
    from jaxtyping import Float

CALIBRATION = normalised(Pinhole, 0.82, 1.02, 0.5, 0.5)
"""AF-SfMLearner's calibration of all of SCARED."""
HEIGHT = 1024
"""Rows of a picture: below them, `scene_points` go on with the right camera."""


@dataclass(kw_only=True, eq=False)
class Scared(ListedData):
    """SCARED as AF-SfMLearner lays it out, `dataset2/keyframe2/image_02/data/0000000626.png` (or .jpg) with
    `image_02/data/groundtruth/scene_points000625.tiff` beside it; at least one list is needed: see `ListedData`.

    Frames count from 1, files of depth from 0. Published results cap depth at 150 mm and state errors in millimetres;
    here depth is in metres, as everywhere. The calibration is AF-SfMLearner's, for all sequences.

    Raises:
        ConfigError: besides what `MotionData` says, `stereo`, which needs rectified pictures.
    """

    limits: tuple[float, float] = (1e-6, 0.15)

    def found(self, files: Files) -> tuple[list[Target], list[Target]]:
        if self.stereo:
            raise ConfigError("data.stereo: SCARED's pictures in this layout are not rectified; expected false")
        return super().found(files)

    def make_film(self, files: Files, folder: str, side: str) -> Film:
        below = f"{folder}/image_0{2 if side == 'l' else 3}/data"
        depths = numbered(f"{below}/groundtruth", files.names(f"{below}/groundtruth"), r"scene_points(\d+)\.tiff?")
        return Film(
            name=below.removesuffix("/data"),
            lens=CALIBRATION,
            frames=numbered(below, files.names(below), PICTURE),
            depths={number + 1: path for number, path in depths.items()},
        )

    def read_depth(self, film: Film, number: int) -> Float[np.ndarray, "h w"]:
        path = self.root / film.depths[number]
        cv2 = needed("cv2", "opencv-python-headless", path)
        with decoding(path):
            points = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
            if points is None or points.ndim != 3 or points.shape[0] < HEIGHT:
                raise UnreadableSample(f"{path}: not a readable TIFF of points, at least {HEIGHT} rows of x, y, z")
        # OpenCV turns the channels round: z comes first. Millimetres.
        return points[:HEIGHT, :, 0].astype(np.float32) / np.float32(1000)
