"""Rendered clips: the sample contract, motion in seconds, flow that agrees with the pictures."""

import pytest
import torch

from salticid.data.video import bucket_of_flow, motion_bucket
from salticid.errors import ConfigError
from salticid.geometry.cameras import pixel_grid
from salticid.geometry.warp import sample as look_up
from salticid.world import WorldVideos, make_scene, render, render_many
from salticid.world.clips import Clips
from salticid.world.lenses import lens_of_view


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_sample_is_a_pure_function_of_its_arguments_and_fits_the_contract():
    data = WorldVideos(frames=4, size=(24, 32), flow="always")
    item, again = (
        data.train().sample(3, generator()),
        WorldVideos(frames=4, size=(24, 32), flow="always").train().sample(3, None),
    )
    expected = {
        "video": ((3, 4, 24, 32), torch.uint8),
        "fps": ((), torch.float32),
        "motion_bucket": ((), torch.float32),
        "image_only": ((4,), torch.bool),
        "flow": ((3, 2, 24, 32), torch.float32),
        "flow_valid": ((3, 1, 24, 32), torch.bool),
    }
    assert {name: (tuple(value.shape), value.dtype) for name, value in item.items()} == expected
    assert all(torch.equal(value, again[name]) for name, value in item.items())
    plain = WorldVideos(frames=4, size=(24, 32))
    assert plain.train().sample(3, None).keys() == expected.keys() - {"flow", "flow_valid"}
    assert plain.val().sample(3, None).keys() == expected.keys()
    assert not torch.equal(plain.val().sample(3, None)["video"], item["video"])
    assert 5 <= item["fps"] <= 15
    assert item["motion_bucket"] == motion_bucket(item["video"], item["fps"].item(), "difference")


@pytest.mark.parametrize("kind", ["room", "outdoors", "studio"])
@pytest.mark.parametrize("flip", [0, 1])
def test_flow_tells_where_the_next_frame_shows_the_same(kind, flip):
    size = (48, 64)
    data = WorldVideos(frames=3, size=size, kind=kind, fps=(4.0, 6.0), flow="always", flip=0.5, supersample=2)
    warped = unmoved = 0.0
    for index in range(3):
        item = data.train().outcome(index, flip)
        frames = item["video"].transpose(0, 1).float()
        for i in range(2):
            seen = item["flow_valid"][i, 0]
            assert seen.float().mean() > 0.6
            pixels = pixel_grid(*size) + item["flow"][i].permute(1, 2, 0)
            warped += (look_up(frames[i + 1][None], pixels[None])[0] - frames[i]).abs()[:, seen].mean().item() / 6
            unmoved += (frames[i + 1] - frames[i]).abs()[:, seen].mean().item() / 6
    assert warped < 6
    assert warped < 0.8 * unmoved


def test_a_camera_that_turns_alone_gives_the_flow_of_a_turn():
    """In the middle of the picture, turning by a makes f·tan(a) pixels, whatever the depth."""
    data = WorldVideos(
        frames=3,
        size=(33, 33),
        view=(60.0, 60.0),
        speed=(0.0, 0.0),
        speed_outdoors=(0.0, 0.0),
        moving=False,
        kind="room",
    )
    source = data.val()
    for index in range(3):
        item, shot = source.sample(index, None), source.shot(index)
        forward = shot.poses[:, :3, :3].transpose(1, 2) @ shot.poses[0, :3, 2]
        focal = 16.5 / torch.tensor(30.0).deg2rad().tan()
        expected = focal * forward[1, :2] / forward[1, 2]
        assert torch.allclose(item["flow"][0, :, 16, 16], expected, atol=2e-3)


def test_the_rate_says_how_much_happens_between_frames():
    """Frames 0, 2, 4 of a clip of twice the rate are those of the clip, if all else is the same."""
    slow, fast = (
        WorldVideos(frames=n, size=(16, 20), fps=(f, f), turn=(0.0, 0.0), sideways=0.0, vertical=0.0, kind="outdoors")
        for n, f in ((3, 4.0), (5, 8.0))
    )
    for index in range(3):
        a, b = slow.train().sample(index, None), fast.train().sample(index, None)
        assert (a["video"] - b["video"][:, ::2].int()).abs().float().mean() < 3
    flows = [
        WorldVideos(frames=3, size=(24, 32), fps=(f, f), kind="room").val().sample(1, None)["flow"].abs().mean()
        for f in (4.0, 16.0)
    ]
    assert flows[0] / flows[1] == pytest.approx(4, rel=0.25)


def test_motion_is_told_by_exact_flow_or_a_number():
    flow, number = (WorldVideos(frames=3, size=(16, 16), motion=m, flow="always") for m in ("flow", 33.0))
    item = flow.train().sample(0, None)
    assert item["motion_bucket"] == bucket_of_flow(item["flow"], item["fps"].item(), item["flow_valid"])
    assert number.train().sample(0, None)["motion_bucket"] == 33
    assert "flow" not in WorldVideos(frames=3, size=(16, 16), motion="flow").train().sample(0, None)


def test_bodies_move_and_can_be_told_not_to():
    still, moving = (
        WorldVideos(frames=3, size=(24, 32), kind="studio", moving=m, turn=(0.0, 0.0)) for m in (False, True)
    )
    for index in range(2):
        a, b = still.train().sample(index, None), moving.train().sample(index, None)
        assert a["motion_bucket"] == 0
        assert b["motion_bucket"] > 5


def test_mirrored_clips_are_outcomes():
    data = WorldVideos(frames=2, size=(16, 16), flip=0.25, keep=1)
    source, plain = data.train(), WorldVideos(frames=2, size=(16, 16)).train()
    assert (source.outcomes, plain.outcomes, data.val().outcomes) == (2, 1, 1)
    video = plain.sample(0, generator())["video"]
    flips = 0
    for seed in range(60):
        which = source.draw_of(0, generator(seed))
        sample = source.sample(0, generator(seed))["video"]
        assert torch.equal(sample, source.outcome(0, which)["video"])
        assert torch.equal(sample, video.flip(-1) if which else video)
        flips += which
    assert 5 < flips < 28


def test_clips_that_are_kept_stay_as_they_are():
    source = WorldVideos(frames=2, size=(16, 16), keep=1).train()
    assert isinstance(source, Clips)
    source.sample(4, None)["video"].zero_()
    assert source.sample(4, None)["video"].float().mean() > 0
    source.sample(5, None)
    assert source.kept.keys() == {4}


@pytest.mark.parametrize("kind", ["room", "outdoors", "studio"])
def test_many_moments_at_once_are_the_same_pictures_bit_by_bit(kind):
    lens = lens_of_view("pinhole", (20, 28), 70.0)
    for index in range(3):
        scene = make_scene(0, index, kind)
        times = [0.0, 1.5, 0.7, 1.5]
        poses = [scene.path(time / 2) for time in times]
        for supersample in (1, 2):
            many = render_many(scene, [lens] * 4, poses, times, supersample)
            for frame, pose, time in zip(many, poses, times, strict=True):
                for name, value in vars(render(scene, lens, pose, time, supersample)).items():
                    assert torch.equal(value, getattr(frame, name)), name


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"frames": 1}, "frames"),
        ({"frames": 30}, "fps"),
        ({"fps": (8.0, 6.0)}, "fps"),
        ({"fps": (0.0, 6.0)}, "fps"),
        ({"size": (4, 64)}, "size"),
        ({"view": (60.0, 175.0)}, "view"),
        ({"speed": (1.0, 0.5)}, "speed"),
        ({"turn": (0.0, 100.0)}, "turn"),
        ({"flip": 2.0}, "flip"),
        ({"motion": 300.0}, "motion"),
        ({"keep": -1}, "keep"),
    ],
)
def test_values_that_make_no_clip_are_refused(values, key):
    with pytest.raises(ConfigError, match=f"data.{key}"):
        WorldVideos(**values)
