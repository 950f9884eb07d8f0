"""What the engine adds to a step: seeds, checks, clipping, schedule, EMA, log, signals, over a bare loop.

Both train the same small network on the same batches, with AdamW; the bare loop does nothing else.

    python benchmarks/engine.py [--steps 2000]
"""

import argparse
import tempfile
from pathlib import Path
from time import perf_counter

import torch
from torch import Tensor, nn

from salticid.data.loader import train_batches
from salticid.data.order import Order
from salticid.data.source import Batch, Data, Sample, Source
from salticid.engine.checkpoint import CheckpointConfig
from salticid.engine.log import LogConfig, RunLog
from salticid.engine.recipe import Clock, Loss, Phase, Recipe
from salticid.engine.settings import Settings, TrainerConfig, ValidationConfig
from salticid.engine.trainer import Trainer

BATCH = 8


class Rows(Source):
    def __init__(self) -> None:
        self.rows = torch.randn(1024, 16)

    def __len__(self) -> int:
        return len(self.rows)

    def id(self, index: int) -> str:
        return str(index)

    def sample(self, index: int, augment: torch.Generator | None) -> Sample:
        return {"x": self.rows[index]}


class RowData(Data):
    def train(self) -> Source:
        return Rows()

    val = train


class Tiny(Recipe):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 16))

    def phases(self) -> tuple[Phase, ...]:
        return (Phase("model", ("net",)),)

    def loss(self, phase: str, batch: Batch, clock: Clock) -> Loss:
        return Loss((self.net(batch["x"]) - batch["x"]).square().mean())

    def evaluate(self, batch: Batch, *, seed: int) -> dict[str, Tensor]:
        return {"error": (self.net(batch["x"]) - batch["x"]).square().mean(1)}

    def preview(self, batch: Batch, *, seed: int) -> Tensor:
        return torch.zeros(3, 1, 1, dtype=torch.uint8)


def bare(steps: int, loaded: list[Batch]) -> float:
    """Seconds of a loop that does what no loop can leave out, on batches that are ready."""
    model = Tiny()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    start = perf_counter()
    for step in range(steps):
        loss = (model.net(loaded[step % len(loaded)]["x"]) - loaded[step % len(loaded)]["x"]).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return perf_counter() - start


def ours(steps: int, every: int) -> tuple[float, float]:
    """Seconds of our loop, and those of them spent on data."""
    trainer = TrainerConfig(steps=steps, batch=BATCH, clip=1.0, device="cpu")
    settings = Settings(trainer, validation=ValidationConfig(samples=0), checkpoint=CheckpointConfig(every=10**9))
    with tempfile.TemporaryDirectory() as place:
        log = RunLog(Path(place), LogConfig(every=every), steps=steps, batch=BATCH, quiet=False)
        marks: list[float] = []
        waits: list[float] = []
        inner = log.speed

        def speed(step: int, values: dict) -> None:
            marks.append(perf_counter())
            waits.append(values["data_wait"])
            inner(step, values)

        log.speed = speed
        Trainer(Tiny(), RowData(), Path(place), settings).fit(log)
    took = (marks[-1] - marks[0]) * steps / (steps - 1)  # from after the first step to after the last
    return took, took * sum(waits[1:]) / len(waits[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--every", type=int, default=50, help="steps between log lines")
    options = parser.parse_args()
    torch.set_num_threads(1)
    loaded = list(train_batches(Rows(), Order(1024, BATCH, 0), range(128), micro_batch=BATCH, seed=0))
    rounds = []
    for _ in range(5):  # in turns, so that a busy machine slows both
        floor, (took, data) = bare(options.steps, loaded), ours(options.steps, options.every)
        rounds.append([1e6 * seconds / options.steps for seconds in (floor, took, data)])
    floor, took, data = (min(column) for column in zip(*rounds, strict=True))
    print(f"µs a step: bare loop {floor:.0f}, ours {took:.0f}, of which data {data:.0f}")
    print(f"engine overhead {took - data - floor:.0f} µs a step without data, {took - floor:.0f} µs with")


if __name__ == "__main__":
    main()
