"""Rigs drawn around a nominal one: the distributions, and what the worst of them see."""

import math

import pytest
import torch

from salticid.data.coverage import seen_share
from salticid.data.readers.jitter import RigJitter, altered, extremes, jittered
from salticid.geometry.cameras import UCM
from salticid.geometry.rig import Rig

JITTER = RigJitter(xi=0.4, focal=0.1, rotation=3.0)


def ring(views=4, focal=9.0, xi=0.9):
    return Rig.ring(views, UCM.centred(32, 32, f=focal, xi=xi))


def test_factors_fill_their_ranges_evenly():
    draws = [jittered(ring(), JITTER, torch.Generator().manual_seed(seed)).cameras[0] for seed in range(400)]
    xi = torch.tensor([camera.xi / 0.9 for camera in draws])
    focal = torch.tensor([camera.fx / 9.0 for camera in draws]).log() / math.log(1.1)
    for values, middle, reach in ((xi, 1.0, 0.4), (focal, 0.0, 1.0)):  # ξ uniformly, the focal length log-uniformly
        position = (values - middle) / reach
        assert position.abs().max() <= 1 + 1e-6
        quarters = torch.histc(position, bins=4, min=-1, max=1)
        assert (quarters - 100).abs().max() < 35  # four standard deviations
    assert all(camera.fx == camera.fy for camera in draws)


def test_every_view_is_turned_on_its_own_by_at_most_the_angle():
    nominal = ring()
    rigs = [jittered(nominal, JITTER, torch.Generator().manual_seed(seed)) for seed in range(100)]
    turns = nominal.poses[:, :3, :3].mT @ torch.stack([rig.poses[:, :3, :3] for rig in rigs])  # (100, 4, 3, 3)
    yaw = torch.atan2(turns[..., 0, 2], turns[..., 2, 2]).rad2deg()
    pitch = -turns[..., 1, 2].asin().rad2deg()
    roll = torch.atan2(turns[..., 1, 0], turns[..., 1, 1]).rad2deg()
    for angle in (yaw, pitch, roll):
        assert 2.9 < angle.abs().max() <= 3 + 1e-3
        assert angle.mean().abs() < 0.4
        assert torch.corrcoef(angle.T).fill_diagonal_(0).abs().max() < 0.5
    assert all(torch.equal(rig.poses[:, :3, 3], nominal.poses[:, :3, 3]) for rig in rigs)


def test_equal_cameras_are_drawn_as_one_object():
    rig = ring()
    drawn = jittered(rig, RigJitter(xi=0.4, focal=0.1), torch.Generator().manual_seed(0))
    assert all(camera is drawn.cameras[0] for camera in drawn.cameras)
    assert drawn.cameras[0] != rig.cameras[0]


def test_without_jitter_the_extreme_is_the_rig_itself():
    (only,) = extremes(ring(), RigJitter())
    assert only.cameras == ring().cameras
    assert torch.equal(only.poses, ring().poses)


@pytest.mark.parametrize(
    ("rig", "jitter"),
    [
        (ring(4, 20.0, 0.85), JITTER),
        (ring(3, 15.0, 0.9), RigJitter(rotation=8.0)),
        (ring(4, 14.0, 0.3), RigJitter(xi=0.2, rotation=20.0)),
        (ring(1, 2.0, 1.0), RigJitter(xi=0.5)),  # ξ up to 1.5: the image circle shrinks
    ],
)
def test_no_rig_that_may_be_drawn_sees_less_than_the_extremes(rig, jitter):
    worst = min(map(seen_share, extremes(rig, jitter)))
    generator = torch.Generator().manual_seed(0)
    for corner in range(20):
        xi, focal = 1 + jitter.xi * (-1) ** corner, 1 + jitter.focal
        signs = 2 * torch.randint(2, (len(rig), 3), generator=generator) - 1
        assert seen_share(altered(rig, xi, focal, signs * math.radians(jitter.rotation))) >= worst - 2e-3
        assert seen_share(jittered(rig, jitter, generator)) >= worst - 2e-3
    assert worst < seen_share(rig)
