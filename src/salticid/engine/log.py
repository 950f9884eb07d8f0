"""The log of a run: `log.jsonl`, sample pictures, and what the terminal and the trackers show of them.

Steps count the optimiser steps done, so the first is 1 and a checkpoint of step s has seen the lines up to s.
"""

import os
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import torch
from PIL import Image
from rich.console import Console
from torch import Tensor

from salticid.engine.disk import flush
from salticid.engine.journal import (
    append,
    cut,
    deterministic_lines,
    is_number,
    open_log,
    plain,
    read_log,
    writing,
)
from salticid.engine.progress import Progress
from salticid.engine.trackers import Tracker, trackers
from salticid.errors import ConfigError

if TYPE_CHECKING:
    from jaxtyping import UInt8

__all__ = ["LogConfig", "RunLog", "deterministic_lines", "read_log"]


@dataclass
class LogConfig:
    """The `log:` entry of a configuration."""

    every: int = 10
    """Steps between lines; the first and the last step are always logged."""
    tensorboard: bool = False
    """Write event files to `<run>/tensorboard`."""
    wandb: str | None = None
    """Project on Weights & Biases."""
    trackio: str | None = None
    """Project of trackio."""

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ConfigError(f"log.every: {self.every} given, at least 1 expected")


class RunLog:
    """Writes a run's log, its pictures, its progress and its trackers.

    Files are opened by the first line, so that `rewind` may come before it. `quiet` (all ranks but the first)
    turns everything into nothing, except `wants`, which all ranks must answer alike. A line is with the
    operating system when the call returns: a kill tears the last line at most, and `rewind` removes it. `sync`
    brings lines and pictures to the disk.

    Args:
        run_dir: the run's directory.
        config: what to write, and how often.
        steps: length of the run.
        batch: samples a step, all ranks together.
        start: steps done before this process; `rewind` sets it too.
        headline: the validation metric that the progress display shows; None: the first.
        quiet: do nothing.
        console: where progress is shown; None: standard output.

    Raises:
        UserError: a tracker's package is missing, or (from any call) a file cannot be written.
    """

    def __init__(
        self,
        run_dir: Path,
        config: LogConfig,
        *,
        steps: int,
        batch: int,
        start: int = 0,
        headline: str | None = None,
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
        self._closed = False
        self._file: IO[bytes] | None = None
        self._trackers: list[Tracker] = [] if quiet else trackers(run_dir, config)
        self._progress = Progress(steps, headline=headline, quiet=quiet, console=console)

    def wants(self, step: int) -> bool:
        """Whether the values of this step are logged: a function of the step alone."""
        return step % self.config.every == 0 or step in (1, self.steps)

    def step(self, step: int, values: dict[str, Any]) -> None:
        """Log what the run computed, in the order given (`loss`, its terms, `grad_norm`, `lr`, `ema_decay`):
        nothing that another process, resuming the same run, would not compute again."""
        if self.quiet:
            return
        self._write("step", step, values)
        self._track(step, "train", values)
        self._progress.values(step, values)

    def speed(self, step: int, values: dict[str, Any]) -> None:
        """Log what the clock says, after `step`: `samples_per_s`, `data_wait` (share of the time, 0 … 1),
        `memory` (bytes, the peak), `elapsed` (seconds)."""
        if self.quiet:
            return
        self._write("speed", step, values)
        self._track(step, "speed", values)
        self._progress.speed(step, values)

    def tick(self, step: int) -> None:
        """Move the progress bar; cheap enough to be called after every step."""
        self._last = max(self._last, step)
        self._progress.tick(step)

    def event(self, kind: str, step: int, **fields: Any) -> None:
        """Log something that happened and tell it above the bar.

        `validation` comes with `weights` ("raw" or "ema") and `metrics`; `replaced` and `skipped` with `ids`;
        any other may have a `message`.
        """
        if self.quiet:
            return
        self._write(kind, step, fields)
        if kind == "validation":
            self._track(step, f"validation/{fields.get('weights', 'raw')}", fields.get("metrics", {}))
        for tracker in self._trackers:
            tracker.flush()
        self._progress.event(kind, step, fields)

    def picture(self, step: int, name: str, image: "UInt8[Tensor, '3 h w']", legend: str = "") -> None:
        """Save a picture as `samples/step-00001000-name.png`; `legend` says what its rows or columns show."""
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

    def rewind(self, step: int, again: tuple[str, ...] = ()) -> None:
        """Forget all lines and pictures after `step`, the lines of `step` whose kinds come `again`, and torn lines.
        Call it before the first line."""
        if self._file is not None:
            raise RuntimeError("rewind comes before the first line")
        self.start = self._last = step
        if self.quiet:
            return
        cut(self.run_dir, step, again)
        for picture in (self.run_dir / "samples").glob("step-*"):
            number = re.match(r"step-(\d+)-", picture.name)
            if number and (int(number[1]) > step or picture.suffix == ".tmp"):
                picture.unlink()

    def sync(self) -> None:
        """Return when all lines and pictures so far are on the disk; comes before a checkpoint that has seen them."""
        if self._file is None:
            return
        with writing(self.run_dir):
            os.fsync(self._file.fileno())
            for folder in (self.run_dir.parent, self.run_dir, self.run_dir / "samples"):
                if folder.is_dir():
                    flush(folder)

    def close(self, status: str) -> None:
        """End the log with how the run ended ("finished", "interrupted", "failed"); give the terminal back.
        A second call does nothing."""
        if self.quiet or self._closed:
            return
        self._closed = True
        self._progress.close()
        self._write("end", self._last, {"status": status, "time": _now()})
        for tracker in self._trackers:
            tracker.close(status)
        if self._file is not None:
            self._file.close()

    def _write(self, kind: str, step: int, fields: dict[str, Any]) -> None:
        if self._file is None:
            self._file = self._open()
        self._last = max(self._last, step)
        append(self._file, {"kind": kind, "step": step, **fields})

    def _open(self) -> IO[bytes]:
        file = open_log(self.run_dir)
        begin = {"steps": self.steps, "batch": self.batch, "time": _now()}
        append(file, {"kind": "start", "step": self.start, **begin})
        for tracker in self._trackers:
            tracker.open(self.start)
        return file

    def _track(self, step: int, group: str, values: dict[str, Any]) -> None:
        if not self._trackers:
            return
        scalars = {f"{group}/{name}": v for name, v in plain(values).items() if is_number(v)}
        for tracker in self._trackers:
            tracker.scalars(step, scalars)


def _save(path: Path, pixels: "UInt8[Tensor, 'h w 3']") -> None:
    """Write a PNG that is there whole or not at all."""
    aside = path.with_name(path.name + ".tmp")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.numpy()).save(aside, format="PNG")
        flush(aside)
        os.replace(aside, path)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
