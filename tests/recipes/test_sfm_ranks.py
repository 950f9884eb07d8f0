"""The sfm recipe on two ranks (gloo) makes the weights that one process makes: with group normalisation, with the
statistics of all ranks' batches, with one optimiser and with two; and an interrupted run is resumed bit for bit."""

import json
import os
import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import timm  # before the processes fork, which then need not
import torch
from safetensors.torch import load_file
from tests.engine.toys import exit_codes, on_ranks
from tests.recipes.trained import Named, apart, weights

from salticid.data.source import Data, Source
from salticid.engine import sharded
from salticid.engine.checkpoint import CheckpointConfig, newest, read_manifest
from salticid.engine.log import LogConfig, RunLog, deterministic_lines
from salticid.engine.optim import OptimizerConfig
from salticid.engine.parallel import Mode
from salticid.engine.settings import Settings, TrainerConfig, ValidationConfig
from salticid.engine.trainer import Trainer
from salticid.engine.weights import trainable
from salticid.recipes import SfmRecipe
from salticid.recipes.sfm.settings import Networks, Photometric, Weights
from salticid.world import WorldMotion

pytestmark = [pytest.mark.dist, pytest.mark.slow]

STEPS, BATCH, SEED = 2, 4, 1
BACKBONE = "test_resnet"  # of a third of a million parameters
assert timm.is_model(BACKBONE)
WORLD = WorldMotion(size=(40, 48), train_scenes=8, val_scenes=2, kind="outdoors", keep=8)
TOLERANCE = 2e-4
"""How far weights may end from each other, as a share of how far they have come. Ranks add in another order, which
changes gradients by 1e-6 of their size; `EPS` keeps Adam from enlarging that where a gradient is close to zero.
Measured: 2e-5 at most."""
EPS = 1e-3


class Rendered(Data):
    """What is rendered before the processes fork, once for all runs."""

    def __init__(self, whole: Data) -> None:
        self.sources = whole.train(), whole.val()
        for source in self.sources:
            for index in range(len(source)):
                source.sample(index, None)

    def train(self) -> Source:
        return self.sources[0]

    def val(self) -> Source:
        return self.sources[1]


@dataclass(frozen=True)
class Case:
    """What is trained, and how ranks share it."""

    values: dict[str, Any] = field(default_factory=dict)
    parallel: Mode = "ddp"
    ranks_take: int = 1
    """Samples that go through the networks of a rank at a time."""

    def recipe(self) -> SfmRecipe:
        torch.manual_seed(0)
        return SfmRecipe(**self.values)

    def train(
        self, data: Data, directory: Path, micro_batch: int, recipe: SfmRecipe | None = None, resume: bool = False
    ) -> str:
        settings = Settings(
            TrainerConfig(STEPS, BATCH, micro_batch, seed=SEED, device="cpu", parallel=self.parallel, timeout=120),
            optimizer=OptimizerConfig(lr=1e-3, eps=EPS),
            ema=None,
            validation=ValidationConfig(previews=0, batch=1),
            checkpoint=CheckpointConfig(every=1000),
        )
        log = RunLog(directory, LogConfig(every=1), steps=STEPS, batch=BATCH, quiet=os.environ.get("RANK") == "1")
        return Trainer(recipe or self.recipe(), data, directory, settings).fit(log, resume)


def networks(norm: str, pose: str = "pair") -> Networks:
    return Networks(backbone=BACKBONE, norm=norm, pose=pose)  # type: ignore[arg-type]


# Terms whose pixels differ in number from sample to sample; and an auto-mask, whose noise is keyed.
TERMS = {
    "weights": Weights(depth=0.1, pose=0.1, velocity=0.1, consistency=0.1),
    "photometric": Photometric(valid_only=True),
}
GROUP = {"networks": networks("group", "shared")} | TERMS
ALTERNATING = {"stage": "alternating", "networks": networks("sync")}
RANKS = {
    "depth, group": Case(GROUP),
    "depth, group, fsdp": Case(GROUP, "fsdp"),
    # Statistics are those of what all ranks look at together, so they look at a whole step.
    "depth, sync": Case({"networks": networks("sync")}, ranks_take=BATCH // 2),
    "alternating, group": Case({"stage": "alternating", "networks": networks("group")}),
    "alternating, sync": Case(ALTERNATING, ranks_take=BATCH // 2),
}
ALONE = {name: case for name, case in RANKS.items() if case.parallel == "ddp"}
APART = {
    "depth, batch": Case({"networks": networks("batch")}, ranks_take=BATCH // 2),
    "depth, sync, halves": Case({"networks": networks("sync")}, ranks_take=1),
}
"""Where each rank normalises by its own batch, or looks at a step in parts, the statistics are others."""


class Interrupted(SfmRecipe):
    """Gets SIGTERM in the first step, on the first rank alone."""

    def loss(self, phase, batch, clock):
        if clock.step == 0 and phase == "flow" and os.environ["RANK"] == "0":
            os.kill(os.getpid(), signal.SIGTERM)
        return super().loss(phase, batch, clock)


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """A folder with the runs of all cases: `one/NAME` of one process, `two/NAME` of two, and `parts`, interrupted."""
    folder, data = tmp_path_factory.mktemp("runs"), Rendered(WORLD)

    def on_rank() -> None:
        port = int(os.environ["MASTER_PORT"])
        for name, case in (RANKS | APART).items():
            assert case.train(data, folder / "two" / name, case.ranks_take) == "finished"
            os.environ["MASTER_PORT"] = str(port := port + 1)
        case = RANKS["alternating, sync"]
        torch.manual_seed(0)
        assert case.train(data, folder / "parts", case.ranks_take, Interrupted(**ALTERNATING)) == "interrupted"
        os.environ["MASTER_PORT"] = str(port + 1)
        torch.manual_seed(1)  # neither random state nor initial weights matter to a resumed run
        assert case.train(data, folder / "parts", case.ranks_take, SfmRecipe(**ALTERNATING), resume=True) == "finished"

    processes = on_ranks(2, on_rank)
    for name, case in ALONE.items():
        assert case.train(data, folder / "one" / name, micro_batch=BATCH) == "finished"
    assert exit_codes(processes, timeout=200) == [0, 0]
    return folder


def start(case: Case) -> Named:
    """The weights that training begins with."""
    return {name: p.detach() for name, p in trainable(case.recipe()).items()}


def numbers(run: Path) -> list[float]:
    """Loss, terms and gradient norm of every step, and the metrics at the end."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    chosen = [line.get("metrics", line) for line in lines if line["kind"] in ("step", "validation")]
    return [value for line in chosen for value in line.values() if isinstance(value, float)]


@pytest.mark.parametrize("name", RANKS)
def test_two_ranks_make_the_weights_of_one_process(runs, name):
    one, two = runs / "one" / name.removesuffix(", fsdp"), runs / "two" / name
    alone, ranks, began = weights(one), weights(two), start(RANKS[name])
    assert alone.keys() == ranks.keys() > began.keys()
    assert apart(ranks, alone, began) < TOLERANCE
    assert numbers(two) == pytest.approx(numbers(one), rel=TOLERANCE)
    assert len(numbers(one)) > 5 * STEPS


@pytest.mark.parametrize("name", ["depth, sync", "alternating, sync"])
def test_running_statistics_are_those_of_the_whole_batch(runs, name):
    one, two = (weights(runs / number / name) for number in ("one", "two"))
    names = [key for key in one if key.endswith(("running_mean", "running_var"))]
    assert len(names) > 20
    for key in names:
        torch.testing.assert_close(two[key], one[key], rtol=TOLERANCE, atol=TOLERANCE * float(one[key].abs().max()))
    counts = [key for key in one if key.endswith("num_batches_tracked")]
    assert all(one[key] == two[key] >= STEPS for key in counts)


@pytest.mark.parametrize("name", APART)
def test_other_statistics_would_be_seen(runs, name):
    began, alone = start(RANKS["depth, sync"]), weights(runs / "one/depth, sync")
    assert apart(weights(runs / "two" / name), alone, began) > 0.05


def test_two_ranks_resume_bit_for_bit(runs):
    whole, parts = runs / "two/alternating, sync", runs / "parts"
    assert deterministic_lines(whole) == deterministic_lines(parts)
    one, other = (newest(run / "checkpoints")[0] for run in (whole, parts))
    assert len(list((parts / "checkpoints").glob("step-*"))) == 2
    assert read_manifest(one)["progress"] == read_manifest(other)["progress"]
    for read in (lambda folder: load_file(folder / "model.safetensors"), lambda folder: state(folder / "state")):
        a, b = read(one), read(other)
        assert a.keys() == b.keys()
        assert all(torch.equal(a[name].nan_to_num(), b[name].nan_to_num()) for name in a)  # `lens` ends with NaN


def state(folder: Path) -> Named:
    """The optimisers' tensors."""
    tensors = {name: torch.zeros(shape, dtype=dtype) for name, (shape, dtype) in sharded.describe(folder).items()}
    sharded.read(folder, tensors, distributed=False)
    assert any(name.startswith("optimizer.flow.") for name in tensors)
    return tensors
