"""What `svd-tiny` and `sv4d-tiny` reach on unseen scenes of the embedded world, beside what needs no model.

Trains the presets through the command line with every seed (weights, scenes and noise all follow from it), evaluates
the averaged weights on 32 scenes that training never sees, and prints, for each run: the held-out loss, beside that of
a network that answers nothing (`blank`); PSNR and SSIM of sampled films (higher is better), beside those of the given
frame standing still, or of the given video from everywhere (`baseline`); how much neighbouring frames differ along the
true flow, or neighbouring views along the true depth (`geometry`, lower is better), beside that of the truth. `ratio` is
that of the loss to the blank one, `gain` that of PSNR over the baseline's, dB. About ten minutes a run on two cores;
runs that are there already are not trained again (with --runs).

    python benchmarks/svd.py [--presets svd-tiny sv4d-tiny] [--seeds 0 1 2] [--runs DIR] [--steps N]
"""

import argparse
import statistics
import tempfile
from pathlib import Path

from marigold import short  # pyrefly: ignore[missing-import]
from trials import seeded, trial

BASELINES = {"svd-tiny": "repeat", "sv4d-tiny": "context"}
GEOMETRY = {"svd-tiny": "flicker", "sv4d-tiny": "view_consistency"}
MADE = "12-step"


def columns(preset: str) -> dict[str, str]:
    """Of the table: what a metric is called in an evaluation."""
    baseline, geometry = BASELINES[preset], GEOMETRY[preset]
    return {
        "loss": "loss",
        "blank": "loss/blank",
        "PSNR": f"psnr/{MADE}",
        "baseline": f"psnr/{baseline}",
        "SSIM": f"ssim/{MADE}",
        "baseline ": f"ssim/{baseline}",
        "geometry": geometry,
        "truth": f"{geometry}/truth",
        "seconds": "seconds",
    }


def train(preset: str, seed: int, runs: Path, steps: int | None) -> dict[str, float]:
    """Train and evaluate; what the table shows."""
    fewer = [] if steps is None else short(steps)
    metrics = trial(runs / f"{preset}-{seed}", (preset, *seeded(seed), *fewer), ("--weights", "ema"))
    found = {name: metrics[key] for name, key in columns(preset).items()}
    return found | {"ratio": found["loss"] / found["blank"], "gain": found["PSNR"] - found["baseline"]}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presets", nargs="+", choices=BASELINES, default=list(BASELINES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--runs", type=Path, help="where the runs are kept (default: a temporary folder)")
    parser.add_argument("--steps", type=int, help="to try this script (default: those of the preset)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        runs = options.runs or Path(scratch)
        found = {
            preset: {seed: train(preset, seed, runs, options.steps) for seed in options.seeds}
            for preset in options.presets
        }
    for preset, results in found.items():
        names = list(next(iter(results.values())))
        print(f"{preset:10}seed" + "".join(f"{name:>10}" for name in names))
        for seed, row in results.items():
            print(f"{seed:14}" + "".join(f"{row[name]:10.3f}" for name in names))
        ratio, gain = (statistics.mean(row[name] for row in results.values()) for name in ("ratio", "gain"))
        print(f"mean ratio {ratio:.3f}, mean gain {gain:.2f} dB")
