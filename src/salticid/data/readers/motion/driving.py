"""What recordings of a pair of cameras on a car have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from salticid.data.readers.motion.film import normalised
from salticid.data.readers.motion.listed import ListedData
from salticid.geometry import se3
from salticid.geometry.cameras import Pinhole

ORIGINAL = normalised(Pinhole, 0.58, 1.92, 0.5, 0.5)
"""Monodepth2's calibration of all of KITTI."""
ORIGINAL_BASELINE = 0.1
"""Monodepth2's distance of the cameras: its unit of length is 5.4 m."""


def aside(side: str, baseline: float) -> Tensor:
    """The other camera to that of `side` (l or r), float64 (4, 4)."""
    right = baseline if side == "l" else -baseline
    eye = torch.eye(3, dtype=torch.float64)
    return se3.pose(eye, torch.tensor((right, 0.0, 0.0), dtype=torch.float64))


@dataclass(kw_only=True, eq=False)
class Driving(ListedData):
    """Stereo pictures from a car; see `ListedData` for what is not said here.

    Args:
        calibration: `file`: of each recording, in metres; `original`: Monodepth2's, the same for all, with a baseline
            of 0.1 instead of 0.54 m.
    """

    calibration: Literal["file", "original"] = "file"
