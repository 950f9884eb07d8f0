"""KITTI's raw recordings (Geiger et al. 2013), with depth from laser scans (Eigen et al. 2014; Uhrig et al. 2017)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from salticid.data.readers.depth.base import WHOLE, Window
from salticid.data.readers.depth.files import Files
from salticid.data.readers.depth.kitti import REGIONS
from salticid.data.readers.motion.driving import ORIGINAL, ORIGINAL_BASELINE, Driving, aside
from salticid.data.readers.motion.film import Film, numbered
from salticid.data.readers.motion.kitti_calibration import (
    distance,
    laser_depth,
    matrix,
    projected_lens,
    read_calibration,
    travelled,
)
from salticid.data.readers.motion.listed import PICTURE
from salticid.geometry.cameras import Pinhole

if TYPE_CHECKING:
    from jaxtyping import Float

CAMERAS = {"l": 2, "r": 3}


@dataclass(kw_only=True, eq=False)
class KittiRaw(Driving):
    """KITTI's raw recordings, `2011_09_26/2011_09_26_drive_0001_sync/image_02/data/0000000005.jpg` (or .png), with
    `2011_09_26/calib_cam_to_cam.txt` and `calib_velo_to_cam.txt`; at least one list is needed: see `Driving`.

    Args:
        depth: `velodyne`: laser scans (`velodyne_points/data`) projected, the x of the scanner for the depth, as
            published results have it; `velodyne_z`: the camera's z instead; `improved`: the annotated maps (PNG, metres
            × 256) in `proj_depth/groundtruth` of the drive or of `train/DRIVE` and `val/DRIVE`; `none`.
        speed: travel from the car's own speed (`oxts`).
        mask: what validation judges: Garg's region, Eigen's, or everything.
    """

    depth: Literal["velodyne", "velodyne_z", "improved", "none"] = "velodyne"
    speed: bool = False
    mask: Literal["garg", "eigen", "none"] = "garg"

    per_metre: ClassVar[float] = 256.0

    def make_film(self, files: Files, folder: str, side: str) -> Film:
        date = folder.partition("/")[0]
        frames, partners = (self._frames(files, folder, camera) for camera in (side, "lr".strip(side)))
        lens, baseline = ORIGINAL, ORIGINAL_BASELINE
        if self.calibration == "file" and frames:
            lens, baseline = self._lens(date, side)
        return Film(
            name=f"{folder}/image_0{CAMERAS[side]}",
            lens=lens,
            frames=frames,
            partners=partners,
            stereo_pose=aside(side, baseline),
            depths=self._depths(files, folder, side),
            ways=travelled(self.root / folder) if self.speed else {},
        )

    def _frames(self, files: Files, folder: str, side: str) -> dict[int, str]:
        below = f"{folder}/image_0{CAMERAS[side]}/data"
        return numbered(below, files.names(below), PICTURE)

    def _lens(self, date: str, side: str) -> tuple[Pinhole, float]:
        """The camera of a day, and the distance of the colour cameras, m."""
        path = self.root / date / "calib_cam_to_cam.txt"
        values = read_calibration(path)
        left, right = (matrix(values, f"P_rect_0{camera}", (3, 4), path) for camera in (2, 3))
        width, height = matrix(values, f"S_rect_0{CAMERAS[side]}", (1, 2), path)[0]
        own = left if side == "l" else right
        lens = projected_lens(own, (int(height), int(width)), path)
        return lens, distance(left, right)

    def _depths(self, files: Files, folder: str, side: str) -> Mapping[int, str]:
        if self.depth == "none":
            return {}
        if self.depth != "improved":
            scans = f"{folder}/velodyne_points/data"
            return numbered(scans, files.names(scans), r"(\d+)\.bin")
        drive = folder.rpartition("/")[2]
        places = [
            folder,
            *(f"{top}{part}/{drive}" for top in ("", "data_depth_annotated/") for part in ("train", "val")),
        ]
        for place in places:
            maps = f"{place}/proj_depth/groundtruth/image_0{CAMERAS[side]}"
            if names := files.names(maps):
                return numbered(maps, names, r"(\d+)\.png")
        return {}

    def read_depth(self, film: Film, number: int) -> Float[np.ndarray, "h w"]:
        if self.depth == "improved":
            return super().read_depth(film, number)
        date, camera = film.name.partition("/")[0], film.name[-2:]
        path = self.root / date / "calib_cam_to_cam.txt"
        cameras, scanner = read_calibration(path), read_calibration(path.with_name("calib_velo_to_cam.txt"))
        velodyne = np.eye(4)
        velodyne[:3, :3] = matrix(scanner, "R", (3, 3), path)
        velodyne[:3, 3:] = matrix(scanner, "T", (3, 1), path)
        rectified = np.eye(4)
        rectified[:3, :3] = matrix(cameras, "R_rect_00", (3, 3), path)
        to_pixels = matrix(cameras, f"P_rect_{camera}", (3, 4), path) @ rectified @ velodyne
        width, height = (int(size) for size in matrix(cameras, f"S_rect_{camera}", (1, 2), path)[0])
        scan = self.root / film.depths[number]
        return laser_depth(scan, to_pixels, (height, width), forward=self.depth == "velodyne")

    def judged(self, height: int, width: int) -> Window:
        if self.mask == "none":
            return WHOLE
        (top, bottom), (left, right) = REGIONS[self.mask]
        return slice(int(top * height), int(bottom * height)), slice(int(left * width), int(right * width))
