"""The file `log.jsonl`: one JSON object a line, `kind` and `step` first.

Floats are written by `repr`, which reads back to the same bits; those that JSON lacks are the strings "nan",
"inf" and "-inf".
"""

import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from torch import Tensor

from salticid.errors import UserError

FILE = "log.jsonl"

DETERMINISTIC = ("step", "validation", "picture", "replaced", "skipped")
"""Kinds of lines that are the same, bit for bit, whether a run was interrupted or not. Others (`speed`,
`start`, `end`, `checkpoint` …) tell of one process and its clock."""

Line = dict[str, Any]


@dataclass
class Journal:
    """What a log file says."""

    lines: list[Line] = field(default_factory=list)
    broken: int = 0
    """Rows that are no JSON objects with `kind` and `step`."""

    def of(self, kind: str) -> list[Line]:
        """The lines of one kind, in order."""
        return [line for line in self.lines if line["kind"] == kind]


def read_log(run_dir: Path) -> Journal:
    """All lines of a run's log; none where there is no log."""
    path = run_dir / FILE
    if not path.exists():
        return Journal()
    rows = [row for row in path.read_bytes().split(b"\n") if row.strip()]
    lines = [line for row in rows if (line := parse(row)) is not None]
    return Journal(lines, len(rows) - len(lines))


def deterministic_lines(run_dir: Path) -> list[str]:
    """The rows, as written, that must not depend on interruptions (see `DETERMINISTIC`)."""
    rows = (run_dir / FILE).read_text().splitlines()
    return [row for row in rows if (line := parse(row)) and line["kind"] in DETERMINISTIC]


def parse(row: bytes | str) -> Line | None:
    """One row of a log, or None where it is torn or foreign."""
    try:
        line = json.loads(row)
    except (ValueError, RecursionError):
        return None
    whole = isinstance(line, dict) and isinstance(line.get("kind"), str) and type(line.get("step")) is int
    return line if whole else None


def open_log(run_dir: Path) -> IO[bytes]:
    """Open the log for appending. A torn last row, which must not swallow the next, gets its newline."""
    path = run_dir / FILE
    with writing(path):
        run_dir.mkdir(parents=True, exist_ok=True)
        file = open(path, "ab+")  # noqa: SIM115 - stays open for the whole run
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")
        return file


def append(file: IO[bytes], line: Line) -> None:
    """Write one line and hand it to the operating system."""
    with writing(Path(file.name)):
        file.write(json.dumps(plain(line), allow_nan=False).encode() + b"\n")
        file.flush()


def cut(run_dir: Path, step: int, again: tuple[str, ...] = ()) -> None:
    """Remove the lines after `step`, those of kinds `again` from `step` on, and the broken rows. A crash leaves the
    old file or the new one."""
    path = run_dir / FILE
    if not path.exists():
        return
    rows = path.read_bytes().split(b"\n")
    kept = [row for row in rows if (line := parse(row)) and line["step"] <= step - (line["kind"] in again)]
    aside = path.with_name(path.name + ".tmp")
    with writing(path), open(aside, "wb") as file:
        file.write(b"".join(row + b"\n" for row in kept))
        file.flush()
        os.fsync(file.fileno())
    os.replace(aside, path)


def plain(value: Any) -> Any:
    """What JSON can hold: tensors become numbers or lists, non-finite numbers strings."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, Tensor):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, str | int | float | None) else str(value)


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the disk refuses into a UserError that names the file."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from error
