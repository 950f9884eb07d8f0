"""NeRF's lego, where SALTICID_TEST_DATA has it: ten of its hundred views."""

import math

import pytest
import torch

from salticid.data.motion import lens_of
from salticid.data.readers.grids import BlenderTransforms
from salticid.geometry import se3


@pytest.fixture(scope="module")
def lego(real_data):
    folder = real_data / "multiview/lego_blender"
    if not folder.exists():
        pytest.skip("SALTICID_TEST_DATA has no multiview/lego_blender")
    return BlenderTransforms(folder, views=9, size=(100, 100), val_share=1.0)


def test_ten_views_on_white(lego):
    source = lego.val()
    assert (len(source), len(lego.train()), len(lego.skipped)) == (10, 0, 90)
    sample = source.sample(0, None)
    assert sample["image"].shape == (3, 1, 9, 100, 100)
    pictures = torch.cat((sample["image"][:, 0].transpose(0, 1), sample["context"]))
    corners = pictures[:, :, [0, 0, -1, -1], [0, -1, 0, -1]]
    assert (corners == 255).all()
    assert (pictures[:, :, 45:55, 45:55] < 250).any(1).float().mean() > 0.95


def test_azimuths_ascend_and_are_those_of_the_files(lego):
    sample = lego.val().sample(0, None)
    polar, azimuth, distance = sample["camera"].T
    assert (azimuth[1:] > azimuth[:-1]).all()
    assert (distance - 4.0311).abs().max() < 1e-3
    assert polar.min() >= 0
    assert polar.max() < math.pi / 2  # all look down on it
    # r_0 stands at (−0.0538, 3.8455, 1.2081), as the file says: the azimuths of the others count from there.
    start = math.atan2(3.845470, -0.053798)
    x, y = sample["poses"][:, 0, 3], sample["poses"][:, 1, 3]
    torch.testing.assert_close((torch.atan2(y, x) - start).remainder(2 * math.pi), azimuth, atol=1e-4, rtol=0)


def test_all_cameras_look_at_one_point(lego):
    """The point nearest to all optical axes, by least squares, lies on them to 1 % of the distance, near the origin;
    every camera sees it in the middle of its picture, and what is above it higher."""
    sample = lego.val().sample(0, None)
    poses = sample["poses"].double()
    place, axis = poses[:, :3, 3], poses[:, :3, 2]
    across = torch.eye(3) - axis[:, :, None] * axis[:, None, :]
    point = torch.linalg.solve(across.sum(0), (across @ place[..., None]).sum(0))[:, 0]
    gaps = (across @ (point - place)[..., None])[..., 0].norm(dim=-1)
    assert gaps.max() < 0.04
    assert point.norm() < 0.1
    lens = lens_of(sample["intrinsics"], 100, 100)
    # camera_angle_x of the file is 39.6°.
    assert 2 * math.degrees(math.atan(50 / float(lens.fx))) == pytest.approx(39.6, abs=0.01)
    middle, above = (
        lens.project(se3.transform(se3.inverse(poses), p.expand(9, 3)))[0]
        for p in (point, point + point.new_tensor((0, 0, 0.5)))
    )
    assert (middle - 49.5).abs().max() < 2
    assert (above[:, 1] < middle[:, 1]).all()


def test_the_toy_lies_where_the_cameras_put_a_box_around_it(lego):
    """The published bounds of the scene, ±1.3 units or less, projected, hold all that is not white."""
    sample = lego.val().sample(0, None)
    poses, lens = sample["poses"], lens_of(sample["intrinsics"], 100, 100)
    corners = torch.tensor([(x, y, z) for x in (-0.75, 0.75) for y in (-1.3, 1.3) for z in (-0.6, 1.1)])
    for pose, picture in zip(poses, sample["image"][:, 0].transpose(0, 1), strict=True):
        pixels, _ = lens.project(se3.transform(se3.inverse(pose), corners))
        rows, columns = (picture < 250).any(0).nonzero().unbind(-1)
        assert columns.min() > pixels[:, 0].min() - 2
        assert columns.max() < pixels[:, 0].max() + 2
        assert rows.min() > pixels[:, 1].min() - 2
        assert rows.max() < pixels[:, 1].max() + 2
