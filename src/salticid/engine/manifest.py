"""The manifest of a checkpoint: what it holds, and that it holds all of it."""

import json
import re
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import Any

from salticid.errors import CheckpointError

FILE = "manifest.json"
FORMAT = 2
_FIELDS: dict[str, Any] = {
    "step": int,
    "files": dict,
    "progress": dict,
    "progress.micro_batch": int,
    "progress.validated": int,
    "progress.failures": int,
    "progress.counts": dict,
    "progress.replaced": dict,
    "progress.best": dict | None,
    "progress.ema_updates": int,
    "progress.phases": dict,
}
"""What the content of a manifest holds beside its format; a key comes after the one that it lies in."""
NAME = re.compile(r"step-(\d{8,})")
"""How a checkpoint is named: by its step."""


def sealed(body: dict[str, Any]) -> str:
    """The text of a manifest with this content, and its digest in it."""
    return json.dumps({"sha256": digest_of(body), "content": body}, indent=1)


def read_manifest(checkpoint: Path) -> dict[str, Any]:
    """The content of a checkpoint's manifest: `step`, `progress`, `files`.

    Raises:
        CheckpointError: it is missing, damaged or incomplete, of another format, or of another step than its
            directory's name says.
    """
    path = checkpoint / FILE
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        body = manifest["content"]
        intact = manifest["sha256"] == digest_of(body)
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing: not a checkpoint") from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged: {error!r}") from error
    if not intact:
        raise CheckpointError(f"{path} is damaged: its digest does not match")
    _check_fields(path, body)
    if (match := NAME.fullmatch(checkpoint.name)) and int(match[1]) != body["step"]:
        raise CheckpointError(f"{path} is of step {body['step']}: the directory bears another's name")
    return body


def _check_fields(path: Path, body: Any) -> None:
    """Raise CheckpointError unless there is all that this version reads."""
    found = body.get("format") if isinstance(body, dict) else None
    if found != FORMAT:
        raise CheckpointError(f"{path}: format {found}; this version reads format {FORMAT}")
    for key, kind in _FIELDS.items():
        value: Any = body
        for name in key.split("."):
            value = value.get(name, ...)
        if not isinstance(value, kind):
            raise CheckpointError(f"{path} is incomplete: {key} is missing, or not what it should be")
    progress = body["progress"]
    _check_entries(path, "files", body["files"].values(), {"size", "sha256"})
    _check_entries(path, "progress.phases", progress["phases"].values(), {"groups", "scale"})
    if progress["best"] is not None:
        _check_entries(path, "progress.best", [progress["best"]], {"step", "metric", "value"})


def _check_entries(path: Path, key: str, entries: Iterable[Any], names: set[str]) -> None:
    if not all(isinstance(entry, dict) and names <= entry.keys() for entry in entries):
        raise CheckpointError(f"{path} is incomplete: {key} lacks one of {', '.join(sorted(names))}")


def digest_of(body: Any) -> str:
    return sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
