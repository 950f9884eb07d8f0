"""Moving toys seen from all around: the sample contract, and truth that agrees with the pictures."""

import math

import pytest
import torch

from salticid.data.motion import lens_of
from salticid.errors import ConfigError
from salticid.geometry import se3
from salticid.geometry.warp import sample
from salticid.world import WorldOrbits, make_scene
from salticid.world.orbits import REACH
from salticid.world.studio import CENTRE

SHAPES = {
    "image": ((3, 3, 4, 24, 32), torch.uint8),
    "context": ((3, 3, 24, 32), torch.uint8),
    "reference": ((4, 3, 24, 32), torch.uint8),
    "camera": ((4, 3), torch.float32),
    "fps": ((), torch.float32),
}
TRUTH = {
    "intrinsics": ((4,), torch.float32),
    "poses": ((4, 4, 4), torch.float32),
    "depth": ((3, 4, 24, 32), torch.float32),
}


def shapes(item):
    return {name: (tuple(value.shape), value.dtype) for name, value in item.items()}


def points(item, time, view):
    """World points of a view's depth, float32 (n, 3), and which pixels they are of."""
    depth = item["depth"][time, view]
    rays, _ = lens_of(item["intrinsics"], *depth.shape).rays()
    shown = depth > 0
    return se3.transform(item["poses"][view], (rays / rays[..., 2:] * depth[..., None])[shown]), shown


@pytest.mark.parametrize("background", ["rendered", "white"])
def test_a_sample_is_a_pure_function_of_its_arguments_and_fits_the_contract(background):
    options = {"size": (24, 32), "frames": 3, "background": background, "random_azimuths": True, "supersample": 2}
    data, again = WorldOrbits(**options), WorldOrbits(**options)
    item = data.val().sample(1, None)
    assert shapes(item) == SHAPES | TRUTH
    for name, value in again.val().sample(1, None).items():
        assert torch.equal(item[name], value), name
    assert shapes(data.train().sample(1, None)) == SHAPES
    assert data.train().outcomes == 1
    assert torch.equal(data.train().outcome(2, 0)["image"], data.train().sample(2, None)["image"])
    for other in (data.train().sample(1, None), data.val().sample(0, None)):
        assert not torch.equal(item["image"], other["image"])
    assert torch.equal(item["reference"], item["image"][:, 0].transpose(0, 1))
    assert data.val().id(1) == "world-val-000001"


def test_static_orbits_are_even_and_dynamic_ones_drawn():
    ranges = {"distance": (2.2, 3.0), "elevation": (-10.0, 40.0), "size": (8, 8), "frames": 1}
    static = [WorldOrbits(**ranges).train().sample(i, None)["camera"] for i in range(6)]
    for camera in static:
        torch.testing.assert_close(camera[:, 1], torch.arange(1, 5) * 2 * math.pi / 5, atol=1e-5, rtol=0)
        assert (camera[:, [0, 2]] - camera[:1, [0, 2]]).abs().max() < 1e-5
    dynamic = [WorldOrbits(**ranges, random_azimuths=True).train().sample(i, None)["camera"] for i in range(6)]
    for camera in dynamic:
        assert (camera[1:, 1] > camera[:-1, 1]).all()
        assert (camera[:, 0] - camera[0, 0]).abs().max() > 0.01
        assert (camera[:, 2] - camera[0, 2]).abs().max() < 1e-5
    everything = torch.cat(static + dynamic)
    elevation = 90 - torch.rad2deg(everything[:, 0])
    assert -10.01 < elevation.min() < 5
    assert 25 < elevation.max() < 40.01
    assert everything[:, 2].min() >= 2.2 - 1e-5
    assert everything[:, 2].max() <= 3.0 + 1e-5


def test_poses_stand_where_the_camera_angles_say():
    item = WorldOrbits(size=(8, 8), frames=1, random_azimuths=True).val().sample(0, None)
    centre = torch.tensor((CENTRE[0], make_scene(0, -1, "studio").floor - CENTRE[1], CENTRE[2]))
    offset = item["poses"][:, :3, 3] - centre
    polar, azimuth, distance = item["camera"].T
    torch.testing.assert_close(offset.norm(dim=-1), distance, atol=1e-5, rtol=0)
    torch.testing.assert_close(-offset[:, 1], distance * polar.cos(), atol=1e-5, rtol=0)
    # Counterclockwise from above, where y points away from the eye: from +x towards +z.
    around = torch.atan2(offset[:, 2], offset[:, 0])
    turns = (around - around[0] - (azimuth - azimuth[0])).remainder(2 * math.pi)
    assert torch.minimum(turns, 2 * math.pi - turns).max() < 1e-5
    towards = torch.nn.functional.normalize(centre - item["poses"][:, :3, 3], dim=-1)
    torch.testing.assert_close(item["poses"][:, :3, 2], towards, atol=1e-5, rtol=0)


@pytest.mark.parametrize("background", ["rendered", "white"])
def test_what_one_view_sees_another_sees_at_the_same_place_or_something_nearer(background):
    """Points of view a, projected into view b: where b's depth is theirs within 2 %, the colours agree (shading does
    not depend on the view but for highlights); b never sees anything farther."""
    options = {"size": (64, 64), "views": 11, "supersample": 2, "background": background}
    item = WorldOrbits(**options).val().sample(2, None)
    lens = lens_of(item["intrinsics"], 64, 64)
    picture = item["image"].float()
    seen, farther, difference, unmoved = [], [], [], []
    for time in (0, 3):
        for a, b in ((0, 1), (5, 4), (9, 8)):
            world, shown = points(item, time, a)
            local = se3.transform(se3.inverse(item["poses"][b]), world)
            pixels, inside = lens.project(local)
            u, v = pixels.round().long().clamp(0, 63).unbind(-1)
            depth = item["depth"][time, b][v, u]
            known = inside & (depth > 0)
            same = known & ((depth / local[:, 2] - 1).abs() < 0.02)
            seen.append(same.sum() / known.sum())
            farther.append((known & (depth > 1.05 * local[:, 2])).sum() / known.sum())
            there = sample(picture[:, time, b][None], pixels[None, None])[0, :, 0]
            here = picture[:, time, a][:, shown]
            difference.append((there - here).abs()[:, same].mean())
            unmoved.append((picture[:, time, b][:, shown] - here).abs()[:, same].mean())
    assert min(seen) > 0.5
    assert max(farther) < 0.05  # edges, half a pixel off
    assert max(difference) < 16
    assert sum(difference) < 0.5 * sum(unmoved)


def test_the_toy_moves_and_the_studio_does_not():
    item = WorldOrbits(fps=2.0).val().sample(0, None)
    white = WorldOrbits(fps=2.0, background="white").val().sample(0, None)
    toy = (white["depth"] > 0).any(0)
    assert not torch.equal(white["depth"][0], white["depth"][1])
    assert torch.equal(item["depth"][0][~toy], item["depth"][3][~toy])
    assert (item["depth"][0] != item["depth"][3])[toy].float().mean() > 0.5


def test_on_white_the_toy_alone_is_left_as_it_was():
    rendered, white = (WorldOrbits(background=b).val().sample(1, None) for b in ("rendered", "white"))
    toy = white["depth"] > 0
    assert 0.02 < toy.float().mean() < 0.4
    assert torch.equal(white["depth"][toy], rendered["depth"][toy])
    assert (white["image"][:, ~toy] == 255).all()
    assert torch.equal(white["image"][:, toy], rendered["image"][:, toy])
    # With more rays a pixel, edges are mixtures: whatever is neither white nor the toy lies beside the toy.
    soft = WorldOrbits(background="white", supersample=2).val().sample(1, None)
    near = torch.nn.functional.max_pool2d(toy.float(), 3, 1, 1) > 0
    assert (soft["image"][:, ~near] == 255).all()
    assert ((soft["image"] != 255).any(0) & ~toy).any()


def test_the_toy_stays_in_the_middle():
    source = WorldOrbits(background="white", size=(32, 32), fps=1.0, frames=5, views=2).val()
    farthest = 0.0
    for index in range(8):
        item = source.sample(index, None)
        for time in range(5):
            for view in range(2):
                world, shown = points(item, time, view)
                assert shown.float().mean() > 0.02
                farthest = max(farthest, (world[:, [0, 2]] - torch.tensor(CENTRE)[[0, 2]]).norm(dim=-1).max().item())
    assert 0.5 < farthest < REACH


def test_a_window_may_begin_later_than_the_film_whose_first_frame_is_the_reference():
    data = WorldOrbits(size=(16, 16), frames=2, film=6, fps=2.0, background="white")
    same = []
    for index in range(12):
        item = data.train().sample(index, None)
        same.append(torch.equal(item["reference"], item["image"][:, 0].transpose(0, 1)))
    assert 0 < sum(same) < 8
    short = WorldOrbits(size=(16, 16), frames=2, fps=2.0, background="white").train().sample(same.index(False), None)
    late = data.train().sample(same.index(False), None)
    assert torch.equal(late["reference"], short["reference"])
    assert torch.equal(late["camera"], short["camera"])
    item = data.val().sample(0, None)
    assert torch.equal(item["reference"], item["image"][:, 0].transpose(0, 1))


def test_samples_that_are_kept_are_not_shared():
    data = WorldOrbits(size=(16, 16), frames=1, keep=1)
    source = data.train()
    source.sample(0, None)["image"].zero_()
    assert torch.equal(source.sample(0, None)["image"], data.train().sample(0, None)["image"])
    assert list(source.kept) == [0]


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"frames": 0}, "frames"),
        ({"views": 0}, "views"),
        ({"size": (4, 64)}, "size"),
        ({"fps": math.inf}, "fps"),
        ({"film": 3}, "film"),
        ({"view": (60.0, 50.0)}, "view"),
        ({"distance": (1.0, 2.0)}, "distance"),
        ({"distance": (2.0, 4.0)}, "distance"),
        ({"elevation": (0.0, 90.0)}, "elevation"),
        ({"elevation": (-30.0, 0.0)}, "elevation"),
        ({"keep": -1}, "keep"),
    ],
)
def test_values_that_make_no_orbit_are_refused(values, key):
    with pytest.raises(ConfigError, match=rf"data\.{key} is"):
        WorldOrbits(**values)


def test_the_context_camera_can_be_the_last_view():
    """SV3D: an orbit that ends where the given picture was taken."""
    for random_azimuths in (False, True):
        data = WorldOrbits(frames=1, views=4, size=(16, 16), context_view=True, random_azimuths=random_azimuths)
        sample = data.val().sample(0, None)
        assert sample["image"].shape == (3, 1, 4, 16, 16)
        assert torch.equal(sample["image"][:, :, -1].transpose(0, 1), sample["context"])
        assert torch.equal(sample["reference"][-1], sample["context"][0])
        assert sample["camera"][-1, 1] == 0
        assert (sample["camera"][:-1, 1].diff() > 0).all()
    even = WorldOrbits(frames=1, views=4, size=(16, 16), context_view=True).val().sample(0, None)["camera"][:, 1]
    torch.testing.assert_close(even, torch.tensor([0.25, 0.5, 0.75, 0.0]) * 2 * torch.pi, rtol=0, atol=1e-5)
