"""Alignments against SciPy: its optimiser over all parameters, and its own solution of the rotation."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from salticid.errors import UserError
from salticid.evaluate.trajectory_alignment import align, fit, nearest_rotation
from salticid.geometry import se3


def poses_at(positions: np.ndarray, seed: int = 0) -> torch.Tensor:
    """Poses with random orientations at positions (N, 3)."""
    rotations = Rotation.random(len(positions), random_state=seed).as_matrix()
    return se3.pose(torch.from_numpy(rotations), torch.from_numpy(np.asarray(positions, float)))


def moved(poses: torch.Tensor, scale: float, seed: int = 3) -> torch.Tensor:
    """Poses in another world: turned, shifted and scaled."""
    turn = torch.from_numpy(Rotation.random(random_state=seed).as_matrix())
    return se3.pose(turn @ poses[:, :3, :3], scale * poses[:, :3, 3] @ turn.T + torch.tensor([1.0, -20.0, 3.0]))


@pytest.fixture
def noisy():
    rng = np.random.default_rng(0)
    positions = np.cumsum(rng.normal(size=(40, 3)) + np.array([0.3, 0, 1]), axis=0)
    truth = poses_at(positions)
    estimate = moved(truth, 0.05)
    estimate[:, :3, 3] += torch.from_numpy(rng.normal(size=(40, 3))) * 0.03
    return estimate, truth


SHARP = {"method": "lm", "xtol": 1e-13, "ftol": 1e-13, "gtol": 1e-13, "max_nfev": 500}


def optimum(estimate: torch.Tensor, truth: torch.Tensor, with_scale: bool) -> tuple[float, np.ndarray, np.ndarray]:
    """Scale, rotation and translation by Levenberg–Marquardt from the best of many starts."""
    ours, theirs = (poses[:, :3, 3].numpy() for poses in (estimate, truth))

    def residuals(p: np.ndarray) -> np.ndarray:
        scale = math.exp(p[6]) if with_scale else 1.0
        return (scale * Rotation.from_rotvec(p[:3]).apply(ours) + p[3:6] - theirs).ravel()

    starts = Rotation.random(4, random_state=1).as_rotvec()
    found = [least_squares(residuals, [*s, 0, 0, 0, 0][: 6 + with_scale], **SHARP) for s in starts]
    p = min(found, key=lambda f: f.cost).x
    return math.exp(p[6]) if with_scale else 1.0, Rotation.from_rotvec(p[:3]).as_matrix(), p[3:6]


@pytest.mark.parametrize("kind", ["se3", "sim3"])
def test_umeyama_is_the_optimum(noisy, kind: str):
    estimate, truth = noisy
    if kind == "se3":  # of about the true size, or the optimiser hardly sees the rotation
        estimate[:, :3, 3] *= 20
    found = fit(estimate, truth, kind)
    scale, rotation, translation = optimum(estimate, truth, kind == "sim3")
    assert found.undetermined == ()
    assert found.scale == pytest.approx(scale, rel=1e-7)
    np.testing.assert_allclose(found.rotation, rotation, atol=1e-6)
    np.testing.assert_allclose(found.translation, translation, atol=1e-5)


def test_the_rotation_is_that_of_scipy_for_planes_and_mirrored_clouds(noisy):
    estimate, truth = noisy
    flat = truth.clone()
    flat[:, 1, 3] = 0
    mirrored = truth.clone()
    mirrored[:, 0, 3] *= -1  # the unconstrained optimum is a reflection
    for ours, theirs in ((moved(flat, 2.0), flat), (mirrored, truth), (estimate, flat)):
        found = fit(ours, theirs, "se3")
        a, b = (p[:, :3, 3].numpy() - p[:, :3, 3].numpy().mean(0) for p in (ours, theirs))
        np.testing.assert_allclose(found.rotation, Rotation.align_vectors(b, a)[0].as_matrix(), atol=1e-9)
        assert torch.linalg.det(found.rotation).item() == pytest.approx(1, abs=1e-12)
        assert found.undetermined == ()


@pytest.mark.parametrize("scale", [1e-3, 1.0, 50.0])
def test_a_similar_trajectory_comes_back_with_its_orientations(scale: float):
    truth = poses_at(np.random.default_rng(1).normal(size=(7, 3)) * 30)
    torch.testing.assert_close(align(moved(truth, scale), truth, "sim3"), truth, atol=1e-9, rtol=0)
    torch.testing.assert_close(align(moved(truth, 1.0), truth, "se3"), truth, atol=1e-9, rtol=0)
    torch.testing.assert_close(align(moved(truth, 1.0).float(), truth.float(), "first"), truth, atol=1e-4, rtol=0)
    torch.testing.assert_close(align(moved(truth, scale), truth, "scale"), truth, atol=1e-9, rtol=0)
    torch.testing.assert_close(align(truth, moved(truth, scale), "none"), truth, atol=0, rtol=0)


def test_scale_is_the_best_factor_about_the_first_position(noisy):
    estimate, truth = noisy
    found = align(estimate, truth, "scale")
    torch.testing.assert_close(found[0], truth[0], atol=1e-12, rtol=0)

    def cost(factor: float) -> float:
        around = truth[0, :3, 3] + factor * (found[:, :3, 3] - truth[0, :3, 3])
        return (around - truth[:, :3, 3]).square().sum().item()

    assert cost(1.0) < min(cost(0.999), cost(1.001))


def test_a_backward_estimate_is_not_mirrored():
    truth = se3.pose(torch.eye(3).expand(5, 3, 3), torch.arange(5.0)[:, None] * torch.tensor([0.0, 0, 1])).double()
    backward = truth.clone()
    backward[:, 2, 3] *= -1
    assert fit(backward, truth, "scale").scale == 0
    assert fit(backward, truth, "first").scale == 1


@pytest.mark.parametrize("count", [1, 2, 9])
@pytest.mark.parametrize("kind", ["se3", "sim3"])
def test_on_a_line_the_cameras_tell_the_turn_about_it(count: int, kind: str):
    line = np.arange(count)[:, None] ** 1.5 * [[0.3, -0.2, 4.0]]
    truth = poses_at(line)
    estimate = moved(truth, 1.0)
    found = fit(estimate, truth, kind)
    assert "rotation" in found.undetermined
    assert ("scale" in found.undetermined) == (count == 1 and kind == "sim3")
    torch.testing.assert_close(found.apply(estimate), truth, atol=1e-9, rtol=0)


def test_on_a_line_nothing_is_lost_when_the_cameras_disagree():
    rng = np.random.default_rng(5)
    truth = poses_at(np.arange(20)[:, None] * [[0.0, 0, 1]], seed=1)
    estimate = poses_at(truth[:, :3, 3].numpy() + rng.normal(size=(20, 3)) * 0.1, seed=2)
    found = fit(estimate, truth, "sim3")
    assert found.undetermined == ("rotation",)
    scale, rotation, translation = optimum(estimate, truth, with_scale=True)
    best = scale * estimate[:, :3, 3].numpy() @ rotation.T + translation - truth[:, :3, 3].numpy()
    error = (found.apply(estimate) - truth)[:, :3, 3]
    assert error.square().sum().item() == pytest.approx((best**2).sum(), rel=1e-9)

    # Of all turns about the line, the one whose cameras agree best.
    def agreement(degrees: float) -> float:
        about = torch.from_numpy(Rotation.from_rotvec([0, 0, math.radians(degrees)]).as_matrix())
        return (about @ found.apply(estimate)[:, :3, :3] * truth[:, :3, :3]).sum().item()

    assert agreement(0) == pytest.approx(max(agreement(d) for d in range(-180, 180)), abs=1e-9)


@pytest.mark.parametrize("kind", ["scale", "sim3"])
def test_standing_still(kind: str):
    still, going = poses_at(np.full((6, 3), 5.3)), poses_at(np.random.default_rng(0).normal(size=(6, 3)))
    found = fit(still, going, kind)
    assert found.scale == 1
    assert "scale" in found.undetermined
    error = (found.apply(still) - going)[:, :3, 3].square().sum(dim=1).mean().sqrt().item()
    centre = going[0] if kind == "scale" else going.mean(dim=0)
    assert error == pytest.approx((going - centre)[:, :3, 3].square().sum(dim=1).mean().sqrt().item(), rel=1e-12)

    found = fit(going, still, kind)
    assert found.scale == pytest.approx(0, abs=1e-12)
    assert "scale" in found.undetermined
    assert (found.apply(going) - still)[:, :3, 3].abs().max().item() < 1e-9


def test_what_cannot_be_compared_is_refused():
    five = poses_at(np.random.default_rng(0).normal(size=(5, 3)))
    with pytest.raises(UserError, match="estimated trajectory has 4 poses, the true one 5; expected the same moments"):
        fit(five[:4], five)
    broken = five.clone()
    broken[2, 0, 3] = torch.nan
    broken[4, 0, 0] = torch.inf
    with pytest.raises(UserError, match=r"true trajectory: pose 2 is not finite \(2 such poses\)"):
        fit(five, broken)
    with pytest.raises(UserError, match=r"estimated trajectory is \(0, 4, 4\); expected"):
        fit(five[:0], five[:0])
    with pytest.raises(UserError, match=r"estimated trajectory is \(5, 3, 4\)"):
        fit(five[:, :3], five)
    with pytest.raises(UserError, match="alignment 'sim2'; expected none, first, scale, se3 or sim3"):
        fit(five, five, "sim2")


def test_the_nearest_rotation_is_proper_and_that_of_scipy():
    rng = np.random.default_rng(0)
    rough = Rotation.random(20, random_state=0).as_matrix() + 0.1 * rng.normal(size=(20, 3, 3))
    rough[3] *= -1
    found = nearest_rotation(torch.from_numpy(rough))
    torch.testing.assert_close(torch.linalg.det(found), torch.ones(20).double())
    for matrix, rotation in zip(rough, found, strict=True):
        expected = Rotation.align_vectors(matrix.T, np.eye(3))[0].as_matrix()  # max trace(Rᵀ M)
        np.testing.assert_allclose(rotation, expected, atol=1e-9)
