"""The head of a report: how the run stands, its main figures, and what happened to it."""

import math
import statistics
import time
from typing import Any

from salticid.engine.charts import running_mean
from salticid.engine.figures import duration, memory, number
from salticid.engine.journal import FILE, Journal
from salticid.engine.report.files import RunFiles, higher_is_better, numbers
from salticid.engine.report.html import card, folded, section, table, text

ALIVE = 600
"""Seconds of silence after which a log without an end counts as broken off."""

KINDS = ("start", "end", "checkpoint_rejected")
"""Events told in the history."""


def status(files: RunFiles) -> str:
    """finished, interrupted, failed …: as the log says; "running" while it grows; "empty" without a log."""
    ends = [line for line in files.journal.lines if line["kind"] in ("start", "end")]
    if not files.journal.lines:
        return "empty"
    if ends and ends[-1]["kind"] == "end":
        return str(ends[-1].get("status", "")).strip() or "ended"
    silent = time.time() - (files.run_dir / FILE).stat().st_mtime
    return "running" if silent < ALIVE else "broken off"


def header(files: RunFiles) -> str:
    """Name, state and extent of the run."""
    state = status(files)
    starts = files.journal.of("start")
    last = max((line["step"] for line in files.journal.lines), default=0)
    facts = [f"{last} of {starts[-1].get('steps', '?')} steps" if starts else ""]
    facts += [f"batch {starts[-1]['batch']}" if starts and "batch" in starts[-1] else ""]
    facts += [f"started {_when(starts[0].get('time'))}" if starts else ""]
    resumed = sum(1 for line in starts if line["step"] > 0)
    facts += [f"resumed {resumed} time{'s' * (resumed > 1)}" if resumed else ""]
    run = files.run_dir.resolve()
    pill = f'<span class="pill {text(state.split()[0])}">{text(state)}</span>'
    return (
        f'<header><p class="eyebrow">{text(run.parent.name)}</p><h1>{text(run.name)} {pill}</h1>'
        f'<p class="sub">{text(" · ".join(f for f in facts if f))}</p></header>'
    )


def problems(files: RunFiles) -> str:
    """What could not be read."""
    items = "".join(f"<li>{text(problem)}</li>" for problem in files.problems)
    return f'<ul class="problems">{items}</ul>' if items else ""


def headline(files: RunFiles) -> str:
    """The figures one looks for first."""
    journal = files.journal
    tiles = [_loss_tile(journal), _metric_tile(files)]
    if rates := column(journal, "samples_per_s"):
        tiles.append(("speed", number(statistics.median(rates), 3), "samples/s, median"))
    if waits := column(journal, "data_wait"):
        tiles.append(("data wait", f"{100 * statistics.fmean(waits):.1f} %", "of the time, mean"))
    if sizes := column(journal, "memory"):
        tiles.append(("memory", memory(max(sizes)), "peak"))
    if spent := time_spent(journal):
        tiles.append(("time", duration(spent), "in training, all sessions"))
    cells = "".join(
        f'<div class="tile"><span>{text(name)}</span><b>{text(value)}</b><small>{text(note)}</small></div>'
        for name, value, note in filter(None, tiles)
    )
    return f'<div class="tiles">{cells}</div>' if cells else ""


def column(journal: Journal, name: str) -> list[float]:
    """The finite values of a figure in the `speed` lines."""
    values = [numbers(line).get(name, math.nan) for line in journal.of("speed")]
    return [value for value in values if math.isfinite(value)]


def time_spent(journal: Journal) -> float:
    """Seconds, over all processes that worked on the run, as far as the log has them."""
    sessions = [0.0]
    for line in journal.lines:
        if line["kind"] == "start":
            sessions.append(0.0)
        elapsed = numbers(line).get("elapsed", 0.0)
        if line["kind"] == "speed" and math.isfinite(elapsed):
            sessions[-1] = max(sessions[-1], elapsed)
    return sum(sessions)


def incidents(files: RunFiles) -> str:
    """Samples that could not be read and steps that were skipped."""
    rows, ids = [], 0
    for line in files.journal.lines:
        listed = line.get("ids", line.get("replaced", []))
        if line["kind"] not in ("replaced", "skipped") and not (line["kind"] == "step" and line.get("replaced")):
            continue
        kind = "replaced" if line["kind"] == "step" else line["kind"]
        listed = listed if isinstance(listed, list) else [listed]
        ids += len(listed)
        names = ", ".join(f"<code>{text(i)}</code>" for i in listed[:20]) + (" …" if len(listed) > 20 else "")
        rows.append((str(line["step"]), kind, names, text(line.get("message", line.get("reason", "")))))
    if not rows:
        return ""
    shown = table(("step", "what", "samples", "why"), rows[:200], "list")
    more = f"<p>and {len(rows) - 200} more</p>" if len(rows) > 200 else ""
    title = f"{len(rows)} event{'s' * (len(rows) > 1)}, {ids} sample{'s' * (ids != 1)}"
    return section("samples", "Replaced and skipped", folded(title, shown + more, opened=len(rows) <= 8))


def history(files: RunFiles) -> str:
    """Starts, ends, and what else happened to the run as a whole."""
    rows = [
        (str(line["step"]), text(_title(line)), text(_details(line)))
        for line in files.journal.lines
        if line["kind"] in KINDS
    ]
    return section("history", "History", card(table(("step", "what", ""), rows[-100:], "list"))) if rows else ""


def _title(line: dict[str, Any]) -> str:
    if line["kind"] == "start":
        return "resumed" if line["step"] else "started"
    return str(line.get("status", "ended")) if line["kind"] == "end" else line["kind"].replace("_", " ")


def _details(line: dict[str, Any]) -> str:
    known = {k: v for k, v in line.items() if k not in ("kind", "step", "status", "steps", "batch")}
    return ", ".join(_when(v) if k == "time" else f"{k} {number(v)}" for k, v in known.items())


def _when(stamp: Any) -> str:
    return str(stamp).replace("T", " ").replace("+00:00", " UTC")


def _loss_tile(journal: Journal) -> tuple[str, str, str] | None:
    points = [(line["step"], values["loss"]) for line in journal.of("step") if "loss" in (values := numbers(line))]
    finite = [(x, y) for x, y in points if math.isfinite(y)]
    return ("loss", number(running_mean(finite)[-1][1]), f"running mean, step {finite[-1][0]}") if finite else None


def _metric_tile(files: RunFiles) -> tuple[str, str, str] | None:
    lines = files.journal.of("validation")
    if not lines:
        return None
    wanted, mode = files.best_metric
    known = [(numbers(line.get("metrics")), line) for line in lines]
    name = wanted or next(iter(known[-1][0]), None)
    found = [(metrics[name], line) for metrics, line in known if name in metrics]
    if not found or name is None:
        return None
    up = mode == "max" if mode else higher_is_better(name)
    value, line = found[-1] if up is None else (max if up else min)(found, key=lambda pair: pair[0])
    word = "latest" if up is None else "best"
    return name, number(value), f"{word}: {line.get('weights', '')} weights, step {line['step']}"
