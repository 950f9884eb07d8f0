"""Readers of data sets on disk."""

from salticid.data.readers.clips import ClipFolder, Stills
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
from salticid.data.readers.grids import BlenderTransforms, MultiViewRenders
from salticid.data.readers.motion import FrameFolder, KittiOdometry, KittiRaw, Scared, SevenScenes, TumRgbd
from salticid.data.readers.panoramas import PanoramaFolder

__all__ = [
    "BlenderTransforms",
    "ClipFolder",
    "DepthFolder",
    "Diode",
    "Eth3d",
    "FrameFolder",
    "Hypersim",
    "Kitti",
    "KittiOdometry",
    "KittiRaw",
    "MultiViewRenders",
    "Nyu",
    "PanoramaFolder",
    "ScanNet",
    "Scared",
    "SevenScenes",
    "Stills",
    "TumRgbd",
    "VirtualKitti",
]
