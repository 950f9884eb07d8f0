"""Real sequences and published lists, where SALTICID_TEST_DATA has them."""

import pytest
import torch
import torch.nn.functional as F

from salticid.data.motion import lens_of
from salticid.data.readers.motion import FrameFolder, SevenScenes
from salticid.data.readers.motion.tables import read_targets
from salticid.geometry import se3
from salticid.geometry.warp import reproject, sample


def place(real_data, name):
    folder = real_data / name
    if not folder.exists():
        pytest.skip(f"SALTICID_TEST_DATA has no {name}")
    return folder


def warped(source, neighbour):
    """Mean difference of grey levels between targets and their neighbours, warped by depth and pose, and not."""
    results = []
    for index in range(0, len(source), 6):
        item = source.sample(index, None)
        size = item["frames"].shape[-2:]
        lens = lens_of(item["intrinsics"], *size)
        depth = F.interpolate(item["depth"][None], size, mode="nearest-exact")
        seen = reproject(depth, lens, se3.inverse(item["poses"][neighbour])[None], lens, measure="depth")
        both = seen.valid[0, 0] & (depth[0, 0] > 0)
        target, other = item["frames"][0].float(), item["frames"][neighbour].float()
        moved = (sample(other[None], seen.pixels)[0] - target).abs()[:, both].mean()
        results.append((moved.item(), (other - target).abs()[:, both].mean().item()))
    return torch.tensor(results).mean(0).tolist()


def test_seven_scenes_depth_and_poses_explain_the_neighbours(real_data):
    data = SevenScenes(place(real_data, "sequences/7scenes_a"), size=(240, 320), offsets=(0, -5, 5), val_share=1.0)
    assert len(data.val()) == 40
    moved, still = warped(data.val(), 2)
    assert moved < 10
    assert moved < 0.35 * still


def test_rendered_depth_and_an_open3d_trajectory_explain_the_neighbours(real_data):
    data = FrameFolder(
        place(real_data, "sequences/icl_livingroom1_synthetic"),
        size=(240, 320),
        intrinsics=(525.0, 525.0, 319.5, 239.5),
        frames="image",
        depth="depth",
        trajectory="test_scene/trajectory.log",
        offsets=(0, 5),
        val_share=1.0,
    )
    moved, still = warped(data.val(), 1)
    assert moved < 4
    assert moved < 0.35 * still


def test_kitti_frames_have_their_poses(real_data):
    data = FrameFolder(
        place(real_data, "sequences/kitti_seq1"),
        size=(192, 640),
        intrinsics=(707.0912, 707.0912, 601.8873, 183.1104),
        frames="image_l",
        trajectory="poses.txt",
        val_share=1.0,
    )
    item = data.val().sample(0, None)
    assert len(data.val()) == 28
    assert item["frames"].shape == (3, 3, 192, 640)
    assert 1.0 < item["travel"][1] < 1.4
    assert item["poses"][2, 2, 3] > 0.99 * item["travel"][1]


def test_endoscopy_frames_at_another_size(real_data):
    data = FrameFolder(
        place(real_data, "sequences/endo_sinus_sfm"),
        size=(256, 320),
        intrinsics=(677.171, 677.171, 872.127, 471.918),
        exclude=("*mask*",),
        val_share=0.2,
    )
    assert (len(data.train()), len(data.val())) == (26, 6)
    assert data.val().sample(0, None)["frames"].shape == (3, 3, 256, 320)


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("monodepth2/splits/eigen_zhou/train_files.txt", 39_810),
        ("monodepth2/splits/eigen_zhou/val_files.txt", 4_424),
        ("monodepth2/splits/eigen/test_files.txt", 697),
        ("monodepth2/splits/eigen_benchmark/test_files.txt", 652),
        ("monodepth2/splits/odom/train_files.txt", 36_671),
        ("monodepth2/splits/odom/val_files.txt", 4_075),
        ("afsfmlearner_splits/endovis/train_files.txt", 15_351),
        ("afsfmlearner_splits/endovis/val_files.txt", 1_705),
        ("afsfmlearner_splits/endovis/test_files.txt", 551),
    ],
)
def test_published_lists_name_as_many_targets_as_is_said(real_data, name, count):
    assert len(read_targets(place(real_data, f"references/{name}"), "data.train_list")) == count
