"""Trajectory files: what is read is what was written, quaternions are SciPy's, and bad lines are named."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from salticid.errors import UserError
from salticid.geometry import se3
from salticid.geometry.trajectory_files import (
    associate,
    matrix_to_quaternion,
    quaternion_to_matrix,
    read_kitti,
    read_tum,
    write_kitti,
    write_tum,
)


@pytest.fixture
def poses() -> torch.Tensor:
    rotations = Rotation.random(9, random_state=0).as_matrix()
    return se3.pose(torch.from_numpy(rotations), torch.from_numpy(np.random.default_rng(0).normal(size=(9, 3)) * 100))


TIMES = 1305031102.175304 + torch.arange(9).double() / 30


def test_tum_files_come_back(tmp_path: Path, poses: torch.Tensor):
    write_tum(tmp_path / "runs/a.txt", TIMES, poses)
    times, found = read_tum(tmp_path / "runs/a.txt")
    torch.testing.assert_close(times, TIMES, atol=0, rtol=0)
    torch.testing.assert_close(found[:, :3, 3], poses[:, :3, 3], atol=0, rtol=0)
    torch.testing.assert_close(found, poses, atol=1e-14, rtol=0)
    assert [p.name for p in (tmp_path / "runs").iterdir()] == ["a.txt"]


def test_tum_files_mean_what_scipy_means(tmp_path: Path, poses: torch.Tensor):
    write_tum(tmp_path / "a.txt", TIMES, poses)
    table = np.loadtxt(tmp_path / "a.txt")
    np.testing.assert_allclose(Rotation.from_quat(table[:, 4:]).as_matrix(), poses[:, :3, :3], atol=1e-14)
    lines = "# time tx ty tz qx qy qz qw\n\n1.5 1 2 3 0.0 0.70711 0 0.70711\r\n  2.5 4 5 6 0 0 0 -1  \n"
    (tmp_path / "b.txt").write_text(lines)
    times, found = read_tum(tmp_path / "b.txt")
    assert times.tolist() == [1.5, 2.5]
    forward = torch.tensor([[0, 0, 1, 1], [0, 1, 0, 2], [-1, 0, 0, 3], [0, 0, 0, 1]]).double()
    torch.testing.assert_close(found[0], forward, atol=1e-12, rtol=0)
    assert found[1].tolist() == [[1, 0, 0, 4], [0, 1, 0, 5], [0, 0, 1, 6], [0, 0, 0, 1]]


def test_kitti_files_keep_every_bit(tmp_path: Path, poses: torch.Tensor):
    write_kitti(tmp_path / "09.txt", poses)
    np.testing.assert_array_equal(np.loadtxt(tmp_path / "09.txt").reshape(-1, 3, 4), poses[:, :3])
    frames, found = read_kitti(tmp_path / "09.txt")
    assert frames.tolist() == list(range(9))
    torch.testing.assert_close(found, poses, atol=0, rtol=0)
    numbers = torch.tensor([2, 3, 5, 7, 11, 13, 17, 19, 23])
    write_kitti(tmp_path / "09.txt", poses, numbers)
    assert (tmp_path / "09.txt").read_text().startswith("2 ")
    frames, found = read_kitti(tmp_path / "09.txt")
    torch.testing.assert_close(frames, numbers)
    torch.testing.assert_close(found, poses, atol=0, rtol=0)
    assert [p.name for p in tmp_path.iterdir()] == ["09.txt"]


def test_real_kitti_files_are_read(real_data: Path):
    folder = real_data / "references/kitti_odom_eval"
    if not folder.is_dir():
        pytest.skip("SALTICID_TEST_DATA has no references/kitti_odom_eval")
    frames, poses = read_kitti(folder / "result/example_0/09.txt")
    assert (len(poses), frames[0].item(), frames[-1].item()) == (1589, 2, 1590)
    frames, poses = read_kitti(folder / "dataset/kitti_odom/gt_poses/09.txt")
    assert (len(poses), frames[-1].item()) == (1591, 1590)


GOOD_TUM, GOOD_KITTI = "1 0 0 0 0 0 0 1\n", "1 0 0 5 0 1 0 6 0 0 1 7\n"


@pytest.mark.parametrize(
    ("read", "text", "message"),
    [
        (read_tum, "# t\n" + GOOD_TUM + "2 0 0 0 0 0 1\n", "a.txt:3: 7 words; expected 8 numbers"),
        (read_tum, GOOD_TUM + "2 0 0 x1 0 0 0 1\n", "a.txt:2: 'x1' is not a finite number"),
        (read_tum, GOOD_TUM + "2 0 0 nan 0 0 0 1\n", "a.txt:2: 'nan' is not a finite number"),
        (read_tum, GOOD_TUM + "\n2 0 0 0 0 0 0 0.5\n", "a.txt:3: the quaternion .* does not have length 1"),
        (read_tum, GOOD_TUM + GOOD_TUM, "a.txt:2: the time 1.0 does not come after 1.0 of the line before"),
        (read_tum, "# nothing\n", "a.txt: holds no pose; expected lines of 8 numbers"),
        (read_tum, GOOD_KITTI, "a.txt:1: 12 words; expected 8 numbers"),
        (read_kitti, "", "a.txt: holds no pose; expected lines of 12 or 13 numbers"),
        (read_kitti, GOOD_TUM, "a.txt:1: 8 words; expected 12 or 13 numbers"),
        (read_kitti, GOOD_KITTI + "3 " + GOOD_KITTI, "a.txt:2: 13 words; expected 12 numbers"),
        (read_kitti, GOOD_KITTI + "1 0 0 5 0 1 0 6 0 0 -1 7\n", "a.txt:2: the left 3×3 .* is not a rotation"),
        (read_kitti, GOOD_KITTI + "2 0 0 5 0 1 0 6 0 0 1 7\n", "a.txt:2: the left 3×3 .* is not a rotation"),
        (read_kitti, "0.5 " + GOOD_KITTI, r"a.txt:1: the frame's number .* is not whole"),
        (read_kitti, "4 " + GOOD_KITTI + "3 " + GOOD_KITTI, "a.txt:2: the frame's number 3.0 does not come after 4.0"),
    ],
)
def test_bad_lines_are_named(tmp_path: Path, read, text: str, message: str):
    (tmp_path / "a.txt").write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        read(tmp_path / "a.txt")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("read", [read_tum, read_kitti])
def test_what_is_no_text_file_is_refused(tmp_path: Path, read):
    with pytest.raises(UserError, match=r"none.txt: cannot be read \(No such file"):
        read(tmp_path / "none.txt")
    (tmp_path / "b.bin").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(UserError, match=r"b\.bin: is not text"):
        read(tmp_path / "b.bin")


def test_nothing_is_half_written(tmp_path: Path, poses: torch.Tensor):
    write_kitti(tmp_path / "a.txt", poses)
    before = (tmp_path / "a.txt").read_bytes()
    poses[8, 0, 3] = torch.nan
    for write in (lambda: write_kitti(tmp_path / "a.txt", poses), lambda: write_tum(tmp_path / "a.txt", TIMES, poses)):
        with pytest.raises(UserError, match=r"a\.txt: is not written, because the trajectory is not finite"):
            write()
    assert (tmp_path / "a.txt").read_bytes() == before
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match="folder: cannot be written"):
        write_kitti(tmp_path / "folder", poses[:8])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.txt", "folder"]


def test_quaternions_are_those_of_scipy():
    turns = Rotation.concatenate(
        [
            Rotation.random(200, random_state=0),
            Rotation.from_rotvec([[0, 0, 0], [1e-9, 0, 0], [0, np.pi, 0], [0, 0, np.pi - 1e-9], [np.pi / 2, 0, 0]]),
        ]
    )
    matrices = torch.from_numpy(turns.as_matrix())
    found = matrix_to_quaternion(matrices)
    assert (found[:, 3] >= 0).all()
    torch.testing.assert_close(found.norm(dim=1), torch.ones(205).double(), atol=1e-14, rtol=0)
    same = (found * torch.from_numpy(turns.as_quat())).sum(dim=1).abs()
    torch.testing.assert_close(same, torch.ones(205).double(), atol=1e-14, rtol=0)
    torch.testing.assert_close(quaternion_to_matrix(found), matrices, atol=1e-14, rtol=0)
    torch.testing.assert_close(quaternion_to_matrix(-3 * found), matrices, atol=1e-14, rtol=0)


def test_moments_find_their_nearest():
    ours, theirs = associate(torch.tensor([0.0, 1, 2, 3, 4]), torch.tensor([-9, 0.98, 1.01, 2.03, 3.9, 4.01]), 0.02)
    assert (ours.tolist(), theirs.tolist()) == ([1, 4], [2, 5])
    # 0.98 and 1.01 both have 1 as their nearest; it has the nearer of them.
    ours, theirs = associate(torch.tensor([0.98, 1.01, 7]), torch.tensor([1.0, 7]))
    assert (ours.tolist(), theirs.tolist()) == ([1, 2], [0, 1])
    ours, theirs = associate(torch.tensor([2, 3, 5]), torch.arange(5), tolerance=0)
    assert (ours.tolist(), theirs.tolist()) == ([0, 1], [2, 3])
    with pytest.raises(UserError, match="from 0 to 1 and from 5 to 6 have no moment in common"):
        associate(torch.tensor([0, 1]), torch.tensor([5, 6]))
