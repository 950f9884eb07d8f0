import math

import pytest
import torch
from torch import Tensor

from salticid.geometry import se3
from salticid.geometry.cameras import UCM, DoubleSphere, Equirectangular, KannalaBrandt, Lens, Pinhole, pixel_grid
from salticid.geometry.warp import reproject, reproject_maps, resample, rotate_panorama, sample, shrink


def noise(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0), dtype=dtype)


def direction_panorama(height: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """A panorama whose colours are the rays that its pixels look along: (1, 3, h, 2h)."""
    return Equirectangular(height, 2 * height).rays(dtype=dtype)[0].permute(2, 0, 1)[None]


@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
@pytest.mark.parametrize("wrap", [False, True])
def test_sampling_at_pixel_centres_returns_the_image(mode: str, wrap: bool) -> None:
    image = noise(2, 3, 10, 14, dtype=torch.float64)
    pixels = pixel_grid(10, 14).double()[None]
    out = sample(image, pixels, wrap=wrap, mode=mode)
    torch.testing.assert_close(out, image, atol=1e-12, rtol=0)


def test_bilinear_sampling_is_the_weighted_mean_of_four() -> None:
    image = noise(1, 1, 4, 5)
    value = sample(image, torch.tensor([[[[1.25, 2.5]]]]))
    a, b = image[0, 0, 2, 1:3].tolist(), image[0, 0, 3, 1:3].tolist()
    assert value.item() == pytest.approx(0.5 * (0.75 * a[0] + 0.25 * a[1]) + 0.5 * (0.75 * b[0] + 0.25 * b[1]))


def test_a_panorama_goes_on_over_its_seam_and_poles() -> None:
    panorama = noise(1, 2, 6, 12, dtype=torch.float64)
    u = torch.tensor([-0.5, 11.5, 23.5, 3.0, 3.0, -7.0], dtype=torch.float64)
    v = torch.tensor([2.0, 2.0, 2.0, -1.0, 6.0, 3.0], dtype=torch.float64)
    out = sample(panorama, torch.stack((u, v), dim=-1)[None, None], wrap=True)[0, :, 0]
    seam = panorama[0, :, 2, [0, 11]].mean(dim=-1)
    expected = [seam, seam, seam, panorama[0, :, 0, 9], panorama[0, :, 5, 9], panorama[0, :, 3, 5]]
    torch.testing.assert_close(out, torch.stack(expected, dim=-1), atol=1e-12, rtol=0)


def test_padding_outside_an_image() -> None:
    image = torch.ones(1, 1, 4, 4)
    far = torch.tensor([[[[-9.0, 1.0]]]])
    assert sample(image, far).item() == 1
    assert sample(image, far, padding="zeros").item() == 0


def test_sampling_is_in_single_precision_under_autocast() -> None:
    image, pixels = noise(1, 3, 40, 300), noise(1, 20, 20, 2) * torch.tensor([299.0, 39.0])
    expected = sample(image, pixels)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = sample(image, pixels)
    assert out.dtype == torch.float32
    assert torch.equal(out, expected)
    assert sample(image.bfloat16(), pixels).dtype == torch.float32


def test_sampling_has_right_gradients() -> None:
    image = noise(1, 2, 5, 6, dtype=torch.float64).requires_grad_()
    pixels = (noise(1, 3, 3, 2, dtype=torch.float64) * 3 + 0.7).requires_grad_()
    assert torch.autograd.gradcheck(lambda i, p: sample(i, p, wrap=True), (image, pixels))


def test_no_rotation_returns_the_panorama() -> None:
    panorama = noise(1, 3, 64, 128)
    assert (rotate_panorama(panorama, torch.eye(3)) - panorama).abs().max() < 1e-5


@pytest.mark.parametrize("turn", [1, 2, 3])
def test_a_quarter_turn_rolls_the_panorama(turn: int) -> None:
    panorama = noise(1, 3, 32, 64, dtype=torch.float64)
    rotation = se3.yaw_pitch_roll(torch.tensor(turn * math.pi / 2, dtype=torch.float64))
    expected = panorama.roll(-turn * 16, dims=-1)  # what was to the right is now ahead
    assert (rotate_panorama(panorama, rotation) - expected).abs().max() < 1e-9


def test_colours_that_are_directions_turn_like_directions() -> None:
    panorama = direction_panorama(128)
    rotation = se3.yaw_pitch_roll(0.4, -0.9, 2.0)
    turned = rotate_panorama(panorama, rotation)
    expected = se3.rotate(rotation, panorama.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    # 0.05 px of 128 rows are 1.2e-3 rad.
    assert (turned - expected).norm(dim=1).max() < 0.05 * math.pi / 128


def test_a_fisheye_sees_the_direction_of_every_pixel_within_a_twentieth() -> None:
    camera = UCM.centred(96, 96, 37.0, xi=0.9)
    rotation = se3.yaw_pitch_roll(-2.9, 0.7)
    view, valid = resample(direction_panorama(256), Equirectangular(256, 512), camera, rotation)
    assert bool(valid.all())
    seen = se3.rotate(rotation.T, view[0].permute(1, 2, 0))
    pixels, _ = camera.project(seen)
    inner = torch.zeros(96, 96, dtype=torch.bool)
    inner[1:-1, 1:-1] = True
    assert (pixels - pixel_grid(96, 96)).norm(dim=-1)[inner].max() < 0.05


def test_supersampling_averages_and_masks() -> None:
    camera = Pinhole.centred(16, 16, 9.0, max_angle=0.6)
    source = Equirectangular(256, 512)
    panorama = noise(1, 3, 256, 512)
    fine, seen = resample(panorama, source, camera.resized(64, 64))
    out, valid = resample(panorama, source, camera, supersample=4)
    share = torch.nn.functional.avg_pool2d(seen.float(), 4)
    expected = torch.nn.functional.avg_pool2d(fine * seen, 4) / share
    assert bool((valid == (share > 0)).all())
    torch.testing.assert_close(out[valid.expand_as(out)], expected[valid.expand_as(out)], atol=1e-5, rtol=0)
    assert bool((out[~valid.expand_as(out)] == 0).all())
    assert out[valid.expand_as(out)].std() < 0.5 * fine[seen.expand_as(fine)].std()


def test_cameras_and_rotations_may_differ_within_a_batch() -> None:
    source, panorama = Equirectangular(32, 64), noise(2, 3, 32, 64)
    f, angles = torch.tensor([20.0, 30.0]), torch.tensor([0.3, -1.0])
    out, _ = resample(panorama, source, Pinhole.centred(16, 20, f), se3.yaw_pitch_roll(angles))
    for i in range(2):
        one, _ = resample(
            panorama[i : i + 1], source, Pinhole.centred(16, 20, float(f[i])), se3.yaw_pitch_roll(angles[i])
        )
        torch.testing.assert_close(out[i], one[0], atol=1e-5, rtol=0)


def plane_distance(camera: Pinhole, pose: Tensor, measure: str) -> Tensor:
    """How far the plane z = 4 of the world is, seen from `pose`: (1, 1, h, w)."""
    rays, _ = camera.rays(dtype=torch.float64)
    along = se3.rotate(pose, rays)[..., 2]
    distance = (4 - pose[2, 3]) / along
    return (distance * rays[..., 2] if measure == "depth" else distance)[None, None]


@pytest.mark.parametrize("measure", ["distance", "depth"])
def test_reprojection_of_a_plane(measure: str) -> None:
    a = Pinhole.centred(24, 32, 40.0)
    b = UCM.centred(40, 40, 30.0, xi=0.8)
    a_to_world = se3.pose(se3.yaw_pitch_roll(0.1, 0.05).double(), torch.tensor([0.2, 0.1, -0.3]).double())
    b_to_world = se3.pose(se3.yaw_pitch_roll(-0.2, 0.1).double(), torch.tensor([-0.4, 0.0, 0.2]).double())
    a_to_b = se3.compose(se3.inverse(b_to_world), a_to_world)
    far = plane_distance(a, a_to_world, measure)
    pixels, valid, distance_b = reproject(far, a, a_to_b, b, measure=measure)

    rays, _ = a.rays(dtype=torch.float64)
    distance = plane_distance(a, a_to_world, "distance")[0, 0, ..., None]
    points = se3.transform(a_to_b, rays * distance)
    expected, inside = b.project(points)
    assert bool((valid[0, 0] == inside).all())
    assert inside.float().mean() > 0.8
    assert (pixels[0] - expected).abs()[inside].max() < 1e-9
    length = points[..., 2] if measure == "depth" else points.norm(dim=-1)
    torch.testing.assert_close(distance_b[0, 0], length, atol=1e-12, rtol=0)


def test_staying_put_is_no_flow_and_infinity_has_no_parallax() -> None:
    camera = UCM.centred(20, 24, 12.0, xi=0.9)
    flow = reproject(noise(2, 1, 20, 24) + 1, camera, torch.eye(4), camera).pixels - pixel_grid(20, 24)
    assert flow.abs().max() < 1e-4
    aside = se3.pose(torch.eye(3), torch.tensor([1.0, 0.0, 0.0]))
    pixels, valid, _ = reproject(torch.full((1, 1, 20, 24), math.inf), camera, aside, camera)
    assert valid.float().mean() > 0.95
    assert (pixels - pixel_grid(20, 24)).abs().max() < 1e-4


def test_missing_distances_are_invalid_with_finite_gradients() -> None:
    camera = Pinhole.centred(6, 8, 6.0)
    distance = torch.tensor([0.0, -1.0, math.nan, 2.0] * 12).reshape(1, 1, 6, 8).requires_grad_()
    motion = torch.tensor([[0.1, 0.0, 0.02]], requires_grad=True)
    pose = se3.pose(torch.eye(3)[None], motion)
    pixels, valid, distance_b = reproject(distance, camera, pose, camera)
    assert not bool(valid[..., 0:3].any())
    assert bool(pixels.isfinite().all())
    (pixels.sum() + distance_b.sum()).backward()
    assert bool(distance.grad.isfinite().all())
    assert bool(motion.grad.isfinite().all())


def test_reprojection_has_right_gradients() -> None:
    camera = UCM.centred(4, 5, 3.0, xi=0.9)
    distance = (noise(1, 1, 4, 5, dtype=torch.float64) + 1).requires_grad_()
    motion = torch.tensor([0.1, 0.2, -0.1, 0.05, 0.0, 0.1], dtype=torch.float64, requires_grad=True)

    def run(distance: Tensor, motion: Tensor) -> tuple[Tensor, Tensor]:
        pose = se3.pose(se3.axis_angle_to_matrix(motion[:3]), motion[3:])
        out = reproject(distance, camera, pose, camera)
        return out.pixels, out.distance_b

    assert torch.autograd.gradcheck(run, (distance, motion))


LENSES = {
    Pinhole: (),
    UCM: (0.9,),
    DoubleSphere: (-0.2, 0.6),
    KannalaBrandt: (0.05, -0.01, 0.002, -0.001),
}


def learnt_lens(model: type[Lens], values: Tensor) -> Lens:
    """The lens of each of a batch of parameters (b, P)."""
    return model(6, 8, *values.unbind(-1))


def plainly(distance: Tensor, a: Lens, motion: Tensor, b: Lens, measure: str) -> tuple[Tensor, Tensor, Tensor]:
    """`reproject` of one map by going through points: pixels, valid and distance."""
    rays, seen = a.rays(dtype=distance.dtype)
    points = rays * (distance / rays[..., 2] if measure == "depth" else distance)[..., None]
    there = se3.transform(motion, points)
    pixels, valid = b.project(there)
    far = there[..., 2] if measure == "depth" else torch.linalg.vector_norm(there, dim=-1)
    return pixels, valid & seen & (distance > 0), far


@pytest.mark.parametrize("measure", ["distance", "depth"])
@pytest.mark.parametrize("model", LENSES)
def test_several_maps_and_motions_are_as_each_alone(model: type[Lens], measure: str) -> None:
    """For every lens: values, and gradients by distances, motions and intrinsics."""
    draw = torch.Generator().manual_seed(1)
    values = torch.tensor([[5.0, 5.5, 3.5, 2.5, *LENSES[model]], [6.0, 5.0, 3.0, 3.0, *LENSES[model]]])
    values = values.double().requires_grad_()
    distances = (1 + torch.rand(2, 3, 6, 8, generator=draw, dtype=torch.float64)).requires_grad_()
    twists = (0.1 * torch.randn(2, 2, 6, generator=draw, dtype=torch.float64)).requires_grad_()
    leaves = (distances, twists, values)
    motions = se3.pose(se3.axis_angle_to_matrix(twists[..., :3]), twists[..., 3:])
    lens = learnt_lens(model, values)
    found = reproject_maps(distances, lens, motions, lens, measure=measure)
    assert found.pixels.shape == (2, 2, 3, 6, 8, 2)
    each = [[plainly(distances[:, s], lens, motions[:, k], lens, measure) for s in range(3)] for k in range(2)]
    pixels, valid, far = (
        torch.stack([torch.stack(row, dim=1) for row in rows], dim=1)
        for rows in zip(*(zip(*row, strict=True) for row in each), strict=True)
    )
    assert found.valid.equal(valid)
    assert found.valid.float().mean() > 0.5
    torch.testing.assert_close(found.pixels[valid], pixels[valid], atol=1e-9, rtol=0)
    torch.testing.assert_close(found.distance_b[valid], far[valid], atol=1e-12, rtol=0)
    weights = torch.randn(pixels.shape, generator=draw, dtype=torch.float64) * valid[..., None]
    pairs = ((found.pixels, found.distance_b), (pixels, far))
    sums = [(weights * p).sum() + (weights[..., 0] * d).sum() for p, d in pairs]
    for ours, theirs in zip(*(torch.autograd.grad(total, leaves, retain_graph=True) for total in sums), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-9, rtol=1e-9)
        assert ours.abs().max() > 0

    lens = learnt_lens(model, values.float())
    single = reproject_maps(distances.float(), lens, motions.float(), lens, measure=measure)
    assert single.pixels.dtype == torch.float32
    both = single.valid & valid
    assert (single.pixels - pixels).abs()[both].max() < 2e-5


def test_a_point_in_the_other_camera_has_finite_gradients() -> None:
    camera = UCM.centred(3, 3, 2.0, xi=0.9)
    distance = torch.full((1, 1, 3, 3), 2.0, requires_grad=True)
    onto = torch.tensor([[0.0, 0.0, -2.0]], requires_grad=True)
    found = reproject(distance, camera, se3.pose(torch.eye(3)[None], onto), camera)
    assert not bool(found.valid[0, 0, 1, 1])
    (found.pixels.sum() + found.distance_b.sum()).backward()
    assert bool(distance.grad.isfinite().all())
    assert bool(onto.grad.isfinite().all())


@pytest.mark.parametrize("size", [(6, 8), (4, 4), (5, 7), (11, 9)])
def test_shrinking_is_area_averaging(size: tuple[int, int]) -> None:
    cv2 = pytest.importorskip("cv2")
    image = noise(1, 1, 12, 16)
    expected = cv2.resize(image[0, 0].numpy(), size[::-1], interpolation=cv2.INTER_AREA)
    torch.testing.assert_close(shrink(image, *size)[0, 0], torch.from_numpy(expected), atol=1e-6, rtol=0)


@pytest.mark.parametrize("yaw", [0, 90, 180, -90])
def test_cube_faces_equal_those_of_py360convert(picture, yaw: int) -> None:
    panorama = picture("references/py360convert/example_input.png")
    dice = picture("references/py360convert/example_e2c.png")
    size = dice.shape[-2] // 3
    column = [-90, 0, 90, 180].index(yaw)
    face = dice[..., size : 2 * size, column * size : (column + 1) * size]
    camera = Pinhole.centred(size, size, (size - 1) / 2)  # its faces reach their edges at pixel centres
    out, _ = resample(panorama, Equirectangular(*panorama.shape[-2:]), camera, se3.yaw_pitch_roll(math.radians(yaw)))
    assert (out - face).abs().mean() < 0.1


def test_perspective_equals_that_of_py360convert(picture) -> None:
    panorama = picture("references/py360convert/example_input.png")
    expected = picture("references/py360convert/example_e2p.png")
    camera = Pinhole.centred(300, 300, 299 / 2 / math.tan(math.radians(30)))
    rotation = se3.yaw_pitch_roll(math.radians(120), math.radians(23))
    out, _ = resample(panorama, Equirectangular(*panorama.shape[-2:]), camera, rotation)
    assert (out - expected).abs().mean() < 0.1
    assert (out.round() != expected).float().mean() < 1e-3
