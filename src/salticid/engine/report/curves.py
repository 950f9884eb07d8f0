"""The curves of a report: what was logged, over the steps."""

from collections.abc import Sequence
from functools import partial

from salticid.engine.charts import Series, finite, line_chart, running_mean, style
from salticid.engine.figures import number
from salticid.engine.journal import Journal
from salticid.engine.report.files import RunFiles, numbers, split_name
from salticid.engine.report.html import section, text

UNITS = {"data_wait": (100.0, " %"), "memory": (1e-9, " GB")}
EXACT = ("lr", "ema_decay")
"""Schedules: functions of the step, which have no noise to smooth."""

Track = dict[str, tuple[list[float], list[float]]]


def training(files: RunFiles) -> str:
    """The loss, large; its terms, gradient norm and schedules; then speed."""
    journal = files.journal
    marks = [line["step"] for line in journal.of("start") if line["step"] > 0]
    tracks = collect(journal, "step")
    cards = []
    if "loss" in tracks:
        cards.append(curve("loss", [Series("loss", *tracks.pop("loss"), noisy=True)], marks, wide=True))
    for name, (x, y) in (tracks | collect(journal, "speed", leave=("elapsed",))).items():
        factor, unit = UNITS.get(name, (1.0, ""))
        noisy = not name.startswith(EXACT) and len(x) >= 20
        cards.append(curve(name, [Series(name, x, [v * factor for v in y], noisy)], marks, unit=unit))
    explained = '<p class="note">Dashed lines: the run was resumed there.</p>' if marks else ""
    return section("curves", "Training", f'<div class="charts">{"".join(cards)}</div>{explained}' if cards else "")


def validation(files: RunFiles) -> str:
    """One chart a metric; a line for each variant and kind of weights."""
    tracks: dict[str, dict[tuple[str, str], tuple[list[float], list[float]]]] = {}
    for line in files.journal.of("validation"):
        for name, value in numbers(line.get("metrics")).items():
            metric, variant = split_name(name)
            x, y = tracks.setdefault(metric, {}).setdefault((variant, str(line.get("weights", ""))), ([], []))
            x.append(line["step"])
            y.append(value)
    cards = [curve(metric, merged(metric, lines)) for metric, lines in tracks.items()]
    return section("validation", "Validation", f'<div class="charts">{"".join(cards)}</div>' if cards else "")


def collect(journal: Journal, kind: str, leave: Sequence[str] = ()) -> Track:
    """Steps and values of every number in the lines of one kind."""
    tracks: Track = {}
    for line in journal.of(kind):
        for name, value in numbers(line).items():
            if name not in ("step", *leave):
                x, y = tracks.setdefault(name, ([], []))
                x.append(line["step"])
                y.append(value)
    return tracks


def merged(metric: str, lines: dict[tuple[str, str], tuple[list[float], list[float]]]) -> list[Series]:
    """Series of (variant, weights): a colour a variant, raw weights dashed where there are others, and those that
    do not depend on the weights (baselines) only once."""
    variants = list(dict.fromkeys(variant for variant, _ in lines))
    series = []
    for (variant, weights), (x, y) in lines.items():
        siblings = [w for v, w in lines if v == variant and w != weights]
        same = [w for w in siblings if lines[variant, w] == (x, y)]
        if same and min(same) < weights:
            continue
        name = " · ".join(part for part in (variant, "" if same else weights) if part) or metric
        dashed = weights == "raw" and bool(siblings) and not same
        series.append(Series(name, x, y, colour=variants.index(variant), dashed=dashed))
    return series


def curve(name: str, series: list[Series], marks: Sequence[float] = (), *, wide: bool = False, unit: str = "") -> str:
    """A chart with its title, latest value and legend. A wide one is drawn twice, for wide and narrow windows."""

    draw = partial(line_chart, series, label=f"{name} over steps", marks=marks, unit=unit, log=False if unit else None)
    chart = draw(width=460, height=220)
    if wide:
        large = draw(width=980, height=300)
        chart = f'<div class="wide-only">{large}</div><div class="narrow-only">{chart}</div>'
    legend = ""
    if len(series) > 1:
        items = "".join(f'<li class="{style(s, i)}"><span>{text(s.name)}</span></li>' for i, s in enumerate(series))
        legend = f'<ul class="legend">{items}</ul>'
    caption = f"<figcaption><b>{text(name)}</b><span>{text(note(series, unit))}</span></figcaption>"
    return f'<figure class="card{" wide" * wide}">{caption}{chart}{legend}</figure>'


def note(series: list[Series], unit: str) -> str:
    """The latest value, and how many values no chart can show."""
    lost = sum(len(s.x) - len(finite(s)) for s in series)
    notes = [f"{lost} value{'s' * (lost > 1)} not finite"] if lost else []
    if len(series) == 1 and (points := finite(series[0])):
        latest = running_mean(points)[-1][1] if series[0].noisy else points[-1][1]
        notes.append(f"{number(latest)}{unit}")
    return " · ".join(notes)
