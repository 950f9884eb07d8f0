"""From a source to batches: every batch is a pure function of the step, in any number of workers or processes."""

import signal
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from multiprocessing.util import Finalize
from time import perf_counter
from typing import Any, cast

import torch
from torch.utils.data import DataLoader, Dataset

from salticid.data.order import Order, mix
from salticid.data.source import Batch, Sample, Source, collate
from salticid.diffusion.noise import stable_key
from salticid.errors import UnreadableSample, UserError

ATTEMPTS = 16
"""How many samples in a row may be unreadable before a run gives up."""

FILLER = -1
"""The place of a sample that is evaluated for nothing."""

Places = Sequence[tuple[int, int]]
"""(place, index in the source) of every sample of a batch; the place is the position in the stream of the run in
training, the number of the sample in an evaluation."""


class _Fetch(Dataset[Batch | UserError], ABC):
    """Turns the places of a micro-batch into that micro-batch; runs in a worker or in process."""

    def __getitem__(self, index: Places) -> Batch | UserError:
        try:
            with torch.autocast("cpu", enabled=False):  # in process as in a worker, where there is none
                return self.fetch(index)
        except UserError as error:
            return error  # raised by `Batches`: a worker would bury its message in a traceback

    @abstractmethod
    def fetch(self, places: Places) -> Batch: ...


class _TrainFetch(_Fetch):
    def __init__(self, source: Source, seed: int) -> None:
        self.source, self.seed = source, seed

    def fetch(self, places: Places) -> Batch:
        replaced: list[str] = []
        ids, samples = zip(*(self._read(*place, replaced) for place in places), strict=True)
        key = torch.tensor([position for position, _ in places])
        return collate(samples) | {"id": list(ids), "key": key, "replaced": replaced}

    def _read(self, position: int, index: int, replaced: list[str]) -> tuple[str, Sample]:
        """The sample due at `position`, or the first readable one of a sequence that the position alone fixes."""
        last: UnreadableSample | None = None
        for attempt in range(ATTEMPTS):
            if attempt:
                index = self.source.substitute(index, mix(self.seed, "replacement", position, attempt))
            augment = torch.Generator().manual_seed(mix(self.seed, "augment", position))
            try:
                return self.source.id(index), self.source.sample(index, augment)
            except UnreadableSample as error:
                replaced.append(f"{self.source.id(index)}: {error}")
                last = error
        raise UserError(f"{ATTEMPTS} samples in a row cannot be read; is the data there? The last: {last}")


class _EvalFetch(_Fetch):
    def __init__(self, source: Source) -> None:
        self.source = source

    def fetch(self, places: Places) -> Batch:
        skipped: list[str] = []
        kept = [(place, *s) for place, index in places if (s := self._read(index, skipped))]
        if not kept:  # nothing readable; another sample keeps the ranks in step and counts for nothing
            start = places[0][1]
            filler = (self._read((start + i) % len(self.source), []) for i in range(1, ATTEMPTS))
            kept = [(FILLER, *s) for s in islice(filter(None, filler), 1)]
        if not kept:
            raise UserError(f"{ATTEMPTS} samples in a row cannot be read; is the data there? {skipped[-1]}")
        place, ids, samples = zip(*kept, strict=True)
        key = torch.tensor([stable_key(name) for name in ids], dtype=torch.int64)
        extra = {"id": list(ids), "key": key, "replaced": [], "row": list(place), "skipped": skipped}
        return collate(samples) | extra

    def _read(self, index: int, skipped: list[str]) -> tuple[str, Sample] | None:
        try:
            return self.source.id(index), self.source.sample(index, None)
        except UnreadableSample as error:
            skipped.append(f"{self.source.id(index)}: {error}")
            return None


class _OutcomeFetch(_Fetch):
    def __init__(self, source: Source) -> None:
        self.source = source

    def fetch(self, places: Places) -> Batch:
        batches: list[Batch] = []
        skipped: dict[tuple[int, int], str] = {}
        run: list[tuple[tuple[int, int], Sample]] = []
        for place in places:
            try:
                sample = self.source.outcome(*place)
            except UnreadableSample as error:
                skipped[place] = str(error)
                continue
            if run and _shapes(sample) != _shapes(run[0][1]):
                batches.append(self._collated(run))
                run = []
            run.append((place, sample))
        if run:
            batches.append(self._collated(run))
        return {"batches": batches, "skipped": skipped}

    def _collated(self, run: Sequence[tuple[tuple[int, int], Sample]]) -> Batch:
        places, samples = zip(*run, strict=True)
        ids = [self.source.id(index) for index, _ in places]
        key = torch.tensor([stable_key(name) for name in ids], dtype=torch.int64)
        return collate(samples) | {"id": ids, "key": key, "replaced": [], "row": list(places)}


def _shapes(sample: Sample) -> dict[str, torch.Size | None]:
    return {name: value.shape if isinstance(value, torch.Tensor) else None for name, value in sample.items()}


class Batches(Iterator[Batch]):
    """An iterator of batches that knows how long it was waited for."""

    def __init__(self, fetch: _Fetch, requests: Iterable[Places], workers: int, pin: bool) -> None:
        self.waited = 0.0
        """Seconds spent waiting for data so far."""
        self._finalizer: Finalize | None = None
        self._iterator: Iterator[Any] = map(fetch.__getitem__, requests)
        if workers:
            sampler = cast("Iterable[Any]", requests)
            loader = DataLoader(
                fetch,
                batch_size=None,
                sampler=sampler,
                num_workers=workers,
                worker_init_fn=_start_worker,
                pin_memory=pin,
            )
            self._iterator = iter(loader)
            # Also when this object is dropped or the process ends by an exception: `multiprocessing` would then send
            # SIGTERM, which workers ignore, and wait for ever.
            self._finalizer = Finalize(self, _stop_workers, (self._iterator,), exitpriority=10)

    def __next__(self) -> Batch:
        start = perf_counter()
        item = next(self._iterator)
        self.waited += perf_counter() - start
        if isinstance(item, UserError):
            raise item
        return item

    def close(self) -> None:
        """Stop the workers."""
        self._iterator = iter(())
        if self._finalizer:
            self._finalizer()


def _start_worker(_: int) -> None:
    # A signal to the process group is for the trainer: it still needs its workers to finish the step and save.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    torch.set_num_threads(1)


def _stop_workers(iterator: Any) -> None:
    """Ask the workers of a torch iterator to end, and end those that do not within its patience of five seconds."""
    iterator._shutdown_workers()
    for worker in iterator._workers:
        if worker.is_alive():
            worker.kill()


class _Shares:
    """The micro-batches of one rank, step after step. (A class, so that it has no state to be pickled.)"""

    def __init__(self, order: Order, steps: range, rank: int, world: int, micro_batch: int) -> None:
        self.order, self.steps, self.place = order, steps, (rank, world, micro_batch)

    def __iter__(self) -> Iterator[Places]:
        for step in self.steps:
            yield from self.order.shares(step, *self.place)


def train_batches(
    source: Source,
    order: Order,
    steps: range,
    *,
    micro_batch: int,
    seed: int,
    rank: int = 0,
    world: int = 1,
    workers: int = 0,
    pin: bool = False,
) -> Batches:
    """The micro-batches of `rank` in `steps`; each step has ⌈(order.batch / world) / micro_batch⌉ of them.

    Which samples, how they are augmented and what replaces an unreadable one follow from (seed, position in the
    stream) alone; `key` is that position.

    Raises:
        UserError: while iterating, when `ATTEMPTS` samples in a row are unreadable.
    """
    requests = _Shares(order, steps, rank, world, micro_batch)
    return Batches(_TrainFetch(source, seed), requests, workers, pin)


def eval_batches(
    source: Source,
    batch: int,
    *,
    rank: int = 0,
    world: int = 1,
    workers: int = 0,
    limit: int | None = None,
    pin: bool = False,
) -> Batches:
    """Each sample of the source once, unaugmented; with `limit`, that many, spread evenly over the source.

    Every rank gets the same number of batches, so that sharded models gather in step. Beyond a `Batch`, there are
    `place`: list[int], the sample's place in the evaluation (`FILLER`: to be dropped), and `skipped`: list[str], the
    ids of unreadable samples with the reason.
    """
    total = len(source)
    count = min(limit or total, total)
    chosen = [(i, i * total // count) for i in range(count)]
    chunks = [chosen[i : i + batch] for i in range(0, count, batch)]
    chunks += [[(FILLER, 0)]] * (-len(chunks) % world)
    return Batches(_EvalFetch(source), chunks[rank::world], workers, pin)


def outcome_batches(source: Source, places: Places, batch: int, *, workers: int = 0, pin: bool = False) -> Batches:
    """Given outcomes of given samples, once each: `places` are (index, which) of each.

    An item stands for up to `batch` of them. It holds `batches`: list[Batch], several where neighbours differ in
    size, each with `place`: list[(index, which)]; and `skipped`: dict, why an outcome cannot be read, by its place.
    """
    chunks = [places[i : i + batch] for i in range(0, len(places), batch)]
    return Batches(_OutcomeFetch(source), chunks, workers, pin)
