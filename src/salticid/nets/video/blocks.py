"""The two kinds of blocks of the video UNet, residual and transformer: first space, then time, then their blend.

Pictures lie in rows (N, …), N = batch · outer · inner: the first blend is along `inner`, neighbouring rows; the second,
which SV4D alone has, along `outer`. For SVD `inner` are the frames and `outer` is 1; for SV4D `inner` are the views and
`outer` the frames ("t-major").
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from salticid.nets.blocks import Recomputable, group_norm, sinusoids
from salticid.nets.video.layers import GROUPS, Mixer, SpaceBlock, TimeBlock, TimeConv, perceptron, zeroed


@dataclass(frozen=True)
class Rows:
    """How N = batch · outer · inner rows belong together."""

    outer: int
    inner: int


class Residual(nn.Module):
    """GroupNorm → SiLU → convolution, twice, around a skip; the embedding is added between. Within pictures (`time`
    false) on (N, c, h, w), along time on (b, c, T, s)."""

    def __init__(self, inputs: int, outputs: int, embedding: int, epsilon: float, *, time: bool = False):
        super().__init__()

        def convolution(channels: int) -> nn.Conv2d | TimeConv:
            return TimeConv(channels, outputs) if time else nn.Conv2d(channels, outputs, 3, padding=1)

        self.in_layers = nn.Sequential(group_norm(inputs, GROUPS, epsilon), nn.SiLU(), convolution(inputs))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embedding, outputs))
        last = zeroed(convolution(outputs))
        self.out_layers = nn.Sequential(group_norm(outputs, GROUPS, epsilon), nn.SiLU(), nn.Identity(), last)
        self.skip_connection = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def apply_to(self, x: Tensor, shift: Tensor) -> Tensor:
        """`shift`: what `emb_layers` makes of the embedding, to be broadcast against the first convolution."""
        return self.skip_connection(x) + self.out_layers(self.in_layers(x) + shift)


class Convolutions(Residual):
    """The part of a `VideoResBlock` along time: (b, c, T, s) and (b, T, embedding) → (b, c, T, s)."""

    def __init__(self, width: int, embedding: int, epsilon: float):
        super().__init__(width, width, embedding, epsilon, time=True)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        return self.apply_to(x, self.emb_layers(embedding).transpose(1, 2)[..., None])


class VideoResBlock(Recomputable, Residual):
    """A residual block within pictures, then one along the sequence of all rows of a batch element, and their blend.

    SV4D's sequence, too, is all its frames · views rows one after the other.
    """

    def __init__(self, inputs: int, outputs: int, embedding: int, epsilon: float = 1e-5):
        super().__init__(inputs, outputs, embedding, epsilon)
        self.time_stack = Convolutions(outputs, embedding, epsilon)
        self.time_mixer = Mixer()

    def compute(self, x: Tensor, embedding: Tensor, rows: Rows, image_only: Tensor | None) -> Tensor:
        """(N, inputs, h, w), (N, embedding), (N,) of bool or None → (N, outputs, h, w)."""
        x = self.apply_to(x, self.emb_layers(embedding)[:, :, None, None])
        length = rows.outer * rows.inner
        moved = x.unflatten(0, (-1, length)).transpose(1, 2).flatten(3)
        moved = self.time_stack(moved, embedding.unflatten(0, (-1, length)))
        return self.time_mixer(x, moved.transpose(1, 2).reshape(x.shape), image_only)


class VideoTransformer(Recomputable):
    """Attention within pictures, then along `inner` (SVD: frames; SV4D: views), then, in SV4D, along `outer` (frames),
    each blended with what it stands on; GroupNorm and linear layers around, and a skip.

    SV4D blends view and frame attention by the same factor, for it has but one.
    """

    def __init__(self, width: int, heads: int, context: int, reference: int = 0):
        super().__init__()
        self.width = width
        self.norm = group_norm(width, GROUPS, 1e-6)
        self.proj_in = nn.Linear(width, width)
        self.transformer_blocks = nn.ModuleList([SpaceBlock(width, heads, context)])
        self.time_stack = nn.ModuleList([TimeBlock(width, heads, context)])
        self.time_pos_embed = perceptron(width, 4 * width, width)
        if reference:
            self.motion_blocks = nn.ModuleList([TimeBlock(width, heads, reference)])
            self.time_mix_motion_embed = perceptron(width, 4 * width, width)
        self.time_mixer = Mixer()
        self.proj_out = zeroed(nn.Linear(width, width))

    def compute(
        self, x: Tensor, context: Tensor, rows: Rows, image_only: Tensor | None, reference: Tensor | None
    ) -> Tensor:
        """(N, width, h, w), (N, m, context), (N,) of bool or None, (batch · inner, channels, h', w') or None
        → (N, width, h, w)."""
        tokens = self.proj_in(self.norm(x).flatten(2).transpose(1, 2))
        tokens = self.transformer_blocks[0](tokens, context)
        tokens = self.along_inner(tokens, context, rows, image_only)
        if reference is not None:
            tokens = self.along_outer(tokens, F.interpolate(reference, x.shape[-2:], mode="bilinear"), rows)
        return x + self.proj_out(tokens).transpose(1, 2).reshape(x.shape)

    def along_inner(self, x: Tensor, context: Tensor, rows: Rows, image_only: Tensor | None = None) -> Tensor:
        """Frame attention of SVD, view attention of SV4D: (N, s, width) → (N, s, width).

        Each group attends to the context of its first row: of the clip's first frame in SVD, of the frame (the same
        for all its views) in SV4D.
        """
        groups = x.unflatten(0, (-1, rows.inner))
        groups = groups + self._places(self.time_pos_embed, rows.inner, x)
        moved = self.time_stack[0](groups, context[:: rows.inner])
        return self.time_mixer(x, moved.flatten(0, 1), image_only)

    def along_outer(self, x: Tensor, reference: Tensor, rows: Rows) -> Tensor:
        """Frame attention of SV4D, of every view by itself: (N, s, width) → (N, s, width).

        Each place attends to the latent there (batch · inner, channels, h, w), h · w = s, of its own view in the
        reference frame: a single token.
        """
        groups = x.unflatten(0, (-1, rows.outer, rows.inner)).transpose(1, 2).flatten(0, 1)
        groups = groups + self._places(self.time_mix_motion_embed, rows.outer, x)
        moved = self.motion_blocks[0](groups, reference.flatten(2).transpose(1, 2)[:, :, None])
        moved = moved.unflatten(0, (-1, rows.inner)).transpose(1, 2).reshape(x.shape)
        return self.time_mixer(x, moved)

    def _places(self, embed: nn.Sequential, count: int, like: Tensor) -> Tensor:
        """What tells the pictures of a group apart: (count, 1, width), of the sinusoids of 0, 1 … count − 1."""
        waves = sinusoids(torch.arange(count, device=like.device), self.width)
        return embed(waves.to(like.dtype))[:, None]
