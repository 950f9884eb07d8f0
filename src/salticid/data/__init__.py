"""Samples, their order, and the loader that turns them into batches."""

from salticid.data.mixture import Mixture
from salticid.data.source import Batch, Data, Sample, Source, collate, first_readable

__all__ = ["Batch", "Data", "Mixture", "Sample", "Source", "collate", "first_readable"]
