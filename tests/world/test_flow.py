"""Flow against reprojection, warps and the motion of bodies."""

import math

import pytest
import torch

from salticid.geometry import se3
from salticid.geometry.cameras import UCM, Equirectangular, Pinhole, pixel_grid
from salticid.geometry.warp import reproject, sample
from salticid.world import flow, make_scene, orbit, render
from salticid.world.scene import Motion
from salticid.world.studio import CENTRE, CLEAR

PINHOLE = Pinhole.centred(48, 64, 40.0)
PANORAMA = Equirectangular(32, 64)


@pytest.mark.parametrize("kind", ["room", "outdoors"])
@pytest.mark.parametrize(
    ("camera_a", "camera_b"), [(PINHOLE, PINHOLE), (UCM.centred(40, 40, 21.4, xi=0.9), PINHOLE), (PINHOLE, PANORAMA)]
)
def test_static_flow_is_reprojected_distance(kind, camera_a, camera_b):
    scene = make_scene(1, 2, kind)
    pose_a, pose_b = scene.path(0.0), scene.path(1.0)
    motion = flow(scene, camera_a, pose_a, 0.7, camera_b, pose_b, 0.7)
    frame = render(scene, camera_a, pose_a, 0.7)
    a_to_b = se3.compose(se3.inverse(pose_b), pose_a)
    there = reproject(frame.distance[None, None], camera_a, a_to_b, camera_b)
    both = motion.valid & there.valid[0, 0]
    assert (motion.valid != there.valid[0, 0]).sum() <= 2
    assert both.float().mean() > 0.08
    step = there.pixels[0] - pixel_grid(camera_a.height, camera_a.width)
    error = (motion.flow - step)[both]
    if isinstance(camera_b, Equirectangular):
        error[:, 0] = (error[:, 0] + camera_b.width / 2) % camera_b.width - camera_b.width / 2
    assert error.abs().max() < 0.01  # pixels; float32 at the far ends of the ground


@pytest.mark.parametrize(("kind", "index"), [("room", 0), ("outdoors", 0), ("outdoors", 3), ("studio", 1)])
def test_flow_warps_the_later_frame_onto_the_first(kind, index):
    scene = make_scene(2, index, kind)
    poses = scene.path(0.0), scene.path(0.3)
    a, b = render(scene, PINHOLE, poses[0], 0.0, 3), render(scene, PINHOLE, poses[1], 0.3, 3)
    motion = flow(scene, PINHOLE, poses[0], 0.0, PINHOLE, poses[1], 0.3)
    warped = sample(b.rgb[None], (motion.flow + pixel_grid(48, 64))[None])[0]
    clear = motion.valid & ~motion.occluded
    assert clear.float().mean() > 0.7
    error, unwarped = ((x - a.rgb).abs().mean(0)[clear].mean() for x in (warped, b.rgb))
    assert error < 0.06
    assert error < 0.7 * unwarped


def moving_ball(builder, sun):
    face = builder.paint(builder.palette.checks(0.2))
    builder.box(builder.body(0.0, 5.0), (0.0, 1.5, 0.0), (6.0, 4.0, 0.1), face)
    ball = builder.body(-0.5, 2.0, motion=Motion(velocity=(1.0, 0.0, 0.0)))
    builder.ball(ball, (0.0, 1.5, 0.0), 0.4, face)
    return builder.scene("ball", sun, None), ball + 1


def test_a_moving_ball_carries_its_flow_and_its_instance(builder, sun):
    scene, instance = moving_ball(builder, sun)
    pose = torch.eye(4)
    motion = flow(scene, PINHOLE, pose, 0.0, PINHOLE, pose, 1.0)
    before, after = (render(scene, PINHOLE, pose, t).instance == instance for t in (0.0, 1.0))
    depth = render(scene, PINHOLE, pose, 0.0).depth
    expected = torch.zeros(48, 64, 2)
    expected[..., 0] = before * 40.0 / depth  # f · velocity · time / depth
    torch.testing.assert_close(motion.flow, expected, atol=2e-4, rtol=1e-4)
    # What the ball will hide is occluded: wall now, ball then.
    assert motion.occluded[after & ~before].all()
    assert not motion.occluded[~after & ~before].any()
    x = pixel_grid(48, 64)[..., 0]
    for mask, centre in ((before, -0.5), (after, 0.5)):
        assert abs(x[mask].mean() - (31.5 + 40 * centre / 2)) < 1.0
        middle, radius = scene.bounds(instance, 0.0 if centre < 0 else 1.0)
        torch.testing.assert_close(middle, torch.tensor((centre, 0.0, 2.0)))
        assert 0.4 <= radius <= 0.4 * math.sqrt(3) + 1e-6


def test_panorama_flow_takes_the_short_way(builder, sun):
    scene, _ = moving_ball(builder, sun)
    turn = se3.pose(se3.yaw_pitch_roll(torch.tensor(2 * math.pi / 64 * 3)))
    motion = flow(scene, PANORAMA, torch.eye(4), 0.0, PANORAMA, turn, 0.0)
    torch.testing.assert_close(motion.flow[..., 0], torch.full((32, 64), -3.0), atol=1e-3, rtol=0)
    assert motion.valid.all()
    assert not motion.occluded.any()


def test_bodies_at_rest_do_not_move():
    scene = make_scene(0, 1, "outdoors")
    moves = scene.motion(0.0, 1.7)
    at_rest = torch.tensor([body.motion is None for body in scene.bodies])
    assert (moves[at_rest] == torch.eye(4)).all()
    assert not (moves[~at_rest] == torch.eye(4)).all()


@pytest.mark.parametrize("index", range(3))
def test_orbit_keeps_the_toy_in_the_middle(index):
    scene = make_scene(0, index, "studio")
    centre = torch.tensor((CENTRE[0], scene.floor - CENTRE[1], CENTRE[2]))
    poses = orbit(centre, 2.5, 5, elevation=0.3, start=0.2)
    assert poses.shape == (5, 4, 4)
    for pose in poses:
        position = pose[:3, 3]
        torch.testing.assert_close((position - centre).norm(), torch.tensor(2.5))
        torch.testing.assert_close(position[1] - centre[1], torch.tensor(-2.5 * math.sin(0.3)))
        pixel, valid = PINHOLE.project(se3.transform(se3.inverse(pose), centre))
        assert valid
        torch.testing.assert_close(pixel, torch.tensor((31.5, 23.5)), atol=1e-3, rtol=0)
        frame = render(scene, PINHOLE, pose, 1.0)
        assert (frame.instance[16:32, 24:40] > 1).float().mean() > 0.3
        assert frame.distance.min() > 2.5 - 1.6
        assert CLEAR >= 2.5
    assert torch.linalg.vector_norm(poses[0][:3, 2] - torch.tensor((0.1898, 0.2955, 0.9363))) < 1e-3
