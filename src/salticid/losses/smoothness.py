"""How much a map varies where the picture does not: first-order smoothness of disparity, flow and appearance flow.

All are sums over x and y of means of |∂ field| · exp(−|∂ guide|), with differences of neighbouring pixels; they differ
in what the guide is. Computed in float32 at least.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from salticid.losses.pixels import full_precision, masked_mean

if TYPE_CHECKING:
    from jaxtyping import Bool, Float


def total_variation(
    field: "Float[Tensor, 'b c h w']", visible: "Bool[Tensor, 'b 1 h w'] | None" = None
) -> "Float[Tensor, 'b']":
    """Without a guide (AF-SfMLearner's flow, stage I): mean |∂x field| + mean |∂y field| of every sample, over
    channels and over the differences of two pixels of `visible`."""
    return _first_order(field, None, visible)


def edge_aware(
    field: "Float[Tensor, 'b c h w']",
    guide: "Float[Tensor, 'b g h w']",
    visible: "Bool[Tensor, 'b 1 h w'] | None" = None,
) -> "Float[Tensor, 'b']":
    """Differences across an edge of `guide` (its |∂| averaged over channels; [0, 1]) count less.

    The guide is the picture for disparity and flow; for AF-SfMLearner's appearance flow it is target − warped, whose
    edges are those of the change in brightness. `visible` as for `total_variation`.
    """
    return _first_order(field, full_precision(guide), visible)


def disparity_smoothness(
    disparity: "Float[Tensor, 'b 1 h w']", image: "Float[Tensor, 'b c h w']"
) -> "Float[Tensor, 'b']":
    """Monodepth2's: `edge_aware` of disparity over its mean (which shrinking all disparities does not lower), guided
    by `image`, of the same size, in [0, 1]."""
    disparity = full_precision(disparity)
    return edge_aware(disparity / (disparity.mean(dim=(-2, -1), keepdim=True) + 1e-7), image)


def _first_order(field: Tensor, guide: Tensor | None, visible: Tensor | None) -> Tensor:
    field = full_precision(field)
    return _along(-1, field, guide, visible) + _along(-2, field, guide, visible)


def _along(dim: int, field: Tensor, guide: Tensor | None, visible: Tensor | None) -> Tensor:
    steps = field.diff(dim=dim).abs()
    if guide is not None:
        steps = steps * torch.exp(-guide.diff(dim=dim).abs().mean(dim=1, keepdim=True))
    if visible is None:
        return masked_mean(steps)
    size = visible.shape[dim] - 1
    return masked_mean(steps, visible.narrow(dim, 0, size) & visible.narrow(dim, 1, size))
