"""Which pixels two frames both show, judged by optical flow alone. Flow is (x, y) in pixels; nothing here is
differentiable."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from salticid.geometry.cameras import pixel_grid
from salticid.geometry.warp import sample
from salticid.losses.pixels import full_precision

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

_UNIT = 1 << 20
"""Weights are summed as whole numbers of 1/this: the sum does not depend on the order, and a GPU gives the same mask
every time."""


@torch.no_grad()
def coverage(flow: "Float[Tensor, 'b 2 h w']") -> "Float[Tensor, 'b 1 h w']":
    """How many pixels arrive where: each is laid down at pixel + flow, shared by the four pixels around as bilinear
    weights say. Shares outside the picture are lost, as are those of a flow that is not finite."""
    batch, _, height, width = flow.shape
    x, y = (full_precision(flow) + pixel_grid(height, width, flow.device).permute(2, 0, 1)).unbind(1)
    left, top = x.floor(), y.floor()
    right_share, low_share = x - left, y - top
    first = torch.arange(batch, device=flow.device)[:, None, None] * (height * width)
    total = torch.zeros(batch * height * width, dtype=torch.int64, device=flow.device)
    for column, across in ((left, 1 - right_share), (left + 1, right_share)):
        for row, down in ((top, 1 - low_share), (top + 1, low_share)):
            inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
            at = first + torch.where(inside, row, 0.0).long() * width + torch.where(inside, column, 0.0).long()
            share = torch.where(inside, across * down * _UNIT, 0.0).round().long()
            total.scatter_add_(0, at.flatten(), share.flatten())
    return (total.to(x.dtype) / _UNIT).reshape(batch, 1, height, width)


def visible(reverse_flow: "Float[Tensor, 'b 2 h w']", threshold: float = 0.95) -> "Bool[Tensor, 'b 1 h w']":
    """Pixels of the target that the source frame shows too: those that the flow from source to target covers
    (AF-SfMLearner's occlusion mask; Wang et al. 2018)."""
    return coverage(reverse_flow) > threshold


@torch.no_grad()
def consistent(
    forward: "Float[Tensor, 'b 2 h w']",
    backward: "Float[Tensor, 'b 2 h w']",
    *,
    relative: float = 0.01,
    absolute: float = 0.5,
) -> "Bool[Tensor, 'b 1 h w']":
    """Pixels that flow there and back returns (Sundaram, Brox & Keutzer 2010): with f = `forward` and b = `backward`
    where it leads, |f + b|² < `relative`·(|f|² + |b|²) + `absolute` (pixels²). False where f leaves the picture, and
    where it is not finite."""
    forward = full_precision(forward)
    height, width = forward.shape[-2:]
    pixels = pixel_grid(height, width, forward.device) + forward.movedim(1, -1)
    x, y = pixels.unbind(-1)
    inside = (x >= -0.5) & (x <= width - 0.5) & (y >= -0.5) & (y <= height - 0.5)
    back = sample(backward, torch.where(inside[..., None], pixels, 0.0))
    error, size = (forward + back).square().sum(dim=1), forward.square().sum(dim=1) + back.square().sum(dim=1)
    return (inside & (error < relative * size + absolute))[:, None]
