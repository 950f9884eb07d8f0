"""The directory of a run: `runs/<recipe>/<name>/`, with the configuration and the surroundings of the run."""

import errno
import fcntl
import json
import os
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import distributed

import salticid
from salticid.engine.disk import replace
from salticid.errors import UserError

RUNS = Path("runs")
CONFIG = "config.yaml"
ENVIRONMENT = "env.json"
LOCK = ".lock"
_TRACES = (CONFIG, "log.jsonl", "checkpoints")
_PACKAGES = ("torch", "torchvision", "numpy", "safetensors", "jsonargparse", "pillow", "schedulefree")


def recipe_folder(class_path: str) -> str:
    """The folder of a recipe's runs: `panorama` for `salticid.recipes.PanoramaRecipe`."""
    name = class_path.rpartition(".")[2].removesuffix("Recipe") or "recipe"
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def numbered(folder: Path, stem: str) -> Path:
    """The first of `folder/stem-1`, `stem-2`, … above all that exist, so that the newest has the highest number."""
    taken = [int(m[1]) for path in folder.glob("*") if (m := re.fullmatch(re.escape(stem) + r"-(\d+)", path.name))]
    return folder / f"{stem}-{max(taken, default=0) + 1}"


def create_run(directory: Path, config: str, device: str) -> None:
    """Make the directory of a new run, with `config.yaml` and `env.json` in it.

    Args:
        directory: where; it may exist, but must not hold a run.
        config: the resolved configuration as YAML.
        device: the device the run is to use, for `env.json`.

    Raises:
        UserError: there is a run in it, or it cannot be written.
    """
    if holds_run(directory):
        raise UserError(f"{directory}: there is a run already; go on with `salticid train --resume {directory}`")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / CONFIG).write_text(config, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{directory}: cannot be written: {error.strerror}") from error
    note_environment(directory, device)


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Keep other processes from training in `directory`, which is made where there is none; the system lets go of the
    lock when this process ends, however it ends. Where the file system has no locks, nothing is kept.

    A record lock: unlike that of `flock`, it does not live on in data workers that survive the process for a moment.

    Raises:
        UserError: another process has the lock, or the directory cannot be written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        file = open(directory / LOCK, "a+", encoding="utf-8")  # noqa: SIM115 - entered below
    except OSError as error:
        raise UserError(f"{directory}: cannot be written: {error.strerror}") from error
    with file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            file.truncate(0)
            print(f"process {os.getpid()} on {platform.node()}", file=file, flush=True)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                file.seek(0)
                raise UserError(f"{directory}: a run is under way there ({file.read().strip()})") from None
        yield


def update_config(directory: Path, config: str) -> None:
    """Replace the configuration of a run that goes on with another, harmlessly different one."""
    try:
        replace(directory / CONFIG, config)
    except OSError as error:
        raise UserError(f"{directory}: cannot be written: {error.strerror}") from error


def note_environment(directory: Path, device: str) -> None:
    """Add this process to `env.json`: what each of those that worked on the run ran with, oldest first."""
    path = directory / ENVIRONMENT
    try:
        earlier = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        earlier = []
    sessions = [*(earlier if isinstance(earlier, list) else [earlier]), environment(device)]
    try:
        replace(path, json.dumps(sessions, indent=2) + "\n")
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from error


def first_rank() -> bool:
    """Whether this process is the only or the first one of those that torchrun started."""
    return os.environ.get("RANK", "0") == "0"


def agree(directory: Path) -> Path:
    """The first rank's `directory`, on every rank that torchrun started: two that look for the next free name at the
    same time may find different ones. Comes before, and without, the process group of training."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return directory
    store, rank, _ = next(iter(distributed.rendezvous("env://")))
    key = f"salticid/run/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"
    if rank == 0:
        store.set(key, str(directory))
    return Path(store.get(key).decode())


def holds_run(directory: Path) -> bool:
    return any((directory / name).exists() for name in _TRACES)


def open_run(directory: Path) -> Path:
    """`directory`, where it holds a run.

    Raises:
        UserError: it does not exist, or has no `config.yaml`.
    """
    if not directory.is_dir():
        raise UserError(f"{directory}: there is no such run directory")
    if not (directory / CONFIG).is_file():
        raise UserError(f"{directory}: not a run: {CONFIG} is missing")
    return directory


def newest_run(name: str = "*") -> Path:
    """The run below `runs/` whose log or configuration was written last, of those whose name matches.

    Raises:
        UserError: there is none.
    """
    found = [path for path in RUNS.glob(f"*/{name}") if (path / CONFIG).is_file()]
    if not found:
        raise UserError(f"{RUNS}/*/{name}: there is no run to resume")
    return max(found, key=_last_written)


def environment(device: str) -> dict[str, Any]:
    """What a process runs with: versions, commit, machine, command line. No environment variables, so no secrets."""
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(sys.argv),
        "salticid": salticid.__version__,
        "commit": _commit(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "device": device,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "cuda": torch.version.cuda,
        "ranks": int(os.environ.get("WORLD_SIZE", "1")),
        "packages": {name: version for name in _PACKAGES if (version := _version(name))},
    }


def _last_written(directory: Path) -> float:
    return max(path.stat().st_mtime for name in _TRACES if (path := directory / name).exists())


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit of the repository that the run is started in, with `+` after it where files are changed."""
    try:
        commit = _git("rev-parse", "HEAD")
        return commit + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=10, check=True)
    return done.stdout.strip()
