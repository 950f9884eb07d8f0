"""An empty folder with a configuration of the toy recipe in it, and commands that succeed or fail in it."""

from pathlib import Path

import pytest

from salticid.cli import main

TESTS = Path(__file__).parents[1]
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


@pytest.fixture
def toy_run(answered) -> Path:
    """A finished run of six steps."""
    answered("train", "toy.yaml", "--name", "one")
    return Path("runs/toy/one")
