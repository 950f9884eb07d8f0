"""How long saving a checkpoint holds training up, and what loading one takes, beside `torch.save` of the same tensors.

Ours writes weights, average and optimiser state, takes a digest of every byte, flushes to the disk and verifies on
loading; `torch.save` does none of that.

    python benchmarks/checkpoint.py [--millions 50] [--folder /some/disk]
"""

import argparse
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import torch
from torch import Tensor, nn

from salticid.data.source import Batch
from salticid.engine import checkpoint as checkpoints
from salticid.engine.build import build
from salticid.engine.parallel import Ranks
from salticid.engine.recipe import Clock, Loss, Phase, Recipe
from salticid.engine.settings import Settings, TrainerConfig


class Wide(Recipe):
    def __init__(self, millions: float) -> None:
        super().__init__()
        self.net = nn.Sequential(*(nn.Linear(1000, 1000) for _ in range(round(millions))))

    def phases(self) -> tuple[Phase, ...]:
        return (Phase("model", ("net",)),)

    def loss(self, phase: str, batch: Batch, clock: Clock) -> Loss:
        raise NotImplementedError

    def evaluate(self, batch: Batch, *, seed: int) -> dict[str, Tensor]:
        raise NotImplementedError

    def preview(self, batch: Batch, *, seed: int) -> Tensor:
        raise NotImplementedError


def seconds(action: Callable[[], object]) -> float:
    start = perf_counter()
    action()
    return perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--millions", type=float, default=50, help="parameters")
    parser.add_argument("--folder", type=Path, default=Path(), help="where to write")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    ranks = Ranks(device)
    state = build(Wide(options.millions), Settings(TrainerConfig()), ranks, 8)
    for p in state.parameters.values():
        p.grad = torch.ones_like(p)
    state.runners[0].optimizer.step()
    state.follow()
    times: dict[str, list[float]] = {"save": [], "load": [], "torch.save": []}
    with tempfile.TemporaryDirectory(dir=options.folder) as place:
        folder = Path(place)
        for step in range(options.repeats):
            state.step = step
            content = state.content("")
            times["save"].append(seconds(lambda c=content: checkpoints.save(folder, c, ranks)))
            path = checkpoints.listing(folder)[-1]
            progress = checkpoints.verify(path)["progress"]

            def load(path: Path = path, progress: dict = progress) -> None:
                checkpoints.verify(path)
                state.load(path, progress, ranks)

            times["load"].append(seconds(load))
            shutil.rmtree(path)
            plain = [content.model, content.ema, content.state]
            times["torch.save"].append(seconds(lambda p=plain: torch.save(p, folder / "plain.pt")))
        best = {name: min(values) for name, values in times.items()}
        size = content.size() / 2**20
    print(f"{options.millions:g} M parameters, {size:.0f} MiB with average and optimiser, {device}")
    print("  ".join(f"{name} {value:.2f} s ({size / value:.0f} MiB/s)" for name, value in best.items()))


if __name__ == "__main__":
    main()
