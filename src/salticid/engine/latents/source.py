"""Training from latents: the stream of samples is that of the data, what is read of them are their latents."""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Generator

from salticid.data.order import Order
from salticid.data.source import Data, Sample, Source
from salticid.engine.latents.fingerprint import difference, fingerprint
from salticid.engine.latents.index import FILE, Index, missing, read_index, shard_name
from salticid.engine.latents.shards import Shard
from salticid.engine.precision import Precision
from salticid.engine.recipe import Recipe
from salticid.errors import UserError

OPEN = 64
"""Shards that a process holds open."""


class EncodedSource(Source):
    """The latents of a source: the same samples in the same order, with the same substitutes for unreadable ones."""

    def __init__(self, source: Source, folder: Path, index: Index) -> None:
        self.source, self.folder, self.index = source, folder, index
        self._shards: OrderedDict[int, Shard] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:  # every process opens files of its own
        return self.__dict__ | {"_shards": OrderedDict()}

    def __len__(self) -> int:
        return len(self.source)

    def id(self, index: int) -> str:
        return self.source.id(index)

    def order(self, batch: int, seed: int) -> Order:
        return self.source.order(batch, seed)

    def substitute(self, index: int, number: int) -> int:
        return self.source.substitute(index, number)

    @property
    def outcomes(self) -> int | None:
        return self.source.outcomes

    def outcomes_of(self, index: int) -> int | None:
        return self.source.outcomes_of(index)

    def draw(self, augment: Generator | None) -> int:
        return self.source.draw(augment)

    def draw_of(self, index: int, augment: Generator | None) -> int:
        return self.source.draw_of(index, augment)

    def sample(self, index: int, augment: Generator | None) -> Sample:
        return self.outcome(index, self.draw_of(index, augment))

    def outcome(self, index: int, which: int) -> Sample:
        """The latents of an outcome.

        Raises:
            UnreadableSample: it could not be read when they were made.
            UserError: the file that they are in is missing or damaged.
        """
        return self._shard(index // self.index.shard).read((index, which))

    def _shard(self, number: int) -> Shard:
        if number in self._shards:
            self._shards.move_to_end(number)
        else:
            self._shards[number] = Shard(self.folder / shard_name(number), self.index)
            if len(self._shards) > OPEN:
                self._shards.popitem(last=False)
        return self._shards[number]


@dataclass
class _Encoded(Data):
    data: Data
    source: EncodedSource

    def train(self) -> Source:
        return self.source

    def val(self) -> Source:
        return self.data.val()


@dataclass(frozen=True)
class Latents:
    """What `salticid encode` has written, to train from."""

    folder: Path
    data: Mapping[str, Any]
    """Of the configuration, what the samples depend on (`config.difference.samples_of`)."""

    def replace(self, recipe: Recipe, data: Data, precision: Precision) -> Data:
        """The data with the latents of the training samples in their places; validation stays as it is.

        Args:
            recipe: with its frozen weights, as it is once it has been started.

        Raises:
            UserError: there are none, or of something else, or not of all samples.
        """
        source = data.train()
        index = read_index(self.folder)
        if index is None:
            raise UserError(f"latents: {self.folder} has no latents: {FILE} is missing; see salticid encode --help")
        if odd := difference(index.fingerprint, fingerprint(recipe, source, self.data, precision)):
            raise UserError(f"latents: {self.folder} is of something else ({odd}); encode anew into another folder")
        if lacking := missing(self.folder, index):
            raise UserError(
                f"latents: {self.folder} lacks {len(lacking)} of {index.shards} shards; complete it with: "
                f"{index.command}"
            )
        return _Encoded(data, EncodedSource(source, self.folder, index))
