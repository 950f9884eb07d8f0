"""Two ranks (gloo): the same run as one process, and what happens when one of them stops or dies."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from test_resume import SCHEDULE_FREE, assert_same_run
from toys import Denoiser, Duel, Toy, exit_codes, on_ranks, train

from salticid.engine import checkpoint as checkpoints
from salticid.engine.checkpoint import CheckpointConfig
from salticid.engine.evaluation import evaluate
from salticid.engine.parallel import Ranks, joined, pick_device
from salticid.errors import CheckpointError, ConfigError

pytestmark = pytest.mark.dist


def numbers(run: Path, kind: str = "step") -> list[list[float]]:
    lines = map(json.loads, (run / "log.jsonl").read_text().splitlines())
    chosen = [line.get("metrics", line) for line in lines if line["kind"] == kind]
    return [[value for value in line.values() if isinstance(value, float)] for line in chosen]


def assert_close(a: Path, b: Path, kind: str = "step") -> None:
    one, other = numbers(a, kind), numbers(b, kind)
    assert len(one) == len(other) > 0
    for x, y in zip(one, other, strict=True):
        assert x == pytest.approx(y, rel=1e-5, abs=1e-9)


class Branching(Denoiser):
    """Uses a part of itself in every second step alone, and only on the first rank's samples."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.extra = torch.nn.Linear(6, 6)

    def phases(self):
        (phase,) = super().phases()
        return (type(phase)("model", ("down", "up", "extra")),)

    def loss(self, phase, batch, clock):
        loss = super().loss(phase, batch, clock)
        if clock.step % 2 and int(batch["key"][0]) % 8 < 4:
            loss.total = loss.total + self.extra(batch["x"]).square().mean()
        return loss


CASES = {
    "ddp": (Denoiser, {"steps": 50}),
    "fsdp": (Denoiser, {"steps": 50, "parallel": "fsdp"}),
    "ddp, weighted": (lambda: Denoiser(weighted=True), {}),
    "fsdp, weighted": (lambda: Denoiser(weighted=True), {"parallel": "fsdp"}),
    "ddp, two phases": (Duel, {}),
    "fsdp, two phases": (Duel, {"parallel": "fsdp"}),
    "ddp, branches": (Branching, {}),
    "ddp, workers": (Denoiser, {"workers": 1}),
    "fsdp, schedule-free": (Denoiser, SCHEDULE_FREE | {"parallel": "fsdp"}),
    "fsdp, clipped bf16": (Denoiser, {"parallel": "fsdp", "precision": "bf16", "clip": 0.05}),
}


def test_two_ranks_are_one_process(tmp_path, capfd):
    """Loss, terms, gradient norm and validation of every step, to 1e-5, also with dropout (keyed by position); and
    without torch's warning that a search for unused parameters found none."""

    def run(world: int) -> None:
        for name, (recipe, options) in CASES.items():
            port = int(os.environ["MASTER_PORT"]) if world > 1 else 0
            os.environ["MASTER_PORT"] = str(port + 1)
            options = {"micro_batch": 2, "checkpoint": CheckpointConfig(every=1000)} | options
            train(tmp_path / f"{name} {world}", recipe(), Toy(broken=(5,)), **options)

    processes = on_ranks(2, run, 2)
    run(1)
    assert exit_codes(processes) == [0, 0]
    assert "unused parameters" not in capfd.readouterr().err
    for name in CASES:
        one, two = tmp_path / f"{name} 1", tmp_path / f"{name} 2"
        assert_close(one, two)
        assert_close(one, two, "validation")
        newest = [checkpoints.read_manifest(checkpoints.newest(r / "checkpoints")[0])["progress"] for r in (one, two)]
        assert newest[0]["replaced"] == newest[1]["replaced"] != {}
    assert len(numbers(tmp_path / "fsdp 2")) == 50


@pytest.mark.parametrize("mode", ["ddp", "fsdp"])
def test_a_checkpoint_goes_from_two_ranks_to_one_and_back(tmp_path, mode):
    """One SIGTERM, to one rank, ends both after the same step; two ranks resume, stop again, and one finishes."""
    options = {"micro_batch": 2, "parallel": mode, "checkpoint": CheckpointConfig(every=1000)}

    def part(stop_at: int, resume: bool) -> None:
        trouble = {stop_at: "SIGTERM"} if os.environ.get("RANK", "0") == "0" else {}
        status, _ = train(tmp_path / "parts", Denoiser(trouble=trouble), resume=resume, **options)
        assert status == "interrupted"

    train(tmp_path / "one", **options)
    assert exit_codes(on_ranks(2, part, 4, False)) == [0, 0]
    part(9, True)
    assert exit_codes(on_ranks(2, part, 13, True)) == [0, 0]
    assert train(tmp_path / "parts", resume=True, **options)[0] == "finished"
    names = [p.name for p in checkpoints.listing(tmp_path / "parts/checkpoints")]
    assert names == ["step-00000010", "step-00000014", "step-00000020"][-len(names) :]
    assert_close(tmp_path / "one", tmp_path / "parts")


@pytest.mark.parametrize("mode", ["ddp", "fsdp"])
def test_two_ranks_resume_bit_for_bit(tmp_path, mode):
    options = {"parallel": mode, "workers": 1, "micro_batch": 2}

    def run() -> None:
        port = int(os.environ["MASTER_PORT"])
        for i, (name, trouble, resume) in enumerate(
            [("whole", {}, False), ("parts", {11: "SIGTERM"}, False), ("parts", {}, True)]
        ):
            os.environ["MASTER_PORT"] = str(port + i)
            train(tmp_path / name, Denoiser(trouble=trouble), resume=resume, **options)

    assert exit_codes(on_ranks(2, run)) == [0, 0]
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_a_killed_rank_stops_the_other(tmp_path):
    def run() -> None:
        trouble = {7: "SIGKILL"} if os.environ["RANK"] == "1" else {}
        train(tmp_path, Denoiser(trouble=trouble), timeout=10, checkpoint=CheckpointConfig(every=5))

    start = time.monotonic()
    codes = exit_codes(on_ranks(2, run))
    assert codes[1] == -signal.SIGKILL
    assert codes[0] == 1
    assert time.monotonic() - start < 20
    assert checkpoints.newest(tmp_path / "checkpoints")[0].name == "step-00000005"
    assert json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])["status"] == "failed"


def test_a_hanging_rank_is_given_up_after_the_timeout(tmp_path):
    def run() -> None:
        trouble = {7: "SIGSTOP"} if os.environ["RANK"] == "1" else {}
        train(tmp_path, Denoiser(trouble=trouble), timeout=3)

    processes = on_ranks(2, run)
    processes[0].join(30)
    assert processes[0].exitcode == 1
    processes[1].kill()
    processes[1].join()


def test_a_rank_that_fails_stops_the_other(tmp_path):
    def run() -> None:
        recipe = Denoiser()
        if os.environ["RANK"] == "1":
            recipe.trouble = {7: "nan"}  # both ranks see it: the sum of the losses is not finite
        train(tmp_path, recipe, timeout=10)

    assert exit_codes(on_ranks(2, run)) == [1, 1]
    (skipped,) = [
        e for e in map(json.loads, (tmp_path / "log.jsonl").read_text().splitlines()) if e["kind"] == "skipped"
    ]
    assert len(skipped["ids"]) == 4, "the samples of the second rank's micro-batch"


def test_a_full_disk_on_one_rank_is_an_error_on_both(tmp_path):
    def run() -> None:
        if os.environ["RANK"] == "0":
            checkpoints.shutil.disk_usage = lambda path: type("Usage", (), {"free": 10})
        with pytest.raises(CheckpointError, match="are needed"):
            train(tmp_path)

    assert exit_codes(on_ranks(2, run)) == [0, 0]


@pytest.mark.parametrize("world", [2, 3])
def test_evaluation_is_the_same_on_any_number_of_ranks(tmp_path, world):
    source = Toy(broken=(2,)).val()
    alone = evaluate(Denoiser(), source, batch=4)

    def run() -> None:
        with joined(pick_device("cpu"), 20) as ranks:
            found = evaluate(Denoiser(), source, batch=2, ranks=ranks)
        assert found.ids == alone.ids
        assert found.skipped == alone.skipped == ["vector-002: made to fail"]
        torch.testing.assert_close(found.records["error"], alone.records["error"], rtol=1e-6, atol=0)

    assert exit_codes(on_ranks(world, run)) == [0] * world


def test_the_batch_is_a_multiple_of_the_ranks(tmp_path):
    def run() -> None:
        with pytest.raises(ConfigError, match="multiple of the 2 ranks"):
            train(tmp_path, batch=7)

    assert exit_codes(on_ranks(2, run)) == [0, 0]


TORCHRUN = """
import sys
sys.path.insert(0, {folder!r})
from pathlib import Path
from toys import train, Denoiser
import os
trouble = {{9: "SIGKILL"}} if os.environ["RANK"] == "1" else {{}}
train(Path(sys.argv[1]), Denoiser(trouble=trouble), timeout=30)
"""


@pytest.mark.slow
def test_torchrun_ends_when_a_rank_is_killed(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(TORCHRUN.format(folder=str(Path(__file__).parent)))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    start = time.monotonic()
    result = subprocess.run([*command, str(script), str(tmp_path / "run")], capture_output=True, timeout=90)
    assert result.returncode != 0
    assert time.monotonic() - start < 60
    assert checkpoints.newest(tmp_path / "run/checkpoints")[0].name == "step-00000005"


def test_alone_every_exchange_is_free():
    ranks = Ranks(torch.device("cpu"))
    assert ranks.first
    assert ranks.any(True, False) == (True, False)
    assert ranks.gather("a") == ["a"]
    assert ranks.broadcast("a") == "a"
    assert ranks.together(lambda: 3) == 3
