"""Making ten predictions of a picture one: ours against diffusers' `MarigoldDepthPipeline.ensemble_depth`, on the
same predictions, aligned at up to 1024 pixels, with the uncertainty.

    python benchmarks/ensemble.py [--threads 1] [--device cpu] [--slow]

diffusers aligns with its defaults (2 iterations, tolerance 1e-3) and, with --slow, with those of Marigold's repository
(50, 1e-6: minutes). `objective` is the published one of the maps that are returned; lower is better aligned. `error` is
the mean absolute difference to the scene that all predictions show, up to the best scale and shift.
"""

import argparse
from collections.abc import Callable
from functools import partial
from statistics import median
from time import perf_counter

import scipy.optimize
import torch
import torch.nn.functional as F
from diffusers.pipelines.marigold.pipeline_marigold_depth import MarigoldDepthPipeline
from torch import Tensor

from salticid.recipes.marigold.ensemble import Ensemble

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


def theirs(maps: Tensor, max_iter: int, tol: float) -> Tensor:
    found = MarigoldDepthPipeline.ensemble_depth(maps[:, None], output_uncertainty=True, max_iter=max_iter, tol=tol)
    return found[0][0, 0]


def ours(maps: Tensor) -> Tensor:
    return Ensemble()(maps[None])[0][0, 0]


def timed(job: Callable[[], Tensor], repeats: int) -> tuple[float, Tensor]:
    """Median seconds, and the last result."""
    seconds = []
    for _ in range(repeats):
        start = perf_counter()
        result = job()
        if result.is_cuda:
            torch.cuda.synchronize()
        seconds.append(perf_counter() - start)
    return median(seconds), result


def their_scales(maps: Tensor, max_iter: int, tol: float) -> tuple[Tensor, Tensor]:
    """What their solver finds: it is not returned, so SciPy is listened to."""
    solve, found = scipy.optimize.minimize, []
    scipy.optimize.minimize = lambda *a, **k: found.append(solve(*a, **k)) or found[-1]
    try:
        theirs(maps, max_iter, tol)
    finally:
        scipy.optimize.minimize = solve
    scale, shift = torch.from_numpy(found[0].x).chunk(2)
    return scale, shift


def objective(maps: Tensor, scale: Tensor, shift: Tensor) -> float:
    aligned = maps.cpu().double() * scale[:, None, None] + shift[:, None, None]
    m = aligned.median(dim=0).values
    total = sum((a - b).square().mean().sqrt() for i, a in enumerate(aligned) for b in aligned[:i])
    return float(total / (m.max() - m.min()))


def error(found: Tensor, depth: Tensor) -> float:
    x, y = found.double().flatten().cpu(), depth.double().flatten()
    design = torch.stack((x, torch.ones_like(x)), dim=1)
    return float((design @ torch.linalg.lstsq(design, y[:, None]).solution - y[:, None]).abs().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--slow", action="store_true", help="time them with the repository's settings, too")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"{COUNT} predictions, {options.device}, {options.threads} threads")
    for size in ((480, 640), (768, 1024)):
        depth = scene(*size)
        maps = predictions(depth).to(options.device)
        ours(maps)
        seconds, found = timed(partial(ours, maps), 5)
        scale, shift = (v[0] for v in Ensemble().align(maps[None]))
        told = f"objective {objective(maps, scale, shift):.4f}, error {error(found, depth):.4f}"
        print(f"{size[0]}×{size[1]}: ours {seconds:.3f} s, {told}")
        for name, (max_iter, tol) in list(SETTINGS.items())[: 2 if options.slow else 1]:
            elsewhere, found = timed(partial(theirs, maps, max_iter, tol), 1)
            value = objective(maps, *their_scales(maps, max_iter, tol))
            print(
                f"  diffusers with {name}: {elsewhere:.2f} s, objective {value:.4f}, error "
                f"{error(found, depth):.4f}; ours {elsewhere / seconds:.1f}× as fast"
            )


if __name__ == "__main__":
    main()
