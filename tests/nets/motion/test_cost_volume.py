"""Pose from displacements."""

import pytest
import torch
import torch.nn.functional as F

from salticid.nets.motion.cost_volume import CostVolumePose, correlate, displacement


@pytest.mark.parametrize(("size", "radius"), [((8, 16), 3), ((5, 7), 2), ((17, 11), 4)])
def test_correlations_are_cosines_at_shifts(size, radius):
    a, b = torch.randn(2, 2, 6, *size, dtype=torch.float64, requires_grad=True)
    volume = correlate(a, b, radius)
    height, width = size
    shown = F.pad(F.normalize(b, dim=1), (radius,) * 4)
    shifts = [(dy, dx) for dy in range(2 * radius + 1) for dx in range(2 * radius + 1)]
    expected = torch.stack(
        [(F.normalize(a, dim=1) * shown[..., dy : dy + height, dx : dx + width]).sum(1) for dy, dx in shifts], dim=1
    )
    torch.testing.assert_close(volume, expected)
    weights = torch.randn_like(expected)
    made, wanted = (torch.autograd.grad((x * weights).sum(), (a, b)) for x in (volume, expected))
    torch.testing.assert_close(made, wanted)


@pytest.mark.parametrize(("dx", "dy"), [(0, 0), (2, -1), (-3, 3)])
def test_shifted_features_are_found(dx, dy):
    a = torch.randn(1, 64, 20, 24, generator=torch.Generator().manual_seed(0))
    moved = displacement(correlate(a, a.roll((dy, dx), (2, 3)), 3), torch.tensor([50.0]))[0, :, 4:-4, 4:-4]
    expected = torch.tensor([dx, dy, 1.0])[:, None, None].expand_as(moved)
    torch.testing.assert_close(moved, expected, atol=1e-3, rtol=0)


def test_fractions_of_a_pixel_lie_between():
    volume = torch.zeros(1, 9, 1, 1, dtype=torch.float64)
    volume[0, 4], volume[0, 5] = 1.0, 1.0  # x: 0 and 1
    moved = displacement(volume, torch.tensor([1000.0]))
    torch.testing.assert_close(moved[0, :, 0, 0], torch.tensor([0.5, 0.0, 0.5]))


def test_poses_are_scaled_and_float32():
    torch.manual_seed(0)
    network = CostVolumePose(scale=1.0).eval()
    first, second = torch.rand(2, 2, 3, 40, 48)
    rays = torch.randn(2, 3, 40, 48)
    whole = network(first, second, rays)
    network.scale = 0.01
    for small, large in zip(network(first, second, rays)[:2], whole, strict=False):
        torch.testing.assert_close(small, 0.01 * large)
    with torch.autocast("cpu", torch.bfloat16):
        assert {x.dtype for x in network(first, second, rays)[:2]} == {torch.float32}


def test_every_parameter_learns():
    network = CostVolumePose()
    axis_angle, translation, _ = network(*torch.rand(2, 1, 3, 40, 48), torch.rand(1, 3, 40, 48))
    (axis_angle + translation).sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in network.parameters())
