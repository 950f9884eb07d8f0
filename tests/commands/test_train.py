"""Runs of the toy recipe: what they leave, how they go on, what they refuse."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from salticid import presets
from salticid.cli import main

TESTS = Path(__file__).parents[1]


@pytest.mark.parametrize("source", ["toy.yaml", *presets.names()])
def test_a_printed_configuration_prints_itself(answered, source: str):
    overrides = ["--trainer.steps", "7", "--optimizer.lr=3e-4", "--ema", "null", "--schedule.kind", "constant"]
    first = answered("train", source, *overrides, "--print-config")
    Path("printed.yaml").write_text(first)
    assert answered("train", "printed.yaml", "--print-config") == first
    assert "steps: 7\n" in first
    assert "lr: 0.0003\n" in first
    assert "ema: null\n" in first
    assert not Path("runs").exists()


def test_a_dry_run_tells_its_cost_and_leaves_nothing(answered):
    before = sorted(os.listdir())
    text = answered("train", "toy.yaml", "--dry-run")
    for words in ("parameters", "memory, at most", "a step", "saving a checkpoint", "0:00"):
        assert words in text
    assert sorted(os.listdir()) == before


def test_a_run_leaves_what_it_promises(toy_run: Path):
    names = {path.name for path in toy_run.iterdir()}
    assert names >= {"config.yaml", "env.json", "log.jsonl", "checkpoints", "samples", "report.html"}
    (environment,) = json.loads((toy_run / "env.json").read_text())
    assert environment["packages"]["torch"]
    assert environment["device"] == "cpu" or environment["gpu"]
    assert environment["ranks"] == 1
    checkpoint = toy_run / "checkpoints/step-00000006"
    assert (checkpoint / "config.yaml").read_text() == (toy_run / "config.yaml").read_text()


def test_new_runs_find_names_of_their_own_and_old_ones_are_kept(answered, refused, toy_run: Path):
    before = (toy_run / "log.jsonl").read_bytes()
    for line in ("--name one", f"--run-dir {toy_run}"):
        assert f"go on with `salticid train --resume {toy_run}`" in refused("train", "toy.yaml", *line.split())
    assert (toy_run / "log.jsonl").read_bytes() == before
    for number in (1, 2):
        answered("train", "toy.yaml", "--trainer.steps", "1")
        assert (Path("runs/toy") / f"toy-{number}").is_dir()
    assert "resumed" not in (Path("runs/toy/toy-2") / "log.jsonl").read_text()


def test_a_changed_configuration_is_not_resumed(answered, refused, toy_run: Path):
    line = refused("train", "toy.yaml", "--resume", str(toy_run), "--optimizer.lr", "1", "--trainer.steps", "9")
    assert "optimizer.lr: 0.05 → 1.0; " in line or "trainer.steps: 6 → 9; optimizer.lr: 0.05 → 1.0" in line
    assert "trainer.steps: 6 → 9" in line
    Path("toy.yaml").write_text(Path("toy.yaml").read_text().replace("batch: 4", "batch: 2"))
    assert "trainer.batch: 4 → 2" in refused("train", "toy.yaml", "--resume", str(toy_run))
    printed = answered("train", "--resume", "--log.every", "1")
    assert f"{toy_run}: goes on with log.every: 2 → 1" in printed
    assert "every: 1\n" in (toy_run / "config.yaml").read_text()


def test_an_interrupted_run_goes_on(answered, capsys, monkeypatch: pytest.MonkeyPatch):
    """A signal in the third step: status 130, a hint, a whole checkpoint; the resumed run ends like another."""
    from toy_recipes import ToyRecipe

    original = ToyRecipe.loss

    def loss(self, phase, batch, clock):
        if clock.step == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return original(self, phase, batch, clock)

    with monkeypatch.context() as patch:
        patch.setattr(ToyRecipe, "loss", loss)
        assert main(["train", "toy.yaml", "--name", "cut"]) == 130
    assert "interrupted; go on with: salticid train --resume runs/toy/cut" in capsys.readouterr().out
    assert not Path("runs/toy/cut/checkpoints/step-00000006").exists()
    answered("train", "--resume")
    sessions = json.loads(Path("runs/toy/cut/env.json").read_text())
    assert len(sessions) == 2
    answered("train", "toy.yaml", "--name", "whole")
    weights = [Path(f"runs/toy/{name}/checkpoints/step-00000006/model.safetensors") for name in ("cut", "whole")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_a_run_under_way_is_left_alone(answered, refused, toy_run: Path):
    """Two commands on one directory; the first is killed, and its lock goes with it."""
    script = f"""
import time
from pathlib import Path
from salticid.engine.run import locked
with locked(Path({str(toy_run)!r})):
    print("locked", flush=True)
    time.sleep(60)
"""
    before = (toy_run / "config.yaml").read_bytes(), (toy_run / "env.json").read_bytes()
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "locked\n"
        for line in (f"--resume {toy_run}", f"toy.yaml --run-dir {toy_run}"):
            assert f"{toy_run}: a run is under way there (process {other.pid} on " in refused("train", *line.split())
        other.kill()
    assert before == ((toy_run / "config.yaml").read_bytes(), (toy_run / "env.json").read_bytes())
    answered("train", "--resume", str(toy_run))


@pytest.mark.dist
def test_two_ranks_share_one_run_and_one_voice(place: Path):
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "salticid"]
    environment = os.environ | {"PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "1"}
    train = [*launcher, "train", "toy.yaml", "--trainer.steps", "2"]
    done = subprocess.run(train, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in (place / "runs/toy").iterdir()] == ["toy-1"]
    assert done.stdout.count("report: ") == 1
    assert json.loads((place / "runs/toy/toy-1/env.json").read_text())[0]["ranks"] == 2


def test_a_run_keeps_the_precision_that_auto_was_where_it_began(answered, monkeypatch: pytest.MonkeyPatch):
    from salticid.engine import precision

    Path("toy.yaml").write_text(Path("toy.yaml").read_text().replace("batch: 4", "batch: 4, precision: auto"))
    monkeypatch.setattr(precision, "has_bf16", lambda device: True)
    answered("train", "toy.yaml", "--run-dir", "run")
    assert "precision: bf16\n" in Path("run/config.yaml").read_text()
    monkeypatch.setattr(precision, "has_bf16", lambda device: False)
    answered("train", "toy.yaml", "--resume", "run")
    assert "precision: bf16\n" in Path("run/config.yaml").read_text()


def test_a_run_of_no_steps_goes_where_its_data_is_not(answered, refused):
    elsewhere = ("--data", "salticid.data.readers.DepthFolder", "--data.root", "nowhere")
    assert "nowhere is not a folder" in refused("train", "toy.yaml", "--name", "some", *elsewhere)
    answered("train", "toy.yaml", "--name", "none", "--trainer.steps", "0", *elsewhere)
    assert Path("runs/toy/none/checkpoints/step-00000000/model.safetensors").is_file()
    assert "nowhere is not a folder" in refused("evaluate", "runs/toy/none")
