import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from salticid.errors import UserError
from salticid.geometry import se3
from salticid.geometry.cameras import UCM, Equirectangular, Lens, Pinhole
from salticid.geometry.rig import Rig
from salticid.geometry.views import prefilter_factor, shrink_panorama, views_from_panorama
from salticid.geometry.warp import resample, shrink


def smooth_panorama(height: int) -> Tensor:
    rays, _ = Equirectangular(height, 2 * height).rays()
    return (0.5 + 0.5 * torch.sin(4 * rays + torch.tensor([0.0, 1.0, 2.0]))).permute(2, 0, 1)


@pytest.mark.parametrize("camera", [UCM.centred(48, 48, 18.5, xi=0.9), Pinhole.centred(40, 56, 30.0)])
def test_views_are_those_of_resampling(camera: Lens) -> None:
    panorama = smooth_panorama(128)
    rig = Rig.ring(3, camera)
    rotation = se3.yaw_pitch_roll(0.3, 0.2, -0.4)
    views = views_from_panorama(panorama, rig, rotation, prefilter=1)
    for view, pose in zip(views, rig.poses, strict=True):
        turn = se3.compose(rotation, pose[:3, :3])
        expected, _ = resample(panorama[None], Equirectangular(128, 256), camera, turn)
        torch.testing.assert_close(view, expected[0], atol=2e-4, rtol=0)


def test_uint8_becomes_minus_one_to_one_whatever_its_memory_layout() -> None:
    panorama = smooth_panorama(96)
    planar = (panorama * 255).round().byte()
    interleaved = planar.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    rig = Rig.ring(4, UCM.centred(32, 32, 12.0, xi=0.9))
    expected = views_from_panorama(panorama * 2 - 1, rig)
    for image in (planar, interleaved):
        views = views_from_panorama(image, rig)
        assert views.shape == (4, 3, 32, 32)
        assert views.dtype == torch.float32
        assert (views - expected).abs().max() < 2.01 / 255
        assert views.is_contiguous()


def test_rolling_the_panorama_permutes_the_views() -> None:
    panorama = torch.rand(3, 64, 128, generator=torch.Generator().manual_seed(0))
    rig = Rig.ring(4, UCM.centred(48, 48, 18.5, xi=0.9))
    views = views_from_panorama(panorama, rig)
    rolled = views_from_panorama(panorama.roll(-32, dims=-1), rig)  # the rig has turned right by 90°
    torch.testing.assert_close(rolled, views.roll(-1, dims=0), atol=1e-4, rtol=0)


def test_outside_of_the_image_circle_is_filled() -> None:
    rig = Rig.ring(2, UCM.centred(32, 32, 12.0, xi=0.9, max_angle=math.radians(60)))
    _, valid = rig.cameras[0].rays()
    views = views_from_panorama(torch.full((3, 32, 64), 0.5), rig, outside=-1.0)
    assert 0 < valid.float().mean() < 1
    assert torch.equal(views[0, 0] == -1, ~valid)


def test_views_of_several_sizes_are_refused() -> None:
    cameras = (Pinhole.centred(8, 8, 4.0), Pinhole.centred(8, 10, 4.0))
    rig = Rig(cameras, torch.eye(4).expand(2, 4, 4), ("a", "b"))
    with pytest.raises(UserError, match="images of one size"):
        views_from_panorama(torch.zeros(3, 8, 16), rig)


def test_cameras_of_a_rig_may_differ() -> None:
    panorama = smooth_panorama(64)
    cameras = (UCM.centred(24, 24, 9.0, xi=0.9, max_angle=1.2), Pinhole.centred(24, 24, 15.0))
    rig = Rig(cameras, Rig.ring(2, cameras[0]).poses, ("fisheye", "pinhole"))
    views = views_from_panorama(panorama, rig, prefilter=1)
    for view, camera, pose in zip(views, cameras, rig.poses, strict=True):
        expected, valid = resample(panorama[None], Equirectangular(64, 128), camera, pose)
        expected = torch.where(valid & camera.rays()[1], expected, -1.0)
        torch.testing.assert_close(view, expected[0], atol=2e-4, rtol=0)


def test_prefilter_keeps_the_resolution_of_the_views_and_removes_aliasing() -> None:
    rig = Rig.ring(4, UCM.centred(128, 128, 50.3, xi=0.9))
    assert prefilter_factor(rig, 1024) == 4
    assert prefilter_factor(rig, 256) == 1
    fine = torch.rand(3, 1024, 2048, generator=torch.Generator().manual_seed(0))
    aliased, clean = (views_from_panorama(fine, rig, prefilter=k).std() for k in (1, None))
    assert clean < aliased / 3


def test_shrinking_goes_on_around_the_seam() -> None:
    panorama = torch.rand(3, 64, 128, generator=torch.Generator().manual_seed(0))
    small = shrink_panorama(panorama, 16, 32)
    rolled = shrink_panorama(panorama.roll(40, dims=-1), 16, 32)
    torch.testing.assert_close(rolled, small.roll(10, dims=-1), atol=1e-6, rtol=0)
    # At any ratio: as the middle of three panoramas side by side.
    for old, height, width in ((512, 43, 170), (128, 64, 127), (128, 10, 1)):
        panorama = torch.rand(3, old // 2, old, generator=torch.Generator().manual_seed(1))
        wide = F.interpolate(panorama.repeat(1, 1, 3)[None], (height, 3 * width), mode="bilinear", antialias=True)
        expected = wide[0, ..., width : 2 * width]
        torch.testing.assert_close(shrink_panorama(panorama, height, width), expected, atol=5e-5, rtol=0)
        grey = (panorama * 255).byte()
        torch.testing.assert_close(shrink_panorama(grey, height, width) / 255, expected, atol=1.01 / 255 * 2, rtol=0)
    with pytest.raises(ValueError, match="64×128 cannot be shrunk to 64×129"):
        shrink_panorama(panorama, 64, 129)
    smooth = smooth_panorama(64)
    assert (shrink_panorama(smooth, 16, 32) - shrink(smooth[None], 16, 32)[0]).abs().max() < 0.1
