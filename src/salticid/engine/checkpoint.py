"""Checkpoints that survive kills, full disks and flipped bits.

`checkpoints/step-00001000/` holds

- `model.safetensors`: the weights to evaluate; `ema.safetensors`: the averaged ones among them;
- `state/`: what else training needs (optimiser state …), in torch's distributed format;
- `config.yaml`: the resolved configuration of the run;
- `manifest.json`: the progress of the run, and size and SHA-256 digest of every file above.

It is written aside, flushed to the disk and renamed, so that it is there whole or not at all. Before it is used every
digest is checked. Reading one runs no code from it (see `sharded`).
"""

import errno
import json
import os
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from safetensors.torch import save_file
from torch import Tensor

from salticid.engine import sharded
from salticid.engine.disk import flush, replace
from salticid.engine.manifest import FORMAT, NAME, read_manifest, sealed
from salticid.engine.parallel import Ranks, connection_lost
from salticid.engine.weights import gather
from salticid.errors import CheckpointError, ConfigError

FOLDER = "checkpoints"
"""Of a run directory, where they lie."""


@dataclass(frozen=True)
class CheckpointConfig:
    """When checkpoints are written and which are kept: the `keep_last` newest, and the best by a metric."""

    every: int = 1000
    keep_last: int = 2
    best_metric: str | None = None
    """A metric of the validation (`psnr`), or that of one kind of weights (`raw/psnr`, `ema/psnr`)."""
    best_mode: Literal["min", "max"] = "max"

    def check(self) -> None:
        if self.every < 1:
            raise ConfigError(f"checkpoint.every is {self.every}; it must be at least 1 (steps)")
        if self.keep_last < 1:
            raise ConfigError(f"checkpoint.keep_last is {self.keep_last}; it must be at least 1")

    def better(self, value: float, than: float | None) -> bool:
        if value != value:
            return False
        return than is None or (value > than if self.best_mode == "max" else value < than)


@dataclass
class Content:
    """What a checkpoint is made of; tensors may be sharded."""

    step: int
    model: Mapping[str, Tensor]
    ema: Mapping[str, Tensor] | None
    state: dict[str, Tensor]
    progress: dict[str, Any]
    """The rest of the training state, as JSON."""
    config: str = ""

    def size(self) -> int:
        """Bytes of all tensors."""
        groups = (self.model, self.ema or {}, self.state)
        return sum(t.numel() * t.element_size() for group in groups for t in group.values())


def place_of(folder: Path, step: int) -> Path:
    """Where the checkpoint of a step lies in `folder`."""
    return folder / f"step-{step:08d}"


def step_of(checkpoint: Path) -> int:
    """The number in its name."""
    match = NAME.fullmatch(checkpoint.name)
    if not match:
        raise CheckpointError(f"{checkpoint} is not named like a checkpoint (step-00001000)")
    return int(match[1])


def listing(folder: Path) -> list[Path]:
    """The checkpoints in `folder`, whole or damaged, oldest first."""
    if not folder.is_dir():
        return []
    return sorted((p for p in folder.iterdir() if NAME.fullmatch(p.name)), key=step_of)


def save(folder: Path, content: Content, ranks: Ranks) -> Path:
    """Write `folder/step-…`; all ranks must call it.

    Raises:
        CheckpointError: on every rank, if it cannot be written; older checkpoints are untouched.
    """
    final = place_of(folder, content.step)
    aside = folder / ranks.broadcast(f".{final.name}.tmp-{os.getpid()}")
    try:
        ranks.together(lambda: _make_room(aside, content) if ranks.first else None)
        ranks.together(lambda: sharded.write(aside / "state", content.state, distributed=ranks.world > 1))
        for name, tensors in (("model", content.model), ("ema", content.ema)):
            if tensors is not None:
                whole = gather(tensors, keep=ranks.first)
                ranks.together(
                    lambda n=name, w=whole: save_file(w, aside / f"{n}.safetensors") if ranks.first else None
                )
        ranks.together(lambda: _publish(aside, final, content) if ranks.first else None)
    except Exception as error:
        if ranks.first:
            shutil.rmtree(aside, ignore_errors=True)
        if connection_lost(error):
            raise
        raise _failure(final, error) from error
    return final


def _make_room(aside: Path, content: Content) -> None:
    aside.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(aside.parent).free
    if content.size() > free:
        raise OSError(errno.ENOSPC, f"{content.size() / 2**20:.0f} MiB are needed, {free / 2**20:.0f} MiB are free")
    shutil.rmtree(aside, ignore_errors=True)
    (aside / "state").mkdir(parents=True)


def _publish(aside: Path, final: Path, content: Content) -> None:
    """Complete the directory, flush it to the disk and give it its name."""
    (aside / "config.yaml").write_text(content.config, encoding="utf-8")
    files = {path.relative_to(aside).as_posix(): path for path in sorted(aside.rglob("*")) if path.is_file()}
    body = {
        "format": FORMAT,
        "step": content.step,
        "files": dict(zip(files, _in_threads(_describe, files.values()), strict=True)),
        "progress": content.progress,
    }
    (aside / "manifest.json").write_text(sealed(body), encoding="utf-8")
    for path in [*files.values(), aside / "manifest.json", aside / "state", aside]:
        flush(path)
    if final.exists():  # a damaged one, or one of a run that was rewound
        _discard(final)
    os.rename(aside, final)
    flush(final.parent)


def _discard(checkpoint: Path) -> None:
    """Remove it in such a way that a kill leaves no half of it under its name."""
    hidden = checkpoint.with_name(f".{checkpoint.name}.tmp-discarded")
    shutil.rmtree(hidden, ignore_errors=True)
    os.rename(checkpoint, hidden)
    shutil.rmtree(hidden, ignore_errors=True)


def _failure(final: Path, error: BaseException) -> CheckpointError:
    reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
    try:
        free = f"; {shutil.disk_usage(final.parent).free / 2**20:.0f} MiB are free there"
    except OSError:
        free = ""
    return CheckpointError(f"{final} cannot be written ({reason}{free}); older checkpoints are untouched")


def _describe(path: Path) -> dict[str, Any]:
    digest = sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 22):
            digest.update(chunk)
    return {"size": path.stat().st_size, "sha256": digest.hexdigest()}


def _in_threads(function: Any, items: Any) -> list[Any]:
    with ThreadPoolExecutor(4) as pool:  # hashing and reading release the GIL
        return list(pool.map(function, items))


def amend(checkpoint: Path, **progress: Any) -> None:
    """Change entries of the progress of a checkpoint. Its other files stay, and it is whole at any moment.

    Raises:
        CheckpointError: it cannot be written, or its manifest is damaged.
    """
    body = read_manifest(checkpoint)
    text = sealed(body | {"progress": body["progress"] | progress})
    try:
        # Aside, but not inside: a file that the manifest does not list would disqualify the checkpoint.
        replace(checkpoint / "manifest.json", text, aside=checkpoint.parent / f".{checkpoint.name}.json")
    except OSError as error:
        raise CheckpointError(f"{checkpoint / 'manifest.json'} cannot be written: {error.strerror}") from error


def verify(checkpoint: Path) -> dict[str, Any]:
    """Check every byte of a checkpoint; returns the content of its manifest.

    Raises:
        CheckpointError: something is missing, cut or changed; the message names the file.
    """
    body = read_manifest(checkpoint)
    present = {p.relative_to(checkpoint).as_posix() for p in checkpoint.rglob("*") if p.is_file()}
    expected: dict[str, Any] = body["files"]
    if present != {*expected, "manifest.json"}:
        odd = sorted(present ^ {*expected, "manifest.json"})
        raise CheckpointError(f"{checkpoint}: {odd[0]} is {'not listed' if odd[0] in present else 'missing'}")
    for name, size in ((n, f["size"]) for n, f in expected.items()):
        if (found := (checkpoint / name).stat().st_size) != size:
            raise CheckpointError(f"{checkpoint / name} is cut: {found} bytes instead of {size}")
    for name, found in zip(expected, _in_threads(_describe, [checkpoint / n for n in expected]), strict=True):
        if found != expected[name]:
            raise CheckpointError(f"{checkpoint / name} is damaged: its digest does not match")
    return body


def newest(folder: Path) -> tuple[Path | None, list[str]]:
    """The newest checkpoint in `folder` with every byte in place, and why newer ones were passed over."""
    rejected: list[str] = []
    for checkpoint in reversed(listing(folder)):
        try:
            verify(checkpoint)
        except CheckpointError as error:
            rejected.append(str(error))
        else:
            return checkpoint, rejected
    return None, rejected


def sweep(folder: Path) -> None:
    """Remove what a killed run left half written. Only the one run of this folder may call it."""
    for path in folder.glob(".step-*.tmp-*"):
        shutil.rmtree(path, ignore_errors=True)


def prune(folder: Path, keep_last: int, upto: int, best: int | None) -> None:
    """Remove the checkpoints of steps up to `upto`, but the newest `keep_last` and the best."""
    older = [path for path in listing(folder) if step_of(path) <= upto]
    for path in older[:-keep_last]:
        if step_of(path) != best:
            _discard(path)


def write_best(folder: Path, best: dict[str, Any]) -> None:
    """Say in `best.json` which checkpoint (`step`) is the best, by which `metric` and `value`."""
    replace(folder / "best.json", json.dumps(best))


def read_best(folder: Path) -> dict[str, Any] | None:
    """What `write_best` wrote, or None.

    Raises:
        CheckpointError: the file is damaged.
    """
    try:
        best = json.loads((folder / "best.json").read_text(encoding="utf-8"))
        return {"step": int(best["step"]), "metric": str(best["metric"]), "value": float(best["value"])}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{folder / 'best.json'} is damaged: {error!r}") from error
