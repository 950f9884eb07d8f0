"""Making ten predictions of a picture one: ours against diffusers' `MarigoldDepthPipeline.ensemble_depth`, on the
same predictions, aligned at up to 1024 pixels, with the uncertainty; and the whole way from a picture, predictions
included, against the pipeline.

    python benchmarks/ensemble.py [--threads 1] [--device cpu] [--slow] [--base tiny] [--size 192 256] [--steps 1]
        [--batch 1]

diffusers aligns with its defaults (2 iterations, tolerance 1e-3) and, with --slow, with those of Marigold's repository
(50, 1e-6: minutes). `objective` is the published one of the maps that are returned; lower is better aligned. `error` is
the mean absolute difference to the scene that all predictions show, up to the best scale and shift.

The whole way begins with --base: the tiny one with a random UNet, `small` and `sd` (see marigold_step.py), or a folder,
such as a trained model that has been exported. It is exported for the pipeline; both start from the same noise, and
make --batch predictions at a time. Printed is by how much their maps differ on average, up to scale and shift; where
the predictions have nothing in common, as those of a random UNet, no alignment is the right one. What is saved in
aligning counts for little where the networks are slow beside it, as on a CPU.
"""

import argparse
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any, TypeVar

import scipy.optimize
import torch
import torch.nn.functional as F
from diffusers.pipelines.marigold.pipeline_marigold_depth import MarigoldDepthPipeline
from diffusers.utils.logging import disable_progress_bar
from torch import Tensor
from transformers.utils import logging as transformers_logging

from marigold_step import write_base  # pyrefly: ignore[missing-import]
from salticid.recipes import MarigoldRecipe
from salticid.recipes.marigold.ensemble import Ensemble
from salticid.recipes.marigold.infer import estimate

T = TypeVar("T")
COUNT, NOISE = 10, 0.02
SETTINGS = {"its defaults": (2, 1e-3), "the settings of Marigold's repository": (50, 1e-6)}


def scene(height: int, width: int) -> Tensor:
    """Slopes and boxes in [0, 1]."""
    generator = torch.Generator().manual_seed(0)
    y, x = (torch.linspace(0, 1, n) for n in (height, width))
    depth = 0.3 + 0.6 * y[:, None] + 0.1 * torch.sin(6 * x)
    for top, left, tall, wide, value in torch.rand(12, 5, generator=generator).tolist():
        rows = slice(int(top * height), int((top + 0.3 * tall) * height))
        depth[rows, int(left * width) : int((left + 0.3 * wide) * width)] = value
    return (depth - depth.min()) / (depth.max() - depth.min())


def predictions(depth: Tensor) -> Tensor:
    """(E, H, W) in [0, 1]: the scene, smoothly distorted, with noise, each with a scale and a shift of its own."""
    generator = torch.Generator().manual_seed(1)
    coarse = torch.randn(COUNT, 1, 6, 8, generator=generator)
    smooth = F.interpolate(coarse, depth.shape, mode="bicubic")[:, 0]
    maps = depth + NOISE * (smooth + 0.3 * torch.randn(COUNT, *depth.shape, generator=generator))
    low, high = (f(maps.flatten(1), dim=1)[:, None, None] for f in (torch.amin, torch.amax))
    scale = 0.6 + 0.4 * torch.rand(COUNT, 1, 1, generator=generator)
    return (maps - low) / (high - low) * scale + (1 - scale) * torch.rand(COUNT, 1, 1, generator=generator)


def theirs(maps: Tensor, max_iter: int, tol: float) -> tuple[Tensor, Tensor, Tensor]:
    """The map, and the scales and shifts that their solver finds: they are not returned, so SciPy is listened to."""
    solve, found = scipy.optimize.minimize, []
    scipy.optimize.minimize = lambda *a, **k: found.append(solve(*a, **k)) or found[-1]
    try:
        made = MarigoldDepthPipeline.ensemble_depth(maps[:, None], output_uncertainty=True, max_iter=max_iter, tol=tol)
    finally:
        scipy.optimize.minimize = solve
    scale, shift = torch.from_numpy(found[0].x).chunk(2)
    return made[0][0, 0], scale, shift


def ours(maps: Tensor) -> Tensor:
    return Ensemble()(maps[None])[0][0, 0]


def timed(job: Callable[[], T], repeats: int) -> tuple[float, T]:
    """Median seconds, and the last result. On one core it is the time that the core spends on this process, which
    neighbours on a busy machine disturb least."""
    clock = perf_counter if torch.cuda.is_available() or torch.get_num_threads() > 1 else process_time
    seconds, results = [], []
    for _ in range(repeats):
        start = clock()
        results = [job()]
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds.append(clock() - start)
    return median(seconds), results[0]


def objective(maps: Tensor, scale: Tensor, shift: Tensor) -> float:
    aligned = maps.cpu().double() * scale[:, None, None] + shift[:, None, None]
    m = aligned.median(dim=0).values
    total = sum((a - b).square().mean().sqrt() for i, a in enumerate(aligned) for b in aligned[:i])
    return float(total / (m.max() - m.min()))


def error(found: Tensor, depth: Tensor) -> float:
    x, y = found.double().flatten().cpu(), depth.double().flatten()
    design = torch.stack((x, torch.ones_like(x)), dim=1)
    return float((design @ torch.linalg.lstsq(design, y[:, None]).solution - y[:, None]).abs().mean())


def compare_alignment(size: tuple[int, int], options: argparse.Namespace) -> None:
    depth = scene(*size)
    maps = predictions(depth).to(options.device)
    ours(maps)
    seconds, found = timed(partial(ours, maps), 5)
    scale, shift = (v[0] for v in Ensemble().align(maps[None]))
    told = f"objective {objective(maps, scale, shift):.4f}, error {error(found, depth):.4f}"
    print(f"{size[0]}×{size[1]}: ours {seconds:.3f} s, {told}")
    for name, (max_iter, tol) in list(SETTINGS.items())[: 2 if options.slow else 1]:
        elsewhere, (found, scale, shift) = timed(partial(theirs, maps, max_iter, tol), 1)
        print(
            f"  diffusers with {name}: {elsewhere:.2f} s, objective {objective(maps, scale, shift):.4f}, error "
            f"{error(found, depth):.4f}; ours {elsewhere / seconds:.1f}× as fast",
            flush=True,
        )


def exported(options: argparse.Namespace) -> tuple[MarigoldRecipe, Any]:
    """A recipe, and the pipeline of the same weights."""
    torch.manual_seed(0)
    disable_progress_bar(), transformers_logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as scratch:
        folder, base = Path(scratch), options.base
        recipe = MarigoldRecipe(write_base(folder / base, base) if base in ("small", "sd") else base).eval()
        recipe.start(fresh=True)
        recipe.export(folder / "pipeline", resolution=0)
        pipeline: Any = MarigoldDepthPipeline.from_pretrained(folder / "pipeline").to(options.device)
    pipeline.set_progress_bar_config(disable=True)
    return recipe.to(options.device), pipeline


def compare_whole(options: argparse.Namespace) -> None:
    recipe, pipeline = exported(options)
    size, steps = tuple(options.size), options.steps
    picture = scene(*size).expand(1, 3, -1, -1).to(options.device)
    key = torch.zeros(1, dtype=torch.int64, device=options.device)

    def we() -> Tensor:
        made = estimate(
            recipe.model,
            recipe.coding,
            2 * picture - 1,
            key,
            seed=0,
            steps=steps,
            ensemble=COUNT,
            batch=options.batch,
        )
        return made.depth[0, 0]

    def they() -> Tensor:
        made = pipeline(
            picture,
            latents=noise,
            num_inference_steps=steps,
            ensemble_size=COUNT,
            processing_resolution=0,
            batch_size=options.batch,
            output_type="pt",
            output_uncertainty=True,
        )
        return made.prediction[0, 0]

    latent = recipe.model.encode(2 * picture - 1)
    streams = ["sample", *(f"sample/{e}" for e in range(1, COUNT))]
    noise = torch.cat([recipe.model.noise(latent, key, seed=0, stream=stream) for stream in streams])
    rounds = [(timed(we, 1), timed(they, 1)) for _ in range(2)]  # in turns: the machine's mood is shared
    ratio = median(b[0] / a[0] for a, b in rounds)
    (seconds, found), (elsewhere, other) = rounds[-1]
    print(
        f"{options.base}, from a picture of {size[0]}×{size[1]}, {steps}-step: ours {seconds:.2f} s, diffusers "
        f"{elsewhere:.2f} s; ours {ratio:.1f}× as fast; maps differ by {error(found, other.cpu()):.4f}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--slow", action="store_true", help="time them with the repository's settings, too")
    parser.add_argument("--base", default="tiny", metavar="tiny|small|sd|FOLDER")
    parser.add_argument("--size", nargs=2, type=int, default=[192, 256], metavar=("H", "W"), help="of the whole way")
    parser.add_argument("--steps", type=int, default=1, help="of sampling")
    parser.add_argument("--batch", type=int, default=1, help="predictions at a time")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"{COUNT} predictions, {options.device}, {options.threads} threads")
    for size in ((480, 640), (768, 1024)):
        compare_alignment(size, options)
    compare_whole(options)


if __name__ == "__main__":
    main()
