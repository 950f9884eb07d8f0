"""Films of moving cameras: the sample contract, and truth that agrees with the pictures."""

from itertools import pairwise

import pytest
import torch

from salticid.data.motion import Augmentation, Jitter, lens_of, lens_parameters
from salticid.errors import ConfigError
from salticid.geometry import se3
from salticid.geometry.cameras import pixel_grid
from salticid.geometry.warp import reproject, sample
from salticid.world import make_scene
from salticid.world.lenses import lens_of_view
from salticid.world.motion import WorldMotion


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_sample_is_a_pure_function_of_its_arguments_and_fits_the_contract():
    data = WorldMotion(size=(24, 32), flow="always", offsets=(0, -2, 1), sequence=4, baseline=0.1)
    item, again = data.train().sample(3, generator()), WorldMotion(**vars_of(data)).train().sample(3, generator())
    expected = {
        "frames": ((4, 3, 24, 32), torch.uint8),
        "intrinsics": ((4,), torch.float32),
        "jitter": ((5,), torch.float32),
        "place": ((2,), torch.int64),
        "depth": ((1, 24, 32), torch.float32),
        "valid": ((1, 24, 32), torch.bool),
        "limits": ((2,), torch.float32),
        "poses": ((3, 4, 4), torch.float32),
        "stereo_pose": ((4, 4), torch.float32),
        "travel": ((2,), torch.float32),
        "flow": ((2, 2, 24, 32), torch.float32),
        "flow_valid": ((2, 1, 24, 32), torch.bool),
    }
    assert {name: (tuple(value.shape), value.dtype) for name, value in item.items()} == expected
    for name, value in item.items():
        assert torch.equal(value, again[name]), name
    assert torch.equal(item["poses"][0], torch.eye(4))
    assert item["travel"][0] > item["travel"][1] > 0
    assert not torch.equal(item["frames"], data.train().sample(4, generator())["frames"])
    assert torch.equal(data.val().sample(0, None)["jitter"], torch.tensor([1.0, 1, 1, 0, 0]))


def vars_of(data: WorldMotion) -> dict:
    return {name: getattr(data, name) for name in data.__dataclass_fields__}


@pytest.mark.parametrize("camera", ["pinhole", "ucm", "kannala_brandt", "double_sphere"])
@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_depth_poses_and_flow_tell_where_a_neighbour_shows_the_same(camera, flip):
    """Exact flow is what depth, intrinsics and pose predict, and there the neighbour has the target's colours: mirrored
    as well."""
    size = (48, 64)
    data = WorldMotion(
        size=size, camera=camera, kind="room", flow="always", supersample=2, augmentation=Augmentation(flip, None)
    )
    for index in range(2):
        item = data.train().sample(index, generator())
        lens = lens_of(item["intrinsics"], *size)
        for i in (1, 2):
            move = se3.inverse(item["poses"][i])[None]
            seen = reproject(item["depth"][None], lens, move, lens, measure="depth")
            both = item["flow_valid"][i - 1, 0] & seen.valid[0, 0] & item["valid"][0]
            assert both.float().mean() > 0.6
            apart = seen.pixels[0] - pixel_grid(*size) - item["flow"][i - 1].permute(1, 2, 0)
            assert apart[both].abs().max() < 0.02
            warped = sample(item["frames"][i][None].float(), seen.pixels)[0]
            difference = (warped - item["frames"][0].float()).abs()[:, both].mean()
            unmoved = (item["frames"][i].float() - item["frames"][0].float()).abs()[:, both].mean()
            assert difference < 8
            assert difference < 0.8 * unmoved


def test_the_second_camera_of_a_pair_stands_to_the_right_or_mirrored_to_the_left():
    data = WorldMotion(size=(24, 32), baseline=0.2, augmentation=Augmentation(1.0, None))
    assert data.val().sample(0, None)["stereo_pose"][:3, 3].tolist() == pytest.approx([0.2, 0, 0], abs=1e-5)
    assert data.train().sample(0, generator())["stereo_pose"][:3, 3].tolist() == pytest.approx([-0.2, 0, 0], abs=1e-5)


def test_validation_sequences_chain_to_one_trajectory():
    data = WorldMotion(size=(16, 16), val_scenes=2, sequence=6)
    source = data.val()
    items = [source.sample(i, None) for i in range(len(source))]
    assert [item["place"].tolist() for item in items] == [[s, t] for s in (0, 1) for t in (1, 2, 3, 4)]
    assert [source.id(i) for i in (0, 4)] == ["world-val-000000/0001", "world-val-000001/0001"]
    for first, second in pairwise(items[:4]):
        assert torch.equal(first["frames"][2], second["frames"][0])
        assert torch.equal(first["frames"][0], second["frames"][1])
        assert torch.allclose(first["poses"][2] @ second["poses"][1], torch.eye(4), atol=1e-5)


def test_the_way_is_mostly_forward_and_nothing_comes_near():
    data = WorldMotion(size=(16, 20), view=(100.0, 120.0), limits=(0.01, 80.0))
    directions, nearest = [], 9.0
    for index in range(24):
        item = data.train().sample(index, None)
        directions.append(item["poses"][2, :3, 3] / item["travel"][1])
        nearest = min(nearest, item["depth"][item["valid"]].min().item())
    angles = torch.rad2deg(torch.acos(torch.stack(directions)[:, 2]))
    assert angles.median() < 30
    assert angles.max() > 15
    assert nearest > 0.25


def test_long_sequences_stay_in_the_clear_path():
    data = WorldMotion(size=(8, 8), kind="room", sequence=40, limits=(0.01, 80.0))
    source = data.val()
    items = [source.sample(index, None) for index in range(0, 76, 15)]
    length = make_scene(0, -1, "room").path.speed * 4
    assert items[0]["travel"][0] * 39 < (length + 0.4) * 1.5
    assert min(item["depth"][item["valid"]].min() for item in items) > 0.25


def test_moving_bodies_are_seen_in_the_flow_alone():
    still, moving = (WorldMotion(size=(32, 40), kind="room", moving=m, interval=0.5) for m in (False, True))
    differences = []
    for index in range(4):
        a, b = still.val().sample(index, None), moving.val().sample(index, None)
        assert torch.equal(a["poses"], b["poses"])
        differences.append((a["flow"] - b["flow"]).abs().mean().item())
    assert max(differences) > 1e-3


def test_distance_instead_of_depth_and_samples_that_are_kept():
    depth, distance = (
        WorldMotion(size=(16, 16), camera="ucm", measure=m, keep=1).val().sample(0, None) for m in ("depth", "distance")
    )
    both = depth["valid"] & distance["valid"]
    assert (distance["depth"] >= depth["depth"] - 1e-5)[both].all()
    data = WorldMotion(size=(16, 16), keep=1)
    source = data.train()
    source.sample(0, None)["frames"].zero_()
    assert torch.equal(source.sample(0, None)["frames"], data.train().sample(0, None)["frames"])


def test_the_field_of_view_is_that_between_the_edges():
    lens = lens_of_view("ucm", (30, 40), 170.0)
    rays, valid = lens.unproject(torch.tensor([[-0.5, 14.5], [39.5, 14.5]]))
    assert valid.all()
    assert torch.rad2deg(torch.acos((rays[0] * rays[1]).sum())).item() == pytest.approx(170, abs=0.01)
    assert lens_parameters(lens).shape == (5,)


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"offsets": (0,)}, "offsets"),
        ({"offsets": (1, 0)}, "offsets"),
        ({"sequence": 2}, "sequence"),
        ({"view": (170.0, 185.0)}, "view"),
        ({"camera": "ucm", "shape": (0.9, 0.1)}, "shape"),
        ({"step": (0.2, 0.1)}, "step"),
        ({"baseline": 1.0}, "baseline"),
        ({"size": (4, 64)}, "size"),
        ({"interval": 0.0}, "interval"),
    ],
)
def test_values_that_make_no_film_are_refused(values, key):
    with pytest.raises(ConfigError, match=f"data.{key}"):
        WorldMotion(**values)


@pytest.mark.parametrize("values", [{"hue": 0.6}, {"probability": 1.1}, {"contrast": -0.1}])
def test_jitter_out_of_range_is_refused(values):
    with pytest.raises(ConfigError, match=r"data\.jitter"):
        Jitter(**values)
