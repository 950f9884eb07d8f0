"""The loss of a Monodepth2 step, without its networks: ours against a straightforward implementation.

    python benchmarks/photometric.py [--device cuda] [--threads 1] [--batch 4] [--size 192 640]

From disparities at four scales and motions to two neighbours to the loss, and back to their gradients: upsampling,
warps at full resolution, SSIM and L1, auto-mask, minimum, smoothness. The straightforward one does everything anew for
every scale, with torch's pooling and autograd: 16 comparisons with 5 window means each. Ours compares the target with
its neighbours once, and all scales with statistics of the target that are computed once. Both give the same numbers.

Jobs take turns, so that a busy machine is as unfair to one as to the other; ratios are medians over the rounds.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from salticid.geometry import se3
from salticid.geometry.cameras import pixel_grid
from salticid.losses.photometric import NOISE, Target, minimum_reprojection
from salticid.losses.smoothness import disparity_smoothness
from salticid.recipes.sfm.model import Motions
from salticid.recipes.sfm.synthesis import synthesise

SCALES = 4
NEAR, FAR = 0.1, 100.0
SMOOTHNESS = 1e-3


@dataclass
class Step:
    """What a step has when its networks are done."""

    targets: list[Tensor]
    """(B, 3, H, W) and smaller, [0, 1]."""
    sources: Tensor
    """(B, 2, 3, H, W)."""
    disparities: list[Tensor]
    """Sigmoids (B, 1, H, W) and smaller; leaves."""
    motions: Tensor
    """(B, 2, 6), axis-angle and translation from the target's camera to the sources'; a leaf."""
    noise: Tensor
    """(B, 2, H, W), standard normal."""

    @classmethod
    def random(cls, batch: int, height: int, width: int, device: torch.device) -> "Step":
        generator = torch.Generator().manual_seed(0)
        coarse = torch.rand(batch, 3, height // 8, width // 8 + 2, generator=generator)
        wide = F.interpolate(coarse, (height, width + 16), mode="bicubic").clamp(0, 1)
        target = wide[..., 8:-8]
        sources = torch.stack((wide[..., 5:-11], wide[..., 11:-5]), dim=1)
        sizes = [(height >> s, width >> s) for s in range(SCALES)]
        disparities = [0.2 + 0.3 * torch.rand(batch, 1, *size, generator=generator) for size in sizes]
        motions = 0.02 * torch.randn(batch, 2, 6, generator=generator)
        noise = torch.randn(batch, 2, height, width, generator=generator)
        targets = [F.interpolate(target, size, mode="area").to(device) for size in sizes]
        leaves = [disparity.to(device).requires_grad_() for disparity in disparities]
        return cls(targets, sources.to(device), leaves, motions.to(device).requires_grad_(), noise.to(device))

    @property
    def size(self) -> tuple[int, int]:
        height, width = self.targets[0].shape[-2:]
        return height, width

    @property
    def leaves(self) -> list[Tensor]:
        return [*self.disparities, self.motions]

    def depth(self, scale: int) -> Tensor:
        disparity = F.interpolate(self.disparities[scale], self.size, mode="bilinear", align_corners=False)
        return 1 / (1 / FAR + (1 / NEAR - 1 / FAR) * disparity)

    def poses(self) -> Tensor:
        return se3.pose(se3.axis_angle_to_matrix(self.motions[..., :3]), self.motions[..., 3:])


def intrinsics(height: int, width: int) -> tuple[float, float, float, float]:
    return 0.58 * width, 1.92 * height, (width - 1) / 2, (height - 1) / 2


def matrices(batch: int, height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Of the camera, (B, 3, 3), and its inverse."""
    fx, fy, cx, cy = intrinsics(height, width)
    k = torch.tensor([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    return k.to(device).expand(batch, 3, 3), torch.linalg.inv(k).to(device).expand(batch, 3, 3)


def straightforward_warp(source: Tensor, depth: Tensor, pose: Tensor, k: Tensor, inverse: Tensor) -> Tensor:
    batch, _, height, width = source.shape
    grid = pixel_grid(height, width, source.device).reshape(-1, 2).T
    pixels = torch.cat((grid, torch.ones_like(grid[:1])))
    points = depth.flatten(2) * (inverse @ pixels)
    seen = (k @ pose[:, :3]) @ torch.cat((points, torch.ones_like(points[:, :1])), dim=1)
    where = (seen[:, :2] / (seen[:, 2:] + 1e-7)).reshape(batch, 2, height, width).permute(0, 2, 3, 1)
    where = 2 * where / torch.tensor([width - 1, height - 1], device=source.device) - 1
    return F.grid_sample(source, where, padding_mode="border", align_corners=True)


def straightforward_photometric(x: Tensor, y: Tensor) -> Tensor:
    l1 = (x - y).abs().mean(1, keepdim=True)
    x, y = (F.pad(image, (1, 1, 1, 1), mode="reflect") for image in (x, y))
    mean_x, mean_y = F.avg_pool2d(x, 3, 1), F.avg_pool2d(y, 3, 1)
    variance_x = F.avg_pool2d(x**2, 3, 1) - mean_x**2
    variance_y = F.avg_pool2d(y**2, 3, 1) - mean_y**2
    covariance = F.avg_pool2d(x * y, 3, 1) - mean_x * mean_y
    above = (2 * mean_x * mean_y + 0.01**2) * (2 * covariance + 0.03**2)
    below = (mean_x**2 + mean_y**2 + 0.01**2) * (variance_x + variance_y + 0.03**2)
    return 0.85 * ((1 - above / below) / 2).clamp(0, 1).mean(1, keepdim=True) + 0.15 * l1


def straightforward_smoothness(disparity: Tensor, image: Tensor) -> Tensor:
    disparity = disparity / (disparity.mean((2, 3), keepdim=True) + 1e-7)
    across = (disparity[..., :-1] - disparity[..., 1:]).abs()
    down = (disparity[..., :-1, :] - disparity[..., 1:, :]).abs()
    across = across * torch.exp(-(image[..., :-1] - image[..., 1:]).abs().mean(1, keepdim=True))
    down = down * torch.exp(-(image[..., :-1, :] - image[..., 1:, :]).abs().mean(1, keepdim=True))
    return across.mean() + down.mean()


def straightforward_terms(step: Step, warped: list[list[Tensor]]) -> Tensor:
    target, total = step.targets[0], step.motions.new_zeros(())
    for scale in range(SCALES):
        reprojected = torch.cat([straightforward_photometric(image, target) for image in warped[scale]], dim=1)
        identity = torch.cat([straightforward_photometric(image, target) for image in step.sources.unbind(1)], dim=1)
        candidates = torch.cat((identity + NOISE * step.noise, reprojected), dim=1)
        total = total + candidates.min(dim=1).values.mean()
        smooth = straightforward_smoothness(step.disparities[scale], step.targets[scale])
        total = total + SMOOTHNESS / 2**scale * smooth
    return total / SCALES


def straightforward_warps(step: Step) -> list[list[Tensor]]:
    warps, camera = [], matrices(len(step.sources), *step.size, step.sources.device)
    for scale in range(SCALES):
        depth, poses = step.depth(scale), step.poses()
        warps.append([straightforward_warp(step.sources[:, k], depth, poses[:, k], *camera) for k in range(2)])
    return warps


def our_warps(step: Step) -> Tensor:
    """(B, S, 2, 3, H, W)."""
    height, width = step.size
    lens = torch.tensor(intrinsics(height, width), device=step.sources.device).expand(len(step.sources), 4)
    depth = torch.cat([step.depth(scale) for scale in range(SCALES)], dim=1)
    return synthesise(step.sources, depth, Motions(step.poses(), lens), "depth").images


def our_terms(step: Step, warped: Tensor) -> Tensor:
    compare = Target(step.targets[0])
    losses = compare(warped.flatten(0, 2)).unflatten(1, (SCALES, 2))
    identity = compare(step.sources.flatten(0, 1))
    total = step.motions.new_zeros(())
    for scale in range(SCALES):
        total = total + minimum_reprojection(losses[:, scale], identity, step.noise).loss.mean()
        smooth = disparity_smoothness(step.disparities[scale], step.targets[scale]).mean()
        total = total + SMOOTHNESS / 2**scale * smooth
    return total / SCALES


def straightforward(step: Step) -> Tensor:
    return straightforward_terms(step, straightforward_warps(step))


def ours(step: Step) -> Tensor:
    return our_terms(step, our_warps(step))


def seconds(job: Callable[[], object], device: torch.device) -> float:
    start = time.perf_counter()
    job()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def compare(name: str, a: Callable[[], object], b: Callable[[], object], rounds: int, device: torch.device) -> None:
    """Times of job a (ours) and job b."""
    times = [(seconds(a, device), seconds(b, device)) for _ in range(rounds + 1)][1:]
    mine, other = (1e3 * statistics.median(column) for column in zip(*times, strict=True))
    ratio = statistics.median(second / first for first, second in times)
    print(f"{name}: ours {mine:.1f} ms, straightforward {other:.1f} ms, ratio {ratio:.2f}", flush=True)


def kept(job: Callable[[], Tensor]) -> float:
    """MiB that autograd keeps for the backward pass, each storage counted once."""
    storages: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = job()
    del loss
    return sum(storages.values()) / 2**20


def check(step: Step) -> None:
    """Both are the same function, up to rounding. (Bilinear sampling has kinks at pixel centres; rounding puts some
    pixels in 10⁴ on the other side, which is about 1 % of the norm of the gradient.)"""
    losses = [job(step) for job in (ours, straightforward)]
    gradients = [torch.autograd.grad(loss, step.leaves) for loss in losses]
    difference = abs(losses[0] - losses[1]).item()
    worst = max(((a - b).norm() / b.norm()).item() for a, b in zip(*gradients, strict=True))
    print(f"loss {losses[1].item():.6f}, difference {difference:.1e}; gradients differ by {worst:.1e} of their norm")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--size", type=int, nargs=2, default=(192, 640), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    step = Step.random(options.batch, *options.size, options.device)
    check(step)
    memory = [kept(partial(job, step)) for job in (ours, straightforward)]
    print(f"kept for the backward pass: ours {memory[0]:.0f} MiB, straightforward {memory[1]:.0f} MiB")

    with torch.no_grad():
        fixed = our_warps(step)
    stacked = fixed.clone().requires_grad_()
    apart = [[image.clone().requires_grad_() for image in scale.unbind(1)] for scale in fixed.unbind(1)]
    gradient = torch.randn(fixed.shape, device=options.device)
    pieces = [piece for scale in gradient.unbind(1) for piece in scale.unbind(1)]
    compare(
        "whole loss",
        lambda: ours(step).backward(),
        lambda: straightforward(step).backward(),
        options.rounds,
        options.device,
    )
    compare(
        "without warps",
        lambda: our_terms(step, stacked).backward(),
        lambda: straightforward_terms(step, apart).backward(),
        options.rounds,
        options.device,
    )
    compare(
        "warps alone",
        lambda: our_warps(step).backward(gradient),
        lambda: torch.autograd.backward([image for scale in straightforward_warps(step) for image in scale], pieces),
        options.rounds,
        options.device,
    )


if __name__ == "__main__":
    main()
