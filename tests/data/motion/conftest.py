"""Small sequences in the formats of the data sets."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

CALIBRATION = """calib_time: 09-Jan-2012 13:57:47
S_rect_02: 1.242000e+02 3.750000e+01
R_rect_00: 1 0 0 0 1 0 0 0 1
P_rect_02: 7.2e+01 0 6.1e+01 4.5 0 7.2e+01 1.7e+01 0.2 0 0 1 0.003
S_rect_03: 1.240000e+02 3.700000e+01
P_rect_03: 7.2e+01 0 6.1e+01 -34.2 0 7.2e+01 1.7e+01 2.2 0 0 1 0.003
"""


class Recorder:
    """Writes below a root."""

    def __init__(self, root: Path):
        self.root = root

    def path(self, name: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def picture(self, name, height=37, width=124, seed=0, mode="RGB"):
        """A picture of smooth random colours, which it returns as (h, w, 3)."""
        small = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
        image = Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC).convert(mode)
        image.save(self.path(name), quality=95)  # of JPEG; others disregard it
        return np.asarray(image.convert("RGB"))

    def frames(self, folder, numbers, pattern="{:010d}.png", **options):
        for number in numbers:
            self.picture(f"{folder}/{pattern.format(number)}", seed=number, **options)

    def png16(self, name, values):
        Image.fromarray(np.asarray(values).astype(np.uint16)).save(self.path(name), format="PNG")

    def text(self, name, *lines):
        self.path(name).write_text("\n".join(lines), encoding="utf-8")
        return self.path(name)


@pytest.fixture
def record(tmp_path) -> Recorder:
    return Recorder(tmp_path)


DRIVE = "2011_09_26/2011_09_26_drive_0001_sync"


@pytest.fixture
def drive(record) -> Recorder:
    """Six frames of KITTI's raw recordings, both colour cameras, 37 × 124 pixels, but for frame 3 of the right one."""
    record.text("2011_09_26/calib_cam_to_cam.txt", CALIBRATION.replace("1.242000e+02 3.750000e+01", "124 37"))
    # The scanner looks along x; the camera along z: its x is −y, its y is −z.
    record.text("2011_09_26/calib_velo_to_cam.txt", "calib_time: x", "R: 0 -1 0 0 0 -1 1 0 0", "T: 0 0 -0.27")
    record.frames(f"{DRIVE}/image_02/data", range(6))
    record.frames(f"{DRIVE}/image_03/data", (0, 1, 2, 4, 5))
    return record
