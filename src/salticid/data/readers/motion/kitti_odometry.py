"""KITTI's odometry benchmark (Geiger et al. 2012)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from salticid.data.readers.depth.files import Files
from salticid.data.readers.motion.driving import ORIGINAL, ORIGINAL_BASELINE, Driving, aside
from salticid.data.readers.motion.film import Film, Target, numbered
from salticid.data.readers.motion.kitti_calibration import distance, matrix, projected_lens, read_calibration
from salticid.data.readers.motion.listed import PICTURE
from salticid.data.readers.motion.tables import read_poses
from salticid.geometry import se3
from salticid.geometry.cameras import Pinhole


@dataclass(kw_only=True, eq=False)
class KittiOdometry(Driving):
    """KITTI's odometry benchmark, `sequences/00/image_2/000000.png` (or image_0, grey; .jpg) with `calib.txt` beside
    the folder and `poses/00.txt` for the sequences 00 to 10. Without lists all frames of the left camera in `sequences`
    are trained on, and those in `val_sequences` validate; see `Driving`.

    Args:
        colour: image_2 and image_3, else image_0 and image_1.
    """

    sequences: Sequence[str] = ("00", "01", "02", "03", "04", "05", "06", "07", "08")
    val_sequences: Sequence[str] = ("09", "10")
    colour: bool = True

    def found(self, files: Files) -> tuple[list[Target], list[Target]]:
        if self.train_list or self.val_list:
            return super().found(files)
        train, val = ([self.film(files, name, "l") for name in side] for side in (self.sequences, self.val_sequences))
        sides = [[Target(film, number) for film in side for number in film.frames] for side in (train, val)]
        return sides[0], sides[1]

    def make_film(self, files: Files, folder: str, side: str) -> Film:
        name = folder.zfill(2)
        first = 2 if self.colour else 0
        camera = first + (side == "r")
        below = f"sequences/{name}"
        frames, partners = (
            numbered(f"{below}/image_{c}", files.names(f"{below}/image_{c}"), PICTURE)
            for c in (camera, 2 * first + 1 - camera)
        )
        lens, baseline = ORIGINAL, ORIGINAL_BASELINE
        if self.calibration == "file" and frames:
            lens, baseline = self._lens(name, camera, first, next(iter(frames.values())))
        poses = f"poses/{name}.txt"
        return Film(
            name=f"{below}/image_{camera}",
            lens=lens,
            frames=frames,
            partners=partners,
            stereo_pose=aside(side, baseline),
            poses=self._poses(name, camera) if poses in files else {},
        )

    def _lens(self, name: str, camera: int, first: int, frame: str) -> tuple[Pinhole, float]:
        path = self.root / f"sequences/{name}/calib.txt"
        values = read_calibration(path)
        own, left, right = (matrix(values, f"P{c}", (3, 4), path) for c in (camera, first, first + 1))
        size = self.read_frame(frame).shape  # the calibration does not say it
        return projected_lens(own, size, path), distance(left, right)

    def _poses(self, name: str, camera: int) -> dict[int, Tensor]:
        """Camera to world: the file holds those of camera 0, which looks the same way."""
        poses = read_poses(self.root / f"poses/{name}.txt", {})
        path = self.root / f"sequences/{name}/calib.txt"
        if not path.is_file():
            return poses
        own = matrix(read_calibration(path), f"P{camera}", (3, 4), path)
        place = torch.from_numpy(np.linalg.inv(own[:, :3]) @ own[:, 3:])[:, 0]
        offset = se3.pose(torch.eye(3, dtype=torch.float64), -place)
        return {number: se3.compose(pose, offset) for number, pose in poses.items()}
