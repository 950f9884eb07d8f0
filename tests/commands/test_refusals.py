"""What the commands refuse: mistakes and hostile configurations, in one line, before anything runs."""

import os
import sys
import time
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
HOSTILE = sorted((TESTS / "hostile").glob("*.yaml"))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("tran", "there is no command tran; did you mean train?"),
        ("xyz", "there is no command xyz; see salticid --help"),
        ("train", "expected a preset, a .yaml file or --resume; presets: marigold-document"),
        ("train panorama-tny", "did you mean panorama-tiny?"),
        ("train none.yaml", "none.yaml: there is no such configuration file"),
        ("train .", "neither a preset nor a .yaml file"),
        ("train toy.yaml --resum", "unknown argument --resum; did you mean --resume?"),
        ("train toy.yaml --steps 3", "unknown argument --steps"),
        ("train toy.yaml more", "unknown argument more"),
        ("train toy.yaml --trainer.steps", "--trainer.steps: a value is missing"),
        ("train toy.yaml --trainer.step 3", "trainer.step: unknown key; did you mean trainer.steps?"),
        ("train toy.yaml --trainer.steps=x", "trainer.steps: expected int, got 'x'"),
        ("train toy.yaml --trainer.steps -1", "trainer.steps is -1; it must"),
        ("train toy.yaml --recipe.width 3", "recipe.init_args.width: 3 given, 2 expected"),
        ("train toy.yaml --recipe os.system", "recipe.class_path: os.system is outside the allowed packages"),
        ("train toy.yaml --recipe.class_path=canary.X", "a package that you trust is allowed with --allow canary"),
        ("train toy.yaml --data {class_path:", "--data: line 1"),
        ("train toy.yaml --data.x [{class_path: os.system}]", "class_path: os.system is outside"),
        ("train toy.yaml --name a --run-dir b", "not allowed with argument"),
        ("train toy.yaml --run-dir toy.yaml/run", "toy.yaml/run: cannot be written: Not a directory"),
        ("train toy.yaml --allow ../x", "--allow ../x: expected a package"),
        ("train --resume", "runs/*/*: there is no run to resume"),
        ("train toy.yaml --resume", "runs/*/toy-[0-9]*: there is no run to resume"),
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
    (place / "large.yaml").write_text((place / "toy.yaml").read_text() + "#" * 70_000)
    assert "larger than 64 KiB" in refused("train", "large.yaml")
