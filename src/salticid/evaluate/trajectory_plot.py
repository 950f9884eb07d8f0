"""A picture of a camera's way, from above and from the side."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from salticid.evaluate.trajectory_alignment import checked

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxtyping import Float, Float64, UInt8

View = Literal["top", "side"]

# World axes (x right, y down, z forward) that go to the right and upwards in the picture, with their signs.
AXES: dict[View, tuple[tuple[int, int], tuple[int, int]]] = {"top": ((0, 1), (2, 1)), "side": ((2, 1), (1, -1))}
TITLES: dict[View, str] = {"top": "top: x to the right, z up", "side": "side: z to the right, -y up"}
# Vermilion, blue and a grey that people with any colour vision tell apart (Okabe & Ito 2008).
ESTIMATE, TRUTH, INK = (213, 94, 0), (0, 114, 178), (60, 60, 60)
FINER = 3
"""Lines are drawn so many times as large and then averaged, which smooths them."""
MARGIN = 36
"""Pixels around the lines: above are title and legend, below is the scale."""
SMALLEST = 1e-6
"""The least extent, in metres, that is drawn larger; the camera stands still."""


def trajectory_picture(
    estimate: Float[Tensor, "n 4 4"],
    truth: Float[Tensor, "m 4 4"] | None = None,
    *,
    views: Sequence[View] = ("top", "side"),
    size: int = 480,
    unit: str = "m",
) -> UInt8[Tensor, "3 h w"]:
    """Positions as lines with a mark at the start, the views side by side: uint8 (3, size, size · views).

    A view shows all of both trajectories, with the same scale along both its axes and a bar of a round length.

    Args:
        estimate, truth: camera → world with x right, y down, z forward; bring the estimate to the truth with `align`.
        size: side of a view, pixels; at least 160.
        unit: what stands beside the number of the bar; empty where the scale is not known.

    Raises:
        UserError: a trajectory is empty, not (N, 4, 4) or not finite.
    """
    lines = {"estimate": (ESTIMATE, checked(estimate, "estimated")[:, :3, 3].cpu())}
    if truth is not None:  # below the estimate
        lines = {"truth": (TRUTH, checked(truth, "true")[:, :3, 3].cpu()), **lines}
    sheet = Image.new("RGB", (size * len(views), size), "white")
    for place, view in enumerate(views):
        sheet.paste(_panel(view, lines, size, unit), (place * size, 0))
    return torch.from_numpy(np.array(sheet)).permute(2, 0, 1).contiguous()


def _panel(view: View, lines: dict[str, tuple[tuple[int, int, int], Tensor]], size: int, unit: str) -> Image.Image:
    flat = {name: (colour, _flattened(points, view)) for name, (colour, points) in lines.items()}
    everything = torch.cat([points for _, points in flat.values()])
    low, high = everything.amin(dim=0), everything.amax(dim=0)
    extent = (high - low).amax().item()
    scale = (size - 2 * MARGIN) / (extent if extent > SMALLEST else 1.0)  # pixels a metre
    fine = Image.new("RGB", (size * FINER, size * FINER), "white")
    draw = ImageDraw.Draw(fine)
    for colour, points in flat.values():
        centred = (points - (low + high) / 2) * scale * torch.tensor((1.0, -1.0)) + size / 2
        _line(draw, centred * FINER, colour)
    panel = fine.reduce(FINER)
    _write(ImageDraw.Draw(panel), view, {name: colour for name, (colour, _) in flat.items()}, scale, size, unit)
    return panel


def _flattened(points: Float64[Tensor, "n 3"], view: View) -> Float64[Tensor, "n 2"]:
    """To the right and upwards, metres."""
    return torch.stack([sign * points[:, axis] for axis, sign in AXES[view]], dim=1)


def _line(draw: ImageDraw.ImageDraw, points: Tensor, colour: tuple[int, int, int]) -> None:
    places = [(x, y) for x, y in points.tolist()]
    if len(places) > 1:
        draw.line(places, colour, width=2 * FINER, joint="curve")
    _ring(draw, places[0], 4.5 * FINER, colour, 2 * FINER)


def _ring(
    draw: ImageDraw.ImageDraw, centre: tuple[float, float], radius: float, colour: tuple[int, int, int], width: int
) -> None:
    x, y = centre
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), "white", colour, width)


def _write(
    draw: ImageDraw.ImageDraw,
    view: View,
    legend: dict[str, tuple[int, int, int]],
    scale: float,
    size: int,
    unit: str,
) -> None:
    """Title, legend, bar, and the edge to the next view."""
    font = ImageFont.load_default()
    draw.text((8, 4), TITLES[view], INK, font)
    left = 8.0
    for name, colour in legend.items():
        draw.line([(left, 25), (left + 16, 25)], colour, width=2)
        draw.text((left + 20, 19), name, INK, font)
        left += 32 + draw.textlength(name, font)
    _ring(draw, (left + 5, 25), 4, INK, 2)
    draw.text((left + 14, 19), "start", INK, font)
    metres = round_length((size / 4) / scale)
    draw.line([(8, size - 10), (8 + metres * scale, size - 10)], INK, width=3)
    draw.text((8, size - 27), f"{metres:g} {unit}".rstrip(), INK, font)
    draw.line([(size - 1, 0), (size - 1, size - 1)], (220, 220, 220))


def round_length(most: float) -> float:
    """The largest of 1, 2 and 5 times a power of ten that is not above `most` (positive)."""
    power = 10.0 ** math.floor(math.log10(most))
    return next(step * power for step in (5, 2, 1, 0.5) if step * power <= most * (1 + 1e-9))
