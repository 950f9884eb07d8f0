"""KITTI's raw recordings: targets of lists, calibrations, stereo, laser scans, the car's speed."""

from typing import Any

import numpy as np
import pytest
import torch

from salticid.data.motion import Augmentation
from salticid.data.readers.motion import KittiRaw
from salticid.errors import ConfigError, UnreadableSample

DRIVE = "2011_09_26/2011_09_26_drive_0001_sync"
PLAIN = Augmentation(0.0, None)


def listing(drive, *entries, name="train.txt"):
    return drive.text(name, *(f"{DRIVE} {entry}" for entry in entries))


def read(drive, *entries, **options):
    values: dict[str, Any] = {"depth": "none"} | options
    return KittiRaw(drive.root, train_list=listing(drive, *entries), **values)


def scan(drive, number, *points):
    path = drive.path(f"{DRIVE}/velodyne_points/data/{number:010d}.bin")
    np.array([(*point, 0.5) for point in points], "<f4").tofile(path)


def test_targets_without_a_neighbour_are_left_out_and_named(drive):
    data = read(drive, "1 l", "4 r", "0 l", "2 r", "9 l")
    assert [data.train().id(i) for i in range(len(data.train()))] == [f"{DRIVE}/image_02/data/0000000001.png"]
    assert data.skipped == {
        f"{DRIVE}/image_03/data/0000000004.png": f"no neighbour 3 in {DRIVE}/image_03",
        f"{DRIVE}/image_02/data/0000000000.png": f"no neighbour -1 in {DRIVE}/image_02",
        f"{DRIVE}/image_03/data/0000000002.png": f"no neighbour 3 in {DRIVE}/image_03",
        f"{DRIVE}/image_02/9": f"no frame 9 in {DRIVE}/image_02",
    }
    alone = KittiRaw(drive.root, val_list=listing(drive, "0 l", "5 r"), val_offsets=(0,), depth="none")
    assert [alone.val().sample(i, None)["frames"].shape[0] for i in range(2)] == [1, 1]


def test_frames_are_those_of_the_files_and_the_calibration_scales_with_them(drive):
    sample = read(drive, "1 l", augmentation=PLAIN).train().sample(0, torch.Generator())
    assert sample["frames"].shape == (3, 3, 37, 124)
    for frame, number in zip(sample["frames"], (1, 0, 2), strict=True):
        expected = drive.picture("again.png", seed=number)
        assert np.array_equal(frame.permute(1, 2, 0).numpy(), expected)
    assert sample["intrinsics"].tolist() == [72, 72, 61, 17]
    small = read(drive, "1 l", size=(74, 62), augmentation=PLAIN).train().sample(0, torch.Generator())
    # (61 + 0.5) / 2 − 0.5 = 30.25, (17 + 0.5) · 2 − 0.5 = 34.5
    assert small["intrinsics"].tolist() == [36, 144, 30.25, 34.5]
    assert small["place"].tolist() == [0, 1]


def test_the_originals_calibration_counts_from_the_corner(drive):
    data = read(drive, "1 l", calibration="original", size=(192, 640), stereo=True, offsets=(0,))
    sample = data.train().sample(0, None)
    assert sample["intrinsics"].tolist() == pytest.approx([0.58 * 640, 1.92 * 192, 319.5, 95.5])
    assert sample["stereo_pose"][:3, 3].tolist() == pytest.approx([0.1, 0, 0])


@pytest.mark.parametrize(("side", "sign"), [("l", 1), ("r", -1)])
@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_the_other_camera_stands_0_54_m_aside_and_on_the_other_side_in_a_mirror(drive, side, sign, flip):
    data = read(drive, f"1 {side}", stereo=True, augmentation=Augmentation(flip, None))
    sample = data.train().sample(0, torch.Generator())
    # (4.5 + 34.2) / 72
    assert sample["stereo_pose"][:3, 3].tolist() == pytest.approx([sign * (1 - 2 * flip) * 0.5375, 0, 0])
    assert sample["intrinsics"][2] == pytest.approx(124 - 1 - 61 if flip else 61)
    assert len(sample["frames"]) == 4
    assert data.skipped == {}


def test_depth_of_a_scan_is_that_of_the_nearest_point_in_a_pixel(drive):
    # Camera coordinates of (x, y, z) are (−y, −z, x − 0.27), and P adds 4.5 to u·depth, 0.2 to v·depth, 0.003 to depth.
    scan(drive, 1, (10.27, 0, 0), (20.27, 0, 0), (-5, 0, 0), (0.1, 0, 0), (10.27, -2.0, -1.0), (10.27, 90.0, 0))
    data = KittiRaw(drive.root, val_list=listing(drive, "1 l"), mask="none")
    sample = data.val().sample(0, None)
    assert sample["depth"].shape == (1, 37, 124)
    # u = (72·0 + 61·10 + 4.5) / 10.003 = 61.4 → 61 − 1; v = (17·10 + 0.2) / 10.003 = 17.01 → 17 − 1; the point at
    # 20.27 m falls in (61, 17) too, farther; x = 2, y = 1: u = (144 + 610 + 4.5) / 10.003 = 75.8 → 75, v = 24.2 → 23
    assert sample["valid"].nonzero().tolist() == [[0, 16, 60], [0, 23, 75]]
    assert sample["depth"][sample["valid"]].tolist() == pytest.approx([10.27, 10.27])
    assert sample["limits"].tolist() == pytest.approx([1e-3, 80])
    exact = KittiRaw(drive.root, val_list=listing(drive, "1 l"), mask="none", depth="velodyne_z").val().sample(0, None)
    assert exact["depth"][sample["valid"]].tolist() == pytest.approx([10.003, 10.003])


def test_truth_is_for_validation_and_judged_in_gargs_region(drive):
    scan(drive, 1, (10.27, 0, 0), (10.27, -2.0, -1.0))
    train, val = listing(drive, "2 l"), listing(drive, "1 l", name="val.txt")
    data = KittiRaw(drive.root, train_list=train, val_list=val)
    assert "depth" not in data.train().sample(0, None)
    # 37 rows: 0.408 · 37 = 15.1 to 36.7; 124 columns: 4.5 to 119.5
    assert data.val().sample(0, None)["valid"].sum() == 2
    with pytest.raises(ConfigError, match="no depth of frame 2"):
        KittiRaw(drive.root, val_list=listing(drive, "2 l"))


def test_improved_depth_lies_with_the_drive_or_with_the_annotations(drive):
    values = np.zeros((37, 124))
    values[20, 30] = 256 * 12.5
    name = f"train/{DRIVE.partition('/')[2]}/proj_depth/groundtruth/image_02/0000000001.png"
    drive.png16(name, values)
    data = KittiRaw(drive.root, val_list=listing(drive, "1 l"), depth="improved", mask="eigen")
    sample = data.val().sample(0, None)
    assert sample["depth"][0, 20, 30] == 12.5
    assert sample["valid"].sum() == 1
    nearest = KittiRaw(drive.root, val_list=listing(drive, "1 l"), depth="improved", depth_size=(74, 248)).val()
    assert nearest.sample(0, None)["depth"].unique().tolist() == [0, 12.5]


def test_travel_is_the_cars_speed_over_time(drive):
    record = [0.0] * 30
    for number in range(6):
        record[8:11] = 3.0 * (number + 1), 4.0 * (number + 1), 0.0  # 5, 10, 15, … m/s
        drive.text(f"{DRIVE}/oxts/data/{number:010d}.txt", " ".join(map(str, record)))
    drive.text(f"{DRIVE}/oxts/timestamps.txt", *(f"2011-09-26 13:02:25.{n}00000123" for n in range(6)))
    data = read(drive, "1 l", speed=True, truth="always")
    sample = data.train().sample(0, None)
    assert sample["travel"].tolist() == pytest.approx([0.75, 1.25], abs=1e-5)
    assert "poses" not in sample
    drive.text(f"{DRIVE}/oxts/timestamps.txt", "2011-09-26 13:02:25.0")
    with pytest.raises(ConfigError, match="timestamps"):
        read(drive, "1 l", speed=True)


def test_frames_that_differ_in_size_and_calibrations_of_another_size_are_named(drive):
    drive.picture(f"{DRIVE}/image_02/data/0000000002.png", height=36)
    with pytest.raises(UnreadableSample, match=r"0000000002.png: a frame of 36×124, not 37×124"):
        read(drive, "1 l").train().sample(0, None)
    drive.frames(f"{DRIVE}/image_02/data", range(6), height=60)
    with pytest.raises(UnreadableSample, match=r"60×124 pixels, but .* is calibrated at 37×124"):
        read(drive, "1 l").train().sample(0, None)


def test_broken_frames_are_named(drive):
    drive.path(f"{DRIVE}/image_02/data/0000000002.png").write_bytes(b"no picture")
    with pytest.raises(UnreadableSample, match=r"0000000002\.png"):
        read(drive, "1 l").train().sample(0, None)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("7.2e+01 0 6.1e+01 4.5", "-7 0 6.1e+01 4.5", "fx is -7; expected a positive focal length"),
        ("7.2e+01 0 6.1e+01 4.5", "7.2e+01 0 160 4.5", "cx is 160; expected a principal point in the image"),
        ("P_rect_03", "P_rect_99", "P_rect_03 has 0 numbers; expected 12"),
    ],
)
def test_calibrations_that_make_no_camera_are_refused(drive, old, new, message):
    path = drive.root / "2011_09_26/calib_cam_to_cam.txt"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(ConfigError, match=message):
        read(drive, "1 l")


@pytest.mark.parametrize("line", ["onlyafolder", f"{DRIVE} x l", f"{DRIVE} 1 q", ""])
def test_lists_of_something_else_are_refused(drive, line):
    with pytest.raises(ConfigError, match=r"data\.train_list"):
        KittiRaw(drive.root, train_list=drive.text("train.txt", line))


def test_a_frame_on_both_sides_is_refused_and_a_list_is_needed(drive):
    both = listing(drive, "1 l")
    with pytest.raises(ConfigError, match="to be trained on and to validate"):
        KittiRaw(drive.root, train_list=both, val_list=both)
    with pytest.raises(ConfigError, match=r"data\.train_list: expected a list"):
        KittiRaw(drive.root)
