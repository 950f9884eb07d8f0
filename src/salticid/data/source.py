"""The sample contract: every data set, real or rendered, is a `Source` that the loader reads by index."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Generator, Tensor

from salticid.data.order import Order
from salticid.errors import ConfigError, UnreadableSample, UserError

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

    def order(self, batch: int, seed: int) -> Order:
        """In which order a run of global batch size `batch` sees the samples."""
        return Order(len(self), batch, seed)

    def substitute(self, index: int, number: int) -> int:
        """A sample to take the place of sample `index`, which cannot be read; `number` is a large random one."""
        return number % len(self)

    # Augmentation with finitely many outcomes, such as a flip: what frozen networks make of each can then be computed
    # once. `sample(index, augment)` of such a source is `outcome(index, draw(augment))`.

    @property
    def outcomes(self) -> int | None:
        """How many; 1 without augmentation, None for endlessly many."""
        return None

    def outcome(self, index: int, which: int) -> Sample:
        """Outcome `which` of sample `index`; 0 is the sample without augmentation. Raises as `sample` does."""
        raise NotImplementedError(f"{type(self).__name__} has endlessly many outcomes")

    def draw(self, augment: Generator | None) -> int:
        """Which outcome a training sample is to be; 0 in evaluation."""
        return 0 if augment is None else int(torch.randint(self.outcomes or 1, (), generator=augment))

    # A source made of others, whose numbers differ, says so sample by sample; `outcomes` is then the largest.

    def outcomes_of(self, index: int) -> int | None:
        """How many outcomes sample `index` has."""
        return self.outcomes

    def draw_of(self, index: int, augment: Generator | None) -> int:
        """Which outcome a training sample `index` is to be: `draw`, of its own number."""
        return self.draw(augment)


class Data(ABC):
    """What a run trains on and is judged by; the `data:` entry of a configuration."""

    @abstractmethod
    def train(self) -> Source: ...

    @abstractmethod
    def val(self) -> Source:
        """Samples that training never sees."""


class NoData(Data):
    """No samples at all."""

    def train(self) -> Source:
        return _Nothing()

    def val(self) -> Source:
        return _Nothing()


class _Nothing(Source):
    def __len__(self) -> int:
        return 0

    def order(self, batch: int, seed: int) -> Order:
        """Of one sample that is never asked for."""
        return Order(1, batch, seed)

    def id(self, index: int) -> str:
        raise IndexError(index)

    def sample(self, index: int, augment: Generator | None) -> Sample:
        raise IndexError(index)


def collate(samples: Sequence[Sample]) -> Batch:
    """Stack tensors along a new first dimension; gather everything else in lists.

    Raises:
        UserError: tensors of one name differ in shape, or samples in their names.
    """
    if odd := next((names for sample in samples if (names := sample.keys() ^ samples[0].keys())), None):
        raise UserError(f"a batch has samples with {min(odd)} and samples without: they cannot be trained on together")
    return {name: _together(name, [sample[name] for sample in samples]) for name in samples[0]}


def _together(name: str, values: list[Any]) -> Any:
    if not isinstance(values[0], Tensor):
        return values
    shapes = list(dict.fromkeys(tuple(value.shape) for value in values))
    if len(shapes) > 1:
        raise UserError(
            f"a batch has samples whose {name} is {shapes[0]} and {shapes[1]}: give all one size (data.….size), or "
            "take one at a time (trainer.micro_batch: 1, validation.batch: 1)"
        )
    return torch.stack(values)


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
