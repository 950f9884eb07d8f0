"""Evaluation of checkpoints: the numbers of training, files of their own, clear refusals."""

import csv
import json
from pathlib import Path

import pytest
import torch
from PIL import Image


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


def test_the_report_is_written_anew(answered, toy_run: Path):
    (toy_run / "report.html").unlink()
    assert "report.html" in answered("report", str(toy_run))
    assert (toy_run / "report.html").stat().st_size > 1000


@pytest.mark.parametrize(("overrides", "batch"), [("", 2), ("--trainer.micro_batch 3", 3), ("--validation.batch 5", 5)])
def test_evaluation_takes_as_many_at_a_time_as_fitted_into_memory(answered, monkeypatch, overrides: str, batch: int):
    """The run found by trial that two samples fit, or its two ranks had two each."""
    from salticid.engine import checkpoint
    from toy_recipes import ToyRecipe

    answered("train", "toy.yaml", "--name", "auto", "--trainer.micro_batch", "null")
    checkpoint.amend(Path("runs/toy/auto/checkpoints/step-00000006"), micro_batch=2)
    sizes, inner = [], ToyRecipe.evaluate

    def evaluate(self, batch, *, seed):
        sizes.append(len(batch["id"]))
        return inner(self, batch, seed=seed)

    monkeypatch.setattr(ToyRecipe, "evaluate", evaluate)
    answered("evaluate", "runs/toy/auto", *overrides.split())
    assert max(sizes) == batch
    assert sum(sizes) == 8


FOLDER = Path("runs/toy/one/evaluation/step-00000006-ema-360")


@pytest.fixture
def names(monkeypatch) -> list[str]:
    """What the toy recipe calls its pictures to look around in; those of two samples, black and grey."""
    from toy_recipes import ToyRecipe

    names = ["warp-and-blend", "12-step"]
    grey = torch.arange(2, dtype=torch.uint8).mul(90)[:, None, None, None].expand(2, 3, 4, 8)
    monkeypatch.setattr(ToyRecipe, "spheres", lambda self, batch, *, seed: dict.fromkeys(names, grey))
    return names


def test_evaluation_writes_panoramas_in_place_of_earlier_ones(answered, toy_run: Path, names: list[str]):
    answered("evaluate", str(toy_run))
    written = {"01-12-step.png", "01-warp-and-blend.png", "02-12-step.png", "02-warp-and-blend.png", "index.json"}
    assert {path.name for path in FOLDER.iterdir()} == written
    index = json.loads((FOLDER / "index.json").read_text())
    assert index == {"ids": [f"point-{i}" for i in (32, 34, 36, 38)], "names": ["warp-and-blend", "12-step"]}
    with Image.open(FOLDER / "02-12-step.png") as image:
        assert image.size == (8, 4)
        assert image.getpixel((0, 0)) == (90, 90, 90)
        assert "equirectangular" in image.info["XML:com.adobe.xmp"]
    (FOLDER / "notes.txt").write_text("mine")
    names[:] = ["truth"]
    answered("evaluate", str(toy_run))
    assert {path.name for path in FOLDER.iterdir()} == {"01-truth.png", "02-truth.png", "index.json", "notes.txt"}
    answered("report", str(toy_run))
    assert (toy_run / "report.html").read_text().count('data-name="truth"') == 2


def test_a_recipe_without_panoramas_leaves_no_folder(answered, toy_run: Path, names: list[str]):
    answered("evaluate", str(toy_run))
    names.clear()
    answered("evaluate", str(toy_run))
    assert not FOLDER.exists()


@pytest.mark.parametrize("name", ["../../up", "a/b", "", "Truth", ".hidden", "x" * 49, "a\n"])
def test_names_that_are_no_file_names_are_refused(answered, refused, toy_run: Path, names: list[str], name: str):
    names[:] = [name]
    assert "is no name of lower-case letters" in refused("evaluate", str(toy_run))
    assert not FOLDER.exists()


def test_pictures_that_cannot_be_written_are_refused_in_one_line(refused, answered, toy_run: Path, names: list[str]):
    FOLDER.parent.mkdir(exist_ok=True)
    FOLDER.touch()
    assert "01-warp-and-blend.png: cannot be written" in refused("evaluate", str(toy_run))
    FOLDER.unlink()
    (FOLDER.parent / "step-00000006-ema.png").unlink()
    (FOLDER.parent / "step-00000006-ema.png").mkdir()
    assert "step-00000006-ema.png: cannot be written" in refused("evaluate", str(toy_run))
