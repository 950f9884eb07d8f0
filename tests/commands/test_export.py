"""Export, with the options that a recipe declares."""

import itertools
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file


def export(self, output: Path, *, half: bool = False, name: str = "model") -> list[Path]:
    """Writes the weights.

    Args:
        half: in half precision.
        name: of the file.
    """
    output.mkdir()
    weights = {name: value.half() if half else value for name, value in self.state_dict().items()}
    torch.save({"training": self.training, "weights": weights}, output / f"{name}.pt")
    return [output / f"{name}.pt"]


@pytest.fixture
def exporting(monkeypatch, place):
    from toy_recipes import ToyRecipe

    monkeypatch.setattr(ToyRecipe, "export", export)


def test_export_takes_the_options_of_the_recipe(exporting, answered, refused, toy_run: Path):
    assert answered("export", str(toy_run), "--output", "out", "--half", "--name", "x") == "out/x.pt\n"
    assert next(iter(torch.load("out/x.pt")["weights"].values())).dtype == torch.float16
    assert torch.load("out/x.pt")["training"] is False
    text = answered("export", str(toy_run), "--help")
    assert "in half precision (bool, default False)" in text
    assert "--weights" in text
    assert "unknown argument --nmae; did you mean --name?" in refused(
        "export", str(toy_run), "--output", "a", "--nmae", "y"
    )
    assert "required: RUN|CHECKPOINT" in refused("export", "--output", "a")
    assert "out" in refused("export", str(toy_run), "--output", "out")


def test_the_average_is_exported_where_there_is_one(exporting, answered, refused, toy_run: Path):
    number = itertools.count()

    def exported(run: Path, *weights: str) -> torch.Tensor:
        printed = answered("export", str(run), "--output", f"out-{next(number)}", *weights)
        tensors = torch.load(printed.strip())["weights"].values()
        return torch.cat([v.flatten() for v in tensors])

    assert torch.equal(exported(toy_run), exported(toy_run, "--weights", "ema"))
    assert not torch.equal(exported(toy_run), exported(toy_run, "--weights", "raw"))
    answered("train", "toy.yaml", "--name", "plain", "--ema", "null", "--checkpoint.best_metric", "error")
    plain = Path("runs/toy/plain")
    assert torch.equal(exported(plain), exported(plain, "--weights", "raw"))
    assert "has no EMA" in refused("export", str(plain), "--output", "a", "--weights", "ema")


def test_a_recipe_without_export_says_so(refused, toy_run: Path):
    assert "ToyRecipe has no export" in refused("export", str(toy_run), "--output", "out")
    assert not Path("out").exists()


def test_a_run_of_no_steps_is_judged_and_exported_as_it_began(exporting, answered):
    answered("train", "toy.yaml", "--name", "none", "--trainer.steps", "0", "--trainer.micro_batch", "auto")
    assert "raw  error" in answered("evaluate", "runs/toy/none")
    answered("export", "runs/toy/none", "--output", "out")
    saved = load_file("runs/toy/none/checkpoints/step-00000000/model.safetensors")
    exported = torch.load("out/model.pt")["weights"]
    assert exported.keys() == saved.keys()
    assert all(torch.equal(exported[name], value) for name, value in saved.items())
