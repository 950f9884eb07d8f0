"""The pose decoder."""

import pytest
import torch

from salticid.nets.motion import PoseDecoder

CHANNELS = (64, 64, 128, 256, 512)


@pytest.mark.parametrize(
    ("channels", "options", "count"),
    [
        (CHANNELS, {}, 1_314_572),
        ((64, 256, 512, 1024, 2048), {}, 1_707_788),
        (CHANNELS, {"inputs": 2, "frames": 1}, 1_314_572 + 256 * 256 * 9 - 6 * 257),
    ],
)
def test_sizes_are_those_of_the_original(channels, options, count):
    with torch.device("meta"):
        decoder = PoseDecoder(channels, **options)
    assert sum(p.numel() for p in decoder.parameters()) == count


def test_a_pose_is_the_scaled_mean_over_the_map():
    decoder = PoseDecoder(CHANNELS, inputs=2, frames=3, scale=0.001).double()
    maps = torch.randn(2, 4, 512, 3, 5, dtype=torch.float64)
    axis_angle, translation = decoder(*maps)
    assert axis_angle.shape == translation.shape == (4, 3, 3)
    x = torch.cat([decoder.squeeze(x).relu() for x in maps], dim=1)
    x = decoder.last(decoder.second(decoder.first(x).relu()).relu())
    expected = 0.001 * x.mean(3).mean(2).view(4, 3, 6)
    torch.testing.assert_close(torch.cat([axis_angle, translation], dim=-1), expected)
    assert expected.abs().max() > 0


def test_poses_are_float32_under_autocast():
    with torch.autocast("cpu", torch.bfloat16):
        poses = PoseDecoder(CHANNELS)(torch.randn(1, 512, 3, 5))
    assert {x.dtype for x in poses} == {torch.float32}
