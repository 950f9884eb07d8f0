"""Readers of video clips, and of pictures that are trained on beside them."""

from salticid.data.readers.clips.folder import ClipFolder
from salticid.data.readers.clips.stills import Stills

__all__ = ["ClipFolder", "Stills"]
