"""What a run shows while it runs: a bar on a terminal, plain lines elsewhere."""

import math
import time
from collections.abc import Callable, Sized
from contextlib import suppress
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.text import Text

from salticid.engine.figures import duration, memory, number, printable

REFRESH = 0.1
"""Seconds between redraws. Drawn by the training thread itself: a drawing thread could hold the terminal's
lock while data workers are forked, and they would wait for it forever."""

COLOURS = {
    "validation": "cyan",
    "replaced": "yellow",
    "skipped": "yellow",
    "checkpoint_rejected": "red",
}
FEW = 6
"""Values of an event that one line tells."""
SILENT = ("picture", "checkpoint")
"""Events that happen too often to be told."""


class Progress:
    """Follows a run of `steps` steps. Where the output goes away, it falls silent.

    Args:
        steps: length of the run.
        unit: what it is counted in.
        headline: the validation metric to show; None: the first.
        quiet: show nothing.
        console: where to; None: standard output.
        clock: gives seconds.
    """

    def __init__(
        self,
        steps: int,
        *,
        unit: str = "step",
        headline: str | None = None,
        quiet: bool = False,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.steps = steps
        self._unit = unit
        self._headline = headline
        self._quiet = quiet
        self._console = console or Output(highlight=False)
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
            self._show(lambda: self._console.print(Text(self.line()), soft_wrap=True))

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
            self._show(self._draw)

    def event(self, kind: str, step: int, fields: dict[str, Any]) -> None:
        """Tell of an event in one line above the bar."""
        if self._quiet or kind in SILENT:
            return
        if kind == "validation":
            chosen = headlines(fields.get("metrics", {}), self._headline)
            self._metric = "".join(describe(name, value) for name, value in list(chosen.items())[:1])
            fields = {**fields, "metrics": chosen}
        words = "  ".join(describe(k, v) for k, v in fields.items())
        title = (printable(kind).replace("_", " "), COLOURS.get(kind, ""))
        self._show(lambda: self._console.print(Text.assemble(title, f"  step {step}  {words}"), soft_wrap=True))

    def eta(self) -> float | None:
        """Seconds left, by the steps that this process has done since its first: what came before a resume,
        and the warm-up of the first step, tell nothing about the pace."""
        if self._first is None or self._step <= self._first[0]:
            return None
        step, then = self._first
        return (self._clock() - then) / (self._step - step) * (self.steps - self._step)

    def fields(self) -> dict[str, str]:
        """What is known, in the order shown."""
        speed, left = self._speed, self.eta()
        known = {
            "loss": f"loss {number(self._loss.value)}" if self._loss.count else "",
            "rate": f"{number(speed['samples_per_s'], 3)} samples/s" if "samples_per_s" in speed else "",
            "data": f"data {100 * speed['data_wait']:.0f} %" if "data_wait" in speed else "",
            "memory": memory(speed["memory"]) if speed.get("memory") else "",
            "eta": f"eta {duration(left)}" if left is not None else "",
        }
        return {name: text for name, text in known.items() if text}

    def line(self) -> str:
        """The state in one plain line."""
        return "  ".join([f"{self._unit} {self._step}/{self.steps}", *self.fields().values()])

    def close(self) -> None:
        """Leave the last state on the screen and give the terminal back."""
        if self._live is not None:
            self._show(self._draw)
            self._show(self._live.stop)
        self._quiet = True

    def _show(self, act: Callable[[], None]) -> None:
        try:
            act()
        except OSError:  # a lost terminal must not end a run of days
            self._quiet = True

    def _draw(self) -> None:
        if self._live is None:
            self._live = Live(console=self._console, auto_refresh=False, get_renderable=lambda: self)
            self._live.start()
        self._live.refresh()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = options.max_width - 1
        count = f"{self._step}/{self.steps}"
        shown = [count, *fitting({**self.fields(), "metric": self._metric}, width - len(count) - 14)]
        text = "  ".join(shown)
        room = min(width - len(text) - 2, 36)
        if room < 4:
            yield Text(text, no_wrap=True, overflow="ellipsis")
            return
        done = round(room * min(self._step / max(self.steps, 1), 1))
        full, rest = ("#", "-") if options.ascii_only else ("━", "─")
        bar = [(full * done, "green"), (rest * (room - done), "bright_black")]
        yield Text.assemble(*bar, "  ", (count, "bold"), text[len(count) :], no_wrap=True)


class Output(Console):
    """Standard output whose reader may go away (`salticid train … | head`): rich would end the process."""

    def on_broken_pipe(self) -> None:
        with suppress(SystemExit):
            super().on_broken_pipe()


def fitting(fields: dict[str, str], room: int) -> list[str]:
    """Those fields that fit into so many columns: the most wanted ones, in their given order."""
    chosen = set()
    for name in ("loss", "eta", "rate", "metric", "data", "memory"):
        text = fields.get(name, "")
        if text and len(text) + 2 <= room:
            chosen.add(name)
            room -= len(text) + 2
    return [text for name, text in fields.items() if name in chosen]


def headlines(metrics: dict[str, Any], first: str | None) -> dict[str, Any]:
    """The metrics to tell of: those of one kind (`psnr/1-step`, `psnr/stitch` …) where there are several, else all;
    `first` stands first."""
    name = first if first in metrics else next(iter(metrics), "")
    kind = name.partition("/")[0] + "/"
    related = {k: v for k, v in metrics.items() if k.startswith(kind)} or metrics
    return {k: metrics[k] for k in [name, *related] if k in metrics}


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


def describe(name: str, value: Any) -> str:
    """A field of an event in words; of many values the first few."""
    if isinstance(value, dict):
        shown = "  ".join(describe(k, v) for k, v in list(value.items())[:FEW])
        return shown + more(value)
    if isinstance(value, list | tuple):
        shown = ", ".join(number(v) for v in value[:FEW]) + more(value)
    else:
        shown = number(value)
    return shown if name in ("message", "weights") else f"{printable(name)} {shown}"


def more(values: Sized) -> str:
    return f" and {len(values) - FEW} more" if len(values) > FEW else ""
