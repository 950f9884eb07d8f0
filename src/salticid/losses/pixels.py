"""What the losses over pixels share: their precision and their means."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Bool, Float


def full_precision(values: Tensor) -> Tensor:
    """`values` in float32 at least: differences of neighbouring pixels drown in the rounding of half precision."""
    return values if values.dtype == torch.float64 else values.float()


def masked_mean(
    values: "Float[Tensor, 'b c h w']", mask: "Bool[Tensor, '#b 1 h w'] | None" = None
) -> "Float[Tensor, 'b']":
    """Mean of every sample over channels and the pixels of `mask`; 0, without a gradient, where it has none.

    What is outside the mask may be infinite or NaN.
    """
    if mask is None:
        return values.flatten(1).mean(dim=1)
    total = torch.where(mask, values, 0.0).flatten(1).sum(dim=1)
    return total / (mask.flatten(1).sum(dim=1) * values.shape[1]).clamp(min=1)
