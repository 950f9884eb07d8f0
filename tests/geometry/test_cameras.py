import math

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from salticid.geometry.cameras import (
    UCM,
    Camera,
    DoubleSphere,
    Equirectangular,
    KannalaBrandt,
    Lens,
    Pinhole,
    pixel_grid,
)

H, W = 48, 64
FISHEYE = {"k1": -0.0437, "k2": 0.0217, "k3": -0.0264, "k4": 0.0084}
CAMERAS: list[Camera] = [
    Pinhole(H, W, 50.0, 45.0, 30.0, 25.0),
    UCM(H, W, 22.0, 23.0, 31.0, 24.0, xi=0.9),
    UCM(H, W, 60.0, 60.0, 31.0, 24.0, xi=1.6, max_angle=1.8),
    KannalaBrandt(H, W, 20.0, 21.0, 31.0, 24.0, **FISHEYE),
    DoubleSphere(H, W, 12.0, 12.5, 31.0, 24.0, xi=-0.02, alpha=0.56),
    DoubleSphere(H, W, 20.0, 20.0, 31.0, 24.0, xi=0.3, alpha=0.4),
    Equirectangular(H, W),
]
LENSES = [camera for camera in CAMERAS if isinstance(camera, Lens)]
names = [type(camera).__name__ for camera in CAMERAS]


def directions(n: int = 4000) -> torch.Tensor:
    rays = torch.randn(n, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return rays / rays.norm(dim=-1, keepdim=True)


@pytest.mark.parametrize("camera", CAMERAS, ids=names)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 1e-9)])
def test_pixels_survive_a_round_trip(camera: Camera, dtype: torch.dtype, tolerance: float) -> None:
    rays, valid = camera.rays(dtype=dtype)
    assert valid.float().mean() > 0.9
    torch.testing.assert_close(rays.norm(dim=-1), torch.ones(H, W, dtype=dtype), atol=1e-6, rtol=0)
    pixels, seen = camera.project(rays * 7.5)
    assert bool(seen[valid].all())
    error = (pixels - pixel_grid(H, W).to(dtype)).abs()[valid]
    assert error.max() < tolerance


@pytest.mark.parametrize("camera", CAMERAS, ids=names)
def test_valid_points_survive_a_round_trip(camera: Camera) -> None:
    rays = directions()
    pixels, valid = camera.project(rays * 0.3)
    assert 0.05 < valid.float().mean() <= 1
    back, known = camera.unproject(pixels)
    assert bool(known[valid].all())
    assert (back - rays).abs()[valid].max() < 1e-9


@settings(deadline=None, max_examples=60)
@given(
    xi=st.floats(0.05, 3.0),
    f=st.floats(5.0, 300.0),
    cx=st.floats(20.0, 40.0),
    z=st.floats(-1.0, 1.0),
    azimuth=st.floats(-math.pi, math.pi),
)
def test_ucm_is_the_closed_form_and_inverts(xi: float, f: float, cx: float, z: float, azimuth: float) -> None:
    camera = UCM(H, W, f, f, cx, 24.0, xi=xi)
    sine = math.sqrt(1 - z * z)
    point = torch.tensor([sine * math.cos(azimuth), sine * math.sin(azimuth), z], dtype=torch.float64)
    pixel, valid = camera.project(point * 3)
    assert bool(pixel.isfinite().all())
    if z <= -min(xi, 1 / xi):
        assert not valid
    elif abs(z + min(xi, 1 / xi)) > 1e-3:
        expected = f * point[:2] / (z + xi) + torch.tensor([cx, 24.0], dtype=torch.float64)
        assert (pixel - expected).abs().max() < 1e-9 * max(1.0, float(expected.abs().max()))
        assert bool(valid) == bool((expected >= -0.5).all() and expected[0] <= W - 0.5 and expected[1] <= H - 0.5)
        if valid and abs(1 + xi * z) > 1e-2:  # at 1 + ξ cos θ = 0 the radius stands still
            assert (camera.unproject(pixel)[0] - point).abs().max() < 1e-9


@settings(deadline=None, max_examples=40)
@given(xi=st.floats(0.05, 3.0), f=st.floats(4.0, 200.0))
def test_ucm_is_finite_everywhere_with_its_gradients(xi: float, f: float) -> None:
    camera = UCM.centred(H, W, f, xi=xi)
    grid = pixel_grid(H, W).requires_grad_()
    rays, valid = camera.unproject(grid)
    assert bool(rays.isfinite().all())
    assert bool((rays[valid].norm(dim=-1) - 1).abs().max() < 1e-5)
    radius = ((grid.detach() - torch.tensor([(W - 1) / 2, (H - 1) / 2])) / f).square().sum(dim=-1)
    inside = radius < 1 / (xi * xi - 1) if xi > 1 else torch.ones(H, W, dtype=torch.bool)
    clear = (1 + (1 - xi * xi) * radius).abs() > 1e-4
    assert bool((valid == inside)[clear].all())
    rays.sum().backward()
    assert bool(grid.grad.isfinite().all())


@settings(deadline=None, max_examples=60)
@given(
    xi=st.floats(-0.3, 0.9),
    alpha=st.floats(0.0, 0.95),
    angle=st.floats(0.0, 1.0),
    azimuth=st.floats(-math.pi, math.pi),
)
def test_double_sphere_inverts_in_its_whole_domain(xi: float, alpha: float, angle: float, azimuth: float) -> None:
    camera = DoubleSphere(100_000, 100_000, 50.0, 50.0, 5e4, 5e4, xi=xi, alpha=alpha)
    theta = angle * 0.97 * camera.limit
    point = torch.tensor(
        [math.sin(theta) * math.cos(azimuth), math.sin(theta) * math.sin(azimuth), math.cos(theta)],
        dtype=torch.float64,
    )
    pixel, valid = camera.project(point)
    if valid:
        back, known = camera.unproject(pixel)
        assert known
        assert (back - point).abs().max() < 1e-7


def test_double_sphere_without_a_second_sphere_is_the_unified_model() -> None:
    alpha, f = 0.45, 30.0
    double = DoubleSphere.centred(H, W, f, xi=0.0, alpha=alpha)
    unified = UCM.centred(H, W, f / (1 - alpha), xi=alpha / (1 - alpha))
    (a, valid_a), (b, valid_b) = double.project(directions()), unified.project(directions())
    assert bool((valid_a == valid_b).all())
    assert (a - b).abs()[valid_a].max() < 1e-10


def test_unified_model_without_offset_is_the_pinhole() -> None:
    pinhole = Pinhole(H, W, 30.0, 31.0, 32.0, 20.0)
    unified = UCM(H, W, 30.0, 31.0, 32.0, 20.0, xi=0.0)
    points = directions()
    pixels, valid = pinhole.project(points)
    x, y, z = points.unbind(-1)
    ahead = z > 1e-3
    expected = torch.stack((30 * x / z + 32, 31 * y / z + 20), dim=-1)
    assert (pixels - expected).abs()[ahead & (expected.abs().amax(dim=-1) < 1e3)].max() < 1e-9
    assert bool((unified.project(points)[1] == valid).all())
    assert not bool(valid[z <= 0].any())


@pytest.mark.parametrize("f", [20.0, 60.0])
def test_kannala_brandt_agrees_with_opencv(f: float) -> None:
    camera = KannalaBrandt(H, W, f, f + 1, 31.0, 24.0, **FISHEYE)
    matrix = np.array([[f, 0, 31.0], [0, f + 1, 24.0], [0, 0, 1]])
    bends = np.array(list(FISHEYE.values()))
    points = directions()
    points = points[points[:, 2] > 0.05]
    expected, _ = cv2.fisheye.projectPoints(points.numpy()[None], np.zeros(3), np.zeros(3), matrix, bends)
    pixels, valid = camera.project(points)
    assert valid.float().mean() > 0.1
    np.testing.assert_allclose(pixels.numpy(), expected[0], atol=1e-9)

    inside = pixels[valid]
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 50, 1e-14)
    flat = cv2.fisheye.undistortPoints(inside.numpy()[None], matrix, bends, criteria=criteria)[0]
    rays, _ = camera.unproject(inside)
    np.testing.assert_allclose((rays[:, :2] / rays[:, 2:]).numpy(), flat, rtol=1e-7, atol=1e-9)


def test_kannala_brandt_stops_where_its_radius_stops_growing() -> None:
    camera = KannalaBrandt.centred(1000, 1000, 300.0, k1=-0.1)  # θ − 0.1 θ³ peaks at θ = √(10/3)
    assert camera.limit == pytest.approx(math.sqrt(10 / 3), abs=1e-5)
    angles = torch.tensor([1.8, 1.85, 3.0], dtype=torch.float64)
    points = torch.stack((angles.sin(), torch.zeros(3, dtype=torch.float64), angles.cos()), dim=-1)
    assert camera.project(points)[1].tolist() == [True, False, False]
    peak = 300 * math.sqrt(10 / 3) * 2 / 3
    pixels = torch.tensor([[499.5 + peak - 0.1, 499.5], [499.5 + peak + 0.1, 499.5]])
    assert camera.unproject(pixels)[1].tolist() == [True, False]


def test_equirectangular_conventions() -> None:
    sphere = Equirectangular(100, 200)
    points = torch.tensor([[0.0, 0, 1], [1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, -1], [-1, 0, 0], [0, 0, 0]])
    pixels, valid = sphere.project(points)
    assert valid.tolist() == [True] * 6 + [False]
    expected = torch.tensor([[99.5, 49.5], [149.5, 49.5], [99.5, 99.5], [99.5, -0.5], [199.5, 49.5], [49.5, 49.5]])
    torch.testing.assert_close(pixels[:6], expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("camera", LENSES, ids=[type(c).__name__ for c in LENSES])
def test_axis_is_seen_at_the_principal_point(camera: Lens) -> None:
    pixel, valid = camera.project(torch.tensor([0.0, 0.0, 2.0], dtype=torch.float64))
    assert valid
    assert pixel.tolist() == pytest.approx([camera.cx, camera.cy])
    ray, _ = camera.unproject(pixel)
    assert ray.tolist() == pytest.approx([0, 0, 1])


@pytest.mark.parametrize("camera", LENSES, ids=[type(c).__name__ for c in LENSES])
def test_image_circle_limits_both_ways(camera: Lens) -> None:
    import dataclasses

    narrow = dataclasses.replace(camera, max_angle=0.4)
    points = directions()
    pixels, valid = camera.project(points)
    assert bool((narrow.project(points)[1] == (valid & (points[:, 2] > math.cos(0.4)))).all())
    rays, known = camera.unproject(pixels[valid])
    assert bool((narrow.unproject(pixels[valid])[1] == (known & (rays[:, 2] >= math.cos(0.4)))).all())


@pytest.mark.parametrize("camera", CAMERAS, ids=names)
def test_resized_camera_sees_the_same_at_the_same_place(camera: Camera) -> None:
    large = camera.resized(3 * H, 2 * W)
    a, valid_a = camera.project(directions())
    b, valid_b = large.project(directions())
    assert bool((valid_a == valid_b).all())
    scale = torch.tensor([2.0, 3.0], dtype=torch.float64)
    assert ((a + 0.5) * scale - 0.5 - b).abs()[valid_a].max() < 1e-9


@pytest.mark.parametrize("camera", CAMERAS, ids=names)
def test_gradients_are_right_where_valid_and_finite_elsewhere(camera: Camera) -> None:
    points = directions(400) * 2
    hard = torch.tensor(
        [[0, 0, 1], [0, 0, -1], [0, 0, 0], [1, 0, 0], [0, 1, 0], [1e-9, 0, 1], [0, 1e-9, -1], [torch.nan, 0, 1]]
    ).double()
    everything = torch.cat((points, hard, torch.full((1, 3), torch.inf).double())).requires_grad_()
    pixels, valid = camera.project(everything)
    assert bool(pixels.isfinite().all())
    pixels.sum().backward()
    assert bool(everything.grad.isfinite().all())

    inside = points[camera.project(points)[1]][:8].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda p: camera.project(p)[0], inside)
    grid = pixel_grid(H, W).double().requires_grad_()
    rays, valid = camera.unproject(grid)
    rays.sum().backward()
    assert bool(grid.grad.isfinite().all())
    inside = grid.detach()[valid][:: H * W // 8].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda p: camera.unproject(p)[0], inside)


@pytest.mark.parametrize("kind", [UCM, KannalaBrandt, DoubleSphere])
def test_gradients_reach_the_intrinsics(kind: type[Lens]) -> None:
    last = {UCM: {"xi": 0.9}, KannalaBrandt: FISHEYE, DoubleSphere: {"xi": 0.1, "alpha": 0.5}}[kind]
    values = [20.0, 21.0, 31.0, 24.0, *last.values()]
    parameters = [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in values]
    points = directions(50)
    points = points[points[:, 2] > 0]
    pixels = pixel_grid(H, W).double()[20:28:2, 10:50:8]

    def both(*p: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        camera = kind(H, W, *p)
        return camera.project(points)[0], camera.unproject(pixels)[0]

    assert torch.autograd.gradcheck(both, parameters)


@pytest.mark.parametrize("camera", LENSES, ids=[type(c).__name__ for c in LENSES])
def test_one_object_holds_the_intrinsics_of_a_batch(camera: Lens) -> None:
    scales = [0.9, 1.0, 1.2]
    single = [type(camera)(H, W, **{k: v * s for k, v in camera.parameters.items()}) for s in scales]
    factor = torch.tensor(scales, dtype=torch.float64)
    batched = {k: v * factor for k, v in camera.parameters.items() if k != "max_angle"}
    camera = type(camera)(H, W, **batched, max_angle=math.pi)
    assert camera.batch_shape == (3,)
    points = directions(60).reshape(3, 4, 5, 3)
    pixels, valid = camera.project(points)
    rays, known = camera.rays(dtype=torch.float64)
    assert rays.shape == (3, H, W, 3)
    assert known.shape == (3, H, W)
    for i, one in enumerate(single):
        import dataclasses

        one = dataclasses.replace(one, max_angle=math.pi)
        torch.testing.assert_close(pixels[i], one.project(points[i])[0], atol=1e-5, rtol=1e-6)
        torch.testing.assert_close(rays[i], one.rays(dtype=torch.float64)[0], atol=1e-6, rtol=1e-6)
        assert bool((valid[i] == one.project(points[i])[1]).all())


def test_half_precision_points_are_projected_in_single() -> None:
    pixels, _ = CAMERAS[1].project(directions(8).bfloat16())
    assert pixels.dtype == torch.float32
