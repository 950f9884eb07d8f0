"""Contestants that are built, measured and dropped in turns, so that each has a GPU's memory for itself; for the video
benchmarks beside this file."""

import gc
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from marigold_full import PEAK  # pyrefly: ignore[missing-import]
from marigold_step import seconds  # pyrefly: ignore[missing-import]
from salticid.nets.video import VideoUNet, VideoUNetConfig
from salticid.recipes.video.freeze import Train, freeze, freeze_idle

Job = Callable[[], object]
Makers = Mapping[str, Callable[[], Job]]
"""By name, what builds a contestant; the first is the peer."""


@dataclass(frozen=True)
class Contest:
    """How contestants are measured."""

    device: torch.device
    rounds: int
    """In which all take turns."""
    repeats: int
    """Jobs in a round, of which the median counts."""
    before: int = 2
    """Jobs that do not count: in them, blocks are compiled and the optimiser's state is made."""

    def run(self, title: str, makers: Makers, *, clips: int, work: int) -> dict[str, float]:
        """Print a table: milliseconds of a job, clips a second, peak memory, share of the GPU's dense bf16 peak, and
        how many times as fast as the peer, a median over rounds.

        Args:
            clips: of a job.
            work: operations of a clip; 0: not known.

        Returns:
            Seconds of a job, of those that are not too large for the GPU.
        """
        rounds = [{name: self._measure(make) for name, make in makers.items()} for _ in range(self.rounds)]
        gpu, peer, peak = self.device.type == "cuda", next(iter(makers)), self._peak()
        times: dict[str, float] = {}
        print(f"{title:30}{'ms':>10}{'clips/s':>10}{'GB':>8}{'of peak':>9}{f'against {peer}':>22}")
        for name in makers:
            found = [(own, row[peer]) for row in rounds if (own := row[name])]
            if not found:
                print(f"  {name:28}  out of memory", flush=True)
                continue
            took = times[name] = median(own[0] for own, _ in found)
            kept = f"{max(own[1] for own, _ in found) / 1e9:.2f}" if gpu else "–"
            share = f"{work * clips / took / peak:.1%}" if peak and work else "–"
            ratios = [other[0] / own[0] for own, other in found if other]
            ratio = f"{median(ratios):.2f}×" if ratios else "–"
            print(f"  {name:28}{1e3 * took:10.1f}{clips / took:10.3f}{kept:>8}{share:>9}{ratio:>22}", flush=True)
        return times

    def _measure(self, make: Callable[[], Job]) -> tuple[float, int] | None:
        """Median seconds, and the bytes at the peak (0 on a CPU); None: it is too large for the GPU."""
        gpu = self.device.type == "cuda"
        torch._dynamo.reset()
        gc.collect()  # what was measured before
        if gpu:
            torch.cuda.empty_cache()
        try:
            job = make()
            for _ in range(self.before):
                job()
            if gpu:
                torch.cuda.synchronize()
                torch.cuda.reset_peak_memory_stats()
            took = median(seconds(job, self.device) for _ in range(self.repeats))
        except torch.OutOfMemoryError:
            return None
        return took, torch.cuda.max_memory_allocated() if gpu else 0

    def _peak(self) -> float | None:
        """The GPU's dense bf16 operations a second, if known."""
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else ""
        return next((value for key, value in PEAK.items() if key in name), None)


def operations(config: VideoUNetConfig, frames: int, size: tuple[int, int], train: Train | None) -> int:
    """Of the UNet's matrix products and convolutions for a clip, forward and backward; None: forward alone. What
    single tokens leave idle is not counted."""
    with torch.device("meta"), sdpa_kernel(SDPBackend.MATH):
        unet, x = VideoUNet(config), torch.empty(frames, config.in_channels, *size)
        freeze(unet, train or "all")
        freeze_idle(unet)
        told = {"context": torch.empty(frames, 1, config.context), "vector": torch.empty(frames, config.vector)}
        with FlopCounterMode(display=False) as counter, torch.set_grad_enabled(train is not None):
            answer = unet(x, torch.empty(frames), **told, frames=frames)
            if train:
                answer.sum().backward()
    return counter.get_total_flops()
