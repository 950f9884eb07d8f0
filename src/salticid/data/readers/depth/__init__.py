"""Readers of pictures with depth: one's own folders, and the data sets that Marigold trains on and is judged by."""

from salticid.data.readers.depth.augment import ColourJitter
from salticid.data.readers.depth.folder import DepthFolder, Stereo
from salticid.data.readers.depth.hypersim import Hypersim
from salticid.data.readers.depth.indoor import Nyu, ScanNet
from salticid.data.readers.depth.kitti import Kitti, VirtualKitti
from salticid.data.readers.depth.laser import Diode, Eth3d

__all__ = [
    "ColourJitter",
    "DepthFolder",
    "Diode",
    "Eth3d",
    "Hypersim",
    "Kitti",
    "Nyu",
    "ScanNet",
    "Stereo",
    "VirtualKitti",
]
