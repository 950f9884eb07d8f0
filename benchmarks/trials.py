"""Presets trained and judged through the command line, as a user does it; for the benchmarks beside this file."""

import json
import time
from collections.abc import Sequence
from pathlib import Path

from salticid.cli import main


def trial(run: Path, train: Sequence[str], evaluate: Sequence[str] = ()) -> dict[str, float]:
    """The metrics of a run, made by `salticid train` and `salticid evaluate` with these words unless it is there
    already; and the seconds that training took (NaN of an older run)."""
    seconds = float("nan")
    if not (run / "config.yaml").exists():
        start = time.perf_counter()
        call("train", *train, "--run-dir", str(run))
        seconds = time.perf_counter() - start
    if not list((run / "evaluation").glob("*.json")):
        call("evaluate", str(run), *evaluate)
    (summary,) = (run / "evaluation").glob("*.json")
    return json.loads(summary.read_text(encoding="utf-8"))["metrics"] | {"seconds": seconds}


def seeded(seed: int) -> tuple[str, ...]:
    """Weights, scenes and noise all follow from it."""
    return "--trainer.seed", str(seed), "--data.seed", str(seed)


def call(*arguments: str) -> None:
    if status := main(list(arguments)):
        raise SystemExit(status)
