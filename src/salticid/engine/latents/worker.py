"""Fill a cache of latents: any number of independent workers, on any hosts that share the disk, shard by shard."""

import shutil
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter

from torch import Tensor

from salticid.data.loader import outcome_batches
from salticid.data.source import Batch, Source
from salticid.engine.evaluation import Stopped
from salticid.engine.figures import memory
from salticid.engine.journal import writing
from salticid.engine.latents.encode import Encoder
from salticid.engine.latents.index import Index, shard_name, types_of
from salticid.engine.latents.lease import Lease
from salticid.engine.latents.shards import Draft, Place, stored, stored_size, whole
from salticid.engine.pace import peak_memory
from salticid.engine.progress import Progress
from salticid.errors import UserError


@dataclass
class Figures:
    """What a worker has done."""

    shards: int = 0
    samples: int = 0
    bytes: int = 0
    seconds: float = 0.0
    skipped: dict[str, str] = field(default_factory=dict)
    """Why samples cannot be read, by id."""


class Worker:
    """One of those that fill the cache in `folder`."""

    def __init__(
        self,
        encoder: Encoder,
        source: Source,
        folder: Path,
        index: Index,
        progress: Progress,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        """`stop`: whether to end, asked after every batch."""
        self.encoder, self.source, self.folder, self.index = encoder, source, folder, index
        self.progress, self.stop = progress, stop
        self.figures = Figures()
        self._whole: set[int] = set()

    def check_room(self, latents: Mapping[str, Tensor]) -> None:
        """Raise UserError unless the disk has room for all that is missing, were all samples like the given one."""
        outcomes = sum(len(self._places(number)) for number in self.missing())
        self._check_free(outcomes * sum(stored_size(value, self.index) for value in latents.values()))

    def missing(self) -> list[int]:
        """The shards that are not there, or not whole as far as their headers tell."""
        for number in set(range(self.index.shards)) - self._whole:
            if whole(self._path(number), self.index):
                self._whole.add(number)
        return [number for number in range(self.index.shards) if number not in self._whole]

    def run(self) -> list[int]:
        """Make whatever no other worker has in hand; the shards that are then missing.

        Raises:
            Stopped: `stop` is true; the shard in hand has been given back.
            UserError: the disk is full, or latents cannot be kept; shards that are whole stay.
        """
        made = -1
        while self.figures.shards > made:  # others may have given shards back meanwhile
            made = self.figures.shards
            for number in self.missing():
                self._shard(number)
        return self.missing()

    def _path(self, number: int) -> Path:
        return self.folder / shard_name(number)

    def _places(self, number: int) -> list[Place]:
        samples = self.index.samples_of(number)
        return [(index, which) for index in samples for which in range(self.source.outcomes_of(index) or 1)]

    def _shard(self, number: int) -> None:
        """Make one shard, if it is to be had."""
        path = self._path(number)
        with writing(path):
            lease = Lease.claim(path)
        if lease is None:
            return
        with lease:
            if whole(path, self.index):  # since it was looked for
                return
            start = perf_counter()
            draft, waited = self._encode(number, lease)
            self._check_free(draft.size)
            with writing(path):
                draft.publish(lease, self.index)
            self._account(number, draft, perf_counter() - start, waited)

    def _encode(self, number: int, lease: Lease) -> tuple[Draft, float]:
        """The latents of a shard, and how many seconds samples were waited for."""
        draft, places, before = Draft(), self._places(number), self._samples()
        workers, pin = min(self.encoder.workers, len(places)), self.encoder.device.type == "cuda"
        batches = outcome_batches(self.source, places, self.encoder.batch, workers=workers, pin=pin)
        with closing(batches), self.encoder.conditions():
            for loaded in batches:
                for batch in loaded["batches"]:
                    self._add(draft, batch)
                for (index, which), reason in loaded["skipped"].items():
                    draft.skip((index, which), reason)
                    self.figures.skipped[self.source.id(index)] = reason
                lease.beat()
                self.progress.tick(before + draft.samples)
                if self.stop():
                    raise Stopped
        return draft, batches.waited

    def _add(self, draft: Draft, batch: Batch) -> None:
        latents = self.encoder.encode(batch)
        if (types := types_of(latents)) != self.index.tensors:
            raise UserError(f"{batch['id'][0]}: its latents are {types}, those of others {self.index.tensors}")
        for i, place in enumerate(batch["row"]):
            try:
                draft.add(place, {name: stored(value[i], self.index) for name, value in latents.items()})
            except ValueError as error:
                raise UserError(f"{batch['id'][i]}: {error}; expected another --dtype") from error

    def _account(self, number: int, draft: Draft, seconds: float, waited: float) -> None:
        self._whole.add(number)
        samples = len(self.index.samples_of(number))
        figures = self.figures
        figures.shards += 1
        figures.samples += samples
        figures.bytes += draft.size
        figures.seconds += seconds
        speed = {"samples_per_s": samples / seconds, "data_wait": waited / seconds}
        self.progress.speed(self._samples(), speed | {"memory": peak_memory(self.encoder.device)})

    def _samples(self) -> int:
        """In shards that are there, by whomever they were made."""
        return sum(len(self.index.samples_of(number)) for number in self._whole)

    def _check_free(self, needed: int) -> None:
        free = shutil.disk_usage(self.folder).free
        if needed > free:
            raise UserError(f"{self.folder}: {memory(needed)} are needed, {memory(free)} are free")
