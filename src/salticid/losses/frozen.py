"""A pretrained network that only judges: it goes where its owner goes, but is never trained, averaged or saved."""

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn


class Frozen(nn.Module):
    """Holds a network that is no part of the model: absent from `parameters()`, `state_dict()` and `modules()`.

    A checkpoint neither contains nor requires it, DDP and FSDP leave it alone, and `train()` cannot reach it: it stays
    in eval mode, without gradients of its weights (those of its input flow). `.to(device)` moves it with its owner.
    Half-precision conversions do not touch it: it stays float32, or float64 where its owner becomes float64.
    """

    def __init__(self, network: nn.Module):
        super().__init__()
        network.eval().requires_grad_(False)
        self._outside = (network,)  # nn.Module registers modules, but not those in a tuple

    @property
    def network(self) -> Any:
        """The network itself; typed loosely, as it comes from packages without types."""
        return self._outside[0]

    @property
    def dtype(self) -> torch.dtype:
        """Of its weights, and what its input must have."""
        return next(self.network.parameters()).dtype

    def forward(self, *inputs: Tensor) -> Any:
        return self.network(*inputs)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        # What `to`, `cuda`, `float`, … of this module and of its owners come down to.
        self.network._apply(lambda tensor: _never_half(fn(tensor), tensor))
        return super()._apply(fn, recurse)


def _never_half(converted: Tensor, original: Tensor) -> Tensor:
    half = converted.dtype in (torch.float16, torch.bfloat16)
    return original.to(converted.device) if half else converted
