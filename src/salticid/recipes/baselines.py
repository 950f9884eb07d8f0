"""What can be known of a sample without looking at it: means over the training data."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from salticid.data.source import Sample, Source
from salticid.errors import UnreadableSample

SAMPLES = 256
"""Of the training data, spread over it, that a mean is made of."""


def mean_map(source: Source, size: int, of: Callable[[Sample], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """The mean (1, 1, size, size) of maps over samples, where they are valid, 0 where none is; and where one is.

    Args:
        of: a sample's map (1, 1, H, W), finite where valid, and bool (1, 1, H, W): where it is.
    """
    total, weight = torch.zeros(1, 1, size, size), torch.zeros(1, 1, size, size)
    count = min(SAMPLES, len(source))
    for i in range(count):
        try:
            sample = source.sample(i * len(source) // count, None)
        except UnreadableSample:
            continue
        values, valid = of(sample)
        total += F.interpolate(values.where(valid, 0.0), (size, size), mode="area")
        weight += F.interpolate(valid.float(), (size, size), mode="area")
    return total / weight.clamp_min(1e-6), weight > 0
