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
    assert "has no EMA" in refused("evaluate", "runs/toy/none", "--weights", "ema")
    assert "no checkpoint is marked as the best" in refused("evaluate", "runs/toy/none", "--best")


def test_a_run_without_an_average_is_judged_by_its_raw_weights(answered):
    answered("train", "toy.yaml", "--name", "none", "--ema", "null", "--checkpoint.best_metric", "raw/error")
    assert "step-00000006, 8 samples" in answered("evaluate", "runs/toy/none")
    folder = Path("runs/toy/none/evaluation")
    assert json.loads((folder / "step-00000006-raw.json").read_text())["weights"] == "raw"
    assert not list(folder.glob("*-ema*"))


def by_error(folder: Path, stem: str) -> list[str]:
    """The ids of the samples, that with the least error first."""
    with (folder / f"{stem}.csv").open() as file:
        return [row["id"] for row in sorted(csv.DictReader(file), key=lambda row: float(row["error"]))]


@pytest.fixture
def previewed(monkeypatch) -> list[list[str]]:
    """The samples of every preview, whose picture has as many rows, in the grey of their number."""
    from toy_recipes import ToyRecipe

    seen: list[list[str]] = []

    def preview(self, batch, *, seed):
        seen.append(batch["id"])
        rows = torch.tensor([int(name.removeprefix("point-")) for name in batch["id"]], dtype=torch.uint8)
        return rows.view(1, -1, 1).repeat(3, 1, 5 + len(rows))

    monkeypatch.setattr(ToyRecipe, "preview", preview)
    return seen


@pytest.mark.parametrize("mode", ["min", "max"])
def test_evaluation_shows_the_best_and_the_worst_samples(answered, previewed, mode: str):
    answered("train", "toy.yaml", "--name", "one", "--checkpoint.best_mode", mode)
    previewed.clear()
    answered("evaluate", "runs/toy/one", "--validation.previews", "3")
    (path,) = Path("runs/toy/one/evaluation").glob("*.json")
    order = by_error(path.parent, path.stem)
    best, worst = (order[:3], order[:-4:-1])[:: 1 if mode == "min" else -1]
    assert json.loads(path.read_text())["extremes"] == {"metric": "error", "best": best, "worst": worst}
    assert previewed[1:] == [best, worst]
    with Image.open(path.with_name(f"{path.stem}-extremes.png")) as image:
        assert image.size == (8, 3 + 12 + 3)
        grey = [image.getpixel((0, y))[0] for y in range(image.height)]
    assert grey == [int(name[-2:]) for name in best] + [255] * 12 + [int(name[-2:]) for name in worst]
    answered("report", "runs/toy/one")
    page = Path("runs/toy/one/report.html").read_text()
    assert f"by error, best: {', '.join(best)}; worst: {', '.join(worst)}" in page


def test_no_sample_is_both_best_and_worst(answered, previewed, toy_run: Path):
    answered("evaluate", str(toy_run), "--samples", "5")
    (path,) = (toy_run / "evaluation").glob("*.json")
    order = by_error(path.parent, path.stem)
    assert json.loads(path.read_text())["extremes"] == {
        "metric": "error",
        "best": order[:3],
        "worst": order[:2:-1],
    }
    answered("evaluate", str(toy_run), "--samples", "1", "--output", "single")
    (path,) = Path("single").glob("*.json")
    assert json.loads(path.read_text())["extremes"]["worst"] == []
    with Image.open(path.with_name(f"{path.stem}-extremes.png")) as image:
        assert image.size == (6, 1)


@pytest.mark.parametrize("overrides", [("--checkpoint.best_metric", "null"), ("--validation.previews", "0")])
def test_without_metric_or_pictures_there_are_no_extremes(answered, toy_run: Path, overrides):
    answered("evaluate", str(toy_run), *overrides)
    (path,) = (toy_run / "evaluation").glob("*.json")
    assert "extremes" not in json.loads(path.read_text())
    assert not list(path.parent.glob("*-extremes.png"))


def test_a_metric_that_no_sample_has_picks_none_and_nan_is_neither(answered, toy_run: Path, monkeypatch):
    from toy_recipes import ToyRecipe

    inner = ToyRecipe.evaluate

    def evaluate(self, batch, *, seed):
        records = inner(self, batch, seed=seed)
        return records | {"error": torch.where(batch["x"][:, 0] > 0, records["error"], torch.nan)}

    monkeypatch.setattr(ToyRecipe, "evaluate", evaluate)
    answered("evaluate", str(toy_run), "--output", "some")
    with Path("some/step-00000006-ema.csv").open() as file:
        known = {row["id"] for row in csv.DictReader(file) if row["error"] != "nan"}
    extremes = json.loads(Path("some/step-00000006-ema.json").read_text())["extremes"]
    assert 0 < len(known) < 8
    assert {*extremes["best"], *extremes["worst"]} == known
    monkeypatch.setattr(ToyRecipe, "summarise", lambda self, records: {"error": 1.0})
    monkeypatch.setattr(ToyRecipe, "evaluate", lambda self, batch, *, seed: {"other": batch["y"]})
    answered("evaluate", str(toy_run), "--output", "none")
    assert "extremes" not in json.loads(Path("none/step-00000006-ema.json").read_text())


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
