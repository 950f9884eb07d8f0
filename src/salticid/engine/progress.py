"""What a run shows while it runs: a bar on a terminal, plain lines elsewhere."""

import math
import time
from collections.abc import Callable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.text import Text

REFRESH = 0.1
"""Seconds between redraws. Drawn by the training thread itself: a drawing thread could hold the terminal's
lock while data workers are forked, and they would wait for it forever."""

COLOURS = {
    "validation": "cyan",
    "best": "green",
    "replaced": "yellow",
    "skipped": "yellow",
    "checkpoint rejected": "red",
}
SILENT = ("picture", "checkpoint")
"""Events that happen too often to be told."""


class Progress:
    """Follows a run of `steps` steps. All times come from `clock`, in seconds."""

    def __init__(
        self,
        steps: int,
        *,
        quiet: bool = False,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.steps = steps
        self._quiet = quiet
        self._console = console or Console(highlight=False)
        self._clock = clock
        self._step = 0
        self._first: tuple[int, float] | None = None
        self._drawn = -math.inf
        self._loss = Smoothed()
        self._speed: dict[str, Any] = {}
        self._metric = ""
        self._live: Live | None = None

    def values(self, step: int, values: dict[str, Any]) -> None:
        """The deterministic values of a step; of these, `loss` is shown."""
        if self._quiet:
            return
        if "loss" in values:
            self._loss.add(float(values["loss"]))
        self.tick(step)

    def speed(self, step: int, values: dict[str, Any]) -> None:
        """`samples_per_s`, `data_wait`, `memory`; off the terminal this prints the line of the step."""
        if self._quiet:
            return
        self._speed = values
        self.tick(step)
        if not self._console.is_terminal:
            self._print(Text(self.line()))

    def tick(self, step: int) -> None:
        """A step is done."""
        if self._quiet:
            return
        now = self._clock()
        self._step = step
        if self._first is None:
            self._first = (step, now)
        if self._console.is_terminal and (now - self._drawn >= REFRESH or step == self.steps):
            self._drawn = now
            self._draw()

    def event(self, kind: str, step: int, fields: dict[str, Any]) -> None:
        """Tell of an event in one line above the bar."""
        if self._quiet or kind in SILENT:
            return
        if kind == "validation":
            self._metric = next((f"{k} {number(v)}" for k, v in fields.get("metrics", {}).items()), "")
        title = kind.replace("_", " ")
        words = " ".join(describe(k, v) for k, v in fields.items())
        self._print(Text.assemble((title, COLOURS.get(title, "")), f"  step {step}  {words}"))

    def eta(self) -> float | None:
        """Seconds left, by the steps that this process has done since its first: what came before a resume,
        and the warm-up of the first step, tell nothing about the pace."""
        if self._first is None or self._step <= self._first[0]:
            return None
        step, then = self._first
        return (self._clock() - then) / (self._step - step) * (self.steps - self._step)

    def fields(self) -> list[str]:
        """What is known, most wanted first."""
        left = self.eta()
        speed = self._speed
        known = [
            f"loss {number(self._loss.value)}" if self._loss.count else "",
            f"{number(speed['samples_per_s'])} samples/s" if "samples_per_s" in speed else "",
            f"data {100 * speed['data_wait']:.0f} %" if "data_wait" in speed else "",
            f"{speed['memory'] / 1e9:.1f} GB" if speed.get("memory") else "",
            f"eta {duration(left)}" if left is not None else "",
        ]
        return [text for text in known if text]

    def line(self) -> str:
        """The state in one plain line."""
        return "  ".join([f"step {self._step}/{self.steps}", *self.fields()])

    def close(self) -> None:
        """Leave the last state on the screen and give the terminal back."""
        if self._live is not None:
            self._draw()
            self._live.stop()
            self._live = None
        self._quiet = True

    def _draw(self) -> None:
        if self._live is None:
            self._live = Live(console=self._console, auto_refresh=False, get_renderable=lambda: self)
            self._live.start()
        self._live.refresh()

    def _print(self, text: Text) -> None:
        self._console.print(text, soft_wrap=True)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = options.max_width
        parts = [f"{self._step}/{self.steps}"]
        for extra in [*self.fields(), self._metric]:
            if extra and len("  ".join([*parts, extra])) + 12 <= width:
                parts.append(extra)
        text = "  ".join(parts)
        room = min(width - len(text) - 2, 40)
        if room < 4:
            yield Text(text[:width], no_wrap=True)
            return
        done = round(room * min(self._step / self.steps, 1)) if self.steps else room
        full, rest = ("#", "-") if options.ascii_only else ("━", "─")
        yield Text.assemble((full * done, "green"), (rest * (room - done), "dim"), "  ", text, no_wrap=True)


class Smoothed:
    """An exponential mean without the bias of its start. Non-finite values show, but do not stay."""

    def __init__(self, keep: float = 0.9) -> None:
        self.keep = keep
        self.count = 0
        self._sum = 0.0
        self._mass = 0.0
        self._latest = math.nan

    def add(self, value: float) -> None:
        self.count += 1
        self._latest = value
        if math.isfinite(value):
            self._sum = self.keep * self._sum + (1 - self.keep) * value
            self._mass = self.keep * self._mass + (1 - self.keep)

    @property
    def value(self) -> float:
        return self._sum / self._mass if math.isfinite(self._latest) else self._latest


def number(value: Any) -> str:
    """Three or four figures."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return str(value)
    if isinstance(value, int) or not math.isfinite(value):
        return str(value)
    return f"{value:.1f}" if 10 <= abs(value) < 1e5 else f"{value:.4g}"


def duration(seconds: float) -> str:
    """3:12, 1:02:03 or 2d 03:04."""
    whole = round(seconds)
    days, hours, minutes = whole // 86400, whole // 3600 % 24, whole // 60 % 60
    if days:
        return f"{days}d {hours:02d}:{minutes:02d}"
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"


def describe(name: str, value: Any) -> str:
    """A field of an event as words, without control characters that could play with the terminal."""
    if isinstance(value, dict):
        return "  ".join(describe(k, v) for k, v in value.items())
    if isinstance(value, list | tuple):
        shown = ", ".join(number(v) for v in value[:4]) + (
            f" and {len(value) - 4} more" if len(value) > 4 else ""
        )
    else:
        shown = number(value)
    text = shown if name in ("message", "weights") else f"{name} {shown}"
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
