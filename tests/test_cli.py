"""The command line: what it answers, what it refuses, and whole runs of the toy recipe."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from salticid import presets
from salticid.cli import COMMANDS, main
from salticid.config import KEYS

TESTS = Path(__file__).parent
HOSTILE = sorted((TESTS / "hostile").glob("*.yaml"))
TOY = """
recipe: {class_path: toy_recipes.ToyRecipe}
data: {class_path: toy_recipes.ToyData}
trainer: {steps: 6, batch: 4}
optimizer: {lr: 0.05}
checkpoint: {every: 3, best_metric: ema/error, best_mode: min}
validation: {every_steps: 3, weights: both}
log: {every: 2}
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder with `toy.yaml` in it; the toy recipe can be imported and is allowed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(TESTS))
    monkeypatch.setenv("SALTICID_ALLOW", "toy_recipes")
    (tmp_path / "toy.yaml").write_text(TOY)
    return tmp_path


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]):
    """Run a command that must fail with status 2 and one line; returns the line."""

    def refused(*arguments: str) -> str:
        capsys.readouterr()
        assert main(list(arguments)) == 2
        out, error = capsys.readouterr()
        assert out == ""
        assert error.startswith("salticid: error: ")
        assert error.count("\n") == 1
        return error.strip()

    return refused


@pytest.fixture
def answered(capsys: pytest.CaptureFixture[str]):
    """Run a command that must succeed; returns what it prints."""

    def answered(*arguments: str) -> str:
        capsys.readouterr()
        assert main(list(arguments)) == 0
        return capsys.readouterr().out

    return answered


# --- help -----------------------------------------------------------------------------------------------------------


def test_help_and_mistakes_import_nothing_heavy():
    lines = [[], *([name, "--help"] for name in COMMANDS), ["tran"], ["train", "--resum"], ["train", "none.yaml"]]
    code = f"""
import sys
from salticid.cli import main
print([main(arguments) for arguments in {lines!r}], file=sys.stderr)
print({{"torch", "numpy", "jsonargparse", "rich", "PIL", "typeshed_client"}} & set(sys.modules), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.splitlines()[-2:] == [str([0] * 6 + [2] * 3), "set()"], done.stderr


def test_help_names_commands_presets_and_keys(answered):
    assert all(f"  {name} " in answered("--help") for name in COMMANDS)
    text = answered("train", "--help")
    for name in presets.names():
        assert f"{name} " in text
        assert presets.summary(name) in text
    assert all(f"  {key} " in text for key in KEYS)
    assert "--print-config" in text
    assert answered("--version").startswith("salticid 0.")


# --- mistakes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("tran", "there is no command tran; did you mean train?"),
        ("xyz", "there is no command xyz; see salticid --help"),
        ("train", "expected a preset, a .yaml file or --resume; presets: panorama-tiny"),
        ("train panorama-tny", "did you mean panorama-tiny?"),
        ("train none.yaml", "none.yaml: there is no such configuration file"),
        ("train .", "neither a preset nor a .yaml file"),
        ("train toy.yaml --resum", "unknown argument --resum; did you mean --resume?"),
        ("train toy.yaml --steps 3", "unknown argument --steps"),
        ("train toy.yaml more", "unknown argument more"),
        ("train toy.yaml --trainer.steps", "--trainer.steps: a value is missing"),
        ("train toy.yaml --trainer.step 3", "trainer.step: unknown key; did you mean trainer.steps?"),
        ("train toy.yaml --trainer.steps=x", "trainer.steps: expected int, got 'x'"),
        ("train toy.yaml --trainer.steps 0", "trainer.steps is 0; it must be at least 1"),
        ("train toy.yaml --recipe.width 3", "recipe.init_args.width: 3 given, 2 expected"),
        ("train toy.yaml --recipe os.system", "recipe.class_path: os.system is outside the allowed packages"),
        ("train toy.yaml --recipe.class_path=canary.X", "a package that you trust is allowed with --allow canary"),
        ("train toy.yaml --data {class_path:", "--data: line 1"),
        ("train toy.yaml --data.x [{class_path: os.system}]", "class_path: os.system is outside"),
        ("train toy.yaml --name a --run-dir b", "not allowed with argument"),
        ("train toy.yaml --run-dir toy.yaml/run", "toy.yaml/run: cannot be written: Not a directory"),
        ("train toy.yaml --allow ../x", "--allow ../x: expected a package"),
        ("train --resume", "runs/*/*: there is no run to resume"),
        ("train toy.yaml --resume", "runs/*/toy-*: there is no run to resume"),
        ("train toy.yaml --resume --name x", "runs/*/x: there is no run to resume"),
        ("train toy.yaml --name ../x", "--name ../x: expected a plain name"),
        ("train --resume nowhere", "nowhere: there is no such run directory"),
        ("train --resume .", ".: not a run: config.yaml is missing"),
        ("evaluate", "the following arguments are required: RUN|CHECKPOINT"),
        ("evaluate nowhere", "nowhere: there is no such run or checkpoint"),
        ("evaluate .", "not a run: config.yaml is missing"),
        ("evaluate . --samples 0", "expected a number above 0, got '0'"),
        ("evaluate . --weights mine", "invalid choice: 'mine'"),
        ("predict", "the following arguments are required: RUN|CHECKPOINT, --input, --output"),
        ("predict --input a --output b c", "expected a run or a checkpoint as the first argument"),
        ("predict nowhere --input a --output b", "nowhere: there is no such run or checkpoint"),
        ("report nowhere", "nowhere: there is no such run directory"),
        ("doctor --jsn", "did you mean --json?"),
    ],
)
def test_mistakes_are_answered_in_one_line(refused, line: str, message: str):
    arguments = line.split(maxsplit=3) if "{" in line else line.split()
    assert message in refused(*arguments)
    assert not Path("runs").exists()


def test_unexpected_errors_show_their_traceback(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("salticid.commands.doctor.run", lambda rest: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["doctor"])


def test_debugging_shows_the_traceback_of_a_mistake(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SALTICID_DEBUG", "1")
    with pytest.raises(Exception, match="there is no such configuration file"):
        main(["train", "none.yaml"])


# --- hostile configurations -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", HOSTILE, ids=lambda path: path.stem)
def test_hostile_configurations_are_refused_before_anything_runs(refused, place: Path, path: Path, monkeypatch):
    (place / "canary.py").write_text("open('canary.txt', 'w').write('imported')\n")
    monkeypatch.syspath_prepend(str(place))
    monkeypatch.setattr(os, "system", lambda command: pytest.fail(f"ran {command}"))
    start = time.perf_counter()
    line = refused("train", str(path))
    assert time.perf_counter() - start < 5.0
    assert line.isprintable()
    assert len(line) < 400
    assert sorted(os.listdir()) == ["canary.py", "toy.yaml"]
    assert "canary" not in sys.modules


def test_the_canary_would_sing(place: Path, monkeypatch, refused):
    """The counter-check: the same file, once its package is allowed, is imported."""
    (place / "canary.py").write_text("open('canary.txt', 'w').write('imported')\n")
    monkeypatch.syspath_prepend(str(place))
    assert "canary has no class Recipe" in refused(
        "train", str(TESTS / "hostile/class-outside.yaml"), "--allow", "canary"
    )
    assert (place / "canary.txt").exists()
    sys.modules.pop("canary")


def test_a_large_file_is_refused(refused, place: Path):
    (place / "large.yaml").write_text(TOY + "#" * 70_000)
    assert "larger than 64 KiB" in refused("train", "large.yaml")


# --- configurations -------------------------------------------------------------------------------------------------


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


# --- runs -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def toy_run(answered) -> Path:
    answered("train", "toy.yaml", "--name", "one")
    return Path("runs/toy/one")


def test_a_run_leaves_what_it_promises(toy_run: Path):
    names = {path.name for path in toy_run.iterdir()}
    assert names >= {"config.yaml", "env.json", "log.jsonl", "checkpoints", "samples", "report.html"}
    environment = json.loads((toy_run / "env.json").read_text())
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
    Path("toy.yaml").write_text(TOY.replace("batch: 4", "batch: 2"))
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
    answered("train", "toy.yaml", "--name", "whole")
    weights = [Path(f"runs/toy/{name}/checkpoints/step-00000006/model.safetensors") for name in ("cut", "whole")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


# --- evaluation and prediction --------------------------------------------------------------------------------------


def test_evaluation_writes_numbers_samples_and_a_picture(answered, toy_run: Path):
    printed = answered("evaluate", str(toy_run), "--weights", "both")
    assert "step-00000006, 8 samples" in printed
    folder = toy_run / "evaluation"
    for weights in ("ema", "raw"):
        stem = f"step-00000006-{weights}"
        summary = json.loads((folder / f"{stem}.json").read_text())
        with (folder / f"{stem}.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert [row["id"] for row in rows] == [f"point-{i}" for i in range(32, 40)]
        assert summary["metrics"]["error"] == pytest.approx(sum(float(r["error"]) for r in rows) / 8, rel=1e-12)
        assert (summary["step"], summary["samples"], summary["ema_updates"]) == (6, 8, 6)
        assert (folder / f"{stem}.png").is_file()
        logged = [json.loads(line) for line in (toy_run / "log.jsonl").read_text().splitlines()]
        last = [e for e in logged if e["kind"] == "validation" and e["weights"] == weights][-1]
        assert last["metrics"]["error"] == pytest.approx(summary["metrics"]["error"], rel=1e-12)


def test_evaluations_of_other_data_do_not_overwrite_the_plain_one(answered, toy_run: Path):
    answered("evaluate", str(toy_run))
    before = (toy_run / "evaluation/step-00000006-ema.json").read_bytes()
    answered("evaluate", str(toy_run), "--data.held_out", "20", "--samples", "3")
    assert (toy_run / "evaluation/step-00000006-ema.json").read_bytes() == before
    other = next(p for p in (toy_run / "evaluation").glob("*.json") if p.name != "step-00000006-ema.json")
    summary = json.loads(other.read_text())
    assert summary["samples"] == 3
    assert summary["overrides"] == {"data.held_out": "20"}


def test_evaluation_of_one_checkpoint_of_the_best_and_elsewhere(answered, toy_run: Path):
    answered("evaluate", str(toy_run / "checkpoints/step-00000003"), "--output", "out")
    assert json.loads(Path("out/step-00000003-ema.json").read_text())["step"] == 3
    best = json.loads((toy_run / "checkpoints/best.json").read_text())
    answered("evaluate", str(toy_run), "--best", "--output", "best")
    assert Path(f"best/step-{best['step']:08d}-ema.json").is_file()


def test_an_average_that_has_not_begun_is_not_evaluated(answered, refused):
    answered("train", "toy.yaml", "--name", "late", "--ema.start", "5", "--checkpoint.best_metric", "raw/error")
    assert "has not begun" in refused("evaluate", "runs/toy/late/checkpoints/step-00000003")
    answered("train", "toy.yaml", "--name", "none", "--ema", "null", "--checkpoint.best_metric", "null")
    assert "has no EMA" in refused("evaluate", "runs/toy/none")
    assert "no checkpoint is marked as the best" in refused("evaluate", "runs/toy/none", "--best")
    answered("evaluate", "runs/toy/none", "--weights", "raw")


def test_a_hostile_run_is_not_evaluated(refused, toy_run: Path, place: Path, monkeypatch):
    monkeypatch.delenv("SALTICID_ALLOW")
    assert "toy_recipes.ToyRecipe is outside the allowed packages" in refused("evaluate", str(toy_run))
    assert "toy_recipes.ToyRecipe is outside" in refused("predict", str(toy_run), "--input", "a", "--output", "b")
    assert "toy_recipes.ToyRecipe is outside" in refused("train", "--resume", str(toy_run))


def test_a_damaged_checkpoint_is_passed_over(answered, refused, toy_run: Path):
    newest = toy_run / "checkpoints/step-00000006/model.safetensors"
    content = bytearray(newest.read_bytes())
    content[-1] ^= 1
    newest.write_bytes(content)
    printed = answered("evaluate", str(toy_run))
    assert "passed over: " in printed
    assert "step-00000003, 8 samples" in printed
    assert "damaged" in refused("evaluate", str(newest.parent))


def test_prediction_takes_the_options_of_the_recipe(answered, refused, toy_run: Path, capsys):
    Path("in.txt").write_text("1 2\n0 1\n")
    base = ["predict", str(toy_run), "--input", "in.txt", "--output", "made/out.txt"]
    assert "the following arguments are required: --offset" in refused(*base)
    assert "--offset: expected float, got 'x'" in refused(*base, "--offset", "x")
    assert "--mode: expected one of sum, mean, got 'max'" in refused(*base, "--offset", "1", "--mode", "max")
    assert "unknown argument --repaet; did you mean --repeat?" in refused(*base, "--offset", "1", "--repaet", "2")
    assert "--input none.txt: there is no such file" in refused(*base[:4], "none.txt", *base[4:], "--offset", "1")
    answered(*base, "--offset", "1e1", "--repeat", "2", "--mode", "mean", "--loud", "--seed", "4")
    lines = Path("made/out.txt").read_text().splitlines()
    assert [line.split(maxsplit=1)[1] for line in lines] == ["mean True 4"] * 4
    assert float(lines[0].split()[0]) > 5
    text = answered("predict", str(toy_run), "--help")
    assert "added to the result (float)" in text
    assert "--seed" in text


def test_prediction_where_nothing_can_be_written(refused, toy_run: Path):
    Path("in.txt").write_text("1 2\n")
    line = refused("predict", str(toy_run), "--input", "in.txt", "--output", "toy.yaml/out", "--offset", "1")
    assert "toy.yaml" in line


def test_the_report_is_written_anew(answered, toy_run: Path):
    (toy_run / "report.html").unlink()
    assert "report.html" in answered("report", str(toy_run))
    assert (toy_run / "report.html").stat().st_size > 1000


# --- several processes ----------------------------------------------------------------------------------------------


@pytest.mark.dist
def test_two_ranks_share_one_run_and_one_voice(place: Path):
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "salticid"]
    environment = os.environ | {"PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "1"}
    train = [*launcher, "train", "toy.yaml", "--trainer.steps", "2"]
    done = subprocess.run(train, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in (place / "runs/toy").iterdir()] == ["toy-1"]
    assert done.stdout.count("report: ") == 1
    assert json.loads((place / "runs/toy/toy-1/env.json").read_text())["ranks"] == 2
