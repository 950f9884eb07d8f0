"""What the tiny panorama presets reach on unseen scenes of the embedded world, beside what needs no learning.

Trains every variant with every seed (weights, scenes and noise all follow from it), evaluates the averaged weights
on 64 scenes that training never sees, and prints WS-PSNR in dB. Nine runs of about four minutes on two cores:

Runs that are there already are not trained again (with --runs).

    python benchmarks/panorama.py [--variants stitch rays concat_conv] [--seeds 0 1 2] [--runs DIR]
"""

import argparse
import statistics
import tempfile
from pathlib import Path

from trials import seeded, trial

VARIANTS = {
    "stitch": ("panorama-tiny",),
    "rays": ("panorama-tiny-latent",),
    "concat_conv": ("panorama-tiny-latent", "--recipe.fusion", "concat_conv"),
}
COLUMNS = ("1-step", "12-step", "image-head", "stitch", "mean-colour")


def train(variant: str, seed: int, runs: Path) -> dict[str, float]:
    """Train and evaluate one variant; its metrics, and the seconds that training took."""
    return trial(runs / f"{variant}-{seed}", (*VARIANTS[variant], *seeded(seed)), ("--weights", "ema"))


def report(variant: str, found: list[dict[str, float]]) -> None:
    cells = []
    for column in COLUMNS:
        values = [metrics[f"ws_psnr/{column}"] for metrics in found]
        cells.append(f"{column} {statistics.mean(values):.2f} ({min(values):.2f} to {max(values):.2f})")
    minutes = statistics.mean(metrics["seconds"] for metrics in found) / 60
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
