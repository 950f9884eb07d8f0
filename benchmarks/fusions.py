"""The fusions of the panorama recipe at equal cost: what each reaches on kept-out scenes in the same training time.

The peer is `concat_conv`, the fusion of the public multi-view code; beside them stand warp-and-blend and the mean
colour. A step of every variant is timed first, and it trains as many as fit into --minutes. On the embedded world, or
on a folder of panoramas split by scene:

    python benchmarks/fusions.py [--minutes 2] [--root DIR --val-scenes hall pier …] [--variants rays …] [--runs DIR]
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import torch

from salticid import presets
from salticid.cli import main
from salticid.config.classes import allowed_packages
from salticid.config.run import RunConfig, build_config, load_config
from salticid.data.source import collate
from salticid.engine.precision import autocast, settle
from salticid.engine.recipe import Clock

FUSIONS = ("concat_conv", "average", "attention", "rays")
VARIANTS = {name: (name, False) for name in FUSIONS} | {f"{name}+stitch": (name, True) for name in FUSIONS}
"""Fusion, and whether the decoder also sees the stitch."""
CPU = torch.device("cpu")


def configured(variant: str, options: argparse.Namespace) -> tuple[str, dict[str, str]]:
    """The preset of a variant, and what is changed in it."""
    fusion, stitch = VARIANTS[variant]
    changes = {"recipe.fusion": fusion, "validation.samples": "0", "checkpoint.best_metric": "null"}
    if not options.root:
        return "panorama-tiny" if stitch else "panorama-tiny-latent", changes
    changes |= {"data.root": str(options.root), "data.val_scenes": json.dumps(options.val_scenes)}
    if not stitch:
        changes |= {"recipe.stitch_distances": "[]", "recipe.residual": "0.35", "optimizer.lr": "2.0e-3"}
    return "panorama-tiny-photos", changes


def seconds_a_step(config: RunConfig) -> float:
    """Median time of forward and backward pass of a batch on this CPU."""
    recipe, source = config.recipe, config.data.train()
    batch = collate([source.sample(i % len(source), None) for i in range(config.trainer.batch)])
    batch["key"] = torch.arange(config.trainer.batch)
    times = []
    for step in range(7):
        start = time.perf_counter()
        with autocast(CPU, settle(config.trainer.precision, CPU)):
            total = recipe("flow", batch, Clock(step, 1000, 0)).total
        total.backward()
        times.append(time.perf_counter() - start)
    return statistics.median(times[2:])


def train(variant: str, options: argparse.Namespace, folder: Path) -> None:
    preset, changes = configured(variant, options)
    allowed = allowed_packages([])
    pace = seconds_a_step(build_config(load_config(presets.find(preset), list(changes.items()), allowed), allowed))
    steps = round(60 * options.minutes / pace)
    changes |= {"trainer.steps": str(steps), "ema.start": str(steps // 4), "checkpoint.every": str(steps)}
    changes["schedule.warmup"] = str(steps // 8)
    flags = [word for key, value in changes.items() for word in (f"--{key}", value)]
    run = folder / variant
    for command in (["train", preset, "--run-dir", str(run), *flags], ["evaluate", str(run), "--weights", "both"]):
        if status := main(command):
            raise SystemExit(status)
    for weights in ("ema", "raw"):
        (found,) = (run / "evaluation").glob(f"*-{weights}.json")
        metrics = json.loads(found.read_text())["metrics"]
        for made in ("1-step", "12-step"):
            report(f"{variant} {weights} {made}", metrics, made, f"{steps} steps of {1000 * pace:.0f} ms")
    for baseline in ("stitch", "mean-colour"):
        report(baseline, metrics, baseline, "")


def report(name: str, metrics: dict[str, float], made: str, note: str) -> None:
    values = [f"{metric} {metrics[f'{metric}/{made}']:.2f}" for metric in ("psnr", "ws_psnr", "ssim")]
    print(f"RESULT {name:32} {'  '.join(values)}  {note}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--root", type=Path)
    parser.add_argument("--val-scenes", nargs="+", default=[])
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--runs", type=Path, help="where the runs are kept (default: a temporary folder)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        for variant in options.variants:
            train(variant, options, options.runs or Path(scratch))
