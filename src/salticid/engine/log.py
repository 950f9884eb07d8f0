"""The log of a run: `log.jsonl`, sample pictures, and what the terminal and the trackers show of them.

`log.jsonl` holds one JSON object a line, `kind` and `step` first. Steps count the optimiser steps done, so the first
is 1 and a checkpoint of step s has seen the lines up to s. Floats are written by `repr`, which reads back to the same
bits; those that JSON lacks are the strings "nan", "inf" and "-inf".
"""

import json
import math
import os
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import torch
from PIL import Image
from rich.console import Console
from torch import Tensor

from salticid.engine.progress import Progress
from salticid.engine.trackers import Tracker, trackers
from salticid.errors import ConfigError, UserError

FILE = "log.jsonl"

DETERMINISTIC = ("step", "validation", "picture", "replaced", "skipped", "best")
"""Kinds of lines that are the same, bit for bit, whether a run was interrupted or not. Others (`speed`, `start`,
`end`, `checkpoint` …) tell of one process and its clock."""


@dataclass
class LogConfig:
    """The `log:` entry of a configuration."""

    every: int = 10
    """Steps between lines; the first and the last step are always logged."""
    tensorboard: bool = False
    wandb: str | None = None
    """Project on Weights & Biases."""
    trackio: str | None = None
    """Project of trackio."""

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ConfigError(f"log.every: {self.every} given, at least 1 expected")


class RunLog:
    """Writes a run's log, its pictures, its progress and its trackers.

    Files are opened by the first line, so that `rewind` may come before. `quiet` (all ranks but the first) turns
    everything into nothing, except `wants`, which all ranks must answer alike.

    Raises:
        UserError: a tracker's package is missing, or the log cannot be written.
    """

    def __init__(
        self,
        run_dir: Path,
        config: LogConfig,
        *,
        steps: int,
        batch: int,
        start: int = 0,
        quiet: bool = False,
        console: Console | None = None,
    ) -> None:
        self.run_dir = run_dir
        self.config = config
        self.steps = steps
        self.batch = batch
        self.start = start
        self.quiet = quiet
        self._last = start
        self._file: IO[bytes] | None = None
        self._trackers: list[Tracker] = [] if quiet else trackers(run_dir, config)
        self._progress = Progress(steps, quiet=quiet, console=console)

    def wants(self, step: int) -> bool:
        """Whether the values of this step are logged: a function of the step alone."""
        return step % self.config.every == 0 or step in (1, self.steps)

    def step(self, step: int, values: dict[str, Any]) -> None:
        """Log what the run computed (loss, terms, gradient norm, lr …), in the order given: nothing that another
        process, resuming the same run, would not compute again."""
        if self.quiet:
            return
        self._write("step", step, values)
        self._track(step, "train", values)
        self._progress.values(step, values)

    def speed(self, step: int, values: dict[str, Any]) -> None:
        """Log what the clock says, after `step`: `samples_per_s`, `data_wait` (share of the time, 0 … 1), `memory`
        (bytes, the peak), `elapsed` (seconds)."""
        if self.quiet:
            return
        self._write("speed", step, values)
        self._track(step, "speed", values)
        self._progress.speed(step, values)

    def tick(self, step: int) -> None:
        """Move the progress bar; may be called after every step, costs about a microsecond."""
        self._last = step
        self._progress.tick(step)

    def event(self, kind: str, step: int, **fields: Any) -> None:
        """Log something that happened, and tell it above the bar.

        `validation` comes with `weights` ("raw" or "ema") and `metrics`; any other may have a `message`.
        """
        if self.quiet:
            return
        self._write(kind, step, fields)
        if kind == "validation":
            self._track(step, f"validation/{fields.get('weights', 'raw')}", fields.get("metrics", {}))
        for tracker in self._trackers:
            tracker.flush()
        self._progress.event(kind, step, fields)

    def picture(self, step: int, name: str, image: Tensor, legend: str = "") -> None:
        """Save a picture, uint8 (3, H, W), as `samples/step-00001000-name.png`."""
        if self.quiet:
            return
        if image.dtype != torch.uint8 or image.ndim != 3 or image.shape[0] != 3:
            raise ValueError(f"a picture is uint8 (3, H, W), got {image.dtype} {tuple(image.shape)}")
        path = self.run_dir / "samples" / f"step-{step:08d}-{re.sub(r'[^A-Za-z0-9_]+', '-', name)}.png"
        pixels = image.permute(1, 2, 0).contiguous().cpu()
        _save(path, pixels)
        relative = path.relative_to(self.run_dir).as_posix()
        self._write("picture", step, {"name": name, "file": relative, "legend": legend})
        for tracker in self._trackers:
            tracker.picture(step, name, pixels)

    def rewind(self, step: int) -> None:
        """Forget everything after `step`: lines, also broken ones, and pictures. Call before the first line."""
        self.start = self._last = step
        if self.quiet:
            return
        if self._file is not None:
            raise RuntimeError("rewind comes before the first line")
        path = self.run_dir / FILE
        if path.exists():
            kept = [
                raw for raw in path.read_bytes().split(b"\n") if (line := parse(raw)) and line["step"] <= step
            ]
            _replace(path, b"".join(raw + b"\n" for raw in kept))
        for picture in (self.run_dir / "samples").glob("step-*"):
            number = re.match(r"step-(\d+)-", picture.name)
            if number and (int(number[1]) > step or picture.suffix == ".tmp"):
                picture.unlink()

    def close(self, status: str) -> None:
        """End the log with how the run ended ("finished", "interrupted", "failed"); restores the terminal. A second
        call does nothing."""
        if self.quiet:
            return
        self._write("end", self._last, {"status": status, "time": _now()})
        self.quiet = True
        self._progress.close()
        for tracker in self._trackers:
            tracker.close(status)
        if self._file is not None:
            self._file.close()

    def _write(self, kind: str, step: int, fields: dict[str, Any]) -> None:
        if self._file is None:
            self._file = self._open()
        self._last = max(self._last, step)
        _append(self._file, {"kind": kind, "step": step, **fields})

    def _open(self) -> IO[bytes]:
        try:
            self.run_dir.mkdir(parents=True, exist_ok=True)
            file = open(self.run_dir / FILE, "ab+")  # noqa: SIM115 - open for the whole run
        except OSError as error:
            raise UserError(f"{self.run_dir / FILE}: cannot be written: {error.strerror}") from error
        if file.tell() and not _ends_in_newline(file):  # a line torn by a kill must not swallow the next
            file.write(b"\n")
        start = {
            "kind": "start",
            "step": self.start,
            "steps": self.steps,
            "batch": self.batch,
            "time": _now(),
        }
        _append(file, start)
        for tracker in self._trackers:
            tracker.open(self.start)
        return file

    def _track(self, step: int, group: str, values: dict[str, Any]) -> None:
        scalars = {f"{group}/{name}": v for name, v in _plain(values).items() if _is_number(v)}
        for tracker in self._trackers:
            tracker.scalars(step, scalars)


@dataclass
class Lines:
    """What a log file says."""

    lines: list[dict[str, Any]] = field(default_factory=list)
    broken: int = 0
    """Lines that are no JSON objects with `kind` and `step`."""

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [line for line in self.lines if line["kind"] == kind]


def read_log(run_dir: Path) -> Lines:
    """All lines of a run's log; empty where there is none."""
    path = run_dir / FILE
    if not path.exists():
        return Lines()
    rows = [raw for raw in path.read_bytes().split(b"\n") if raw.strip()]
    lines = [line for raw in rows if (line := parse(raw)) is not None]
    return Lines(lines, len(rows) - len(lines))


def deterministic_lines(run_dir: Path) -> list[str]:
    """The lines, as written, that must not depend on interruptions (see `DETERMINISTIC`)."""
    rows = (run_dir / FILE).read_text().splitlines()
    return [row for row in rows if (line := parse(row)) and line["kind"] in DETERMINISTIC]


def parse(raw: bytes | str) -> dict[str, Any] | None:
    """One line of a log, or None where it is torn or foreign."""
    try:
        line = json.loads(raw)
    except ValueError:
        return None
    whole = isinstance(line, dict) and isinstance(line.get("kind"), str) and type(line.get("step")) is int
    return line if whole else None


def _plain(value: Any) -> Any:
    """What JSON can hold: 0-d tensors become numbers, non-finite numbers strings."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, Tensor):
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, str | int | float | None) else str(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _append(file: IO[bytes], line: dict[str, Any]) -> None:
    try:
        file.write(json.dumps(_plain(line), allow_nan=False).encode() + b"\n")
        file.flush()
    except OSError as error:
        raise UserError(f"{file.name}: cannot be written: {error.strerror}") from error


def _ends_in_newline(file: IO[bytes]) -> bool:
    file.seek(-1, os.SEEK_END)
    return file.read(1) == b"\n"


def _save(path: Path, pixels: Tensor) -> None:
    aside = path.with_name(path.name + ".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.numpy()).save(aside, format="PNG")
        os.replace(aside, path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from error


def _replace(path: Path, content: bytes) -> None:
    """Rewrite a file so that a crash at any moment leaves the old or the new one."""
    aside = path.with_name(path.name + ".tmp")
    with open(aside, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(aside, path)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
