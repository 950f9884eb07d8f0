"""Optimiser steps of the marigold recipe at full size: Stable Diffusion 2.1's shape with random weights, 866 M trained.

On a GPU a table over micro-batches, eager and compiled, with and without gradient checkpointing: time of a step,
samples a second, peak memory, and the share of the GPU's dense bf16 peak that the matrix products and convolutions of
the model take (what checkpointing computes twice counts once). On a CPU one line at low resolution. Weights, gradients
and AdamW's state take 14 GB in float32 before any activation; --base small tries the script itself.

    python benchmarks/marigold_full.py [--size 480 640] [--micro-batches 1 2 4 8] [--accumulate 1] [--steps 5]
        [--compile no yes] [--checkpointing no yes] [--channels-last no] [--precision auto] [--base sd]
"""

import argparse
import gc
import itertools
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path

import torch

from marigold_step import STEPS, Ours, flops, pictures, seconds, write_base  # pyrefly: ignore[missing-import]
from salticid.engine.pace import peak_memory
from salticid.engine.precision import settled
from salticid.engine.settings import TrainerConfig

PEAK = {"H100": 989e12, "H200": 989e12, "A100": 312e12}
"""Dense bf16 operations a second."""
ANSWERS = {"no": False, "yes": True}


def operations(base: str, trainer: TrainerConfig, size: tuple[int, int], device: torch.device) -> int:
    """Of matrix products and convolutions in a step on one sample."""
    ours = Ours(base, replace(trainer, batch=1), device)
    return flops(lambda: ours.step(pictures(1, size, device)), device)


def measure(
    base: str, trainer: TrainerConfig, size: tuple[int, int], steps: int, device: torch.device
) -> tuple[float, int, int]:
    """Median seconds of a step, bytes at its peak, and how many parameters are trained."""
    ours = Ours(base, trainer, device)
    assert isinstance(trainer.micro_batch, int)
    batches = [pictures(trainer.micro_batch, size, device)] * (trainer.batch // trainer.micro_batch)
    for _ in range(2 if trainer.compile else 1):
        ours.step(*batches)  # the optimiser's state is made, blocks are compiled
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    took = statistics.median(seconds(lambda: ours.step(*batches), device) for _ in range(steps))
    return took, peak_memory(device), sum(p.numel() for p in ours.state.parameters.values())


def rows(options: argparse.Namespace, base: str, device: torch.device) -> None:
    size, peak, name = tuple(options.size), None, str(device)
    plain = TrainerConfig(steps=STEPS, precision=settled(options.precision, device))
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        peak = next((value for key, value in PEAK.items() if key in name), None)
    work = operations(base, plain, size, device) if peak else None
    told = f", {work / 1e12:.2f} T operations a sample" if work else ""
    print(f"{name}, {size[0]}×{size[1]}, {plain.precision}, micro-batches a step: {options.accumulate}{told}")
    print("micro-batch  compiled  checkpointing  channels last      s/step   samples/s        GB  of peak  trained")
    switches = [
        [ANSWERS[a] for a in given] for given in (options.compile, options.checkpointing, options.channels_last)
    ]
    for compiled, checkpointing, last, micro_batch in itertools.product(*switches, options.micro_batches):
        told = f"{micro_batch:11}  {compiled!s:8}  {checkpointing!s:13}  {last!s:13}"
        batch = micro_batch * options.accumulate
        trainer = replace(plain, batch=batch, micro_batch=micro_batch, compile=compiled, channels_last=last)
        trainer = replace(trainer, checkpoint_activations=checkpointing)
        try:
            took, memory, trained = measure(base, trainer, size, options.steps, device)
        except torch.OutOfMemoryError:
            print(f"{told}  out of memory", flush=True)
        else:
            share = f"{work * batch / took / peak:.1%}" if work and peak else "–"
            print(
                f"{told}{took:12.3f}{batch / took:12.2f}{memory / 1e9:10.2f}{share:>9}{trained / 1e6:7.1f} M",
                flush=True,
            )
        torch._dynamo.reset()
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()


def main() -> None:
    on_gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", choices=("sd", "small"), default="sd")
    parser.add_argument("--device", default="cuda" if on_gpu else "cpu")
    parser.add_argument("--size", nargs=2, type=int, default=[480, 640] if on_gpu else [64, 64], metavar=("H", "W"))
    parser.add_argument("--micro-batches", nargs="+", type=int, default=[1, 2, 4, 8] if on_gpu else [1])
    parser.add_argument("--accumulate", type=int, default=1, help="micro-batches in a step")
    parser.add_argument("--steps", type=int, default=5 if on_gpu else 1)
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto")
    both = ["no", "yes"] if on_gpu else ["no"]
    for flag, default in (("--compile", both), ("--checkpointing", both), ("--channels-last", ["no"])):
        parser.add_argument(flag, nargs="+", choices=ANSWERS, default=default)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        rows(options, write_base(Path(scratch) / options.base, options.base), torch.device(options.device))


if __name__ == "__main__":
    main()
