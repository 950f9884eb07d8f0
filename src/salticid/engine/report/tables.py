"""The figures of a report: metrics beside baselines, configuration, environment."""

import math
from typing import Any

from salticid.engine.figures import number
from salticid.engine.journal import Line
from salticid.engine.report.files import Metrics, RunFiles, higher_is_better, numbers, split_name, unchanging
from salticid.engine.report.film import still
from salticid.engine.report.html import card, folded, section, table, text
from salticid.engine.report.viewer import BUDGET, viewer

RECENT = 4
"""Evaluations shown unfolded."""

Best = dict[str, tuple[float, int]]
"""Value and step by metric."""


def results(files: RunFiles) -> str:
    """Evaluations, newest first; then the last validation, with the best value of each metric so far."""
    lines = files.journal.of("validation")
    baselines = unchanging([numbers(line.get("metrics")) for line in lines])
    newest = sorted(files.evaluations, key=lambda e: (str(e.facts.get("step", "")).zfill(12), e.name), reverse=True)
    with_spheres = sum(bool(evaluation.spheres) for evaluation in newest[:RECENT])
    blocks = []
    for place, evaluation in enumerate(newest):
        facts = ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in evaluation.facts.items())
        title = f"Evaluation {evaluation.name}" + (f": {facts}" if facts else "")
        shown = metrics_table(evaluation.metrics, baselines | evaluation.baselines)
        if evaluation.picture is not None and place < RECENT:
            shown += still(evaluation.picture, files)
        if evaluation.extremes is not None and place < RECENT:
            shown += still(evaluation.extremes.picture, files, evaluation.extremes.note)
        if evaluation.spheres and place < RECENT:
            shown += viewer(evaluation, files, BUDGET // with_spheres)
        blocks.append(card(f"<h3>{text(title)}</h3>{shown}") if place < RECENT else folded(title, shown))
    for weights in dict.fromkeys(str(line.get("weights", "raw")) for line in lines):
        own = [line for line in lines if str(line.get("weights", "raw")) == weights]
        title = f"Last validation: {weights} weights, step {own[-1]['step']}"
        shown = metrics_table(numbers(own[-1].get("metrics")), baselines, best_so_far(own))
        blocks.append(card(f"<h3>{text(title)}</h3>{shown}"))
    return section("results", "Results", *blocks)


def metrics_table(metrics: Metrics, baselines: frozenset[str], best: Best | None = None) -> str:
    """A row a metric, a column a variant, baselines last; metrics without variants in a list of their own."""
    single = {name: value for name, value in metrics.items() if "/" not in name}
    names = [split_name(name) for name in metrics if "/" in name]
    variants = sorted(dict.fromkeys(variant for _, variant in names), key=lambda v: v in baselines)
    grid = {m: {v: metrics[f"{m}/{v}"] for v in variants if f"{m}/{v}" in metrics} for m, _ in names}
    rival = reference(grid, baselines)
    head = ["", *(text(v) + (" <small>baseline</small>" if v in baselines else "") for v in variants)]
    rows = [
        [text(m) + _arrow(m), *(_cell(m, v, values, None if v in baselines else rival, best or {}) for v in variants)]
        for m, values in grid.items()
    ]
    alone = [[text(name) + _arrow(name), number(v) + _best(name, v, best or {})] for name, v in single.items()]
    note = "bold: best of its row" + (f"; coloured: difference to {text(rival)}" if rival is not None else "")
    tables = (table(head, rows, "matrix") if rows else "") + (table((), alone, "matrix") if alone else "")
    return tables + (f'<p class="note">{note}</p>' if rows else "")


def reference(grid: dict[str, Metrics], baselines: frozenset[str]) -> str | None:
    """The baseline to compare with: the one that does best by the first metric whose better side is known."""
    for metric, values in grid.items():
        up, known = higher_is_better(metric), {v: x for v, x in values.items() if v in baselines and math.isfinite(x)}
        if up is not None and known:
            return (max if up else min)(known, key=lambda v: known[v])
    return None


def best_so_far(lines: list[Line]) -> Best:
    """The best value of every metric, with its step, where its name tells which side is better."""
    best: Best = {}
    for line in lines:
        for name, value in numbers(line.get("metrics")).items():
            up = higher_is_better(name)
            if up is None or not math.isfinite(value):
                continue
            if name not in best or (value > best[name][0] if up else value < best[name][0]):
                best[name] = value, line["step"]
    return best


def configuration(files: RunFiles) -> str:
    """config.yaml, folded."""
    if not files.config.strip():
        return ""
    return section("configuration", "Configuration", folded("config.yaml", f"<pre>{text(files.config)}</pre>"))


def environment(files: RunFiles) -> str:
    """env.json as a table, folded."""
    rows = [(text(key), f"<code>{text(value)}</code>") for key, value in flat(files.environment)]
    return section("environment", "Environment", folded("env.json", table((), rows, "list"))) if rows else ""


def flat(values: Any, prefix: str = "") -> list[tuple[str, Any]]:
    """Nested mappings as dotted keys."""
    if not isinstance(values, dict):
        return [(prefix, values)]
    return [pair for key, value in values.items() for pair in flat(value, f"{prefix}.{key}" if prefix else str(key))]


def _cell(metric: str, variant: str, values: Metrics, rival: str | None, best: Best) -> str:
    if variant not in values:
        return ""
    value, up = values[variant], higher_is_better(metric)
    shown = number(value)
    if up is None:
        return shown
    if len(values) > 1 and value == (max if up else min)(values.values()):
        shown = f"<b>{shown}</b>"
    if rival in values:
        gain = value - values[rival]
        kind = "better" if (gain > 0) == up else "worse"
        shown += f' <small class="{kind}">{"−" if gain < 0 else "+"}{number(abs(gain), 3)}</small>'
        shown += _best(f"{metric}/{variant}", value, best)
    return shown


def _best(name: str, value: float, best: Best) -> str:
    """Where and how much better it was before."""
    earlier = best.get(name)
    if earlier is None or earlier[0] == value:
        return ""
    return f"<br><small>best {number(earlier[0])}, step {earlier[1]}</small>"


def _arrow(metric: str) -> str:
    return {True: " <small>↑</small>", False: " <small>↓</small>", None: ""}[higher_is_better(metric)]
