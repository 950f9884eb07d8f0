"""What this machine can do, what is missing, and what to install for it."""

import os
import platform
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, distributed

State = Literal["ok", "note", "warning"]
GB = 1e9
SLOW_DISK = 50.0  # MB/s: at less, saving a checkpoint of 100 M parameters takes half a minute
DEVELOPERS = ("test",)  # extras that a user does not need


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    group: str
    name: str
    value: str
    state: State = "ok"
    advice: str = ""
    """What to do about it, where there is something to do."""


def examine(folder: Path) -> list[Finding]:
    """Look at everything; takes about a second. `folder` is where runs are to be written; nothing is left in it."""
    return [*_versions(), *_machine(), *_devices(), *_precision(), *_disk(folder), *_distributed(), *_extras()]


def _versions() -> Iterator[Finding]:
    yield Finding("versions", "salticid", metadata.version("salticid"))
    yield Finding("versions", "python", platform.python_version())
    yield Finding("versions", "torch", torch.__version__)
    yield Finding("versions", "CUDA of torch", torch.version.cuda or "none (a CPU build)")
    for name in sorted(_required()):
        found = _version(name)
        advice = "" if found else f"pip install {name}"
        yield Finding("versions", name, found or "missing", "ok" if found else "warning", advice)


def _machine() -> Iterator[Finding]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    yield Finding("machine", "platform", f"{platform.system()} {platform.machine()}")
    quota = _cpu_quota()
    few = quota is not None and quota < cores
    advice = f"set OMP_NUM_THREADS={max(1, int(quota))}: the container may not use all it sees" if few and quota else ""
    shown = f"{cores}, of which {quota:g} at a time" if few else str(cores)
    yield Finding("machine", "CPU cores", shown, "note" if few else "ok", advice)
    yield Finding("machine", "memory", f"{_memory() / GB:.1f} GB")
    shared = Path("/dev/shm")
    if shared.is_dir():
        size = shutil.disk_usage(shared).total / GB
        small = size < 0.5
        advice = "data workers hand batches over here: use trainer.workers 0, or docker run --shm-size 2g"
        yield Finding(
            "machine", "shared memory", f"{size:.1f} GB", "warning" if small else "ok", advice if small else ""
        )


def _devices() -> Iterator[Finding]:
    for i in range(torch.cuda.device_count()):
        card = torch.cuda.get_device_properties(i)
        yield Finding("devices", f"cuda:{i}", f"{card.name}, {card.total_memory / GB:.0f} GB")
    if torch.backends.mps.is_available():
        yield Finding("devices", "mps", "available", "note", "salticid is not tested on it")
    if not torch.cuda.is_available():
        driver = shutil.which("nvidia-smi") is not None
        advice = "a driver is there, but torch cannot use it: install the CUDA build of torch" if driver else ""
        value = "none; training runs on the CPU"
        yield Finding("devices", "cuda", value, "warning" if driver else "note", advice)
    compiler = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    advice = "" if compiler else "trainer.compile needs a C++ compiler, such as g++"
    yield Finding("devices", "torch.compile", compiler or "no compiler", "ok" if compiler else "note", advice)


def _precision() -> Iterator[Finding]:
    if torch.cuda.is_available():
        major, minor = torch.cuda.get_device_capability()
        yield Finding("precision", "bf16", "native" if major >= 8 else "emulated", "ok" if major >= 8 else "note")
        yield Finding("precision", "fp16", "yes")
        yield Finding("precision", "tf32", "yes" if major >= 8 else f"no (compute capability {major}.{minor})")
        return
    whole = _matmul_seconds(torch.float32)
    for name, dtype in (("bf16", torch.bfloat16), ("fp16", torch.float16)):
        speed = whole / _matmul_seconds(dtype)
        slow = speed < 0.9
        advice = f"{name} is slow on this CPU: use trainer.precision fp32" if slow else ""
        yield Finding("precision", name, f"{speed:.2g} × the speed of fp32", "note" if slow else "ok", advice)


def _disk(folder: Path) -> Iterator[Finding]:
    there = _existing(folder)
    free = shutil.disk_usage(there).free / GB
    little = "checkpoints may not fit" if free < 5 else ""
    yield Finding("disk", "free space", f"{free:.1f} GB", "warning" if little else "ok", little)
    try:
        speed = _write_speed(there)
    except OSError as error:
        yield Finding("disk", str(folder), f"cannot be written: {error.strerror}", "warning", "choose another --folder")
    else:
        slow = "saving will take long: see checkpoint.every" if speed < SLOW_DISK else ""
        yield Finding("disk", "writing", f"{speed:.0f} MB/s with fsync", "warning" if slow else "ok", slow)
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    writable = os.access(_existing(cache), os.W_OK)
    advice = "" if writable else "set XDG_CACHE_HOME to a folder that you may write"
    value = "writable" if writable else f"{cache} is read-only"
    yield Finding("disk", "cache", value, "ok" if writable else "warning", advice)


def _distributed() -> Iterator[Finding]:
    backends = []
    if distributed.is_available():
        known = (("gloo", distributed.is_gloo_available), ("nccl", distributed.is_nccl_available))
        backends = [name for name, available in known if available()]
    found = bool(backends)
    yield Finding("several processes", "backends", ", ".join(backends) or "none", "ok" if found else "warning")
    beside = Path(sys.executable).with_name("torchrun")
    launcher = shutil.which("torchrun") or (beside.exists() and str(beside))
    advice = "" if launcher else "start it as: python -m torch.distributed.run"
    yield Finding("several processes", "torchrun", "found" if launcher else "not on PATH", "ok", advice)


def _extras() -> Iterator[Finding]:
    for extra, packages in _by_extra().items():
        if extra in DEVELOPERS:
            continue
        missing = [name for name in packages if _version(name) is None]
        advice = f"pip install 'salticid[{extra}]'" if missing else ""
        value = f"{', '.join(missing)} missing" if missing else ", ".join(f"{p} {_version(p)}" for p in packages)
        yield Finding("extras", extra, value, "note" if missing else "ok", advice)


def _required() -> list[str]:
    return [
        _name(line) for line in metadata.requires("salticid") or () if "extra ==" not in line and "torch" not in line
    ]


def _by_extra() -> dict[str, list[str]]:
    """The packages of every extra, as the installed package declares them."""
    extras: dict[str, list[str]] = {}
    for line in metadata.requires("salticid") or ():
        if match := re.search(r"extra == [\"']([\w-]+)[\"']", line):
            extras.setdefault(match[1], []).append(_name(line))
    return extras


def _name(requirement: str) -> str:
    return re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0]


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _memory() -> int:
    """Bytes that this process may use: those of the machine, or fewer where a container limits them."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = _read("/sys/fs/cgroup/memory.max")
    return min(machine, int(limit)) if limit.isdigit() else machine


def _cpu_quota() -> float | None:
    """Cores' worth of time that a container grants; None where there is no limit."""
    quota, _, period = _read("/sys/fs/cgroup/cpu.max").partition(" ")
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() else None


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _matmul_seconds(dtype: torch.dtype, size: int = 384) -> float:
    """The shortest of a few matrix products."""
    matrix = torch.ones(size, size, dtype=dtype)
    return min(_seconds(matrix) for _ in range(4))


def _seconds(matrix: Tensor) -> float:
    start = time.perf_counter()
    matrix @ matrix
    return time.perf_counter() - start


def _write_speed(folder: Path, size: int = 32 * 2**20) -> float:
    """MB/s of writing a file and forcing it to the disk."""
    block = os.urandom(size)
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".salticid-") as file:
        start = time.perf_counter()
        file.write(block)
        file.flush()
        os.fsync(file.fileno())
        return size / 1e6 / (time.perf_counter() - start)


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    folder = folder.absolute()
    return next(path for path in (folder, *folder.parents) if path.is_dir())
