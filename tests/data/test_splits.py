"""Training and validation by folders and by lists."""

import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from salticid.config.schema import build, resolve
from salticid.data.readers import PanoramaFolder
from salticid.data.readers.splits import Split
from salticid.data.source import Data
from salticid.errors import ConfigError

SMALL = {"height": 8, "view_size": 16, "focal": 8.0}


def write(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((8, 16, 3), np.uint8)).save(root / name)


def note(path, *lines):
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def sides(root, **options):
    data = PanoramaFolder(root, **SMALL, **options)
    return [path.as_posix() for path in data.train_files], [path.as_posix() for path in data.val_files]


@pytest.fixture
def folder(tmp_path):
    """Folders as 360SP has them, and one more."""
    root = tmp_path / "360sp"
    write(root, "train/a.png", "train/deep/b.png", "test/c.png", "extra/d.png")
    return root


def test_a_folder_laid_out_as_a_split_is_split_so_and_says_so(folder, caplog):
    caplog.set_level(logging.INFO)
    assert sides(folder) == (["train/a.png", "train/deep/b.png"], ["test/c.png"])
    assert "laid out in train/ and test/" in caplog.text
    write(folder, "val/e.png")
    assert sides(folder)[1] == ["val/e.png"]


@pytest.mark.parametrize("option", [{"val_share": 0.5}, {"val_scenes": ["a"]}])
def test_a_setting_goes_before_the_layout(folder, option, caplog):
    caplog.set_level(logging.INFO)
    train, val = sides(folder, **option)
    assert len(train) + len(val) == 4
    assert "laid out" not in caplog.text


def test_train_without_a_folder_to_validate_on_is_no_layout(tmp_path):
    write(tmp_path, "train/a.png", "train/b.png", "train/c.png")
    (tmp_path / "test").mkdir()
    train, val = sides(tmp_path)
    assert (len(train), len(val)) == (2, 1)


def test_folders_for_both_sides_or_for_one(folder):
    assert sides(folder, train_folders=["train/deep", "extra"], val_folders=["./test/"]) == (
        ["extra/d.png", "train/deep/b.png"],
        ["test/c.png"],
    )
    assert sides(folder, val_folders=["test"])[0] == ["extra/d.png", "train/a.png", "train/deep/b.png"]
    assert sides(folder, train_folders=["train"])[1] == ["extra/d.png", "test/c.png"]
    assert sides(folder, val_folders=["."])[0] == []  # all for evaluation


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"val_folders": ["nowhere"]}, r"data\.val_folders: .*nowhere is not a folder"),
        ({"val_folders": ["empty"]}, r"data\.val_folders: no picture under .*empty"),
        ({"train_folders": [".."]}, r"data\.train_folders: '\.\.' leads out of"),
        ({"train_folders": ["/"]}, r"data\.train_folders: '/' leads out of"),
        (
            {"train_folders": ["."], "val_folders": ["test"]},
            r"data\.train_folders and data\.val_folders: test/c\.png is on both sides, one of 1 files",
        ),
        (
            {"train_folders": ["train"], "val_folders": ["test"], "exclude": ["test/*"]},
            r"data\.root: none of the 1 files for validation under .* can be used",
        ),
    ],
)
def test_folders_that_make_no_split_are_refused(folder, options, message):
    (folder / "empty").mkdir()
    with pytest.raises(ConfigError, match=message):
        sides(folder, **options)


def test_lists_name_files_relative_to_the_root_or_to_themselves(folder):
    train = note(folder.parent / "train.txt", "\ufeff# by hand", "", "train/a.png", "  extra/d.png\r", "train/a.png")
    val = note(folder / "test" / "list.txt", "c.png", "../train/deep/b.png")
    assert sides(folder, train_list=train, val_list=val) == (
        ["extra/d.png", "train/a.png"],
        ["test/c.png", "train/deep/b.png"],
    )
    assert sides(folder, val_list=val)[0] == ["extra/d.png", "train/a.png"]
    assert sides(folder, train_list=train)[1] == ["test/c.png", "train/deep/b.png"]


def test_listed_files_that_are_missing_or_broken_are_named_and_counted(folder, caplog):
    (folder / "broken.png").write_bytes(b"not a picture")
    (folder / "unlisted.png").write_bytes(b"not looked at")
    names = "train/a.png", "train/gone.png", "broken.png", "test", "x" * 300
    train = note(folder.parent / "train.txt", *names)
    data = PanoramaFolder(folder, **SMALL, train_list=train, val_list=note(folder / "val.txt", "test/c.png"))
    assert data.train_files == [Path("train/a.png")]
    assert set(data.skipped) == set(names[1:])
    assert data.skipped["train/gone.png"].endswith("gone.png: no such file")
    assert "train/gone.png: no such file" in caplog.text


def test_patterns_leave_out_listed_files_as_well(folder):
    train = note(folder.parent / "train.txt", "train/a.png", "train/deep/b.png")
    assert sides(folder, train_list=train, exclude=["*/deep/*"]) == (["train/a.png"], ["extra/d.png", "test/c.png"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"train/a.png\n/etc/passwd.png\n", r"line 2 of .*list\.txt, '/etc/passwd\.png', is not a path inside"),
        (b"../../a.png", r"line 1 of .*'\.\./\.\./a\.png', is not a path inside"),
        (b"train/../../outside.png", "is not a path inside"),
        (b"# nothing\n\n", r"list\.txt names no file"),
        (b"caf\xe9.png", r"cannot be read \(not UTF-8\)"),
        (b"train/gone.png", r"none of the 1 files for validation|no usable"),
    ],
)
def test_lists_that_cannot_be_followed_are_refused(folder, content, message):
    path = folder.parent / "list.txt"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message) as caught:
        sides(folder, val_list=path)
    assert "\n" not in str(caught.value)


def test_a_missing_list_and_a_file_on_both_are_refused(folder):
    with pytest.raises(ConfigError, match=r"data\.train_list: nowhere\.txt cannot be read \(No such file"):
        sides(folder, train_list=Path("nowhere.txt"))
    train, val = note(folder / "t.txt", "train/a.png", "test/c.png"), note(folder / "v.txt", "train/a.png")
    with pytest.raises(ConfigError, match=r"data\.train_list and data\.val_list: train/a\.png is on both sides"):
        sides(folder, train_list=train, val_list=val)


def test_a_scene_on_both_sides_is_remarked_on(folder, caplog):
    assert sides(folder, train_folders=["train"], val_folders=["test"])
    assert "are trained on too" not in caplog.text
    write(folder, "test/a.png", "test/b.png")
    sides(folder, train_folders=["train"], val_folders=["test"])
    assert "2 of 3 scenes of validation are trained on too, such as 'a'" in caplog.text


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"val_share": 0.2, "val_scenes": ["a"]}, "data.val_scenes and data.val_share contradict"),
        ({"val_share": 0.0, "val_folders": ("a",)}, "data.val_share and data.val_folders contradict"),
        ({"train_folders": ["a"], "val_list": Path("b")}, "data.train_folders and data.val_list contradict"),
    ],
)
def test_one_way_to_split_at_a_time(options, named):
    with pytest.raises(ConfigError, match=f"^{named}"):
        Split(**options)


def test_every_way_can_be_said_in_a_configuration(folder):
    lists = {
        "train_list": str(note(folder / "t.txt", "train/a.png")),
        "val_list": str(note(folder / "v.txt", "test/c.png")),
    }
    for way in (lists, {"val_folders": ["test"]}, {"val_share": 0.5}, {"val_scenes": ["a"]}, {}):
        arguments = {"root": str(folder), **SMALL, **way}
        value = {"class_path": "salticid.data.readers.PanoramaFolder", "init_args": arguments}
        plain = resolve(value, Data, "data", ("salticid",))
        assert resolve(plain, Data, "data", ("salticid",)) == plain
        data = build(plain, Data, "data", ("salticid",))
        assert isinstance(data, PanoramaFolder)
        assert len(data.val()) >= 1
