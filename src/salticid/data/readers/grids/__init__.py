"""Readers of objects that are seen by several cameras."""

from salticid.data.readers.grids.blender import BlenderTransforms
from salticid.data.readers.grids.renders import MultiViewRenders

__all__ = ["BlenderTransforms", "MultiViewRenders"]
