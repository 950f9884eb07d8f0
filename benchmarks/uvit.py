"""A training step of SSDD's decoder against a straightforward eager implementation of the same network.

The peer computes what ours computes, as one writes it down: the latent's context enlarged and projected at every
pixel, a position bias looked up for every pair of cells, attention as two matrix products around a softmax. Both have
the same weights and give the same output. On a CPU, memory is what the forward pass keeps for the backward pass; on a
GPU, it is the peak, ours is compiled too, and sizes S to XL follow with their share of the GPU's peak.

    python benchmarks/uvit.py [--size M] [--height 128] [--batch 1] [--repeats 5]
"""

import argparse
import statistics
import time
from collections.abc import Callable
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from salticid.nets import uvit
from salticid.nets.uvit import SIZES, UViT

PEAK = {"H100": 989e12, "H200": 989e12, "A100": 312e12}
"""Dense bf16 operations a second."""


def project_everywhere(self: uvit.SpatialAdaGroupNorm, x: Tensor, context: Tensor) -> Tensor:
    scale, shift = self.ctx_proj(F.interpolate(context, x.shape[-2:])).chunk(2, dim=1)
    return F.group_norm(x, 32) * (1 + scale) + shift


def look_up(self: uvit.RelativePositionBias, height: int, width: int) -> Tensor:
    device = self.relative_bias_table.device
    y, x = torch.meshgrid(torch.arange(height, device=device), torch.arange(width, device=device), indexing="ij")
    down = y.flatten()[None, :] - y.flatten()[:, None]
    across = x.flatten()[None, :] - x.flatten()[:, None]
    if self.wrap:
        across = (across + width // 2) % width - width // 2
    near = (down.abs() < uvit.WINDOW) & (across.abs() < uvit.WINDOW)
    rows, columns = (d.clamp(1 - uvit.WINDOW, uvit.WINDOW - 1) + uvit.WINDOW - 1 for d in (down, across))
    return self.relative_bias_table[rows, columns].permute(2, 0, 1).masked_fill(~near, -1e7)


def attend(self: uvit.Attention, x: Tensor, bias: Tensor) -> Tensor:
    q, k, v = (m(x).unflatten(2, (self.heads, -1)).transpose(1, 2) for m in (self.to_q, self.to_k, self.to_v))
    weights = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5 + bias).softmax(dim=-1)
    return self.out_proj((weights.to(v.dtype) @ v).transpose(1, 2).flatten(2))


def straightforward() -> list[mock._patch]:
    return [
        mock.patch.object(uvit.SpatialAdaGroupNorm, "forward", project_everywhere),
        mock.patch.object(uvit.RelativePositionBias, "forward", look_up),
        mock.patch.object(uvit.Attention, "forward", attend),
    ]


class Case:
    """A network, its input, and a training step."""

    def __init__(self, size: uvit.SizeName, height: int, batch: int, device: torch.device):
        torch.manual_seed(0)
        self.net = UViT(SIZES[size]).to(device)
        for parameter in self.net.parameters():
            nn.init.normal_(parameter, std=0.02)
        self.device = device
        self.inputs = (
            torch.randn(batch, 3, height, 2 * height, device=device),
            torch.full((batch,), 500.0, device=device),
            torch.randn(batch, 4, height // 8, height // 4, device=device),
        )

    def forward(self) -> Tensor:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            return self.net(*self.inputs)[0]

    def step(self) -> None:
        self.net.zero_grad(set_to_none=True)
        self.forward().square().mean().backward()

    def seconds(self) -> float:
        start = time.perf_counter()
        self.step()
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    def memory(self) -> float:
        """Bytes: the peak of a step on a GPU; on a CPU what is kept for the backward pass."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
            self.step()
            return torch.cuda.max_memory_allocated()
        kept: dict[int, int] = {}

        def keep(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            out = self.forward()  # alive until the sum is taken, so that no storage is counted under another's address
            total = sum(kept.values())
        return total if out.requires_grad else 0


def peer(function: Callable[[], float | Tensor]) -> float | Tensor:
    patches = straightforward()
    for patch in patches:
        patch.start()
    try:
        return function()
    finally:
        for patch in patches:
            patch.stop()


def compare(case: Case, repeats: int) -> None:
    with torch.no_grad():
        difference = (case.forward().float() - peer(case.forward)).abs().max()
    case.seconds(), peer(case.seconds)
    ours, theirs = [], []
    for _ in range(repeats):  # in turns: the machine's mood is shared
        ours.append(case.seconds())
        theirs.append(peer(case.seconds))
    ratio = statistics.median(b / a for a, b in zip(ours, theirs, strict=True))
    print(
        f"ours {statistics.median(ours):.3f} s, straightforward {statistics.median(theirs):.3f} s: {ratio:.2f}× faster"
    )
    print(f"memory {case.memory() / 1e9:.2f} GB against {peer(case.memory) / 1e9:.2f} GB")
    print(f"outputs differ by {difference:.1e}")


def on_gpu(options: argparse.Namespace, device: torch.device) -> None:
    """Compiled, all sizes, as a share of the peak."""
    name = torch.cuda.get_device_name(device)
    peak = next((value for key, value in PEAK.items() if key in name), None)
    for size in ("S", "B", "M", "L", "XL"):
        case = Case(size, options.height, options.batch, device)
        with FlopCounterMode(display=False) as counter:
            case.step()
        eager = statistics.median(case.seconds() for _ in range(options.repeats))
        case.net = torch.compile(case.net)
        case.step(), case.step()
        compiled = statistics.median(case.seconds() for _ in range(options.repeats))
        share = f", {counter.get_total_flops() / compiled / peak:.1%} of the peak" if peak else ""
        print(f"{size:2} eager {1e3 * eager:.1f} ms, compiled {1e3 * compiled:.1f} ms{share}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="M")
    parser.add_argument("--height", type=int, default=128)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    compare(Case(options.size, options.height, options.batch, device), options.repeats)
    if device.type == "cuda":
        on_gpu(options, device)
