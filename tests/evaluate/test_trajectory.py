"""Trajectory errors against closed forms, plain loops over the definitions and published numbers."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from salticid.errors import UserError
from salticid.evaluate.trajectory import (
    ate,
    chain,
    direction_errors,
    drift,
    rotation_errors,
    rpe,
    snippet_errors,
    steps_of,
)
from salticid.evaluate.trajectory_alignment import align
from salticid.geometry import se3
from salticid.geometry.trajectory_files import read_kitti


def drive(count: int, seed: int = 0, step: float = 1.0) -> torch.Tensor:
    """A curvy drive forwards."""
    rng = np.random.default_rng(seed)
    turns = Rotation.from_rotvec(rng.normal(size=(count - 1, 3)) * [0.01, 0.05, 0.01]).as_matrix()
    shifts = rng.normal(size=(count - 1, 3)) * 0.05 + [0, 0, 1]
    return chain(se3.pose(torch.from_numpy(turns), torch.from_numpy(shifts * step)))


def shaken(poses: torch.Tensor, seed: int = 1, amount: float = 0.02) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    noise = Rotation.from_rotvec(rng.normal(size=(len(poses) - 1, 3)) * amount).as_matrix()
    shift = torch.from_numpy(rng.normal(size=(len(poses) - 1, 3)) * amount)
    return chain(steps_of(poses) @ se3.pose(torch.from_numpy(noise), shift), poses[0])


def test_chain_and_steps_undo_each_other():
    poses = drive(30)
    torch.testing.assert_close(chain(steps_of(poses)), poses, atol=1e-12, rtol=0)
    start = drive(5)[4]
    moved = start @ poses
    torch.testing.assert_close(chain(steps_of(moved), start), moved, atol=1e-12, rtol=0)
    # Camera 2 seen from camera 0 is camera 1 from 0 after camera 2 from 1.
    torch.testing.assert_close(poses[2], poses[1] @ steps_of(poses)[1], atol=1e-12, rtol=0)
    torch.testing.assert_close(steps_of(poses, 3)[4], torch.linalg.inv(poses[4]) @ poses[7], atol=1e-12, rtol=0)
    assert chain(steps_of(poses[:1])).tolist() == [torch.eye(4).tolist()]


def test_long_chains_of_float32_steps_stay_rigid():
    steps = steps_of(drive(5000)).float()
    poses = chain(steps)
    assert poses.dtype == torch.float64
    torch.testing.assert_close(
        poses[-1, :3, :3] @ poses[-1, :3, :3].T, torch.eye(3, dtype=torch.float64), atol=1e-10, rtol=0
    )


def test_ate_is_the_root_of_the_mean_square():
    truth = drive(50)
    estimate = truth.clone()
    estimate[::2, 1, 3] += 0.3
    estimate[1::2, 1, 3] -= 0.4
    assert ate(estimate, truth, "none") == pytest.approx(math.sqrt((0.09 + 0.16) / 2), rel=1e-12)
    assert ate(estimate, truth, "sim3") <= ate(estimate, truth, "se3") <= 0.35 + 1e-9
    assert ate(truth.float() * torch.tensor([[1.0, 1, 1, 0.01]] * 3 + [[1, 1, 1, 1]]), truth) < 1e-5


@pytest.mark.parametrize(("sequence", "expected"), [("09", 8.387), ("10", 6.630)])
def test_a_real_result_has_its_published_error(real_data, sequence: str, expected: float):
    folder = real_data / "references/kitti_odom_eval"
    if not folder.is_dir():
        pytest.skip("SALTICID_TEST_DATA has no references/kitti_odom_eval")
    frames, estimate = read_kitti(folder / f"result/example_0/{sequence}.txt")
    _, truth = read_kitti(folder / f"dataset/kitti_odom/gt_poses/{sequence}.txt")
    assert round(ate(estimate, truth[frames], "sim3"), 3) == expected


def snippets_by_hand(estimate: np.ndarray, truth: np.ndarray, length: int, inverted: bool) -> list[float]:
    """The definition, snippet by snippet."""

    def local(poses: np.ndarray, start: int) -> np.ndarray:
        reached, places = np.eye(4), [np.zeros(3)]
        for i in range(start, min(start + length - 1, len(poses) - 1)):
            motion = np.linalg.inv(poses[i]) @ poses[i + 1]
            reached = reached @ (np.linalg.inv(motion) if inverted else motion)
            places.append(reached[:3, 3])
        return np.array(places)

    errors = []
    for start in range(len(truth) - 1):
        ours, theirs = local(estimate, start), local(truth, start)
        scale = (ours * theirs).sum() / (ours**2).sum()
        errors.append(np.linalg.norm(scale * ours - theirs) / len(ours))
    return errors


@pytest.mark.parametrize("length", [2, 3, 5, 40])
def test_snippets_are_those_of_the_definition(length: int):
    truth = drive(12)
    estimate = shaken(truth)
    found = snippet_errors(estimate, truth, length)
    np.testing.assert_allclose(found, snippets_by_hand(estimate.numpy(), truth.numpy(), length, True), rtol=1e-9)
    found = snippet_errors(estimate, truth, length, "positions")
    np.testing.assert_allclose(found, snippets_by_hand(estimate.numpy(), truth.numpy(), length, False), rtol=1e-9)


def test_positions_of_a_snippet_are_the_cameras():
    truth = drive(5)
    estimate = shaken(truth, amount=0.1)
    ours = (torch.linalg.inv(estimate[0]) @ estimate)[:, :3, 3]
    theirs = (torch.linalg.inv(truth[0]) @ truth)[:, :3, 3]
    scale = (ours * theirs).sum() / ours.square().sum()
    expected = (scale * ours - theirs).norm() / 5
    assert snippet_errors(estimate, truth, 5, "positions")[0].item() == pytest.approx(expected.item(), rel=1e-12)


def test_snippets_of_what_stands_still():
    truth = drive(6)
    still = truth[:1].expand(6, 4, 4)
    assert snippet_errors(truth, still, 5).tolist() == [0] * 5
    errors = snippet_errors(still, truth, 5, "positions")
    assert errors[-1].item() == pytest.approx(steps_of(truth)[-1, :3, 3].norm().item() / 2, rel=1e-12)
    assert len(snippet_errors(truth[:1], truth[:1])) == 0
    with pytest.raises(UserError, match="snippets of 1; expected at least 2"):
        snippet_errors(truth, truth, 1)


def test_rpe_of_a_known_disturbance():
    truth = drive(20)
    turn = Rotation.from_rotvec([0, math.radians(2), 0]).as_matrix()
    wrong = se3.pose(torch.from_numpy(turn), torch.tensor([0.0, 0.0, 0.25]).double())
    found = rpe(chain(steps_of(truth) @ wrong), truth)
    torch.testing.assert_close(found.translation, torch.full((19,), 0.25).double(), atol=1e-12, rtol=0)
    torch.testing.assert_close(
        found.rotation, torch.full((19,), math.radians(2), dtype=torch.float64), atol=1e-12, rtol=0
    )
    assert found.rmse == pytest.approx((0.25, math.radians(2), 2.0), rel=1e-8)


@pytest.mark.parametrize("delta", [1, 4, 19])
def test_rpe_is_that_of_the_definition_whatever_the_worlds(delta: int):
    truth = drive(20)
    estimate = shaken(truth)
    found = rpe(drive(3)[2] @ estimate, truth, delta)
    assert len(found.translation) == 20 - delta
    for i in range(20 - delta):
        ours, theirs = (np.linalg.inv(p[i].numpy()) @ p[i + delta].numpy() for p in (estimate, truth))
        error = np.linalg.inv(theirs) @ ours
        assert found.translation[i].item() == pytest.approx(np.linalg.norm(error[:3, 3]), rel=1e-9)
        assert found.rotation[i].item() == pytest.approx(Rotation.from_matrix(error[:3, :3]).magnitude(), rel=1e-8)


@pytest.mark.parametrize("delta", [0, 20, -1])
def test_rpe_without_a_step_is_refused(delta: int):
    with pytest.raises(UserError, match=f"relative pose error over {delta} frames; the trajectory of 20 poses"):
        rpe(drive(20), drive(20), delta)


def test_drift_is_that_of_the_definition():
    truth = drive(600)
    estimate = shaken(truth, amount=0.003)
    way = [0.0]
    for before, after in zip(truth[:-1].numpy(), truth[1:].numpy(), strict=True):
        way.append(way[-1] + np.linalg.norm(after[:3, 3] - before[:3, 3]))
    translation, rotation = [], []
    for first in range(0, 600, 10):
        for length in range(100, 900, 100):
            last = next((i for i in range(first, 600) if way[i] > way[first] + length), None)
            if last is None:
                continue
            ours, theirs = (np.linalg.inv(p[first].numpy()) @ p[last].numpy() for p in (estimate, truth))
            error = np.linalg.inv(ours) @ theirs
            translation.append(np.linalg.norm(error[:3, 3]) / length)
            rotation.append(Rotation.from_matrix(error[:3, :3]).magnitude() / length)
    found = drift(estimate, truth)
    assert len(found.length) == len(translation) > 100
    assert found.percent == pytest.approx(100 * np.mean(translation), rel=1e-9)
    assert found.degrees_per_100m == pytest.approx(100 * np.degrees(np.mean(rotation)), rel=1e-8)


def test_drift_of_a_wrong_scale_and_of_a_short_way():
    straight = torch.eye(4).repeat(1000, 1, 1).double()
    straight[:, 2, 3] = torch.arange(1000)
    short = straight.clone()
    short[:, 2, 3] *= 0.98
    found = drift(short, straight)
    # A segment ends at the first frame beyond its length, here one metre too far.
    expected = np.mean([2 * (n + 1) / n for n in range(100, 900, 100) for s in range(0, 1000, 10) if s + n + 1 < 1000])
    assert found.percent == pytest.approx(expected, rel=1e-9)
    assert found.degrees_per_100m == 0
    assert drift(align(short, straight, "sim3"), straight).percent < 1e-9
    none = drift(straight[:90], straight[:90])
    assert len(none.length) == 0
    assert math.isnan(none.percent)
    assert math.isnan(none.degrees_per_100m)


def test_directions_have_angles_whatever_the_scale():
    motions = torch.eye(4).repeat(6, 1, 1)
    truth = motions.clone()
    truth[:, :3, 3] = torch.tensor([[0.0, 0, 1]] * 4 + [[0, 0, 0.001], [0, 0, 0]])
    motions[:, :3, 3] = torch.tensor([[0, 0, 7.0], [0.001, 0, 0], [0, 0, -2], [0, 0, 0], [0, 1, 1], [1, 0, 0]])
    found = direction_errors(motions, truth)
    expected = torch.tensor([0, math.pi / 2, math.pi, math.pi / 2, math.pi / 4, math.nan], dtype=torch.float64)
    torch.testing.assert_close(found, expected, equal_nan=True, atol=1e-12, rtol=0)
    assert direction_errors(motions, truth, still=0.01).isnan().tolist() == [False] * 4 + [True] * 2
    tiny = truth.clone().double()
    tiny[0, 0, 3] = 1e-9
    assert direction_errors(tiny, truth)[0].item() == pytest.approx(1e-9, rel=1e-6)  # an arc cosine would give 0


@pytest.mark.parametrize("angle", [0.0, 1e-9, 1e-4, 1.0, math.pi - 1e-6, math.pi])
def test_rotations_have_angles(angle: float):
    turns = torch.from_numpy(Rotation.random(5, random_state=0).as_matrix())
    axis = torch.tensor([2.0, -1, 2]).double() / 3
    off = se3.pose(turns @ se3.axis_angle_to_matrix(angle * axis))
    torch.testing.assert_close(
        rotation_errors(off, se3.pose(turns)), torch.full((5,), angle, dtype=torch.float64), atol=1e-12, rtol=1e-9
    )
