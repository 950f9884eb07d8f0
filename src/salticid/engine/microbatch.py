"""`micro_batch: auto`: how many samples go through the network at a time, found by trying.

Trials run in a process of their own, so that running out of memory, or being killed for it, costs the run nothing.
The process gets the recipe without its weights (their values do not matter for memory) and one sample, repeated.
"""

import io
import json
import math
import pickle
import resource
import signal
from collections.abc import Callable
from dataclasses import replace
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from salticid.data.loader import train_batches
from salticid.data.source import Batch, Source
from salticid.engine import disk
from salticid.engine.build import build
from salticid.engine.evaluation import to_device
from salticid.engine.parallel import Ranks
from salticid.engine.recipe import Clock, Recipe
from salticid.engine.settings import Settings
from salticid.engine.step import MicroBatch
from salticid.errors import ConfigError, UserError

HEADROOM = 0.9
"""Share of the free memory that a trial may use: the allocator of a long run fragments, and ranks need buffers."""


def candidates(local: int) -> list[int]:
    """The sizes worth trying for `local` samples, ascending: those that cut them into 1, 2, 3 … equal parts."""
    return sorted({math.ceil(local / parts) for parts in range(1, local + 1)})


def search(local: int, try_sizes: Callable[[list[int]], int]) -> int:
    """The largest candidate that fits: sizes are doubled until one does not fit, then bisected.

    `try_sizes(sizes)`: the largest of ascending sizes that fits, when tried one after the other; 0: none.

    Raises:
        ConfigError: not even one sample fits.
    """
    sizes = candidates(local)
    doubling = [s for i, s in enumerate(sizes) if i == 0 or s == local or math.log2(s).is_integer()]
    good = try_sizes(doubling)
    if good == 0:
        raise ConfigError(
            "trainer.micro_batch auto: not even one sample fits into memory; use a smaller model or image"
        )
    bad = next((s for s in doubling if s > good), None)
    between = [s for s in sizes if bad is not None and good < s < bad]
    while between:
        middle = between[len(between) // 2]
        if try_sizes([middle]):
            good, between = middle, [s for s in between if s > middle]
        else:
            between = [s for s in between if s < middle]
    return good


def find(recipe: Recipe, source: Source, settings: Settings, device: torch.device, world: int) -> int:
    """The largest micro-batch of this run that fits on `device`, next to what is in its memory already.

    Under FSDP the whole model must fit for the trial, so the answer is on the safe side.

    Raises:
        ConfigError: not even one sample fits.
        UserError: a trial fails for another reason.
    """
    trainer = settings.trainer
    order = source.order(1, trainer.seed)
    sample = next(train_batches(source, order, range(1), micro_batch=1, seed=trainer.seed))
    job = _without_weights((recipe, sample, settings, device))
    return search(trainer.batch // world, lambda sizes: _try(job, sizes))


def remember(directory: Path, micro_batch: int) -> None:
    """Note what was found in the run directory."""
    directory.mkdir(parents=True, exist_ok=True)
    disk.replace(directory / "micro_batch.json", json.dumps({"micro_batch": micro_batch}))


def recall(directory: Path) -> int | None:
    """What `remember` noted, if anything."""
    try:
        return int(json.loads((directory / "micro_batch.json").read_text(encoding="utf-8"))["micro_batch"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


# ---- the parent's side ------------------------------------------------------------------------------------------


class _WithoutWeights(pickle.Pickler):
    """Pickles parameters as their shape."""

    def reducer_override(self, obj: Any) -> Any:
        if type(obj) is nn.Parameter:
            return _parameter, (tuple(obj.shape), obj.dtype, obj.requires_grad)
        return NotImplemented


def _parameter(shape: tuple[int, ...], dtype: torch.dtype, requires_grad: bool) -> nn.Parameter:
    return nn.Parameter(torch.full(shape, 0.01, dtype=dtype), requires_grad=requires_grad)


def _without_weights(job: Any) -> bytes:
    buffer = io.BytesIO()
    try:
        _WithoutWeights(buffer).dump(job)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ConfigError(f"trainer.micro_batch auto: {error} cannot be sent to a trial; give a number") from error
    return buffer.getvalue()


def _try(job: bytes, sizes: list[int]) -> int:
    """Try sizes in a fresh process until one does not fit; returns the last that did."""
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_trials, args=(theirs,), daemon=True)
    process.start()
    theirs.close()
    fitted = 0
    try:
        ours.send_bytes(job)
        ours.send(sizes)
        while True:
            answer = ours.recv()
            if isinstance(answer, str):
                raise UserError(f"trainer.micro_batch auto: the trial step failed: {answer}")
            if answer is None:
                return fitted
            fitted = answer
    except (EOFError, ConnectionError):
        process.join()
        if process.exitcode == -signal.SIGKILL:  # the kernel's answer to too much memory
            return fitted
        raise UserError(f"trainer.micro_batch auto: the trial died (exit code {process.exitcode})") from None
    finally:
        ours.close()
        process.kill()
        process.join()


# ---- the trial's side -------------------------------------------------------------------------------------------


def _trials(connection: Connection) -> None:
    """Answer with each size that fits, then None; with a text, if something else goes wrong."""
    try:
        recipe, sample, settings, device = pickle.loads(connection.recv_bytes())  # from our own parent, by a pipe
        sizes = connection.recv()
        limit_memory(device)
        state = build(recipe, _eager(settings), Ranks(device), sizes[0])
        for size in sizes:
            _trial(state, sample, size, settings, device)
            connection.send(size)
        connection.send(None)
    except Exception as error:
        connection.send(None if _out_of_memory(error) else f"{type(error).__name__}: {error}")


def _eager(settings: Settings) -> Settings:
    return replace(settings, trainer=replace(settings.trainer, compile=False))


def _trial(state: Any, sample: Batch, size: int, settings: Settings, device: torch.device) -> None:
    """Two steps (the second with the optimiser's state in memory) of two micro-batches (the second with gradients)."""
    host = {name: torch.cat([v] * size) if isinstance(v, Tensor) else v * size for name, v in sample.items()}
    for step in range(2):
        clock = Clock(step, settings.trainer.steps, settings.trainer.seed)
        batch = to_device(host, device, settings.trainer.channels_last)
        for runner in state.runners:
            runner.run([MicroBatch(batch, 0, False), MicroBatch(batch, 0, True)], clock, 0.0)
        state.follow()


def _out_of_memory(error: Exception) -> bool:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(
        words in str(error) for words in ("allocate memory", "not enough memory", "bad_alloc", "out of memory")
    )


def limit_memory(device: torch.device) -> None:
    """Make this process fail in good time, rather than the machine swap or the kernel kill."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        torch.cuda.set_per_process_memory_fraction(HEADROOM * free / total, device)
        return
    free = free_memory()
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if free is not None:
        limit = _data_size() + int(HEADROOM * free)
        resource.setrlimit(resource.RLIMIT_DATA, (limit if soft < 0 else min(limit, soft), hard))


def free_memory() -> int | None:
    """Bytes that this process could still take: by the machine and by its control group. None: unknown."""
    try:
        meminfo = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free = next(int(line.split()[1]) * 1024 for line in meminfo if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return None
    try:
        group = Path("/sys/fs/cgroup")
        limit = int((group / "memory.max").read_text())  # "max" where there is none
        cache = (group / "memory.stat").read_text().split("inactive_file ")[1].split()[0]
        free = min(free, limit - int((group / "memory.current").read_text()) + int(cache))
    except (OSError, ValueError, IndexError):
        pass
    return max(free, 0)


def _data_size() -> int:
    """Bytes of private writable memory that this process has mapped."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[5])
    return pages * resource.getpagesize()
