"""Frames of one's own: numbering, intrinsics of every model, calibration files, depth, trajectories, videos."""

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch

from salticid.data.motion import Augmentation
from salticid.data.readers.motion import FrameFolder
from salticid.errors import ConfigError, UnreadableSample

PINHOLE = (60.0, 60.0, 61.5, 18.0)
PLAIN = Augmentation(0.0, None)


def read(root, **options):
    values: dict[str, Any] = {"intrinsics": PINHOLE, "val_share": 0.0, "augmentation": PLAIN} | options
    return FrameFolder(root, **values)


def test_frames_count_by_the_last_number_in_their_names(record):
    record.frames(".", (9, 10, 11, 13), "take2_{}.jpg")
    data = read(record.root)
    assert [data.train().id(i) for i in range(len(data.train()))] == ["take2_10.jpg"]
    assert set(data.skipped) == {"take2_9.jpg", "take2_11.jpg", "take2_13.jpg"}
    record.picture("logo.png")
    assert [read(record.root).train().id(i) for i in range(3)] == ["take2_10.jpg", "take2_11.jpg", "take2_13.jpg"]
    assert len(read(record.root, exclude=("logo*",)).train()) == 1


def test_every_folder_is_a_sequence_with_frames_depth_and_poses_of_its_own(record):
    for name in ("a", "b"):
        record.frames(f"{name}/image", range(3), "{:03d}.png")
        for n in range(3):
            record.png16(f"{name}/depth/{n:03d}.png", np.full((37, 124), 250 * (n + 1)))
        record.text(f"{name}/poses.txt", *(f"1 0 0 0 0 1 0 0 0 0 1 {n}" for n in range(3)))
    data = read(
        record.root, frames="image", depth="depth", depth_per_metre=500.0, trajectory="poses.txt", val_sequences=("b",)
    )
    assert [source.id(0) for source in (data.train(), data.val())] == ["a/image/001.png", "b/image/001.png"]
    sample = data.val().sample(0, None)
    assert sample["depth"].unique().tolist() == [1.0]
    assert sample["poses"][:, 2, 3].tolist() == [0, -1, 1]


@pytest.mark.parametrize(
    "intrinsics",
    [PINHOLE, (*PINHOLE, 0.9), (*PINHOLE, -0.2, 0.6), (*PINHOLE, -0.01, 0.0, 0.0, 0.0)],
)
def test_the_number_of_intrinsics_is_the_model(record, intrinsics):
    record.frames(".", range(3), "{}.png")
    sample = read(record.root, intrinsics=intrinsics, size=(74, 62)).train().sample(0, None)
    assert sample["intrinsics"].tolist() == pytest.approx([30, 120, 30.5, 36.5, *intrinsics[4:]])


def test_a_calibration_file_gives_the_camera(record):
    record.frames(".", range(3), "{}.png")
    rest = "fy: 90, cx: 123.5, cy: 36.5, xi: 0.8"
    cameras = [
        f"  - {{name: {name}, model: ucm, size: [74, 248], parameters: {{fx: {f}, {rest}}}}}"
        for name, f in (("left", 80), ("right", 100))
    ]
    path = record.text("rig.yaml", "format: salticid-rig", "cameras:", *cameras)
    data = read(record.root, intrinsics=None, calibration=path, camera="right")
    assert data.train().sample(0, None)["intrinsics"].tolist() == pytest.approx([50, 45, 61.5, 18, 0.8])
    with pytest.raises(ConfigError, match=r"data\.camera: .* has left, right; expected one of them"):
        read(record.root, intrinsics=None, calibration=path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"intrinsics": None}, r"data\.intrinsics: expected numbers here or a file"),
        ({"intrinsics": (0.0, 60.0, 61.5, 18.0)}, "data.intrinsics: fx is 0; expected a positive focal length"),
        ({"intrinsics": (60.0, math.nan, 61.5, 18.0)}, "fy is nan"),
        ({"intrinsics": (60.0, 60.0, 124.0, 18.0)}, "cx is 124; expected a principal point in the image, 37×124"),
        ({"intrinsics": (60.0, 60.0, 61.5)}, "3 intrinsics"),
        ({"intrinsics": (*PINHOLE, 0.9), "relative": True}, "expected four shares"),
        ({"offsets": (1, 0)}, r"data\.offsets"),
        ({"trajectory": "none.txt"}, "none.txt"),
        ({"val_share": 2.0}, r"data\.val_share"),
        ({"stereo": True, "offsets": (0,)}, "other camera"),
        ({"limits": (3.0, 1.0)}, r"data\.limits"),
        ({"keep": -1}, r"data\.keep"),
    ],
)
def test_settings_that_make_no_data_are_refused(record, options, message):
    record.frames(".", range(3), "{}.png")
    with pytest.raises(ConfigError, match=message):
        read(record.root, **options)
    with pytest.raises(ConfigError, match="does not exist"):
        read(record.root / "nowhere")


def test_augmentation_is_drawn_for_training_alone(record):
    record.frames(".", range(6), "{}.png")
    data = read(record.root, val_share=0.5, augmentation=Augmentation(1.0))
    plain = read(record.root, val_share=0.5)
    generator = torch.Generator().manual_seed(3)
    sample = data.train().sample(0, generator)
    assert torch.equal(sample["frames"].flip(-1), plain.train().sample(0, None)["frames"])
    assert not torch.equal(sample["jitter"], torch.tensor([1.0, 1, 1, 0, 0]))
    assert torch.equal(data.val().sample(0, generator)["frames"], plain.val().sample(0, None)["frames"])


def film(record, name="clip.mp4", count=5):
    pytest.importorskip("av")
    from salticid.evaluate.video_files import VideoWriter

    with VideoWriter(record.path(name), Fraction(10)) as writer:
        for n in range(count):
            writer.write(torch.full((3, 48, 64), 40 * n, dtype=torch.uint8))
    return record.root


def test_a_video_is_a_sequence_whose_frames_are_decoded_once(record, tmp_path):
    root = film(record)
    options = {"intrinsics": (0.6, 0.8, 0.5, 0.5), "relative": True, "size": (24, 32), "cache": tmp_path / "cache"}
    data = read(root / "clip.mp4", **options)
    assert [data.train().id(i) for i in range(3)] == [f"clip.mp4/00000{n}" for n in (1, 2, 3)]
    sample = data.train().sample(1, None)
    assert sample["frames"].shape == (3, 3, 24, 32)
    assert sample["frames"].float().mean((1, 2, 3)).tolist() == pytest.approx([80, 40, 120], abs=3)
    assert sample["intrinsics"].tolist() == pytest.approx([19.2, 19.2, 15.5, 11.5])
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").iterdir()}
    assert len(written) == 2
    again = read(root, **options)
    assert torch.equal(again.train().sample(1, None)["frames"], sample["frames"])
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").iterdir()} == written
    for path in written:
        path.unlink()
    with pytest.raises(UnreadableSample, match="decoded frames cannot be read"):
        data.train().sample(1, None)


def test_a_file_that_is_no_video_is_refused(record, tmp_path):
    pytest.importorskip("av")
    record.path("clip.mp4").write_bytes(b"nothing")
    with pytest.raises(ConfigError, match=r"clip\.mp4: not a readable video"):
        read(record.root, cache=tmp_path / "cache")
