"""Pictures of the world with their depth."""

import pytest
import torch

from salticid.errors import ConfigError
from salticid.geometry.cameras import Pinhole
from salticid.world import WorldDepth, make_scene


def test_a_sample_is_a_pure_function_of_its_index_and_fits_the_contract():
    data = WorldDepth(size=(24, 32), val_scenes=2)
    sample, again = data.train().sample(3, None), data.train().sample(3, torch.Generator())
    assert sample["image"].shape == (3, 24, 32)
    assert sample["depth"].shape == sample["valid"].shape == (1, 24, 32)
    assert sample["valid"].dtype == torch.bool
    for name, value in sample.items():
        assert torch.equal(value, again[name]), name
    assert data.train().outcomes == 1
    assert torch.equal(data.train().outcome(3, 0)["image"], sample["image"])
    assert not torch.equal(data.val().sample(0, None)["image"], data.train().sample(0, None)["image"])


def test_depth_is_valid_between_the_limits_and_zero_elsewhere():
    data = WorldDepth(size=(32, 32), kind="outdoors", limits=(1.0, 20.0))
    for index in range(4):
        sample = data.train().sample(index, None)
        depth, valid = sample["depth"], sample["valid"]
        assert (depth[valid] >= 1).all()
        assert (depth[valid] <= 20).all()
        assert (depth[~valid] == 0).all()
    assert sample["limits"].tolist() == [1, 20]


def test_depth_in_a_room_is_that_of_its_surfaces():
    """Points unprojected by the sample's own intrinsics lie in a room of a few metres, and rows of the floor share a
    height once the camera's turn is undone: here only that no point is behind or beyond the room."""
    data = WorldDepth(size=(32, 32), kind="room")
    sample = data.train().sample(0, None)
    fx, fy, cx, cy = sample["intrinsics"].tolist()
    rays, valid = Pinhole(height=32, width=32, fx=fx, fy=fy, cx=cx, cy=cy).rays()
    points = rays / rays[..., 2:] * sample["depth"][0][..., None]
    assert valid.all()
    assert sample["valid"].all()
    assert torch.linalg.vector_norm(points, dim=-1).max() < 12
    assert make_scene(0, 0, "room").sky is None


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"size": (4, 64)}, "size"),
        ({"view": (80, 60)}, "view"),
        ({"limits": (0, 3)}, "limits"),
        ({"val_scenes": 0}, "val"),
    ],
)
def test_values_that_make_no_pictures_are_refused(values, key):
    with pytest.raises(ConfigError, match=f"data.{key}"):
        WorldDepth(**values)
