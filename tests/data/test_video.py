"""What all data sets of videos share: motion in closed form, pictures that cover, mirrored clips."""

import math

import pytest
import torch

from salticid.data.video import (
    TYPICAL_DIFFERENCE,
    TYPICAL_FLOW,
    bucket_of_flow,
    check_motion,
    clip_sample,
    covering,
    mirrored,
    motion_bucket,
)
from salticid.errors import ConfigError


def ramp(shift: float, frames: int = 4, height: int = 48, width: int = 64) -> torch.Tensor:
    """A grey ramp, 2 levels a pixel, that moves by `shift` pixels a frame."""
    x, t = torch.arange(width), torch.arange(frames)[:, None]
    line = (60 + 2 * (x - shift * t)).round().to(torch.uint8)
    return line[None, :, None].expand(3, frames, height, width)


def waves(shift: float, frames: int = 4, height: int = 96, width: int = 128) -> torch.Tensor:
    """A smooth pattern that moves by `shift` pixels a frame, (x, y) = (0.8, 0.6)·shift."""
    t = torch.arange(frames)[:, None, None]
    y = torch.arange(height)[:, None] - 0.6 * shift * t
    x = torch.arange(width) - 0.8 * shift * t
    grey = 128 + 50 * torch.sin(0.31 * x + 0.11 * y) + 50 * torch.sin(0.27 * y - 0.13 * x + 1)
    return grey.round().to(torch.uint8)[None].expand(3, -1, -1, -1)


def bucket(typical: float) -> float:
    return 255 * (1 - 2**-typical)


def test_difference_of_a_moving_ramp():
    buckets = [motion_bucket(ramp(shift), 10.0, "difference").item() for shift in (0, 1, 2, 5, 10)]
    assert buckets == pytest.approx([bucket(2 * shift / TYPICAL_DIFFERENCE) for shift in (0, 1, 2, 5, 10)], abs=0.2)
    assert buckets == sorted(buckets)
    assert motion_bucket(ramp(2.5), 10.0, "difference").item() == pytest.approx(127.5, abs=1)


def test_the_difference_does_not_count_the_size_of_the_files():
    small, large = ramp(1, height=64, width=64), ramp(1, height=64, width=64).repeat_interleave(4, -1)
    large = large.repeat_interleave(4, -2)
    assert motion_bucket(large, 10.0, "difference").item() == pytest.approx(
        motion_bucket(small, 10.0, "difference").item(), abs=1e-3
    )


def test_flow_of_a_moving_pattern():
    pytest.importorskip("cv2")
    shifts = (0.0, 0.5, 1.0, 2.0, 4.0)
    found = [motion_bucket(waves(shift), 8.0, "flow").item() for shift in shifts]
    expected = [bucket(shift * 8 / math.hypot(96, 128) / TYPICAL_FLOW) for shift in shifts]
    assert found == pytest.approx(expected, rel=0.06, abs=1.5)
    assert found == sorted(found)
    faster = motion_bucket(waves(1.0), 16.0, "flow").item()
    assert faster == pytest.approx(found[3], rel=0.03)  # twice the rate is twice the motion a second


def test_flow_that_is_known():
    flow = torch.tensor([3.0, 4.0])[:, None, None].expand(2, 2, 30, 40)
    assert bucket_of_flow(flow, 6.0).item() == pytest.approx(bucket(5 * 6 / 50 / TYPICAL_FLOW))
    valid = torch.zeros(2, 1, 30, 40, dtype=torch.bool)
    assert bucket_of_flow(flow, 6.0, valid).item() == 0
    valid[:, :, :3] = True
    assert bucket_of_flow(flow, 6.0, valid).item() == pytest.approx(bucket(5 * 6 / 50 / TYPICAL_FLOW))


def test_a_number_is_itself_and_one_frame_is_unknown():
    assert motion_bucket(ramp(3), 10.0, 40.0).item() == 40
    assert motion_bucket(ramp(3, frames=1), 10.0, "difference").item() == 127
    with pytest.raises(ConfigError, match=r"data\.motion is -1"):
        check_motion(-1.0)


@pytest.mark.parametrize(("shape", "size"), [((48, 64), (24, 32)), ((48, 64), (32, 32)), ((48, 64), (20, 60))])
def test_covering_keeps_the_aspect_ratio_and_the_middle(shape, size):
    """A ramp stays one: its slope says the scale, its middle value that the cut is even."""
    x = torch.arange(shape[1], dtype=torch.float32)
    frame = (20 + 3 * x).round().to(torch.uint8).expand(1, 3, *shape)
    cut = covering(frame, size)
    assert cut.shape == (1, 3, *size)
    row, scale = cut[0, 0, size[0] // 2].float(), max(size[0] / shape[0], size[1] / shape[1])
    inner = row[size[1] // 4 : 3 * size[1] // 4]
    assert (inner[-1] - inner[0]).item() / (len(inner) - 1) == pytest.approx(3 / scale, rel=0.06)
    assert row.mean().item() == pytest.approx(frame.float().mean().item(), abs=3 / scale)
    assert torch.equal(covering(frame, shape), frame)


def test_a_clip_mirrored_twice_is_itself():
    g = torch.Generator().manual_seed(0)
    video = torch.randint(0, 256, (3, 4, 6, 8), dtype=torch.uint8, generator=g)
    sample = clip_sample(video, 7.0, torch.tensor(20.0))
    sample |= {"flow": torch.rand(3, 2, 6, 8, generator=g), "flow_valid": torch.rand(3, 1, 6, 8, generator=g) > 0.5}
    once = mirrored(sample)
    assert torch.equal(once["video"], video.flip(-1))
    assert torch.equal(once["flow"][:, 0], -sample["flow"][:, 0].flip(-1))
    assert torch.equal(once["flow"][:, 1], sample["flow"][:, 1].flip(-1))
    assert all(torch.equal(value, sample[name]) for name, value in mirrored(once).items())
    assert not sample["image_only"].any()
