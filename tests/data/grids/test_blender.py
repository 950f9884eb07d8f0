"""NeRF-synthetic folders: frames and their cameras, times, and three ways to validate."""

import json
import math

import pytest
import torch

from salticid.data.readers.grids import BlenderTransforms
from salticid.errors import ConfigError

from .conftest import colour, matrix


def read(root, **options):
    values = {"views": 2, "size": (6, 8)} | options
    return BlenderTransforms(root, **values)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def change(path, **keys):
    path.write_text(json.dumps(json.loads(path.read_text()) | keys))


def test_every_view_is_the_context_cameras_once(studio):
    studio.blender("lego")
    source = read(studio.root / "lego", views=5, val_share=0.0).train()
    assert [source.id(n) for n in range(len(source))] == [f"lego/train/r_{n}.png" for n in range(6)]
    for index in range(6):
        sample = source.sample(index, generator())
        order = [(index + step) % 6 for step in range(1, 6)]
        # 50° apart, but 110° from the last to the first.
        expected = [(math.radians(70), math.radians(50 * (n - index) % 360), 4) for n in order]
        torch.testing.assert_close(sample["camera"], torch.tensor(expected), atol=1e-5, rtol=0)
        assert (sample["image"][0, 0, :, 0, 0] // 20).tolist() == order
        assert sample["context"][0, 0, 0, 0] == 20 * index
        assert sample["image"].shape == (3, 1, 5, 6, 8)


def test_missing_pictures_are_counted(studio):
    path = studio.blender("lego")
    for view in (1, 4):
        (studio.root / f"lego/train/r_{view}.png").unlink()
    data = read(studio.root / "lego", val_share=1.0)
    assert data.skipped == {f"lego/train/r_{n}.png": f"{path.parent}/train/r_{n}.png: no such file" for n in (1, 4)}
    assert len(data.val()) == 4
    with pytest.raises(ConfigError, match=r"4 views; data\.views needs 5"):
        read(studio.root / "lego", views=4, val_share=1.0)


def test_validation_is_by_views_by_split_or_by_objects(studio):
    studio.blender("lego")
    studio.blender("ship")
    studio.blender("lego", split="test", views=3)
    studio.blender("ship", split="test", views=3)
    names = lambda source: [source.id(n) for n in range(len(source))]  # noqa: E731
    data = read(studio.root / "lego", val_every=2)
    assert names(data.train()) == [f"lego/train/r_{n}.png" for n in (1, 3, 5)]
    assert names(data.val()) == [f"lego/train/r_{n}.png" for n in (0, 2, 4)]
    for index in range(3):
        views = data.val().sample(index, None)["image"][0, 0, :, 0, 0] // 20
        assert (views % 2 == 0).all()
    data = read(studio.root, val_split="test")
    assert (len(data.train()), len(data.val())) == (12, 6)
    assert names(data.val())[3] == "ship/test/r_0.png"
    data = read(studio.root, val_scenes=("ship",))
    assert {name.split("/")[0] for name in names(data.val())} == {"ship"}
    assert len(data.train()) == 6


def test_cameras_that_stay_make_films_by_their_times(studio):
    frames = []
    for time in (0.5, 0.0, 1.0):
        for view in range(4):
            file = f"train/{view}_{time}"
            studio.picture(f"ball/{file}.png", colour(view, int(10 * time)))
            frames.append({"file_path": file, "time": time, "transform_matrix": matrix(80 * view, 10, 3.0)})
    path = studio.json("ball/transforms_train.json", {"camera_angle_x": 0.7, "frames": frames})
    source = read(studio.root / "ball", frames=3, fps=6.0, val_share=0.0).train()
    assert len(source) == 4
    sample = source.sample(1, None)
    assert (sample["context"][:, 1, 0, 0] // 10).tolist() == [0, 5, 10]
    assert (sample["context"][:, 0, 0, 0] // 20).tolist() == [1, 1, 1]
    assert (sample["image"][1, :, :, 0, 0] // 10).tolist() == [[0, 0], [5, 5], [10, 10]]
    assert sample["fps"].item() == 6
    # Without one of its pictures a camera is not there at every time.
    (studio.root / "ball/train/2_0.5.png").unlink()
    data = read(studio.root / "ball", frames=3, val_share=0.0)
    assert len(data.train()) == 3
    change(path, frames=[frame | {"transform_matrix": matrix(7 * n, 10, 3.0)} for n, frame in enumerate(frames)])
    with pytest.raises(ConfigError, match=r"none of 11 cameras is there at all of 3 times: a film of a moving camera"):
        read(studio.root / "ball", frames=3, val_share=0.0)
    change(path, frames=[{k: v for k, v in f.items() if k != "time" or n} for n, f in enumerate(frames)])
    with pytest.raises(ConfigError, match="frames: expected a time in all of them or in none"):
        read(studio.root / "ball", frames=3, val_share=0.0)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"camera_angle_x": 40.0}, "camera_angle_x: expected an angle in radians"),
        ({"camera_angle_x": None}, "camera_angle_x: expected a finite number"),
        ({"frames": []}, "frames: expected a list that is not empty"),
        ({"frames": [{"file_path": "a"}]}, r"frames\[0\]\.transform_matrix: missing"),
        ({"frames": [{"file_path": 3}]}, r"frames\[0\]\.file_path: expected a word"),
        ({"frames": [{"file_path": "../../secret"}]}, "expected the path of a picture in the object's folder"),
        ({"frames": [{"file_path": "/etc/secret"}]}, "expected the path of a picture in the object's folder"),
        ({"frames": [{"file_path": "a", "transform_matrix": matrix(0, 0, 1.0)}] * 2}, "frames: 1 with a file_path"),
        ({"frames": [{"file_path": "a", "transform_matrix": matrix(0, 0, 1.0)}]}, "none of its pictures is there"),
        ({"frames": [{"file_path": "a", "transform_matrix": matrix(0, 0, 0.0)}]}, "a camera away from the centre"),
    ],
)
def test_files_that_say_no_views_are_refused(studio, keys, message):
    change(studio.blender("lego"), **keys)
    with pytest.raises(ConfigError, match=message) as caught:
        read(studio.root / "lego", val_share=0.0)
    assert "transforms_train.json" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"data\.val_share is 0\.2, but lego is the only object"),
        ({"val_every": 5, "views": 3}, r"data\.val_every: 5 leaves nothing to validate on \(lego: 2 views; .* needs 4"),
        ({"val_split": "test"}, r"data\.val_split: test leaves nothing to validate on \(lego: .*transforms_test\.json"),
        ({"val_split": "test", "val_every": 2}, r"data\.val_split and data\.val_every contradict each other"),
        ({"split": "val"}, r"no object under .* can be used; lego: .*transforms_val\.json: cannot be read"),
    ],
)
def test_ways_to_validate_that_leave_nothing_are_refused(studio, options, message):
    studio.blender("lego")
    with pytest.raises(ConfigError, match=message):
        read(studio.root / "lego", **options)
