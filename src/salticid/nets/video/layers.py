"""Layers of the video UNet: attention, gated feed-forward, the blend of space and time, convolution along time.

Their attributes are called as in the files of generative-models, so that names of weights need no map.
"""

from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Layer = TypeVar("Layer", bound="nn.Linear | nn.Conv2d | nn.Conv3d")
GROUPS = 32
"""Of GroupNorm."""
MIX = 0.5
"""Where the blend's parameter begins: sigmoid(0.5) ≈ 0.62 of the spatial part."""
MOST = 65_535
"""Sequences in one call of attention: CUDA grids have no more rows than that in two of their directions, and attention
along time has one sequence per pixel."""


class Attention(nn.Module):
    """Multi-head attention (Vaswani et al. 2017, section 3.2.2); no biases before the output.

    Args:
        width: of the queries' tokens and of the output; a multiple of `heads`.
        context: of the tokens attended to; None: as the queries'.
    """

    def __init__(self, width: int, heads: int, context: int | None = None):
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_k = nn.Linear(context or width, width, bias=False)
        self.to_v = nn.Linear(context or width, width, bias=False)
        self.to_out = nn.Sequential(nn.Linear(width, width))

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """(B, n, width), and (B, m, context) or None for attention to x itself → (B, n, width)."""
        other = x if context is None else context
        q, k, v = (self._split(part) for part in (self.to_q(x), self.to_k(other), self.to_v(other)))
        parts = zip(q.split(MOST), k.split(MOST), v.split(MOST), strict=True)
        seen = [F.scaled_dot_product_attention(*part) for part in parts]
        return self.to_out((seen[0] if len(seen) == 1 else torch.cat(seen)).transpose(1, 2).flatten(2))

    def one(self, context: Tensor) -> Tensor:
        """What all queries are answered where there is but one token to attend to: (B, 1, context) → (B, 1, width)."""
        return self.to_out(self.to_v(context))

    def _split(self, tokens: Tensor) -> Tensor:
        """(B, n, width) → (B, heads, n, width / heads)."""
        return tokens.unflatten(2, (self.heads, -1)).transpose(1, 2)


class Gated(nn.Module):
    """GEGLU: a · GELU(b) of a linear map (a, b) (Shazeer 2020)."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.proj = nn.Linear(inputs, 2 * outputs)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.proj(x).chunk(2, dim=-1)
        return value * F.gelu(gate)


class FeedForward(nn.Module):
    """A gated layer four times as wide, and back: (…, width) → (…, width)."""

    def __init__(self, width: int):
        super().__init__()
        self.net = nn.Sequential(Gated(width, 4 * width), nn.Identity(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class Block(nn.Module):
    """Attention to a context, as the blocks of space and of time have it.

    Where that is a single token, as a CLIP image embedding is, the queries have no say. They are then left out unless
    they have to learn: the gradient of `idle` is zero but for rounding, and once it is frozen training, too, is faster.
    """

    norm2: nn.LayerNorm
    attn2: Attention

    @property
    def idle(self) -> list[nn.Module]:
        """What does nothing where the context is a single token."""
        return [self.norm2, self.attn2.to_q, self.attn2.to_k]

    def _attend(self, x: Tensor, context: Tensor) -> Tensor:
        """(B, n, width), (B, m, context) → (B, n, width), or (B, 1, width) where it is the same for all n."""
        learns = torch.is_grad_enabled() and any(p.requires_grad for part in self.idle for p in part.parameters())
        if context.shape[1] == 1 and not learns:
            return self.attn2.one(context)
        return self.attn2(self.norm2(x), context)


class SpaceBlock(Block):
    """Self-attention within each picture, attention to its context, feed-forward; each around a skip."""

    def __init__(self, width: int, heads: int, context: int):
        super().__init__()
        self.attn1 = Attention(width, heads)
        self.ff = FeedForward(width)
        self.attn2 = Attention(width, heads, context)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """(N, s, width) tokens of N pictures, (N, m, context) → (N, s, width)."""
        x = x + self.attn1(self.norm1(x))
        x = x + self._attend(x, context)
        return x + self.ff(self.norm3(x))


class TimeBlock(Block):
    """Feed-forward, attention along a group of pictures at each place by itself, attention to the group's context,
    feed-forward; each around a skip."""

    def __init__(self, width: int, heads: int, context: int):
        super().__init__()
        self.norm_in = nn.LayerNorm(width)
        self.ff_in = FeedForward(width)
        self.attn1 = Attention(width, heads)
        self.ff = FeedForward(width)
        self.attn2 = Attention(width, heads, context)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """(G, n, s, width) tokens of s places in G groups of n pictures → the same shape.

        Args:
            context: (G, m, context), the same for all places, or (G, s, m, context), each place its own.
        """
        shape = x.shape
        x = x.transpose(1, 2).contiguous()
        x = x + self.ff_in(self.norm_in(x))
        x = x + self.attn1(self.norm1(x).flatten(0, 1)).view_as(x)
        # What all places attend to needs no copy for each: their tokens are one sequence of queries.
        if context.ndim == 3:
            queries = x.flatten(1, 2)
        else:
            queries, context = x.flatten(0, 1), context.flatten(0, 1)
        x = (queries + self._attend(queries, context)).view_as(x)
        x = x + self.ff(self.norm3(x))
        return x.transpose(1, 2).reshape(shape)


class Mixer(nn.Module):
    """α · spatial + (1 − α) · temporal, α = sigmoid(`mix_factor`); α = 1 for rows that are single pictures, which
    then neither see nor teach the temporal layers ("learned_with_images" in generative-models)."""

    def __init__(self):
        super().__init__()
        self.mix_factor = nn.Parameter(torch.full((1,), MIX))

    def forward(self, spatial: Tensor, temporal: Tensor, image_only: Tensor | None = None) -> Tensor:
        """(N, …) twice → (N, …); `image_only`: (N,) of bool, or None: there are no single pictures."""
        share = self.mix_factor.sigmoid().to(spatial.dtype)
        if image_only is not None:
            share = torch.where(image_only, 1.0, share).to(spatial.dtype)
            share = share.view(-1, *[1] * (spatial.ndim - 1))
        return share * spatial + (1 - share) * temporal


class TimeConv(nn.Conv3d):
    """A convolution over three neighbours in time: (b, c, T, s) → (b, outputs, T, s) for s places; zero beyond the
    ends. Its weight (outputs, inputs, 3, 1, 1) is that of a 3-D convolution, but a 2-D one computes it faster."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__(inputs, outputs, (3, 1, 1), padding=(1, 0, 0))

    def forward(self, input: Tensor) -> Tensor:
        return F.conv2d(input, self.weight.flatten(3), self.bias, padding=(1, 0))


def zeroed(layer: Layer) -> Layer:
    """A layer that begins at zero, so that the block which it ends begins as the identity."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def perceptron(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """Two linear layers with a SiLU between."""
    return nn.Sequential(nn.Linear(inputs, hidden), nn.SiLU(), nn.Linear(hidden, outputs))
