"""The video recipes on two ranks (gloo) make the weights that one process makes, and their average: replicated and
sharded, of some layers, with adapters; where one rank sees films and the other pictures."""

import json
import os
import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from safetensors.torch import load_file
from tests.engine.toys import exit_codes, on_ranks
from tests.recipes.trained import Named, apart, weights
from tests.recipes.video_toys import base_with_weights, clips, grids, sv4d, svd
from torch.distributed.tensor import DTensor

from salticid.data.source import Data, Sample, Source
from salticid.engine.build import build
from salticid.engine.checkpoint import CheckpointConfig, newest
from salticid.engine.ema import EmaConfig
from salticid.engine.log import LogConfig, RunLog, deterministic_lines
from salticid.engine.optim import OptimizerConfig
from salticid.engine.parallel import Mode, joined
from salticid.engine.settings import Settings, TrainerConfig, ValidationConfig
from salticid.engine.trainer import Trainer
from salticid.engine.weights import trainable
from salticid.nets.embedders import ClassEmbedder, LatentEmbedder
from salticid.nets.lora import Lora
from salticid.recipes import SvdRecipe
from salticid.recipes.video.recipe import VideoRecipe

pytestmark = [pytest.mark.dist, pytest.mark.slow]

STEPS, BATCH, SEED = 3, 4, 1
TOLERANCE = 1e-4
"""How far weights may end from each other, as a share of how far they have come. Ranks add in another order, which
changes gradients by 1e-6 of their size; `EPS` keeps Adam from enlarging that where a gradient is close to zero."""
EPS = 1e-3


class Toys(Data):
    """Random clips, every third of which is of pictures that are no film; or random grids."""

    def __init__(self, kind: Literal["clips", "grids"]):
        self.kind = kind

    def train(self) -> Source:
        return _Toys(self.kind, 0, 9)

    def val(self) -> Source:
        return _Toys(self.kind, 9, 3)


class _Toys(Source):
    def __init__(self, kind: str, start: int, count: int):
        self.kind, self.start, self.count = kind, start, count

    def __len__(self) -> int:
        return self.count

    def id(self, index: int) -> str:
        return f"{self.kind}-{self.start + index}"

    def sample(self, index: int, augment: torch.Generator | None) -> Sample:
        key = (self.start + index,)
        batch = clips(key, frames=2) if self.kind == "clips" else grids(key, frames=2)
        sample = {name: value[0] for name, value in batch.items() if name not in ("id", "key", "replaced")}
        if self.kind == "clips":
            sample["image_only"] = torch.full((2,), index % 3 == 2)
            sample["label"] = torch.tensor(index % 4)
        return sample


@dataclass(frozen=True)
class Case:
    """What is trained, and how ranks share it."""

    values: dict[str, Any] = field(default_factory=dict)
    parallel: Mode = "ddp"
    kind: Literal["clips", "grids"] = "clips"

    classes: bool = False

    def recipe(self, base: Path) -> VideoRecipe:
        torch.manual_seed(0)
        told = {"conditioner": [LatentEmbedder(ucg_rate=0.3), ClassEmbedder(4, 8)]} if self.classes else {}
        made = svd if self.kind == "clips" else sv4d
        return made(base=str(base), network=None, **self.values, **told)

    def settings(self, micro_batch: int) -> Settings:
        return Settings(
            TrainerConfig(STEPS, BATCH, micro_batch, seed=SEED, device="cpu", parallel=self.parallel, timeout=120),
            optimizer=OptimizerConfig(lr=1e-2, eps=EPS),
            ema=EmaConfig(0.5, ramp=False),
            validation=ValidationConfig(previews=0, batch=1),
            checkpoint=CheckpointConfig(every=1000),
        )

    def train(self, recipe: VideoRecipe, directory: Path, micro_batch: int, resume: bool = False) -> str:
        log = RunLog(directory, LogConfig(every=1), steps=STEPS, batch=BATCH, quiet=os.environ.get("RANK") == "1")
        return Trainer(recipe, Toys(self.kind), directory, self.settings(micro_batch)).fit(log, resume)


RANKS = {
    "clips": Case(classes=True),
    "clips, fsdp": Case(parallel="fsdp", classes=True),
    "grids, fsdp": Case(kind="grids", parallel="fsdp"),
    "temporal": Case({"train": "temporal"}),
    "adapters": Case({"lora": Lora(rank=2)}),
}
ALONE = {name.removesuffix(", fsdp"): case for name, case in RANKS.items()}
SHARDED = RANKS["clips, fsdp"]


class Interrupted(SvdRecipe):
    """Gets SIGTERM in the second step, on the first rank alone, once."""

    asked = False

    def loss(self, phase, batch, clock):
        if clock.step == 1 and os.environ["RANK"] == "0" and not self.asked:
            self.asked = True
            os.kill(os.getpid(), signal.SIGTERM)
        return super().loss(phase, batch, clock)


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return base_with_weights(tmp_path_factory.mktemp("bases") / "small")


@pytest.fixture(scope="module")
def runs(base, tmp_path_factory) -> Path:
    """A folder with the runs of all cases: `one/NAME` of one process, `two/NAME` of two, and `parts`, interrupted. One
    process takes a step's four clips at once, two ranks take theirs one by one."""
    folder = tmp_path_factory.mktemp("runs")

    def on_rank() -> None:
        port = int(os.environ["MASTER_PORT"])

        def train(case: Case, *arguments: Any, **named: Any) -> str:
            nonlocal port
            os.environ["MASTER_PORT"] = str(port := port + 1)
            return case.train(*arguments, micro_batch=1, **named)

        for name, case in RANKS.items():
            assert train(case, case.recipe(base), folder / "two" / name) == "finished"
        cut, other = SHARDED.recipe(base), SHARDED.recipe(base)
        cut.__class__ = Interrupted
        assert train(SHARDED, cut, folder / "parts") == "interrupted"
        with torch.no_grad():
            for parameter in other.parameters():
                parameter.add_(1.0)  # initial weights do not matter to a resumed run
        assert train(SHARDED, other, folder / "parts", resume=True) == "finished"
        os.environ["MASTER_PORT"] = str(port + 1)
        check_shards(base)

    processes = on_ranks(2, on_rank)
    for name, case in ALONE.items():
        assert case.train(case.recipe(base), folder / "one" / name, micro_batch=BATCH) == "finished"
    assert exit_codes(processes, timeout=280) == [0, 0]
    return folder


def check_shards(base: Path) -> None:
    """That each rank holds but a part of weights and average: half, but for what is too small to be cut."""
    with joined(torch.device("cpu"), 60) as ranks:
        state = build(SHARDED.recipe(base), SHARDED.settings(1), ranks, 1)
        assert state.ema is not None
        for tensors in (state.parameters, state.ema.average):
            assert all(isinstance(value, DTensor) for value in tensors.values())
            own = sum(value.to_local().numel() for value in tensors.values())
            whole = sum(value.numel() for value in tensors.values())
            assert 0.49 < own / whole < 0.51


def start(case: Case, base: Path) -> Named:
    """The weights that training begins with."""
    recipe = case.recipe(base)
    recipe.start(fresh=True)
    return {name: p.detach() for name, p in trainable(recipe).items()}


def average(run: Path) -> Named:
    checkpoint, _ = newest(run / "checkpoints")
    assert checkpoint is not None
    return load_file(checkpoint / "ema.safetensors")


def numbers(run: Path) -> list[float]:
    """Loss and gradient norm of every step, and the metrics at the end."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    steps = [value for line in lines if line["kind"] == "step" for value in (line["loss"], line["grad_norm"])]
    (metrics,) = [line["metrics"] for line in lines if line["kind"] == "validation"]
    return [*steps, *metrics.values()]


def test_ranks_do_not_see_alike():
    order = Toys("clips").train().order(BATCH, SEED)
    pictures = [
        [sum(i % 3 == 2 for part in order.shares(step, rank, 2, 1) for _, i in part) for rank in range(2)]
        for step in range(STEPS)
    ]
    assert any(one != other for one, other in pictures)


@pytest.mark.parametrize("name", RANKS)
def test_two_ranks_make_the_weights_of_one_process(runs, base, name):
    one, two, began = runs / "one" / name.removesuffix(", fsdp"), runs / "two" / name, start(RANKS[name], base)
    assert weights(one).keys() == weights(two).keys() >= began.keys()
    assert average(one).keys() == average(two).keys() == began.keys()
    assert apart(weights(two), weights(one), began) < TOLERANCE
    assert apart(average(two), average(one), began) < TOLERANCE
    assert apart(average(one), weights(one), began) > 0.1, "an average is something else"
    assert numbers(two) == pytest.approx(numbers(one), rel=1e-3)
    assert len(numbers(one)) > 2 * STEPS


def test_a_sharded_run_is_resumed_bit_for_bit(runs):
    """Weights, their average, and all of the log that does not tell the time."""
    whole, parts = runs / "two/clips, fsdp", runs / "parts"
    assert deterministic_lines(whole) == deterministic_lines(parts)
    assert len(list((parts / "checkpoints").glob("step-*"))) == 2
    for read in (weights, average):
        a, b = read(whole), read(parts)
        assert a.keys() == b.keys()
        assert all(torch.equal(a[name], b[name]) for name in a)
