"""Small recipes and data for the tests of the engine, and processes that train them."""

import os
import signal
import socket
import time
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch
from torch import Tensor, nn

from salticid.data.source import Batch, Data, Sample, Source
from salticid.engine.checkpoint import CheckpointConfig
from salticid.engine.ema import EmaConfig
from salticid.engine.log import LogConfig, RunLog
from salticid.engine.optim import OptimizerConfig, ScheduleConfig
from salticid.engine.recipe import Clock, Loss, Phase, Recipe
from salticid.engine.settings import Settings, TrainerConfig, ValidationConfig
from salticid.engine.trainer import Trainer
from salticid.errors import UnreadableSample

WIDTH = 6


class Vectors(Source):
    """Random vectors, shifted by their augmentation; those in `broken` cannot be read."""

    def __init__(self, n: int = 22, broken: tuple[int, ...] = ()) -> None:
        self.n, self.broken = n, broken

    def __len__(self) -> int:
        return self.n

    def id(self, index: int) -> str:
        return f"vector-{index:03d}"

    def sample(self, index: int, augment: torch.Generator | None) -> Sample:
        if index in self.broken:
            raise UnreadableSample("made to fail")
        x = torch.randn(WIDTH, generator=torch.Generator().manual_seed(index))
        if augment:
            x = x + 0.1 * torch.randn(WIDTH, generator=augment)
        return {"x": x}


class Toy(Data):
    def __init__(self, n: int = 22, broken: tuple[int, ...] = ()) -> None:
        self.n, self.broken = n, broken

    def train(self) -> Source:
        return Vectors(self.n, self.broken)

    def val(self) -> Source:
        return Vectors(9, tuple(i for i in self.broken if i < 9))


class Denoiser(Recipe):
    """An autoencoder with dropout and running statistics that asks for trouble where it is told to.

    `trouble`: step → what happens in that step's first forward pass: a signal to this process, or "nan".
    """

    def __init__(self, dropout: float = 0.1, weighted: bool = False, trouble: dict[int, str] | None = None) -> None:
        super().__init__()
        generator = torch.random.get_rng_state()
        torch.manual_seed(1)
        self.down = nn.Sequential(nn.Linear(WIDTH, 12), nn.Tanh(), nn.Dropout(dropout))
        self.up = nn.Linear(12, WIDTH)
        self.frozen = nn.Linear(WIDTH, WIDTH).requires_grad_(False)
        torch.random.set_rng_state(generator)
        self.register_buffer("seen", torch.zeros(()))
        self.weighted, self.trouble = weighted, dict(trouble or {})

    def phases(self) -> tuple[Phase, ...]:
        return (Phase("model", ("down", "up")),)

    def loss(self, phase: str, batch: Batch, clock: Clock) -> Loss:
        nan = self._provoke(clock.step)
        x: Tensor = batch["x"]
        self.seen += x.mean()
        error = (self.up(self.down(x)) - self.frozen(x)).square().mean(1)
        if not self.weighted:
            return Loss(error.mean() * nan, {"error": error.detach().mean()})
        valid = (x[:, 0] > 0).float()
        return Loss((error * valid).sum() / valid.sum().clamp_min(1), {}, valid.sum())

    def _provoke(self, step: int) -> float:
        what = self.trouble.pop(step, "")
        if what.startswith("SIG"):
            os.kill(os.getpid(), getattr(signal, what))
            time.sleep(0.01)
        return float("nan") if what == "nan" else 1.0

    def evaluate(self, batch: Batch, *, seed: int) -> dict[str, Tensor]:
        x = batch["x"]
        return {"error": (self.up(self.down(x)) - self.frozen(x)).square().mean(1)}

    def preview(self, batch: Batch, *, seed: int) -> Tensor:
        shown = self.up(self.down(batch["x"])).clamp(0, 1).mul(255).to(torch.uint8)
        return shown.expand(3, *shown.shape).contiguous()


class Duel(Recipe):
    """Two phases: a generator against a critic, which starts later and learns at half the rate, its last layer slower
    still."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.generator = nn.Linear(WIDTH, WIDTH)
        self.critic = nn.Sequential(nn.Linear(WIDTH, 8), nn.Tanh(), nn.Linear(8, 1))

    def phases(self) -> tuple[Phase, ...]:
        critic = Phase("critic", ("critic",), lr_scale=0.5, lr_scales={"critic.2": 0.5}, start=2)
        return Phase("generator", ("generator",)), critic

    def loss(self, phase: str, batch: Batch, clock: Clock) -> Loss:
        x = batch["x"]
        made = self.generator(torch.randn_like(x))
        if phase == "generator":
            return Loss(-self.critic(made).mean() + made.square().mean(), {"size": made.detach().square().mean()})
        return Loss(self.critic(made.detach()).mean() - self.critic(x).mean() + self.critic(x).square().mean())

    def evaluate(self, batch: Batch, *, seed: int) -> dict[str, Tensor]:
        return {"score": self.critic(batch["x"]).squeeze(1)}

    def preview(self, batch: Batch, *, seed: int) -> Tensor:
        return torch.zeros(3, 4, 4, dtype=torch.uint8)


def settings(**overrides) -> Settings:
    """Short settings: `steps=…` for the trainer, or whole sections (`ema=None`, `checkpoint=…`)."""
    sections = {
        "optimizer": OptimizerConfig(lr=1e-2, weight_decay=0.01),
        "schedule": ScheduleConfig("cosine", warmup=3),
        "ema": EmaConfig(0.9, start=4),
        "validation": ValidationConfig(every_steps=8, previews=2),
        "checkpoint": CheckpointConfig(every=5, keep_last=3),
    }
    sections |= {name: overrides.pop(name) for name in list(overrides) if name in sections}
    trainer = {"steps": 20, "batch": 8, "micro_batch": 4, "clip": 1.0, "device": "cpu"} | overrides
    return Settings(TrainerConfig(**trainer), **sections)


def train(directory: Path, recipe: Recipe | None = None, data: Data | None = None, resume: bool = False, **overrides):
    """Train a toy; returns (status, recipe)."""
    recipe, chosen = recipe or Denoiser(), settings(**overrides)
    quiet = os.environ.get("RANK", "0") != "0"
    log = RunLog(directory, LogConfig(every=1), steps=chosen.trainer.steps, batch=chosen.trainer.batch, quiet=quiet)
    return Trainer(recipe, data or Toy(), directory, chosen).fit(log, resume), recipe


def in_process(function: Callable[..., object], *args: object, **environment: object) -> BaseProcess:
    """Start a forked process (torch is imported already: no wait) that runs `function` with one thread."""

    def run() -> None:
        torch.set_num_threads(1)
        os.environ.update({name: str(value) for name, value in environment.items()})
        function(*args)

    process = get_context("fork").Process(target=run)
    process.start()
    return process


def on_ranks(world: int, function: Callable[..., object], *args: object) -> list[BaseProcess]:
    """Start `function` on as many ranks, as torchrun would."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    common = {"WORLD_SIZE": world, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return [in_process(function, *args, RANK=rank, LOCAL_RANK=rank, **common) for rank in range(world)]


def exit_codes(processes: list[BaseProcess], timeout: float = 60) -> list[int | None]:
    for process in processes:
        process.join(timeout)
        if process.is_alive():
            process.kill()
    return [process.exitcode for process in processes]
