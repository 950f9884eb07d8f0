"""A recipe and data that train in milliseconds, in a package of their own: what a user's own code looks like."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Generator, Tensor, nn

from salticid.data.source import Batch, Data, Sample, Source
from salticid.engine.recipe import Clock, Loss, Phase, Recipe
from salticid.errors import ConfigError


class Head(nn.Module):
    def __init__(self, width: int = 2, bias: bool = True):
        super().__init__()
        self.linear = nn.Linear(width, 1, bias=bias)


@dataclass
class Noise:
    scale: float = 0.1
    kind: Literal["normal", "uniform"] = "normal"


class ToyRecipe(Recipe):
    """Learns y = 3·x₀ − 2·x₁."""

    def __init__(
        self,
        width: int = 2,
        head: Head | None = None,
        heads: list[Head] | None = None,
        noise: Noise | None = None,
        distances: Sequence[float] = (1.0, float("inf")),
        title: str = "toy",
        folder: Path | None = None,
        activation: Callable = torch.tanh,
    ):
        super().__init__()
        if width != 2:
            raise ConfigError(f"recipe.init_args.width: {width} given, 2 expected")
        self.head = head or Head(width)
        self.title, self.distances, self.heads, self.noise = title, distances, heads, noise

    def phases(self) -> tuple[Phase, ...]:
        return (Phase("fit", ("head",)),)

    def loss(self, phase: str, batch: Batch, clock: Clock) -> Loss:
        error = (self.head.linear(batch["x"]).squeeze(1) - batch["y"]).square().mean()
        return Loss(error, {"mse": error.detach()})

    def evaluate(self, batch: Batch, *, seed: int) -> dict[str, Tensor]:
        error = (self.head.linear(batch["x"]).squeeze(1) - batch["y"]).abs()
        return {"error": error, "squared": error.square()}

    def preview(self, batch: Batch, *, seed: int) -> Tensor:
        return torch.zeros(3, 4, 8, dtype=torch.uint8)

    def predict(
        self,
        inputs: list[Path],
        output: Path,
        *,
        offset: float,
        repeat: int = 1,
        mode: Literal["sum", "mean"] = "sum",
        loud: bool = False,
        table: Path | None = None,
        seed: int = 0,
    ) -> list[Path]:
        """Write the prediction for two numbers a line.

        Args:
            offset: added to the result.
            repeat: how often a line is written.
        """
        lines = [line for path in inputs for line in path.read_text().split("\n") if line]
        rows = torch.tensor([[float(v) for v in line.split()] for line in lines])
        values = self.head.linear(rows).squeeze(1) + offset
        text = "".join(f"{value:.4f} {mode} {loud} {seed}\n" * repeat for value in values.tolist())
        output.write_text(text)
        return [output]


class Points(Source):
    def __init__(self, start: int, count: int):
        self.start, self.count = start, count

    def __len__(self) -> int:
        return self.count

    def id(self, index: int) -> str:
        return f"point-{self.start + index}"

    def sample(self, index: int, augment: Generator | None) -> Sample:
        x = torch.randn(2, generator=torch.Generator().manual_seed(self.start + index))
        return {"x": x, "y": 3 * x[0] - 2 * x[1]}


@dataclass
class ToyData(Data):
    count: int = 32
    held_out: int = 8

    def train(self) -> Source:
        return Points(0, self.count)

    def val(self) -> Source:
        return Points(self.count, self.held_out)


class AbstractData(Data):
    """Not to be instantiated: val() is missing."""

    def train(self) -> Source:
        return Points(0, 1)


def not_a_class() -> None: ...
