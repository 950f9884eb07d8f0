"""KITTI odometry, SCARED, 7-Scenes and TUM RGB-D: their files, numbering, poses and depth."""

import numpy as np
import pytest
import torch

from salticid.data.motion import Augmentation
from salticid.data.readers.motion import KittiOdometry, Scared, SevenScenes, TumRgbd
from salticid.errors import ConfigError, UnreadableSample

PLAIN = Augmentation(0.0, None)


def pose_line(x, z):
    return f"1 0 0 {x} 0 1 0 0 0 0 1 {z}"


def odometry(record, names=("00", "09")):
    for name in names:
        for camera in (2, 3):
            record.frames(f"sequences/{name}/image_{camera}", range(4), "{:06d}.png")
        projections = [f"P{c}: 70 0 60 {70 * x} 0 70 18 0 0 0 1 0" for c, x in enumerate((0, -0.54, 0.06, -0.47))]
        record.text(f"sequences/{name}/calib.txt", *projections, "Tr: 1 0 0 0 0 1 0 0 0 0 1 0")
        record.text(f"poses/{name}.txt", *(pose_line(0.1 * n, 1.5 * n) for n in range(4)))
    return record.root


def test_odometry_divides_by_sequences_and_poses_are_those_of_the_camera(record):
    data = KittiOdometry(odometry(record), sequences=("00",), val_sequences=("09",), stereo=True)
    assert [data.val().id(i) for i in range(2)] == [f"sequences/09/image_2/00000{n}.png" for n in (1, 2)]
    sample = data.val().sample(0, None)
    assert sample["intrinsics"].tolist() == [70, 70, 60, 18]
    assert torch.allclose(sample["poses"][2, :3, 3], torch.tensor([0.1, 0, 1.5]), atol=1e-6)
    assert sample["travel"].tolist() == pytest.approx([(0.1**2 + 1.5**2) ** 0.5] * 2)
    assert sample["stereo_pose"][:3, 3].tolist() == pytest.approx([0.53, 0, 0])
    assert "poses" not in data.train().sample(0, None)
    assert "poses" in KittiOdometry(record.root, sequences=("00",), val_sequences=(), truth="always").train().sample(
        0, None
    )


def test_poses_turn_about_the_first_camera(record):
    """Of a turn by 90° about the vertical, the colour camera, 6 cm aside, sees 6 cm of way as well."""
    root = odometry(record, ("09",))
    turned = "0 0 1 0 0 1 0 0 -1 0 0 0"
    record.text("poses/09.txt", pose_line(0, 0), turned, turned, turned)
    data = KittiOdometry(root, sequences=(), val_sequences=("09",), offsets=(0, 1))
    # Camera 2 lies at x = −0.06 in camera 0; after the turn its place is at z = +0.06 in the world.
    assert data.val().sample(0, None)["poses"][1, :3, 3].tolist() == pytest.approx([0.06, 0, 0.06], abs=1e-6)


def test_odometry_lists_name_sequences_without_a_zero(record):
    data = KittiOdometry(
        odometry(record), train_list=record.text("train.txt", "0 1 r", "9 2 l"), calibration="original"
    )
    assert [data.train().id(i) for i in range(2)] == [
        "sequences/00/image_3/000001.png",
        "sequences/09/image_2/000002.png",
    ]
    assert [data.train().sample(i, None)["place"].tolist() for i in range(2)] == [[0, 1], [1, 2]]


def scared(record):
    record.frames("dataset3/keyframe4/image_02/data", range(1, 5), height=64, width=80)
    return record.root


def test_scared_counts_depth_from_zero_and_reads_z_of_the_upper_half(record):
    cv2 = pytest.importorskip("cv2")
    root = scared(record)
    points = np.zeros((2048, 80, 3), np.float32)
    points[:1024, :, 2], points[1024:, :, 2] = 60.0, 50.0  # x, y, z; millimetres
    points[10, 20, 2] = np.nan
    for frame in (1, 2):
        path = record.path(f"dataset3/keyframe4/image_02/data/groundtruth/scene_points{frame:06d}.tiff")
        assert cv2.imwrite(str(path), points[..., ::-1])
    listing = record.text("val.txt", "dataset3/keyframe4\t2\tl", "dataset3/keyframe4       3       l")
    data = Scared(root, val_list=listing, size=(32, 40))
    assert len(data.val()) == 2
    sample = data.val().sample(0, None)
    assert sample["depth"].shape == (1, 1024, 80)
    assert sample["depth"][sample["valid"]].unique().tolist() == pytest.approx([0.06])
    assert (~sample["valid"]).nonzero().tolist() == [[0, 10, 20]]
    assert sample["intrinsics"].tolist() == pytest.approx([0.82 * 40, 1.02 * 32, 19.5, 15.5])
    record.path("dataset3/keyframe4/image_02/data/groundtruth/scene_points000002.tiff").write_bytes(b"no points")
    with pytest.raises(UnreadableSample, match="scene_points000002"):
        data.val().sample(1, None)
    with pytest.raises(ConfigError, match=r"data\.stereo"):
        Scared(root, val_list=listing, stereo=True)


def seven(record, folder, count=4, first=0):
    for n in range(first, first + count):
        stem = f"{folder}/frame-{n:06d}"
        record.picture(f"{stem}.color.png", seed=n, height=48, width=64)
        depth = np.full((48, 64), 2000)
        depth[0, 0], depth[5, 6] = 65535, 0
        record.png16(f"{stem}.depth.png", depth)
        record.text(
            f"{stem}.pose.txt", *("\t".join(row.split()) for row in ("1 0 0 .1", "0 1 0 0", f"0 0 1 {n}", "0 0 0 0"))
        )
    return record.root


def test_seven_scenes_validate_by_the_published_split(record):
    for sequence in ("chess/seq-01", "chess/seq-03"):
        seven(record, sequence)
    record.text("chess/TestSplit.txt", "sequence3", "")
    data = SevenScenes(record.root, register=False, limits=(0.1, 10.0))
    assert {data.train().id(i).rpartition("/")[0] for i in range(len(data.train()))} == {"chess/seq-01"}
    assert [data.val().id(i) for i in range(2)] == [f"chess/seq-03/frame-00000{n}.color.png" for n in (1, 2)]
    sample = data.val().sample(0, None)
    assert (~sample["valid"]).nonzero().tolist() == [[0, 0, 0], [0, 5, 6]]
    assert sample["depth"].unique().tolist() == [0, 2]
    assert sample["poses"][1:, 2, 3].tolist() == [-1, 1]
    assert sample["poses"][1].tolist()[3] == [0, 0, 0, 1]


def test_seven_scenes_depth_is_brought_to_the_colour_camera(record):
    """Depth pixel p is seen at c + 525/585 · (p − c) + (−4, −2)."""
    root = seven(record, ".")
    depth = np.zeros((48, 64))
    depth[20:31, 40:51] = 1500  # around (45, 25)
    record.png16("frame-000001.depth.png", depth)
    sample = SevenScenes(root, val_share=1.0).val().sample(0, None)
    rows, columns = sample["valid"][0].nonzero().unbind(1)
    zoom = 525 / 585
    expected = 31.5 + zoom * (45 - 31.5) - 4, 23.5 + zoom * (25 - 23.5) - 2
    assert columns.float().mean().item() == pytest.approx(expected[0], abs=0.6)
    assert rows.float().mean().item() == pytest.approx(expected[1], abs=0.6)


def test_the_last_share_of_a_sequence_validates_and_is_not_seen_in_training(record):
    data = SevenScenes(seven(record, ".", 20), val_share=0.25)
    train, val = (
        [source.sample(i, None)["place"][1].item() for i in range(len(source))] for source in (data.train(), data.val())
    )
    assert train == list(range(1, 14))  # 14 would see frame 15
    assert val == list(range(15, 19))
    with pytest.raises(ConfigError, match="no sequence 'seq-09'"):
        SevenScenes(data.root, val_sequences=("seq-09",))


def tum(record, name="rgbd_dataset_freiburg2_desk"):
    stamps = [1305031102.175304 + n / 30 for n in range(4)]
    for n, stamp in enumerate(stamps):
        record.picture(f"{name}/rgb/{stamp:.6f}.png", seed=n, height=48, width=64)
        record.png16(f"{name}/depth/{stamp + 0.004:.6f}.png", np.full((48, 64), 5000 * (n + 1)))
    record.text(f"{name}/rgb.txt", "# color images", *(f"{s:.6f} rgb/{s:.6f}.png" for s in stamps))
    record.text(f"{name}/depth.txt", *(f"{s + 0.004:.6f} depth/{s + 0.004:.6f}.png" for s in stamps))
    moments = [stamps[0] - 0.1 + 0.01 * n for n in range(30)]
    record.text(
        f"{name}/groundtruth.txt", "# t x y z q", *(f"{t:.4f} {t - stamps[0]:.4f} 0 0 0 0 0 1" for t in moments)
    )
    return record.root


def test_tum_belongs_together_by_time(record):
    data = TumRgbd(tum(record), val_share=1.0, offsets=(0, 1))
    sample = data.val().sample(1, None)
    assert sample["place"].tolist() == [0, 1]
    assert sample["depth"].unique().tolist() == [2.0]
    assert sample["poses"][1, 0, 3].item() == pytest.approx(1 / 30, abs=0.011)
    # freiburg2 at a tenth of its size: (249.7 + 0.5) / 10 − 0.5
    assert sample["intrinsics"].tolist() == pytest.approx([52.09, 52.1, 32.06, 24.52], abs=1e-4)
    assert list(data.skipped.values()) == ["no neighbour 4 in rgbd_dataset_freiburg2_desk"]
    single = TumRgbd(data.root / "rgbd_dataset_freiburg2_desk", val_share=0.0, intrinsics=(500, 500, 319.5, 239.5))
    assert single.train().sample(0, None)["intrinsics"].tolist() == pytest.approx([50, 50, 31.5, 23.5])


def test_tables_that_cannot_be_read_are_named_with_their_line(record):
    root = tum(record)
    record.text("rgbd_dataset_freiburg2_desk/rgb.txt", "2.0 a.png", "1.0 b.png")
    with pytest.raises(ConfigError, match=r"rgb.txt:2: the time 1.0 does not come after 2.0"):
        TumRgbd(root)
    record.text("rgbd_dataset_freiburg2_desk/rgb.txt", "1.0")
    with pytest.raises(ConfigError, match=r"rgb.txt:1: expected a time and a name"):
        TumRgbd(root)
    with pytest.raises(ConfigError, match=r"no frame under .*expected rgb\.txt"):
        TumRgbd(record.path("empty/x").parent)
