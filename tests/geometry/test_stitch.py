import dataclasses
import math

import pytest
import torch
from torch import Tensor

from salticid.errors import UserError
from salticid.geometry import se3
from salticid.geometry.cameras import UCM, DoubleSphere, Equirectangular, KannalaBrandt, Lens, Pinhole, pixel_grid
from salticid.geometry.rig import Rig
from salticid.geometry.stitch import Stitcher, coverage, stitch
from salticid.geometry.views import views_from_panorama
from salticid.geometry.warp import resample, shrink

FISHEYE = UCM.centred(128, 128, 50.3, xi=0.9)


def correlation(a: Tensor, b: Tensor) -> float:
    return float(torch.corrcoef(torch.stack((a.flatten(), b.flatten())))[0, 1])


def high_pass(image: Tensor) -> Tensor:
    grey = image.mean(dim=1, keepdim=True)
    return grey - torch.nn.functional.avg_pool2d(grey, 31, 1, 15, count_include_pad=False)


def test_directions_go_through_fisheyes_and_back_within_a_twentieth_pixel() -> None:
    sphere = Equirectangular(128, 256)
    panorama = Equirectangular(1024, 2048).rays()[0].permute(2, 0, 1)
    rig = Rig.ring(4, FISHEYE)
    views = views_from_panorama(panorama, rig, prefilter=1)
    stitched, seen = stitch(views[None], rig, sphere)
    assert bool((seen == 1).all())
    pixels, _ = sphere.project(stitched[0].permute(1, 2, 0))
    rays, _ = sphere.rays()
    # As an angle in pixels of the equator: near the poles a column is no measure.
    across = torch.linalg.cross(stitched[0].permute(1, 2, 0), rays).norm(dim=-1) / (2 * math.pi / 256)
    middle = slice(32, 96)
    assert (pixels - pixel_grid(128, 256))[middle, 1:-1].norm(dim=-1).max() < 0.05
    assert across.max() < 0.05
    # No shift: an error of half a pixel somewhere in the chain would show in the mean, smoothing does not.
    assert (pixels - pixel_grid(128, 256))[middle, 1:-1].mean(dim=(0, 1)).abs().max() < 1e-4


@pytest.mark.parametrize(
    ("f", "xi", "circle", "solid_angle"),
    [
        (220.0, 0.85, True, 0.267),  # measured independently for these numbers
        (220.0, 0.85, False, 0.332),
        (50.3, 0.9, False, 1.0),
    ],
)
def test_coverage_of_four_fisheyes(f: float, xi: float, circle: bool, solid_angle: float) -> None:
    camera = UCM.centred(128, 128, f, xi=xi)
    if circle:
        edge, _ = camera.unproject(torch.tensor([127.5, 63.5], dtype=torch.float64))
        camera = dataclasses.replace(camera, max_angle=math.acos(float(edge[2])))
        assert 2 * (1 - math.cos(camera.max_angle)) == pytest.approx(solid_angle, abs=5e-4)
    seen = coverage(Rig.ring(4, camera))
    assert seen.solid_angle == pytest.approx(solid_angle, abs=1.5e-3)
    if circle:
        assert seen.pixels == pytest.approx(0.176, abs=1e-3)
    assert bool((seen.mask == (seen.views > 0)).all())


def test_coverage_counts_the_views() -> None:
    camera = Pinhole.centred(64, 64, 32.0)  # 90° square: the six faces of a cube tile the sphere
    faces = [(0, 0), (90, 0), (180, 0), (270, 0), (0, 90), (0, -90)]
    angles = torch.tensor(faces, dtype=torch.float64).deg2rad().T
    poses = se3.pose(se3.yaw_pitch_roll(*angles)).float()
    seen = coverage(Rig((camera,) * 6, poses, tuple("frblud")))
    assert seen.solid_angle == pytest.approx(1, abs=1e-3)
    assert seen.views.float().mean() == pytest.approx(1, abs=0.02)


def test_uncovered_pixels_have_the_mean_of_the_covered() -> None:
    rig = Rig.ring(2, Pinhole.centred(32, 32, 32.0))
    views = torch.stack((torch.full((1, 3, 32, 32), 0.2), torch.full((1, 3, 32, 32), 0.8)), dim=1)
    stitched, seen = stitch(views, rig, Equirectangular(32, 64))
    assert 0 < seen.mean() < 0.5
    assert set(seen.unique().tolist()) == {0.0, 1.0}
    outside = stitched[:, :, seen[0, 0] == 0]
    torch.testing.assert_close(outside, torch.full_like(outside, 0.5), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    "camera",
    [
        FISHEYE,
        dataclasses.replace(FISHEYE, max_angle=1.4),
        KannalaBrandt.centred(128, 128, 45.0, k1=-0.05),
        DoubleSphere.centred(128, 128, 30.0, xi=0.1, alpha=0.55),
        Pinhole.centred(128, 128, 50.0),
    ],
)
def test_blending_has_no_edges(camera: Lens) -> None:
    """Views of different brightness: the panorama never jumps where views overlap by some degrees."""
    rig = Rig.ring(4, camera)
    views = torch.tensor([0.0, 1.0, 0.0, 1.0])[None, :, None, None, None].expand(1, 4, 1, 128, 128)
    stitched, seen = stitch(views, rig, Equirectangular(256, 512))
    assert 0.2 < stitched.mean() < 0.8
    belt = slice(64, 192) if camera is FISHEYE else slice(108, 148)
    assert bool((seen[..., belt, :] == 1).all())
    assert stitched[..., belt, :].diff(dim=-1).abs().max() < 0.12


def test_a_rig_with_baselines_agrees_at_the_stitching_distance() -> None:
    """All views look at a sphere around the rig whose colour is the direction from the centre of the rig."""
    rig, radius = Rig.ring(4, FISHEYE, radius=0.2), 2.0
    rays, _ = FISHEYE.rays()
    views = []
    for pose in rig.poses:
        ray, centre = se3.rotate(pose, rays), pose[:3, 3]
        along = (ray * centre).sum(dim=-1)
        far = -along + (along**2 - centre.dot(centre) + radius**2).sqrt()
        views.append(((centre + ray * far[..., None]) / radius).permute(2, 0, 1)[None])
    expected, _ = Equirectangular(128, 256).rays()
    errors = [
        (stitch(views, rig, Equirectangular(128, 256), distance=d)[0][0].permute(1, 2, 0) - expected)
        .norm(dim=-1)
        .mean()
        for d in (radius, 1.5 * radius, math.inf)
    ]
    assert errors[0] < 2e-3
    assert errors[0] * 5 < errors[1] < errors[2]


@pytest.mark.parametrize("distance", [0.0, -2.0, math.nan, -math.inf])
def test_distances_that_are_not_above_zero_are_refused(distance: float) -> None:
    with pytest.raises(UserError, match=f"distance is {distance}; expected metres above 0, or inf"):
        Stitcher(Rig.ring(2, FISHEYE), Equirectangular(8, 16), distance=distance)


def test_a_panoramic_camera_has_no_seam() -> None:
    """Half a pixel of the camera, and the seam, from every column of the panorama."""
    columns = torch.cos(torch.arange(32) * (2 * math.pi / 32)).expand(1, 1, 16, 32)
    pose = se3.pose(se3.yaw_pitch_roll(torch.tensor([math.pi / 32])))
    stitched, seen = stitch([columns], Rig((Equirectangular(16, 32),), pose, ("all",)), Equirectangular(16, 32))
    assert bool((seen == 1).all())
    between = (columns + columns.roll(1, dims=-1)) / 2
    torch.testing.assert_close(stitched[..., 1:-1, :], between[..., 1:-1, :], atol=1e-4, rtol=0)


def test_intrinsics_and_poses_may_differ_within_a_batch() -> None:
    target = Equirectangular(32, 64)
    images = torch.rand(2, 4, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    f = torch.tensor([9.0, 10.0])
    jitter = se3.pose(se3.yaw_pitch_roll(torch.tensor([0.05, -0.1])))[:, None]
    base = Rig.ring(4, UCM.centred(24, 24, 9.0, xi=0.9))
    xi = torch.tensor([0.9, 0.8])
    rig = Rig((UCM.centred(24, 24, f, xi=xi),) * 4, se3.compose(base.poses[None], jitter), base.names)
    out, seen = stitch(images, rig, target)
    assert seen.shape == (2, 1, 32, 64)
    for i in range(2):
        single = Rig((UCM.centred(24, 24, float(f[i]), xi=float(xi[i])),) * 4, rig.poses[i], base.names)
        one, mask = stitch(images[i : i + 1], single, target)
        torch.testing.assert_close(out[i], one[0], atol=1e-4, rtol=0)
        assert torch.equal(seen[i], mask[0])


def test_a_stitcher_is_a_reusable_stitch_with_gradients() -> None:
    rig, target = Rig.ring(4, UCM.centred(24, 24, 9.5, xi=0.9)), Equirectangular(16, 32)
    images = torch.rand(3, 4, 3, 24, 24, generator=torch.Generator().manual_seed(0)).requires_grad_()
    stitcher = Stitcher(rig, target)
    out = stitcher(images.unbind(dim=1))
    assert torch.equal(out, stitch(images, rig, target)[0])
    out.sum().backward()
    assert bool(images.grad.isfinite().all())


def test_kodak_fisheyes_make_the_reference_panorama(picture) -> None:
    folder = "fisheye/kodak_dual_fisheye/"
    views = [picture(folder + name) for name in ("leftCamera.jpg", "rightCamera.jpg")]
    expected = shrink(picture(folder + "kodak_stitched.jpg"), 480, 960)
    camera = KannalaBrandt.centred(1440, 1440, 372.5, k1=0.1745, k2=-0.1379, k3=0.05277, k4=-0.00819)
    # The reference is centred on the left camera.
    rig = Rig((camera, camera), se3.pose(se3.yaw_pitch_roll(torch.tensor([0.0, math.pi]))), ("left", "right"))
    stitched = shrink(stitch(views, rig, Equirectangular(960, 1920))[0], 480, 960)
    ours, theirs = (high_pass(image)[..., 60:-60, :] for image in (stitched, expected))
    agreement = correlation(ours, theirs)
    assert agreement > 0.95
    for shift in [(0, 1), (0, -1), (1, 0), (-1, 0)]:
        assert correlation(ours.roll(shift, dims=(-2, -1)), theirs) < agreement


def test_double_sphere_photograph_equals_that_of_its_library(picture, sample_data) -> None:
    import json

    folder = "fisheye/dscamera/"
    image = picture(folder + "sample.jpg")
    calibration = json.loads((sample_data / folder / "calibration.json").read_text())
    camera = DoubleSphere(480, 640, **calibration["value0"]["intrinsics"][0]["intrinsics"])
    equirectangular, valid = resample(image, camera, Equirectangular(256, 512))
    front = (..., slice(130, 382))  # the reference shows the front half only
    assert bool(valid[..., 8:-8, 130:382].all())
    assert correlation(equirectangular[front], picture(folder + "equirect.jpg")[front]) > 0.98
    perspective, _ = resample(image, camera, Pinhole.centred(512, 512, 128.0))
    assert correlation(perspective, picture(folder + "perspective.jpg")) > 0.99


@pytest.mark.gpu
def test_coverage_is_measured_where_the_rig_is() -> None:
    rig = Rig.ring(3, UCM.centred(64, 64, torch.tensor([30.0]), xi=0.9))
    seen, expected = coverage(rig.to("cuda"), 64), coverage(rig, 64)
    assert seen.views.is_cuda
    assert seen.solid_angle == pytest.approx(expected.solid_angle, abs=1e-3)


@pytest.mark.gpu
def test_the_gpu_stitches_as_the_cpu_does() -> None:
    rig = Rig.ring(4, KannalaBrandt.centred(64, 64, torch.tensor([20.0, 22.0]), k1=-0.05), radius=0.1)
    images = torch.rand(2, 4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    expected, seen = stitch(images, rig, Equirectangular(64, 128), distance=3.0)
    out, mask = stitch(images.cuda(), rig.to("cuda"), Equirectangular(64, 128), distance=3.0)
    agree = (mask.cpu() == seen).expand_as(expected)  # pixels on the very border may fall on either side
    assert agree.float().mean() > 0.999
    assert ((out.cpu() - expected).abs() * agree).mean() < 1e-3
