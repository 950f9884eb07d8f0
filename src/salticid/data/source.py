"""The sample contract: every data set, real or rendered, is a `Source` that the loader reads by index."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Generator, Tensor

from salticid.errors import ConfigError, UnreadableSample

Sample = dict[str, Any]
"""Tensors by name for one sample, without a batch dimension. Images are float32 in [−1, 1], (C, H, W)."""

Batch = dict[str, Any]
"""A collated list of samples: tensors with a leading batch dimension, plus what the loader adds:

- `id`: list[str], the sample ids (file names, scene numbers): stable between runs and machines;
- `key`: int64 (B,), what noise is keyed by: in training the position of the sample in the global stream of
  samples (unique in a run), in evaluation a stable hash of the id;
- `replaced`: list[str], ids of unreadable samples that others in this batch stand in for (often empty).
"""


class Source(ABC):
    """A finite set of samples. `sample` is a pure function of its arguments."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def id(self, index: int) -> str:
        """A stable, readable name of sample `index`, unique in this source."""

    @abstractmethod
    def sample(self, index: int, augment: Generator | None) -> Sample:
        """Read sample `index`.

        `augment` is a CPU generator seeded from (seed, position in the run): all augmentation draws from it
        alone. None means no augmentation (evaluation).

        Raises:
            UnreadableSample: the sample is broken; the message names the file and the reason.
        """


class Data(ABC):
    """What a run trains on and is judged by; the `data:` entry of a configuration."""

    @abstractmethod
    def train(self) -> Source: ...

    @abstractmethod
    def val(self) -> Source:
        """Samples that training never sees."""


def collate(samples: Sequence[Sample]) -> Batch:
    """Stack tensors along a new first dimension; gather everything else in lists."""
    first = samples[0]
    return {
        name: torch.stack([s[name] for s in samples]) if isinstance(first[name], Tensor) else [s[name] for s in samples]
        for name in first
    }


def first_readable(*sources: Source, attempts: int = 16) -> Sample:
    """The first sample that can be read of the first source that has one, without augmentation: what recipes look at
    to see whether data fit them.

    Raises:
        ConfigError: none of the first `attempts` samples of any source can be read.
    """
    reason = "it has no samples"
    for source in sources:
        for index in range(min(len(source), attempts)):
            try:
                return source.sample(index, None)
            except UnreadableSample as error:
                reason = str(error)
    raise ConfigError(f"data: no sample can be read: {reason}")
