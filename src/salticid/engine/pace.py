"""The micro-batches of a step, and how fast they go by."""

import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

import torch

from salticid.data.loader import Batches
from salticid.engine.evaluation import to_device
from salticid.engine.step import MicroBatch


class StepBatches:
    """The `count` micro-batches of one step, read as they are needed; each phase may go through them anew."""

    def __init__(self, batches: Batches, count: int, device: torch.device, channels_last: bool, keep: bool) -> None:
        """`keep`: hold them (in host memory) for another phase."""
        self._batches, self._count, self._device, self._channels_last = batches, count, device, channels_last
        self._keep = keep
        self._kept: list[MicroBatch] = []
        self._read = 0
        self.replaced: list[str] = []
        """What had to be replaced in this step, as `id: reason`."""

    def __iter__(self) -> Iterator[MicroBatch]:
        for i in range(self._count):
            micro_batch = self._kept[i] if i < len(self._kept) else self._next()
            batch = to_device(micro_batch.batch, self._device, self._channels_last)
            yield MicroBatch(batch, micro_batch.position, micro_batch.last)

    def _next(self) -> MicroBatch:
        batch = next(self._batches)
        self._read += 1
        self.replaced += batch["replaced"]
        micro_batch = MicroBatch(batch, int(batch["key"][0]), self._read == self._count)
        if self._keep:
            self._kept.append(micro_batch)
        return micro_batch

    def finish(self) -> None:
        """Read what no phase has asked for: the next step begins with its own samples."""
        while self._read < self._count:
            self._next()


class Stopwatch:
    """Speed since the last time that it was asked for."""

    def __init__(self, step: int, batches: Batches) -> None:
        self._batches = batches
        self._began = self._time = perf_counter()
        self._step, self._waited = step, batches.waited

    @contextmanager
    def away(self) -> Iterator[None]:
        """Leave out of the speed what happens in the block."""
        start = perf_counter()
        yield
        self._time += perf_counter() - start

    def figures(self, step: int, batch: int, device: torch.device) -> dict[str, float]:
        """Samples per second, share of the time spent waiting for data, peak memory (bytes), seconds so far."""
        now, waited = perf_counter(), self._batches.waited
        passed = max(now - self._time, 1e-9)
        figures = {
            "samples_per_s": (step - self._step) * batch / passed,
            "data_wait": (waited - self._waited) / passed,
            "memory": peak_memory(device),
            "elapsed": now - self._began,
        }
        self._time, self._step, self._waited = now, step, waited
        return figures


def peak_memory(device: torch.device) -> int:
    """Bytes: allocated by torch on a GPU, resident in this process otherwise."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
