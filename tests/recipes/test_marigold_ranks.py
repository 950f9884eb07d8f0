"""The marigold recipe on two ranks (gloo) makes the weights that one process makes: replicated and sharded, with
adapters, in one step; all where one rank sees far more valid pixels than the other."""

import json
import os
import shutil
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.engine.toys import exit_codes, on_ranks
from tests.recipes.trained import Named, apart, weights

from salticid.data.source import Data, Sample, Source
from salticid.engine.checkpoint import CheckpointConfig
from salticid.engine.log import LogConfig, RunLog
from salticid.engine.optim import OptimizerConfig
from salticid.engine.parallel import Mode
from salticid.engine.settings import Settings, TrainerConfig, ValidationConfig
from salticid.engine.trainer import Trainer
from salticid.engine.weights import trainable
from salticid.nets.lora import Lora
from salticid.recipes import MarigoldRecipe
from salticid.recipes.marigold.settings import OneStep, Sampler
from salticid.world import WorldDepth

pytestmark = [pytest.mark.dist, pytest.mark.slow]

STEPS, BATCH, SEED = 3, 4, 1
SIDES = 16, 4, 0
"""Of the part of pictures 0, 1, 2, 0, 1, 2 … that has depth, in pixels of 16: 16 latent cells, one, or none."""
TOLERANCE = 1e-4
"""How far weights may end from each other, as a share of how far they have come. Ranks add in another order, which
changes gradients by 1e-6 of their size; `EPS` keeps Adam from enlarging that where a gradient is close to zero.
Measured: 6e-6 at most."""
EPS = 1e-3


class Uneven(Data):
    """Pictures of which some have depth in a corner alone, or nowhere."""

    def __init__(self) -> None:
        self.whole = WorldDepth(size=(16, 16), train_scenes=9, val_scenes=2, kind="room")

    def train(self) -> Source:
        return UnevenPictures(self.whole.train())

    def val(self) -> Source:
        return self.whole.val()


class UnevenPictures(Source):
    def __init__(self, whole: Source) -> None:
        self.whole = whole

    def __len__(self) -> int:
        return len(self.whole)

    def id(self, index: int) -> str:
        return self.whole.id(index)

    def sample(self, index: int, augment: torch.Generator | None) -> Sample:
        sample, side = self.whole.sample(index, augment), SIDES[index % 3]
        valid = torch.zeros_like(sample["valid"])
        valid[:, :side, :side] = sample["valid"][:, :side, :side]
        return sample | {"valid": valid}


@dataclass(frozen=True)
class Case:
    """What is trained, and how ranks share it."""

    values: dict[str, Any] = field(default_factory=dict)
    parallel: Mode = "ddp"

    def recipe(self, base: Path) -> MarigoldRecipe:
        torch.manual_seed(0)
        return MarigoldRecipe(str(base), sampler=Sampler(steps=(1,)), **self.values)

    def train(self, base: Path, directory: Path, micro_batch: int) -> None:
        settings = Settings(
            TrainerConfig(STEPS, BATCH, micro_batch, seed=SEED, device="cpu", parallel=self.parallel, timeout=120),
            optimizer=OptimizerConfig(lr=1e-3, eps=EPS),
            ema=None,
            validation=ValidationConfig(previews=0, batch=1),
            checkpoint=CheckpointConfig(every=1000),
        )
        log = RunLog(directory, LogConfig(every=1), steps=STEPS, batch=BATCH, quiet=os.environ.get("RANK") == "1")
        assert Trainer(self.recipe(base), Uneven(), directory, settings).fit(log) == "finished"


ALONE = {
    "diffusion": Case(),
    "adapters": Case({"lora": Lora(rank=2)}),
    "one step": Case({"one_step": OneStep()}),
}
RANKS = {
    "diffusion, ddp": Case(),
    "diffusion, fsdp": Case(parallel="fsdp"),
    "adapters, ddp": Case({"lora": Lora(rank=2)}),
    "one step, ddp": Case({"one_step": OneStep()}),
}


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """The base that ships with the package, with a UNet of two narrow levels."""
    folder = tmp_path_factory.mktemp("bases") / "small"
    shutil.copytree(str(files("salticid") / "bases" / "tiny"), folder)
    config = json.loads((folder / "unet/config.json").read_text())
    config |= {
        "block_out_channels": [16, 32],
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"],
    }
    (folder / "unet/config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="module")
def runs(base, tmp_path_factory) -> Path:
    """A folder with the runs of all cases, by name. One process takes a step's four pictures at once, two ranks take
    theirs one by one."""
    folder = tmp_path_factory.mktemp("runs")
    for name, case in ALONE.items():
        case.train(base, folder / name, micro_batch=BATCH)

    def on_rank() -> None:
        port = int(os.environ["MASTER_PORT"])
        for number, (name, case) in enumerate(RANKS.items()):
            os.environ["MASTER_PORT"] = str(port + number)
            case.train(base, folder / name, micro_batch=1)

    assert exit_codes(on_ranks(2, on_rank), timeout=200) == [0, 0]
    return folder


def start(case: Case, base: Path) -> Named:
    """The weights that training begins with."""
    recipe = case.recipe(base)
    recipe.start(fresh=True)
    return {name: p.detach() for name, p in trainable(recipe).items()}


def numbers(run: Path) -> list[float]:
    """Loss and gradient norm of every step, and the metrics at the end."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    steps = [value for line in lines if line["kind"] == "step" for value in (line["loss"], line["grad_norm"])]
    (metrics,) = [line["metrics"] for line in lines if line["kind"] == "validation"]
    return [*steps, *metrics.values()]


def test_ranks_do_not_see_equally_much():
    order = Uneven().train().order(BATCH, SEED)
    seen = [
        [sum(SIDES[i % 3] ** 2 for part in order.shares(step, rank, 2, 1) for _, i in part) for rank in range(2)]
        for step in range(STEPS)
    ]
    assert seen == [[272, 0], [272, 256], [16, 272]]


@pytest.mark.parametrize("name", RANKS)
def test_two_ranks_make_the_weights_of_one_process(runs, base, name):
    one = name.partition(",")[0]
    alone, ranks, began = weights(runs / one), weights(runs / name), start(ALONE[one], base)
    assert alone.keys() == ranks.keys() > began.keys()
    assert apart(ranks, alone, began) < TOLERANCE
    assert numbers(runs / name) == pytest.approx(numbers(runs / one), rel=TOLERANCE)
    assert len(numbers(runs / one)) > 2 * STEPS


def test_the_mean_of_the_ranks_means_would_be_something_else(runs, base, tmp_path):
    """So that the weights above are right because micro-batches count by what is valid in them."""
    Case({"accumulate": "equal"}).train(base, tmp_path, micro_batch=1)
    began = start(ALONE["diffusion"], base)
    assert apart(weights(tmp_path), weights(runs / "diffusion"), began) > 0.1
