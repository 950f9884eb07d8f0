"""Prediction from files, with the options that a recipe declares."""

from pathlib import Path


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


def test_a_recipe_without_prediction_says_so(refused, toy_run: Path, monkeypatch):
    from toy_recipes import ToyRecipe

    Path("in.txt").write_text("1 2\n")
    monkeypatch.delattr(ToyRecipe, "predict")
    line = refused("predict", str(toy_run), "--input", "in.txt", "--output", "out.txt")
    assert "ToyRecipe has no prediction from files" in line


def test_a_run_without_an_average_predicts_with_its_raw_weights(answered, refused):
    answered("train", "toy.yaml", "--name", "none", "--ema", "null", "--checkpoint.best_metric", "null")
    Path("in.txt").write_text("1 2\n")
    request = ["predict", "runs/toy/none", "--input", "in.txt", "--output", "out.txt", "--offset", "0"]
    assert "has no EMA" in refused(*request, "--weights", "ema")
    answered(*request)
    default = Path("out.txt").read_text()
    answered(*request, "--weights", "raw")
    assert Path("out.txt").read_text() == default
