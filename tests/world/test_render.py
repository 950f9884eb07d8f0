"""Pictures: pure functions, consistent with geometry, continuous, varied."""

import os
import subprocess
import sys

import pytest
import torch

from salticid.geometry import se3
from salticid.geometry.cameras import UCM, Equirectangular, Pinhole
from salticid.geometry.rig import Rig
from salticid.geometry.warp import reproject, sample
from salticid.world import make_scene, render, render_many, render_rig

PANORAMA = Equirectangular(32, 64)
PINHOLE = Pinhole.centred(48, 64, 40.0)
FISHEYE = UCM.centred(40, 40, 21.4, xi=0.9)
SCENES = [("room", 0), ("room", 1), ("outdoors", 0), ("outdoors", 1), ("outdoors", 2), ("studio", 0)]


def same(a, b) -> bool:
    return all(torch.equal(getattr(a, name), getattr(b, name)) for name in vars(a))


@pytest.mark.parametrize(("kind", "index"), SCENES)
def test_pure_function_whatever_else_is_rendered(kind, index):
    pose = make_scene(7, index, kind).path(0.8)
    alone = render(make_scene(7, index, kind), PANORAMA, pose, 0.5)
    scene = make_scene(7, index, kind)
    cameras = [FISHEYE, PANORAMA, PINHOLE, PANORAMA]
    together = render_many(scene, cameras, [torch.eye(4), torch.eye(4), pose, pose], 0.5)
    assert same(alone, together[3])
    assert not torch.equal(alone.rgb, together[1].rgb)


def test_threads_change_no_bit():
    """Also in pictures that are no whole number of tiles and in another process."""
    program = (
        "import hashlib, torch; from salticid.world import make_scene, render;"
        "from salticid.geometry.cameras import Equirectangular;"
        "frames = [render(make_scene(7, i, k), Equirectangular(130, 261), torch.eye(4)) for k in ('room', 'outdoors')"
        " for i in range(2)];"
        "print(hashlib.sha256(b''.join(f.rgb.numpy().tobytes() + f.distance.numpy().tobytes() for f in frames))"
        ".hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", f"import torch; torch.set_num_threads({threads}); {program}"],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"OMP_NUM_THREADS": str(threads)},
        ).stdout
        for threads in (1, 2, 3)
    }
    assert len(digests) == 1


@pytest.mark.parametrize(("kind", "index"), SCENES)
@pytest.mark.parametrize("camera", [PANORAMA, PINHOLE, FISHEYE])
def test_maps_agree(kind, index, camera):
    scene = make_scene(1, index, kind)
    frame = render(scene, camera, scene.path(0.5), 0.5)
    rays, valid = camera.rays()
    assert torch.equal(frame.valid, valid)
    assert frame.rgb.abs().max() <= 1  # false for NaN as well
    assert not frame.distance.isnan().any()
    assert not frame.depth.isnan().any()
    seen, sky = frame.distance.isfinite() & valid, frame.distance.isinf()
    torch.testing.assert_close(frame.depth[seen], frame.distance[seen] * rays[..., 2][seen])
    assert torch.equal(frame.depth[sky].sign(), rays[..., 2][sky].sign())
    assert torch.equal(frame.instance == 0, sky | ~valid)
    assert bool(sky.any()) == (kind == "outdoors")
    assert frame.distance[seen].min() > 0.5


def test_invalid_pixels_are_blank():
    frame = render(make_scene(1, 0), UCM.centred(40, 40, 5.0, xi=1.3), torch.eye(4))
    assert not frame.valid[0, 0]
    assert (frame.rgb[:, ~frame.valid] == -1).all()
    assert (frame.distance[~frame.valid] == 0).all()
    assert (frame.instance[~frame.valid] == 0).all()


@pytest.mark.parametrize(("kind", "index"), SCENES)
def test_another_view_warps_onto_this_one(kind, index):
    scene = make_scene(2, index, kind)
    step = se3.pose(se3.yaw_pitch_roll(torch.tensor(0.05)), torch.tensor((0.15, 0.02, 0.1)))
    a, b = (render(scene, PINHOLE, pose, 0.0, 3) for pose in (torch.eye(4), step))
    there = reproject(a.distance[None, None], PINHOLE, se3.inverse(step), PINHOLE)
    warped = sample(b.rgb[None], there.pixels)[0]
    distance_b = sample(b.distance.clamp(max=1e4)[None, None], there.pixels)[0, 0]
    expected = there.distance_b[0, 0].clamp(max=1e4)
    visible = there.valid[0, 0] & ((distance_b - expected).abs() < 0.02 * expected)
    assert visible.float().mean() > 0.6
    error = (warped - a.rgb).abs().mean(0)[visible].mean()
    unwarped = (b.rgb - a.rgb).abs().mean(0)[visible].mean()
    assert error < 0.06
    assert error < 0.4 * unwarped


@pytest.mark.parametrize(("kind", "index"), SCENES)
def test_panorama_is_continuous_across_its_seam(kind, index):
    frame = render(make_scene(4, index, kind), Equirectangular(64, 128), torch.eye(4), 0.0, 2)
    seam = (frame.rgb[..., 0] - frame.rgb[..., -1]).abs().mean()
    inside = (frame.rgb[..., 1:] - frame.rgb[..., :-1]).abs().mean((0, 1))
    assert seam <= inside.max() + 1e-3


def test_rig_sees_with_parallax():
    scene = make_scene(5, 0, "room")
    flat, wide = (render_rig(scene, Rig.ring(4, FISHEYE, radius), torch.eye(4)) for radius in (0.0, 0.3))
    for near, far in zip(flat, wide, strict=True):
        assert (near.rgb - far.rgb).abs().mean() > 0.02


def test_a_rig_sees_from_its_cameras_own_centres(builder, sun):
    """Opposite cameras of a room of 4 m × 6 m see their walls nearer by the radius of the rig."""
    builder.shell((0.0, 1.5, 0.0), (2.0, 1.5, 3.0), builder.paint(builder.palette.wall()), 0.0)
    odd = UCM.centred(41, 41, 21.4, xi=0.9)
    frames = render_rig(builder.scene("room", sun, None), Rig.ring(4, odd, 0.3), torch.eye(4))
    middles = torch.stack([frame.distance[20, 20] for frame in frames])
    torch.testing.assert_close(middles, torch.tensor((2.7, 1.7, 2.7, 1.7)))


def test_no_detail_beyond_the_pixels():
    """Textures fade with distance: one ray a pixel is near the average of 36, but for the edges of things."""
    for kind in ("room", "outdoors"):
        for index in range(3):
            scene = make_scene(6, index, kind)
            one, many = (render(scene, Equirectangular(64, 128), torch.eye(4), 0.0, s).rgb for s in (1, 6))
            assert (one - many).abs().mean() < 0.06


def test_scenes_differ():
    frames = torch.stack([render(make_scene(8, i), PANORAMA, torch.eye(4)).rgb for i in range(24)])
    assert frames.std(0).mean() > 0.3  # between scenes, at a pixel
    assert frames.std((1, 2, 3)).min() > 0.12  # within each picture
    pairs = torch.pdist(frames.flatten(1)) / frames[0].numel() ** 0.5
    assert pairs.min() > 0.2
    assert frames[:, :, -2:].std((2, 3)).mean() > 0.03  # also at the poles
    assert frames[:, :, :2].std((2, 3)).mean() > 0.03
