"""Building blocks of the convolutional networks; panoramas are seamless, so convolutions can wrap along the width."""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


class Conv(nn.Conv2d):
    """A same-size k×k convolution; with `wrap`, the left and right image borders are neighbours (360°).

    Rows above the top and below the bottom stay zero: the poles of an equirectangular image are singular anyway.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, *, stride: int = 1, wrap: bool = False):
        margin = kernel // 2
        super().__init__(inputs, outputs, kernel, stride, padding=(margin, 0 if wrap else margin))
        self.wrap = margin if wrap else 0

    def forward(self, input: Tensor) -> Tensor:
        if self.wrap:
            input = torch.cat([input[..., -self.wrap :], input, input[..., : self.wrap]], dim=-1)
        return super().forward(input)


class Recomputable(nn.Module):
    """A block that can forget what is inside after the forward pass and compute it again for the backward pass
    (gradient checkpointing): less memory, a third more work."""

    recompute: bool = False
    compute: Callable[..., Tensor]
    """The forward pass proper."""

    def forward(self, *inputs: Any) -> Tensor:
        if self.recompute and torch.is_grad_enabled():
            return checkpoint(self.compute, *inputs, use_reentrant=False)
        return self.compute(*inputs)


class ResBlock(Recomputable):
    """GroupNorm → SiLU → conv, twice, around a skip; time enters as scale and shift of the second normalisation.

    The last convolution starts at zero, so that a new block is the identity (up to the channel-matching skip).
    """

    def __init__(self, inputs: int, outputs: int, *, time: int = 0, wrap: bool = False):
        super().__init__()
        self.norm1 = group_norm(inputs)
        self.conv1 = Conv(inputs, outputs, wrap=wrap)
        self.norm2 = group_norm(outputs)
        self.conv2 = Conv(outputs, outputs, wrap=wrap)
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        self.time = nn.Linear(time, 2 * outputs) if time else None
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)  # type: ignore[arg-type]

    def compute(self, x: Tensor, time: Tensor | None = None) -> Tensor:
        h = self.norm2(self.conv1(F.silu(self.norm1(x))))
        if self.time is not None:
            scale, shift = self.time(time)[:, :, None, None].chunk(2, dim=1)
            h = h * (1 + scale) + shift
        return self.skip(x) + self.conv2(F.silu(h))


def group_norm(channels: int, groups: int = 8, epsilon: float = 1e-5) -> nn.GroupNorm:
    """GroupNorm with as many of `groups` as divide the channels."""
    return nn.GroupNorm(math.gcd(channels, groups), channels, epsilon)


class TimeEmbedding(nn.Module):
    """Sinusoids of the network's time (Vaswani et al. 2017; cosines first), then a two-layer perceptron."""

    def __init__(self, channels: int, longest: float = 10_000.0):
        super().__init__()
        self.channels, self.longest = channels, longest
        self.mlp = nn.Sequential(nn.Linear(channels, channels), nn.SiLU(), nn.Linear(channels, channels), nn.SiLU())

    def forward(self, time: Tensor) -> Tensor:
        """(B,) → (B, channels)."""
        return self.mlp(sinusoids(time, self.channels, self.longest))


def sinusoids(time: Tensor, channels: int, longest: float = 10_000.0) -> Tensor:
    """(B,) → (B, channels): cosines, then sines, of geometrically spaced rates from 1 to about 1/`longest`."""
    half = channels // 2
    rates = torch.exp(torch.arange(half, device=time.device) * (-math.log(longest) / half))
    phase = time.float()[:, None] * rates
    return torch.cat([phase.cos(), phase.sin()], dim=1)
