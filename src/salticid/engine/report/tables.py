"""The figures of a report: metrics beside baselines, configuration, environment."""

import math
from typing import Any

from salticid.engine.figures import number
from salticid.engine.journal import Line
from salticid.engine.report.files import Metrics, RunFiles, higher_is_better, numbers, split_name, unchanging
from salticid.engine.report.html import card, folded, section, table, text

RECENT = 4
"""Evaluations shown unfolded."""


def results(files: RunFiles) -> str:
    """Evaluations, newest first; then the last validation, with the best value of each metric so far."""
    lines = files.journal.of("validation")
    baselines = unchanging([numbers(line.get("metrics")) for line in lines])
    newest = sorted(files.evaluations, key=lambda e: (str(e.facts.get("step", "")).zfill(12), e.name), reverse=True)
    blocks = []
    for place, evaluation in enumerate(newest):
        facts = ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in evaluation.facts.items())
        shown = matrix(evaluation.metrics, baselines | evaluation.baselines)
        title = f"Evaluation {evaluation.name}" + (f": {facts}" if facts else "")
        blocks.append(block(title, shown) if place < RECENT else folded(title, shown))
    for weights in dict.fromkeys(str(line.get("weights", "raw")) for line in lines):
        own = [line for line in lines if str(line.get("weights", "raw")) == weights]
        metrics = numbers(own[-1].get("metrics"))
        title = f"Last validation: {weights} weights, step {own[-1]['step']}"
        blocks.append(block(title, matrix(metrics, baselines, best_so_far(own))))
    note = '<p class="note">Bold: best of its row. Small: difference to the best baseline.</p>' if blocks else ""
    return section("results", "Results", *blocks, note)


def block(title: str, content: str) -> str:
    return card(f"<h3>{text(title)}</h3>{content}")


def matrix(metrics: Metrics, baselines: frozenset[str], best: dict[str, tuple[float, int]] | None = None) -> str:
    """A row a metric, a column a variant; baselines stand last."""
    names = [split_name(name) for name in metrics]
    variants = sorted(dict.fromkeys(variant for _, variant in names), key=lambda v: v in baselines)
    head = ["metric", *(text(v or "model") + (" <small>baseline</small>" if v in baselines else "") for v in variants)]
    rows = []
    for metric in dict.fromkeys(metric for metric, _ in names):
        keys = {v: f"{metric}/{v}" if v else metric for v in variants}
        values = {v: metrics[key] for v, key in keys.items() if key in metrics}
        cells = [_cell(v, values, baselines, higher_is_better(metric)) for v in variants]
        if best is not None:
            cells.append(
                ", ".join(_best(v, best[key]) for v, key in keys.items() if key in best and v not in baselines)
            )
        rows.append([text(metric) + _arrow(metric), *cells])
    return table([*head, "best so far"] if best is not None else head, rows, "matrix")


def best_so_far(lines: list[Line]) -> dict[str, tuple[float, int]]:
    """The best value of every metric, with its step, where its name tells which way is better."""
    best: dict[str, tuple[float, int]] = {}
    for line in lines:
        for name, value in numbers(line.get("metrics")).items():
            up = higher_is_better(name)
            if up is None or not math.isfinite(value):
                continue
            if name not in best or ((value > best[name][0]) == up and value != best[name][0]):
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


def _cell(variant: str, values: Metrics, baselines: frozenset[str], up: bool | None) -> str:
    if variant not in values:
        return ""
    value, sign = values[variant], {True: 1, False: -1, None: 0}[up]
    winner = len(values) > 1 and sign and sign * value >= max(sign * v for v in values.values())
    shown = f"<b>{number(value)}</b>" if winner else number(value)
    rivals = [v for name, v in values.items() if name in baselines]
    if variant in baselines or not rivals or not sign:
        return shown
    gain = value - sign * max(sign * v for v in rivals)
    kind = "better" if sign * gain > 0 else "worse"
    return f'{shown} <small class="{kind}">{"+" if gain >= 0 else "−"}{number(abs(gain), 3)}</small>'


def _best(variant: str, found: tuple[float, int]) -> str:
    value, step = found
    return f"{text(variant)} {number(value)} <small>step {step}</small>".strip()


def _arrow(metric: str) -> str:
    return {True: " <small>↑</small>", False: " <small>↓</small>", None: ""}[higher_is_better(metric)]
