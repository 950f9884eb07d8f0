"""Readers of sequences of frames from moving cameras."""

from salticid.data.readers.motion.folder import FrameFolder
from salticid.data.readers.motion.indoor import SevenScenes, TumRgbd
from salticid.data.readers.motion.kitti_odometry import KittiOdometry
from salticid.data.readers.motion.kitti_raw import KittiRaw
from salticid.data.readers.motion.scared import Scared

__all__ = ["FrameFolder", "KittiOdometry", "KittiRaw", "Scared", "SevenScenes", "TumRgbd"]
