"""Readers of data sets on disk."""

from salticid.data.readers.panoramas import PanoramaFolder

__all__ = ["PanoramaFolder"]
