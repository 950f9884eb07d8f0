"""Optical flow: its errors, its files (Middlebury's .flo) and its colours.

Flow is (x, y) in pixels, from the target to where its content is in the other picture.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from salticid.errors import UserError
from salticid.files import written_aside

if TYPE_CHECKING:
    from pathlib import Path

    from jaxtyping import Bool, Float, Float32, Float64, UInt8

OUTLIER_PIXELS, OUTLIER_SHARE = 3.0, 0.05
UNKNOWN = 1e9
"""Components of a .flo file beyond this are unknown."""
TAG = 202021.25
"""The float32 that a .flo file begins with."""
LARGEST = 99999
"""Longest side of a .flo file that is believed."""

# How many steps the wheel takes from each of six colours to the next: each starts where one channel is at its end and
# fades another in or out (Baker et al. 2011).
WHEEL = (
    (15, (255, 0, 0)),  # red, to the right
    (6, (255, 255, 0)),
    (4, (0, 255, 0)),
    (11, (0, 255, 255)),
    (13, (0, 0, 255)),
    (6, (255, 0, 255)),
)


def flow_metrics(
    flow: Float[Tensor, "b 2 h w"], truth: Float[Tensor, "b 2 h w"], valid: Bool[Tensor, "b 1 h w"]
) -> dict[str, Float64[Tensor, " b"]]:
    """Errors over the valid pixels, per sample; NaN for a sample without any.

    - `epe`: mean ‖flow − truth‖, pixels;
    - `fl`: share of pixels whose error is above 3 pixels and above 5 % of the true length (KITTI's Fl, 0 to 1).

    Args:
        flow, truth: outside `valid` anything, NaN too.
    """
    error = torch.where(valid, flow.double() - truth.double(), 0.0).norm(dim=1)
    length = torch.where(valid, truth.double(), 0.0).norm(dim=1)
    count = valid.sum(dim=(1, 2, 3))
    # Not finite where valid: no small error, but an outlier.
    outlier = ~((error <= OUTLIER_PIXELS) | (error <= OUTLIER_SHARE * length))
    return {"epe": error.sum(dim=(1, 2)) / count, "fl": outlier.sum(dim=(1, 2)) / count.double()}


def read_flo(path: Path) -> tuple[Float32[Tensor, "2 h w"], Bool[Tensor, "1 h w"]]:
    """Flow, 0 where it is not known, and where it is known.

    Raises:
        UserError: the file cannot be read or is not a whole .flo file.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None
    if len(content) < 12 or np.frombuffer(content, "<f4", 1)[0] != TAG:
        raise UserError(f"{path}: is not a .flo file, which begins with the letters PIEH")
    width, height = np.frombuffer(content, "<i4", 2, offset=4).tolist()
    if not (1 <= width <= LARGEST and 1 <= height <= LARGEST):
        raise UserError(f"{path}: says that it is {width}×{height}; expected sides from 1 to {LARGEST}")
    if len(content) != 12 + 8 * width * height:
        raise UserError(
            f"{path}: has {len(content)} bytes; expected {12 + 8 * width * height} for {width}×{height} pixels"
        )
    values = np.frombuffer(content, "<f4", offset=12).reshape(height, width, 2).astype(np.float32)
    flow = torch.from_numpy(values).permute(2, 0, 1)
    valid = (flow.abs() <= UNKNOWN).all(dim=0, keepdim=True)  # NaN is not
    return torch.where(valid, flow, 0.0), valid


def write_flo(path: Path, flow: Float[Tensor, "2 h w"], valid: Bool[Tensor, "1 h w"] | None = None) -> None:
    """Write flow as float32; it appears complete or not at all.

    Args:
        valid: where it is known; None: where it is finite. The rest is written as unknown.

    Raises:
        UserError: the file cannot be written.
    """
    flow = flow.detach().float().cpu()
    known = flow.isfinite().all(dim=0, keepdim=True)
    known = known if valid is None else known & valid.cpu()
    values = torch.where(known, flow, 10 * UNKNOWN).permute(1, 2, 0).numpy().astype("<f4")
    size = np.array((flow.shape[2], flow.shape[1]), "<i4")
    with written_aside(path) as aside:
        aside.write_bytes(np.float32(TAG).astype("<f4").tobytes() + size.tobytes() + values.tobytes())


def colour_wheel() -> Float32[Tensor, "55 3"]:
    """RGB, 0 to 255, of the directions, from right over down to left and up."""
    colours = []
    for place, (steps, start) in enumerate(WHEEL):
        after = WHEEL[(place + 1) % len(WHEEL)][1]
        faded = torch.arange(steps)[:, None] * 255 // steps
        change = torch.tensor(after).sub(torch.tensor(start)).sign()
        colours.append(torch.tensor(start) + change * faded)
    return torch.cat(colours).float()


def flow_picture(
    flow: Float[Tensor, "b 2 h w"], valid: Bool[Tensor, "b 1 h w"] | None = None, limit: float | None = None
) -> UInt8[Tensor, "b 3 h w"]:
    """Flow in colours (Baker et al. 2011): the hue is the direction, the saturation the length; no motion is white,
    unknown is black.

    Args:
        valid: where the flow is known; it never is where it is not finite.
        limit: pixels, the length with full colours; longer is darkened. None: each sample's greatest known length.
    """
    known = flow.isfinite().all(dim=1, keepdim=True)
    known = known if valid is None else known & valid
    x, y = torch.where(known, flow.detach().float(), 0.0).unbind(dim=1)
    length = torch.hypot(x, y)
    full = length.amax(dim=(1, 2), keepdim=True) if limit is None else torch.full_like(length[:, :1, :1], limit)
    length = length / torch.where(full > 0, full, 1.0)
    wheel = colour_wheel().to(x) / 255
    # −π is to the right and the first colour; π is next to it and the last one.
    position = (torch.atan2(-y, -x) / math.pi + 1) / 2 * (len(wheel) - 1)
    before = position.long().clamp(max=len(wheel) - 1)
    hue = torch.lerp(wheel[before], wheel[(before + 1) % len(wheel)], (position - before)[..., None]).movedim(-1, 1)
    length = length[:, None]
    colour = torch.where(length <= 1, 1 - length * (1 - hue), 0.75 * hue)
    return torch.where(known, 255 * colour, 0.0).floor().byte()
