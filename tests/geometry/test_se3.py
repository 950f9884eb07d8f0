import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from salticid.geometry import se3

vectors = st.lists(st.floats(-1, 1), min_size=3, max_size=3).filter(lambda v: sum(x * x for x in v) > 1e-4)


@settings(deadline=None, max_examples=80)
@given(axis=vectors, angle=st.sampled_from([0.0, 1e-12, 1e-5, 9e-4, 1.1e-3, 0.3, 1.5, 3.0, math.pi - 1e-7, math.pi]))
def test_axis_angle_agrees_with_scipy(axis: list[float], angle: float) -> None:
    vector = np.array(axis) / np.linalg.norm(axis) * angle
    expected = Rotation.from_rotvec(vector).as_matrix()
    matrix = se3.axis_angle_to_matrix(torch.from_numpy(vector))
    np.testing.assert_allclose(matrix.numpy(), expected, atol=1e-14)
    back = se3.matrix_to_axis_angle(torch.from_numpy(expected)).numpy()
    np.testing.assert_allclose(Rotation.from_rotvec(back).as_matrix(), expected, atol=1e-9)
    assert np.linalg.norm(back) <= math.pi + 1e-12
    if angle < 3.1:
        np.testing.assert_allclose(back, vector, atol=1e-12)


def test_gradients_at_and_near_no_rotation() -> None:
    for scale in (0.0, 1e-10, 1e-3, 1.0):
        vector = (torch.tensor([0.3, -0.5, 0.8], dtype=torch.float64) * scale).requires_grad_()
        assert torch.autograd.gradcheck(se3.axis_angle_to_matrix, vector)
    matrix = torch.eye(3, dtype=torch.float64).requires_grad_()
    se3.matrix_to_axis_angle(matrix).sum().backward()
    assert bool(matrix.grad.isfinite().all())


def test_yaw_turns_right_pitch_up_roll_clockwise() -> None:
    quarter = math.pi / 2
    forward, right, up = torch.tensor([0.0, 0, 1]), torch.tensor([1.0, 0, 0]), torch.tensor([0.0, -1, 0])
    close = {"atol": 1e-6, "rtol": 0}
    torch.testing.assert_close(se3.rotate(se3.yaw_pitch_roll(quarter), forward), right, **close)
    torch.testing.assert_close(se3.rotate(se3.yaw_pitch_roll(0.0, quarter), forward), up, **close)
    torch.testing.assert_close(se3.rotate(se3.yaw_pitch_roll(0.0, 0.0, quarter), right), -up, **close)


@pytest.mark.parametrize("angles", [(0.3, 0.2, -0.4), (2.5, -1.0, 3.0)])
def test_yaw_pitch_roll_agrees_with_scipy(angles: tuple[float, float, float]) -> None:
    expected = Rotation.from_euler("YXZ", angles).as_matrix()
    matrix = se3.yaw_pitch_roll(*torch.tensor(angles, dtype=torch.float64))
    np.testing.assert_allclose(matrix.numpy(), expected, atol=1e-14)


def test_poses_move_rotate_and_invert() -> None:
    g = torch.Generator().manual_seed(0)
    rotation = se3.axis_angle_to_matrix(torch.randn(4, 3, generator=g, dtype=torch.float64))
    translation = torch.randn(4, 3, generator=g, dtype=torch.float64)
    pose = se3.pose(rotation, translation)
    points = torch.randn(4, 5, 6, 3, generator=g, dtype=torch.float64)
    moved = se3.transform(pose, points)
    expected = torch.einsum("bij,bhwj->bhwi", rotation, points) + translation[:, None, None]
    torch.testing.assert_close(moved, expected, atol=1e-12, rtol=0)
    torch.testing.assert_close(se3.transform(se3.inverse(pose), moved), points, atol=1e-12, rtol=0)
    torch.testing.assert_close(se3.rotate(pose, points), se3.rotate(rotation, points))
    both = se3.compose(pose, se3.inverse(pose))
    torch.testing.assert_close(both, torch.eye(4, dtype=torch.float64).expand(4, 4, 4), atol=1e-12, rtol=0)


def test_autocast_does_not_touch_the_precision() -> None:
    rotation = se3.yaw_pitch_roll(0.7, 0.2)
    points = torch.randn(100, 3, generator=torch.Generator().manual_seed(0))
    expected = (points.double() @ rotation.double().T).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(se3.rotate(rotation, points), expected, atol=1e-6, rtol=0)
        torch.testing.assert_close(se3.compose(rotation, rotation), (rotation.double() @ rotation.double()).float())


def test_look_at_sees_its_target_ahead() -> None:
    position, target = torch.tensor([1.0, -2.0, 3.0]), torch.tensor([-2.0, 0.5, 1.0])
    pose = se3.look_at(position, target)
    seen = se3.transform(se3.inverse(pose), target)
    torch.testing.assert_close(seen, torch.tensor([0.0, 0.0, float((target - position).norm())]), atol=1e-5, rtol=0)
    assert float(torch.linalg.det(pose[:3, :3])) == pytest.approx(1, abs=1e-5)
    assert pose[1, 0].abs() < 1e-6  # no roll: the camera's right is horizontal
    assert pose[1, 1] > 0  # and its down points down
