"""A training step of `sfm-monodepth2` against a straightforward one with the same networks; and its memory.

    python benchmarks/sfm_step.py [--device cuda] [--threads 1] [--batch 12] [--size 192 640] [--rounds 5]
        [--precision auto]
    python benchmarks/sfm_step.py --table 256x320:1 192x640:12     # the memory table of docs/sfm.md, on the CPU

Ours is the recipe under the engine's step: colour jitter of the batch, ResNet-18 networks with batch norm, pose of
pairs, warps, loss, backward, norm of the gradient, Adam. The straightforward step calls the same modules in the same
way, then does everything anew for every scale (`straightforward_…` of photometric.py), and steps torch's Adam; its
frames come jittered and in all sizes, as from the original's loader, and that work is not in its time. Both give the
same loss. Steps take turns; ratios are medians over the rounds.

On a GPU, memory is the most that the allocator has held for a step. On a CPU it is the bytes of all tensors that live,
temporary ones inside of kernels not counted, beside parameters, gradients and the optimiser's state: at the end of the
forward pass, and at most. The table is measured with one sample and multiplied by the batch.
"""

import argparse
import copy
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from photometric import (
    SCALES,
    SMOOTHNESS,
    Step,
    compare,
    intrinsics,
    matrices,
    straightforward_photometric,
    straightforward_smoothness,
    straightforward_warp,
)
from salticid.data.source import Batch
from salticid.engine.build import build
from salticid.engine.optim import OptimizerConfig
from salticid.engine.parallel import Ranks
from salticid.engine.precision import Precision, autocast, settled
from salticid.engine.recipe import Clock
from salticid.engine.settings import Settings, TrainerConfig
from salticid.engine.step import MicroBatch
from salticid.losses.photometric import NOISE
from salticid.recipes import SfmRecipe
from salticid.recipes.sfm.frames import Frames
from salticid.recipes.sfm.settings import Networks, Weights

STEPS = 1000
"""Of the run that the recipe thinks it is in."""
LR = 1e-4
OFFSETS = (0, -1, 1)


def film(batch: int, size: tuple[int, int], device: torch.device) -> Batch:
    """Training samples: three pictures of a scene that shifts, every other sample with jitter."""
    step = Step.random(batch, *size, torch.device("cpu"))
    frames = torch.cat((step.targets[0][:, None], step.sources), dim=1)
    jitter = torch.tensor([1.1, 0.9, 1.15, 0.05, 7.0]).repeat(batch, 1)
    jitter[1::2] = torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0])
    tensors = {
        "frames": frames.mul(255).round().byte(),
        "intrinsics": torch.tensor(intrinsics(*size)).repeat(batch, 1),
        "jitter": jitter,
        "key": torch.arange(batch),
    }
    return {name: tensor.to(device) for name, tensor in tensors.items()} | {"id": [str(i) for i in range(batch)]}


class Ours:
    """The recipe under the engine's step."""

    def __init__(self, batch: int, device: torch.device, precision: Precision, *, checkpointing: bool = False):
        torch.manual_seed(0)
        self.recipe = SfmRecipe(networks=Networks(backbone="resnet18"), weights=Weights(smoothness=SMOOTHNESS))
        trainer = TrainerConfig(steps=STEPS, batch=batch, precision=precision, checkpoint_activations=checkpointing)
        settings = Settings(trainer, OptimizerConfig("adam", lr=LR), ema=None)
        self.state = build(self.recipe, settings, Ranks(device), batch)

    def step(self, batch: Batch) -> float:
        """Returns the loss."""
        report = self.state.runners[0].run([MicroBatch(batch, 0, last=True)], Clock(0, STEPS, 0), LR)
        if report.outcome != "updated":
            raise SystemExit(f"the step made no update ({report.outcome})")
        return report.loss


class Straightforward:
    """The same networks, copied, with everything computed for every scale.

    Args:
        recipe: whose networks are copied.
        batch: whose frames are made ready, as a loader does it.
    """

    def __init__(self, recipe: SfmRecipe, batch: Batch, device: torch.device, precision: Precision):
        self.model = copy.deepcopy(recipe.model)
        self.device, self.precision = device, precision
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=LR)
        self.frames = Frames.of(batch, OFFSETS)
        height, width = self.frames.size
        sizes = [(height >> s, width >> s) for s in range(SCALES)]
        self.targets = [F.interpolate(self.frames.target, size, mode="area") for size in sizes]
        self.camera = matrices(len(batch["frames"]), height, width, device)

    def loss(self) -> Tensor:
        frames, target = self.frames, self.targets[0]
        with autocast(self.device, self.precision):
            disparities = self.model.disparities(frames.seen[:, 0])
            motions = self.model.motions(frames).to_source
        total = target.new_zeros(())
        for scale, disparity in enumerate(disparities):
            full = F.interpolate(disparity.float(), frames.size, mode="bilinear", align_corners=False)
            depth, sources = self.model.to_depth(full), frames.sources.unbind(1)
            warped = [straightforward_warp(x, depth, motions[:, k], *self.camera) for k, x in enumerate(sources)]
            reprojected = torch.cat([straightforward_photometric(image, target) for image in warped], dim=1)
            identity = torch.cat([straightforward_photometric(image, target) for image in sources], dim=1)
            candidates = torch.cat((identity + NOISE * torch.randn_like(identity), reprojected), dim=1)
            total = total + candidates.min(dim=1).values.mean()
            smooth = straightforward_smoothness(disparity.float(), self.targets[scale])
            total = total + SMOOTHNESS / 2**scale * smooth
        return total / SCALES

    def step(self) -> Tensor:
        loss = self.loss()
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.detach()


# ---- memory -----------------------------------------------------------------------------------------------------


class Living(TorchDispatchMode):
    """Counts the bytes of storages that operations under it have made and that still live."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {id(x.untyped_storage()) for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)}
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                self._meet(tensor.untyped_storage(), given)
        self.most = max(self.most, self.now)
        return out

    def _meet(self, storage: torch.UntypedStorage, given: set[int]) -> None:
        number, size = id(storage), storage.nbytes()
        if number in self._known or number in given:  # a view, or an operation in place
            return
        self._known.add(number)
        self.now += size
        weakref.finalize(storage, self._leave, number, size)

    def _leave(self, number: int, size: int) -> None:
        self._known.discard(number)
        self.now -= size


@dataclass
class Memory:
    """Bytes, beside parameters, gradients, the optimiser's state and the batch."""

    kept: int
    """After the forward pass, for the backward pass."""
    most: int
    """At any time of forward and backward pass."""


def living(forward: Callable[[], Tensor], parameters: list[Tensor]) -> Memory:
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
    with Living() as memory:
        loss = forward()
        kept = memory.now
        loss.backward()
    for parameter in parameters:
        parameter.grad = None
    return Memory(kept, memory.most)


def peak(job: Callable[[], object]) -> int:
    """Bytes that the GPU's allocator has held at most, beside what it holds between steps."""
    torch.cuda.synchronize()
    resting = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    job()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - resting


def size_of(tensors: Any) -> int:
    return sum(tensor.nbytes for tensor in tensors)


def our_memory(ours: Ours, batch: Batch) -> Memory:
    runner = ours.state.runners[0]
    device = batch["frames"].device

    def forward() -> Tensor:
        with autocast(device, runner.precision):
            return ours.recipe.loss("motion", batch, Clock(0, STEPS, 0)).total

    return living(forward, list(runner.parameters.values()))


def table(size: tuple[int, int], batch: int) -> None:
    """Prints a block of docs/sfm.md's table."""
    device = torch.device("cpu")
    one = film(1, size, device)
    plain, checkpointed = (Ours(1, device, "fp32", checkpointing=flag) for flag in (False, True))
    plain.step(one)
    runner = plain.state.runners[0]
    parameters = size_of(runner.parameters.values())
    state = size_of(runner.tensors().values())
    print(f"\n{size[0]}×{size[1]}, batch {batch}, fp32, MB (10⁶ bytes)")
    print(f"  parameters {parameters / 1e6:.1f}, gradients {parameters / 1e6:.1f}, Adam's state {state / 1e6:.1f}")
    model = plain.recipe.model
    assert model.depth is not None
    with torch.no_grad():
        maps = model.depth.encoder(torch.rand(1, 3, *size))
        outputs = model.depth.decoder(maps, size)
    for name, tensors in (("encoder's maps", maps), ("disparities", outputs)):
        each = ", ".join(f"{batch * t.nbytes / 1e6:.2f}" for t in tensors)
        print(f"  {name}: {each}; together {batch * size_of(tensors) / 1e6:.2f}")
    theirs = Straightforward(plain.recipe, one, device, "fp32")
    straightforward = living(theirs.loss, list(theirs.model.parameters()))
    for name, memory in (
        ("ours", our_memory(plain, one)),
        ("ours, checkpointing", our_memory(checkpointed, one)),
        ("straightforward", straightforward),
    ):
        print(f"  {name}: kept {batch * memory.kept / 1e6:.0f}, at most {batch * memory.most / 1e6:.0f}")


# ---- time -------------------------------------------------------------------------------------------------------


def check(ours: Ours, theirs: Straightforward, batch: Batch) -> None:
    """Both losses are the same, up to rounding and the noise that decides ties."""
    with torch.no_grad(), autocast(theirs.device, theirs.precision):
        mine = ours.recipe.loss("motion", batch, Clock(0, STEPS, 0)).total.item()
    with torch.no_grad():
        other = theirs.loss().item()
    print(f"loss {mine:.6f}, straightforward {other:.6f}")
    if abs(mine - other) > 1e-4 * abs(other):
        raise SystemExit("the losses differ")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, help="12, as the preset has it; on a CPU 1")
    parser.add_argument("--size", type=int, nargs=2, default=(192, 640), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto")
    parser.add_argument("--table", nargs="+", metavar="HEIGHTxWIDTH:BATCH", help="memory instead of time")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for row in options.table or ():
        shape, _, count = row.partition(":")
        height, width = (int(n) for n in shape.split("x"))
        table((height, width), int(count or 1))
    if options.table:
        return

    options.batch = options.batch or (1 if options.device.type == "cpu" else 12)
    device, precision = options.device, settled(options.precision, options.device)
    batch = film(options.batch, tuple(options.size), device)
    ours = Ours(options.batch, device, precision)
    theirs = Straightforward(ours.recipe, batch, device, precision)
    print(f"{options.size[0]}×{options.size[1]}, batch {options.batch}, {device.type}, {precision}")
    check(ours, theirs, batch)
    compare("step", lambda: ours.step(batch), theirs.step, options.rounds, device)
    checkpointed = Ours(options.batch, device, precision, checkpointing=True)
    if device.type == "cuda":
        checkpointed.step(batch)  # the optimiser's state is made
        jobs: dict[str, Callable[[], object]] = {
            "ours": lambda: ours.step(batch),
            "ours, checkpointing": lambda: checkpointed.step(batch),
            "straightforward": theirs.step,
        }
        for name, job in jobs.items():
            print(f"{name}: at most {peak(job) / 2**20:.0f} MiB beside parameters and the optimiser's state")
        return
    for name, memory in (
        ("ours", our_memory(ours, batch)),
        ("ours, checkpointing", our_memory(checkpointed, batch)),
        ("straightforward", living(theirs.loss, list(theirs.model.parameters()))),
    ):
        print(f"{name}: kept {memory.kept / 2**20:.0f} MiB, at most {memory.most / 2**20:.0f}")


if __name__ == "__main__":
    main()
