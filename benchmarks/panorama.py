"""What the tiny panorama presets reach on unseen scenes of the embedded world, beside what needs no learning.

Trains every variant with every seed (weights, scenes and noise all follow from it), evaluates the averaged weights
on 64 scenes that training never sees, and prints WS-PSNR in dB. Nine runs of about four minutes on two cores:

Runs that are there already are not trained again (with --runs).

    python benchmarks/panorama.py [--variants stitch rays concat_conv] [--seeds 0 1 2] [--runs DIR]
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

from salticid.cli import main

VARIANTS = {
    "stitch": ("panorama-tiny",),
    "rays": ("panorama-tiny-latent",),
    "concat_conv": ("panorama-tiny-latent", "--recipe.fusion", "concat_conv"),
}
COLUMNS = ("1-step", "12-step", "image-head", "stitch", "mean-colour")


def train(variant: str, seed: int, runs: Path) -> dict[str, float]:
    """Train and evaluate one variant; its metrics, and the minutes that training took."""
    run = runs / f"{variant}-{seed}"
    start = time.perf_counter()
    if not (run / "config.yaml").exists():
        call("train", *VARIANTS[variant], "--run-dir", str(run), "--trainer.seed", str(seed), "--data.seed", str(seed))
    minutes = (time.perf_counter() - start) / 60
    if not list((run / "evaluation").glob("*-ema.json")):
        call("evaluate", str(run), "--weights", "ema")
    (summary,) = (run / "evaluation").glob("*-ema.json")
    return json.loads(summary.read_text())["metrics"] | {"minutes": minutes}


def call(*arguments: str) -> None:
    if status := main(list(arguments)):
        raise SystemExit(status)


def report(variant: str, found: list[dict[str, float]]) -> None:
    cells = []
    for column in COLUMNS:
        values = [metrics[f"ws_psnr/{column}"] for metrics in found]
        cells.append(f"{column} {statistics.mean(values):.2f} ({min(values):.2f} to {max(values):.2f})")
    minutes = statistics.mean(metrics["minutes"] for metrics in found)
    print(f"{variant:12} {len(found)} seeds, {minutes:.1f} min each, WS-PSNR: " + ", ".join(cells), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--runs", type=Path, help="where the runs are kept (default: a temporary folder)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        results = {
            v: [train(v, seed, options.runs or Path(scratch)) for seed in options.seeds] for v in options.variants
        }
    for variant, found in results.items():
        report(variant, found)
