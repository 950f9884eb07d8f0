"""The directory of a run: names, refusals, surroundings."""

import json
import os
import subprocess
import time
from pathlib import Path

import pytest

from salticid.engine.run import (
    RUNS,
    agree,
    create_run,
    environment,
    newest_run,
    numbered,
    open_run,
    recipe_folder,
    update_config,
)
from salticid.errors import UserError


@pytest.mark.parametrize(
    ("path", "folder"),
    [
        ("salticid.recipes.PanoramaRecipe", "panorama"),
        ("mylab.VideoDepthRecipe", "video_depth"),
        ("mylab.SfM", "sf_m"),
        ("mylab.Recipe", "recipe"),
    ],
)
def test_runs_lie_in_a_folder_of_their_recipe(path: str, folder: str):
    assert recipe_folder(path) == folder


def test_numbers_go_on_from_the_highest(tmp_path: Path):
    assert numbered(tmp_path, "a").name == "a-1"
    for name in ("a-1", "a-9", "a-b", "ab-20", "a-9-30"):
        (tmp_path / name).mkdir()
    assert numbered(tmp_path, "a").name == "a-10"


def test_a_run_is_created_once(tmp_path: Path):
    directory = tmp_path / "runs/x/one"
    create_run(directory, "a: 1\n", "cpu")
    assert open_run(directory) == directory
    assert (directory / "config.yaml").read_text() == "a: 1\n"
    with pytest.raises(UserError, match="go on with `salticid train --resume"):
        create_run(directory, "a: 2\n", "cpu")
    assert (directory / "config.yaml").read_text() == "a: 1\n"
    update_config(directory, "a: 3\n")
    assert (directory / "config.yaml").read_text() == "a: 3\n"
    assert {path.name for path in directory.iterdir()} == {"config.yaml", "env.json"}


def test_a_folder_that_holds_other_things_may_be_used(tmp_path: Path):
    (tmp_path / "notes.txt").write_text("mine")
    create_run(tmp_path, "a: 1\n", "cpu")
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_what_is_no_run_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match="no such run directory"):
        open_run(tmp_path / "none")
    with pytest.raises(UserError, match=r"config\.yaml is missing"):
        open_run(tmp_path)
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(UserError, match="cannot be written: Not a directory"):
        create_run(file / "run", "", "cpu")


def test_the_newest_run_is_the_one_written_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="no run to resume"):
        newest_run()
    for age, name in ((100, "a-1"), (300, "a-2"), (200, "b-1")):
        create_run(RUNS / "x" / name, "", "cpu")
        os.utime(RUNS / "x" / name / "config.yaml", (time.time() - age,) * 2)
    (RUNS / "x/a-2/log.jsonl").write_text("")  # it goes on
    assert newest_run() == RUNS / "x/a-2"
    assert newest_run("b-*") == RUNS / "x/b-1"
    with pytest.raises(UserError, match="no run to resume"):
        newest_run("c-*")


def test_surroundings_tell_versions_and_commit_but_no_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_API_KEY", "hush-hush")
    monkeypatch.setattr("sys.argv", ["salticid", "train", "a b"])
    found = environment("cpu")
    assert found["command"] == "salticid train 'a b'"
    assert found["commit"] is None
    assert "hush-hush" not in json.dumps(found)
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
    (tmp_path / "file").write_text("1")
    for line in (["init", "-q"], ["add", "file"], ["commit", "-q", "-m", "x"]):
        subprocess.run([*git, *line], check=True)
    commit = environment("cpu")["commit"]
    assert len(commit) == 40
    (tmp_path / "file").write_text("2")
    assert environment("cpu")["commit"] == commit + "+"


def test_a_single_process_agrees_with_itself(tmp_path: Path):
    assert agree(tmp_path) == tmp_path
