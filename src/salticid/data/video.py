"""What all data sets of videos share: pictures at one size, how much a clip moves, mirrored samples.

A clip holds, before collation:
    video: uint8 (3, T, H, W), RGB.
    fps: float32 (), frames per second of the clip as it is given.
    motion_bucket: float32 (), 0 to 255, see `motion_bucket`; 127 where unknown.
    image_only: bool (T,): the row is a picture of its own, no frame of a film.
All clips of a data set or none:
    label: int64 (), class.
    caption: str.
Where there is truth:
    flow: float32 (T − 1, 2, H, W), from frame t to frame t + 1, (x, y), pixels.
    flow_valid: bool (T − 1, 1, H, W), seen in both frames.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from salticid.data.source import Sample
from salticid.errors import ConfigError, require

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, UInt8

Motion: TypeAlias = Literal["difference", "flow"] | float
"""How `motion_bucket` is told: by an estimate, or a number that all clips get."""

UNKNOWN_BUCKET = 127.0
TYPICAL_DIFFERENCE = 5.0
"""Grey levels between neighbouring frames. Like the next, about the median of everyday clips at their own rate."""
TYPICAL_FLOW = 0.15
"""Diagonals of the picture per second."""
_GREY = (0.299, 0.587, 0.114)
"""Weights of red, green and blue (ITU-R BT.601)."""
_DIFFERENCE_SIDE, _FLOW_SIDE = 64, 128
"""Short side at which frames are compared, pixels: noise and the size of the files then hardly count."""


def clip_sample(video: UInt8[Tensor, "3 T H W"], fps: float, bucket: Float[Tensor, ""]) -> Sample:
    """The sample of T frames of a film."""
    return {
        "video": video,
        "fps": torch.tensor(fps, dtype=torch.float32),
        "motion_bucket": bucket,
        "image_only": torch.zeros(video.shape[1], dtype=torch.bool),
    }


def mirrored(sample: Sample) -> Sample:
    """The clip from right to left, horizontal flow negated."""
    changed = {name: sample[name].flip(-1) for name in ("video", "flow", "flow_valid") if name in sample}
    if "flow" in sample:
        changed["flow"][:, 0].neg_()
    return sample | changed


def covering(frames: UInt8[Tensor, "n 3 h w"], size: tuple[int, int]) -> UInt8[Tensor, "n 3 H W"]:
    """Frames resized (bilinear, antialiased) to cover `size` (height, width), and what is over cut off evenly."""
    height, width = frames.shape[-2:]
    scale = max(size[0] / height, size[1] / width)
    whole = max(size[0], round(height * scale)), max(size[1], round(width * scale))
    if whole != (height, width):
        frames = F.interpolate(frames, whole, mode="bilinear", antialias=True)
    top, left = (whole[0] - size[0]) // 2, (whole[1] - size[1]) // 2
    return frames[..., top : top + size[0], left : left + size[1]].contiguous()


# how much a clip moves -------------------------------------------------------------------------------------------


def motion_bucket(video: UInt8[Tensor, "3 T H W"], fps: float, motion: Motion) -> Float[Tensor, ""]:
    """How much a clip moves, from 0 (nothing does) to 255: 255·(1 − 2^(−m/typical)), so that a typical clip has 127.5.

    The scale by which published models were trained is not known; theirs has the same range and middle alone.

    Args:
        fps: of the frames.
        motion: `difference`: m is the mean absolute difference of grey values (0 to 255) from frame to frame, typically
            `TYPICAL_DIFFERENCE`. `flow`: m is the mean length of the optical flow (DIS, Kroeger et al. 2016) in
            diagonals of the picture per second, typically `TYPICAL_FLOW`. A number: that number.
    """
    if not isinstance(motion, str):
        return torch.tensor(float(motion))
    if video.shape[1] < 2:
        return torch.tensor(UNKNOWN_BUCKET)
    if motion == "flow":
        return bucket_of_flow(_estimated_flow(_grey(video, _FLOW_SIDE)), fps)
    grey = _grey(video, _DIFFERENCE_SIDE)
    return _bucket((grey[1:] - grey[:-1]).abs().mean() / TYPICAL_DIFFERENCE)


def bucket_of_flow(
    flow: Float[Tensor, "n 2 h w"], fps: float, valid: Bool[Tensor, "n 1 h w"] | None = None
) -> Float[Tensor, ""]:
    """`motion_bucket` of flow, pixels from frame to frame, that is known where it is `valid` (None: everywhere)."""
    length = torch.linalg.vector_norm(flow, dim=1, keepdim=True)
    mean = length.mean() if valid is None else (length * valid).sum() / valid.sum().clamp(min=1)
    return _bucket(mean * fps / math.hypot(*flow.shape[-2:]) / TYPICAL_FLOW)


def check_motion(motion: Motion, estimated: bool = True) -> None:
    """Raise ConfigError for a number out of range, or where flow is to be `estimated` and OpenCV is missing."""
    if motion == "flow" and estimated:
        _opencv()
    elif not isinstance(motion, str):
        require("data.motion", motion, 0 <= motion <= 255, "difference, flow or a number from 0 to 255")


def _bucket(typical: Tensor) -> Tensor:
    return 255 * (1 - torch.exp2(-typical))


def _grey(video: UInt8[Tensor, "3 T H W"], side: int) -> Float[Tensor, "T h w"]:
    """Grey values, 0 to 255, reduced (mean over areas) to a short side of `side` if they are larger."""
    grey = torch.einsum("cthw,c->thw", video.float(), torch.tensor(_GREY))
    height, width = grey.shape[-2:]
    scale = min(1.0, side / min(height, width))
    return F.interpolate(grey[None], (round(height * scale), round(width * scale)), mode="area")[0]


def _estimated_flow(grey: Float[Tensor, "T h w"]) -> Float[Tensor, "n 2 h w"]:
    cv2 = _opencv()
    method = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    frames = grey.round().to(torch.uint8).numpy()
    flows = [torch.from_numpy(method.calc(a, b, None)) for a, b in pairwise(frames)]
    return torch.stack(flows).permute(0, 3, 1, 2)


def _opencv() -> Any:
    try:
        import cv2
    except ImportError:
        raise ConfigError("data.motion: flow needs OpenCV: pip install opencv-python-headless") from None
    return cv2
