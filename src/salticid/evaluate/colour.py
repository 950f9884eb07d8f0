"""Depth as a picture in colours: what is near is red, what is far is blue, what is not known is black."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from salticid.errors import UserError

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, UInt8

Palette = Literal["spectral", "turbo"]

# The eleven colours of ColorBrewer's diverging scheme "Spectral" (Brewer), from near to far.
SPECTRAL = (
    (158, 1, 66),
    (213, 62, 79),
    (244, 109, 67),
    (253, 174, 97),
    (254, 224, 139),
    (255, 255, 191),
    (230, 245, 152),
    (171, 221, 164),
    (102, 194, 165),
    (50, 136, 189),
    (94, 79, 162),
)


def coloured(
    depth: Float[Tensor, "b 1 h w"],
    limits: Float[Tensor, "b 2"] | None = None,
    mask: Bool[Tensor, "b 1 h w"] | None = None,
    palette: Palette = "spectral",
) -> UInt8[Tensor, "b 3 h w"]:
    """Depth maps in colours.

    Args:
        depth: in any unit, larger is farther.
        limits: what the first and the last colour stand for, for each sample; None: its least and greatest known value.
        mask: which pixels are known; those that are not finite never are.
        palette: `spectral`, from dark red by yellow to violet, between whose colours is interpolated; or `turbo`,
            from dark red by green to dark blue (Mikhailov 2019).

    Raises:
        UserError: `turbo` is asked for, and OpenCV, which has its table, is missing.
    """
    known = depth.isfinite() if mask is None else mask & depth.isfinite()
    if limits is None:
        least, greatest = (torch.where(known, depth, filler) for filler in (torch.inf, -torch.inf))
        near, far = (v.view(-1, 1, 1, 1) for v in (least.flatten(1).amin(1), greatest.flatten(1).amax(1)))
    else:
        near, far = limits.to(depth).view(-1, 2, 1, 1, 1).unbind(1)
    place = torch.where(known, (depth - near) / torch.where(far > near, far - near, 1.0), 0.0).clamp(0, 1)
    anchors = (_turbo() if palette == "turbo" else torch.tensor(SPECTRAL)).to(place)
    position = place[:, 0] * (len(anchors) - 1)
    before = position.long().clamp(max=len(anchors) - 2)
    colours = torch.lerp(anchors[before], anchors[before + 1], (position - before)[..., None]).movedim(-1, 1)
    return torch.where(known, colours.round(), 0.0).byte()


def _turbo() -> Tensor:
    """Its 256 colours, from dark red."""
    try:
        import cv2
    except ImportError:
        raise UserError("palette turbo needs OpenCV: pip install 'salticid[data]'") from None
    bgr = cv2.applyColorMap(torch.arange(256, dtype=torch.uint8).numpy()[None], cv2.COLORMAP_TURBO)[0]
    return torch.from_numpy(bgr).flip(0, 1)
