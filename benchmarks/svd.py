"""What `svd-tiny` and `sv4d-tiny` reach on unseen scenes of the embedded world, beside what needs no model.

Trains the presets through the command line with every seed (weights, scenes and noise all follow from it), evaluates
the averaged weights on 32 scenes that training never sees, and prints, for each run: the held-out loss, beside that of
a network that answers nothing (`blank`); PSNR of sampled films (higher is better), beside that of the given frame
standing still, or of the given video from everywhere (`repeat`, `context`), and that of the truth through the VAE,
which no sampling can be better than (`VAE`); how much neighbouring frames differ along the true flow, or neighbouring
views along the true depth (`geometry`, lower is better), beside that of the truth. `ratio` is that of the loss to the
blank one, `gain` what PSNR is above that of the film without a model, dB. About ten minutes a run on two cores; runs
that are there already are not trained again (with --runs).

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


def train(preset: str, seed: int, runs: Path, steps: int | None) -> dict[str, float]:
    """Train and evaluate; the columns of the table."""
    fewer = [] if steps is None else [*short(steps), "--data.val_scenes", "2"]
    metrics = trial(runs / f"{preset}-{seed}", (preset, *seeded(seed), *fewer), ("--weights", "ema"))
    baseline, geometry = BASELINES[preset], GEOMETRY[preset]
    made = next(value for name, value in metrics.items() if name.startswith("psnr/") and name.endswith("-step"))
    still = metrics[f"psnr/{baseline}"]
    return {
        "loss": metrics["loss"],
        "blank": metrics["loss/blank"],
        "ratio": metrics["loss"] / metrics["loss/blank"],
        "PSNR": made,
        baseline: still,
        "gain": made - still,
        "VAE": metrics["psnr/first-stage"],
        "geometry": metrics[geometry],
        "truth": metrics[f"{geometry}/truth"],
        "seconds": metrics["seconds"],
    }


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
