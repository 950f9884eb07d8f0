"""Where cameras stand around an object, and which views and frames a sample takes."""

import math

import numpy as np
import pytest
import torch

from salticid.data.grids import choose, from_opengl, orbit_camera, poses_from_orbit, span, window
from salticid.geometry import se3
from salticid.geometry.cameras import Pinhole
from salticid.world import orbit

Z_UP = torch.tensor((0.0, 0.0, 1.0), dtype=torch.float64)
ORIGIN = torch.zeros(3, dtype=torch.float64)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def drawn_cameras(count=64, seed=0):
    rng = np.random.default_rng(seed)
    columns = rng.uniform(0.01, math.pi - 0.01, count), rng.uniform(0, 2 * math.pi, count), rng.uniform(0.5, 5, count)
    return torch.from_numpy(np.stack(columns, axis=1))


def turn_between(a, b):
    """Angles from a to b, the shorter way."""
    return (b - a + math.pi).remainder(2 * math.pi) - math.pi


def test_angles_are_those_of_spherical_coordinates_in_blenders_world():
    """x = d sin p cos a, y = d sin p sin a, z = d cos p; the first camera has azimuth 0."""
    polar, azimuth, distance = camera = drawn_cameras().T
    places = distance * torch.stack((polar.sin() * azimuth.cos(), polar.sin() * azimuth.sin(), polar.cos()))
    centre = torch.tensor((1.0, -2.0, 0.5), dtype=torch.float64)
    poses = se3.look_at(places.T + centre, centre.expand(64, 3), down=(0.0, 0.0, -1.0))
    found = orbit_camera(poses, centre, 7 * Z_UP).T
    torch.testing.assert_close(found[0], camera[0], atol=1e-9, rtol=0)
    torch.testing.assert_close(found[2], camera[2], atol=1e-9, rtol=0)
    assert turn_between(found[1], azimuth - azimuth[0]).abs().max() < 1e-9
    assert found[1].min() >= 0
    assert found[1].max() < 2 * math.pi
    # The same relative to the fifth.
    fifth = orbit_camera(poses, centre, Z_UP, poses[5])[:, 1]
    assert turn_between(fifth, azimuth - azimuth[5]).abs().max() < 1e-9


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_poses_and_angles_are_each_others_inverse(dtype):
    camera = drawn_cameras(seed=1).to(dtype)
    camera[0, 1] = 0
    camera[1:3, 0] = torch.tensor((0.0, math.pi))  # straight above and below
    rng = np.random.default_rng(2)
    centre, up, towards = torch.from_numpy(rng.normal(size=(3, 3))).to(dtype)
    poses = poses_from_orbit(camera, centre, up, towards)
    found = orbit_camera(poses, centre, up)
    assert (found[:, [0, 2]] - camera[:, [0, 2]]).abs().max() < 1e-5
    assert turn_between(found[:, 1], camera[:, 1]).abs().max() < 1e-5
    # Also from a camera straight above, whose place has no azimuth.
    above = orbit_camera(poses, centre, up, poses[1])
    assert turn_between(above[:, 1], camera[:, 1] - camera[1, 1]).abs().max() < 1e-5


def test_cameras_above_each_other_have_one_azimuth():
    camera = drawn_cameras(seed=6).float()
    camera[:, 1] = 0
    up, centre, towards = torch.tensor(((0.1, 0.2, 1.0), (3.0, 1.0, 2.0), (1.0, 1.0, 0.0)))
    assert orbit_camera(poses_from_orbit(camera, centre, up, towards), centre, up)[:, 1].max() < 1e-5


def test_poses_are_upright_and_look_at_the_centre():
    camera = drawn_cameras(seed=3)
    centre = torch.tensor((0.3, 0.2, -0.1), dtype=torch.float64)
    poses = poses_from_orbit(camera, centre, Z_UP, torch.tensor((0.0, 1.0, 0.0), dtype=torch.float64))
    rotation = poses[:, :3, :3]
    assert (rotation @ rotation.mT - torch.eye(3)).abs().max() < 1e-12
    assert torch.allclose(torch.linalg.det(rotation), torch.ones(64, dtype=torch.float64))
    expected = se3.look_at(poses[:, :3, 3], centre.expand(64, 3), down=(0.0, 0.0, -1.0))
    torch.testing.assert_close(poses, expected, atol=1e-9, rtol=0)


def test_a_growing_azimuth_moves_the_camera_to_its_right():
    camera = torch.tensor([(math.pi / 2, 0.0, 2.0), (math.pi / 2, 0.1, 2.0)], dtype=torch.float64)
    first, second = poses_from_orbit(camera, ORIGIN, Z_UP, torch.tensor((1.0, 0.0, 0.0), dtype=torch.float64))
    step = se3.transform(se3.inverse(first), second[:3, 3])
    assert step[0] > 0.19
    # `orbit` goes round the other way: its cameras turn to the right.
    poses = orbit(torch.tensor((0.0, 0.3, 3.0)), 2.0, 8, elevation=0.25)
    found = orbit_camera(poses, torch.tensor((0.0, 0.3, 3.0)), torch.tensor((0.0, -1.0, 0.0)))
    assert turn_between(found[:, 1], -torch.arange(8) * math.pi / 4).abs().max() < 1e-5
    assert (found[:, 0] - (math.pi / 2 - 0.25)).abs().max() < 1e-5


def test_opengl_cameras_see_a_point_at_the_same_pixel():
    """In OpenGL's axes, u = f·x/(−z) + cx and v = f·(−y)/(−z) + cy."""
    rng = np.random.default_rng(4)
    theirs = from_opengl(poses_from_orbit(drawn_cameras(seed=5), ORIGIN, Z_UP, torch.eye(3, dtype=torch.float64)[0]))
    point = np.append(rng.uniform(-0.2, 0.2, 3), 1)
    x, y, z = (np.linalg.inv(theirs.numpy()) @ point).T[:3]
    assert (z < 0).all()
    expected = np.stack((50 * x / -z + 31.5, 50 * -y / -z + 23.5), axis=1)
    lens = Pinhole.centred(48, 64, 50.0)
    points = se3.transform(se3.inverse(from_opengl(theirs)), torch.from_numpy(point[:3]).expand(64, 3))
    np.testing.assert_allclose(lens.project(points)[0].numpy(), expected, atol=1e-9)


@pytest.mark.parametrize(("count", "wanted"), [(5, 5), (20, 8), (9, 1), (100, 4)])
def test_views_are_spread_evenly_or_drawn(count, wanted):
    even = choose(count, wanted, None)
    steps = np.diff([*even, even[0] + count])
    assert len(even) == wanted
    assert 0 <= even[0] <= even[-1] < count
    assert steps.max() - steps.min() <= 1
    drawn = [choose(count, wanted, generator(seed)) for seed in range(200)]
    assert all(places == sorted(set(places)) and len(places) == wanted for places in drawn)
    assert {place for places in drawn for place in places} == set(range(count))
    assert choose(count, wanted, generator(7)) == drawn[7]


def test_windows_lie_in_the_film_and_begin_anywhere_in_it():
    assert span(4, 3) == 10
    assert list(window(12, 4, 3, None)) == [0, 3, 6, 9]
    assert {tuple(window(12, 4, 3, generator(seed))) for seed in range(50)} == {
        (0, 3, 6, 9),
        (1, 4, 7, 10),
        (2, 5, 8, 11),
    }
    assert list(window(1, 1, 5, generator())) == [0]
