"""Readers of data sets on disk."""

from salticid.data.readers.depth import (
    DepthFolder,
    Diode,
    Eth3d,
    Hypersim,
    Kitti,
    Nyu,
    ScanNet,
    VirtualKitti,
)
from salticid.data.readers.motion import FrameFolder, KittiOdometry, KittiRaw, Scared, SevenScenes, TumRgbd
from salticid.data.readers.panoramas import PanoramaFolder

__all__ = [
    "DepthFolder",
    "Diode",
    "Eth3d",
    "FrameFolder",
    "Hypersim",
    "Kitti",
    "KittiOdometry",
    "KittiRaw",
    "Nyu",
    "PanoramaFolder",
    "ScanNet",
    "Scared",
    "SevenScenes",
    "TumRgbd",
    "VirtualKitti",
]
