"""What `marigold-tiny` reaches on unseen scenes of the embedded world, beside what can be known without looking.

Trains the preset through the command line with every seed (weights, scenes and noise all follow from it), evaluates the
averaged weights on 64 scenes that training never sees, and prints AbsRel after least-squares alignment (lower is
better): of the model in one step and in four, of the mean depth map of training, of one depth everywhere. `ratio` is
that of one step to the mean map. Minutes a seed; runs that are there already are not trained again (with --runs).

    python benchmarks/marigold.py [--seeds 0 1 2] [--runs DIR] [--steps N]
"""

import argparse
import statistics
import tempfile
from pathlib import Path

from trials import seeded, trial

COLUMNS = ("1-step", "4-step", "mean-map", "constant")


def train(seed: int, runs: Path, steps: int | None) -> dict[str, float]:
    """Train and evaluate; AbsRel by what was judged, and the seconds that training took."""
    fewer = [] if steps is None else short(steps)
    metrics = trial(runs / str(seed), ("marigold-tiny", *seeded(seed), *fewer), ("--weights", "ema"))
    return {name: metrics[f"absrel/{name}"] for name in COLUMNS} | {"seconds": metrics["seconds"]}


def short(steps: int) -> list[str]:
    """The flags of a trial run."""
    values = {"trainer.steps": steps, "schedule.warmup": 0, "ema.start": 0, "validation.every_steps": "null"}
    return [word for key, value in values.items() for word in (f"--{key}", str(value))]


def ratio(found: dict[str, float]) -> float:
    return found["1-step"] / found["mean-map"]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--runs", type=Path, help="where the runs are kept (default: a temporary folder)")
    parser.add_argument("--steps", type=int, help="to try this script (default: those of the preset)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        results = {seed: train(seed, options.runs or Path(scratch), options.steps) for seed in options.seeds}
    print("seed" + "".join(f"{name:>10}" for name in (*COLUMNS, "ratio", "seconds")))
    for seed, found in results.items():
        print(f"{seed:4}" + "".join(f"{found[name]:10.4f}" for name in COLUMNS), end="")
        print(f"{ratio(found):10.3f}{found['seconds']:10.0f}")
    print(f"mean ratio {statistics.mean(map(ratio, results.values())):.3f}")
