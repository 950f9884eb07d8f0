"""SSDD's decoder: a U-Net with a transformer in the middle, conditioned on a latent (arXiv 2510.04961).

The latent z enters twice: nearest-upsampled beside the noisy picture, and as the scale and shift of normalisations.
Names of parameters are those of the public code, so that its checkpoints load.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from salticid.nets.blocks import Conv, Recomputable, sinusoids

SizeName = Literal["S", "B", "M", "L", "XL", "H"]


@dataclass(frozen=True)
class Size:
    widths: tuple[int, int, int, int]
    """At 1, 1/2, 1/4 and 1/8 of the picture."""
    layers: int
    """Of the transformer at 1/8."""
    heads: int


SIZES: dict[SizeName, Size] = {
    "S": Size((64, 96, 160, 160), 8, 4),
    "B": Size((64, 128, 192, 192), 10, 4),
    "M": Size((96, 192, 288, 288), 12, 4),
    "L": Size((96, 192, 384, 384), 16, 6),
    "XL": Size((128, 256, 512, 512), 16, 8),
    "H": Size((192, 384, 768, 768), 16, 12),
}
WINDOW = 8
"""Attention reaches `WINDOW` − 1 cells in every direction."""
FAR = -1e4
"""Added to the attention logits beyond: e^FAR is zero in every precision, and FAR is finite in all of them."""


class UViT(nn.Module):
    """Noisy pictures (B, 3, H, W), times (B,) in [0, 1000] and latents (B, latent, H/f, W/f) → (B, 3, H, W).

    H and W are multiples of 8, f a power of two from 8. `extra` channels (a stitch, an estimate) may stand beside the
    noisy picture. With `wrap` left and right are neighbours everywhere: convolutions pad with the other side,
    attention measures columns around the circle. Parameters, without extra channels: S 14,057,059, B 21,140,459,
    M 50,280,147, L 90,759,939, XL 161,272,835, H 362,688,003.
    """

    def __init__(self, size: Size, latent: int = 4, *, extra: int = 0, wrap: bool = True):
        super().__init__()
        widths, base = size.widths, size.widths[0]
        time = 4 * base
        self.aligned = min(4, size.layers // 2)
        """After how many transformer layers features are handed out, for representation alignment."""
        self.feature_channels = widths[-1]
        self.conv_in = Conv(3 + latent + extra, base, wrap=wrap)
        self.time_embedding = TimeMLP(base, time)
        self.ada_ctx_proj = nn.Sequential(Conv(latent, base, wrap=wrap), nn.SiLU(), Conv(base, base, wrap=wrap))
        skips, width = [base], base
        self.down_blocks = nn.ModuleList()
        for i, outputs in enumerate(widths):
            inputs, last = [width, outputs], i == len(widths) - 1
            self.down_blocks.append(DownStage(inputs, outputs, base, time, last=last, wrap=wrap))
            skips += [outputs] * (2 if last else 3)
            width = outputs
        self.mid_block = Transformer(width, base, size.layers, size.heads, wrap=wrap)
        self.up_blocks = nn.ModuleList()
        for i, outputs in enumerate(reversed(widths)):
            inputs = [(width if n == 0 else outputs) + skips.pop() for n in range(3)]
            self.up_blocks.append(UpStage(inputs, outputs, base, time, last=i == len(widths) - 1, wrap=wrap))
            width = outputs
        self.conv_norm_out = nn.GroupNorm(32, base)
        self.conv_out = Conv(base, 3, wrap=wrap)
        initialise(self)

    def forward(self, noisy: Tensor, time: Tensor, z: Tensor, extra: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The output (B, 3, H, W) in float32, and features (B, feature_channels, H/8, W/8) of the transformer."""
        inputs = [noisy, F.interpolate(z.to(noisy.dtype), noisy.shape[-2:])] + ([] if extra is None else [extra])
        embedding = F.silu(self.time_embedding(time))
        context = self.ada_ctx_proj(z)
        h = self.conv_in(torch.cat(inputs, dim=1))
        skips = [h]
        for stage in self.down_blocks:
            h = stage(h, embedding, context, skips)
        h, features = self.mid_block(h, context, self.aligned)
        for stage in self.up_blocks:
            h = stage(h, embedding, context, skips)
        return self.conv_out(F.silu(self.conv_norm_out(h))).float(), features


class TimeMLP(nn.Module):
    def __init__(self, channels: int, hidden: int):
        super().__init__()
        self.channels = channels
        self.linear_1, self.linear_2 = nn.Linear(channels, hidden), nn.Linear(hidden, hidden)

    def forward(self, time: Tensor) -> Tensor:
        return self.linear_2(F.silu(self.linear_1(sinusoids(time, self.channels))))


class DownStage(nn.Module):
    """The residual blocks of one resolution on the way down, and the way to the next."""

    def __init__(self, inputs: list[int], outputs: int, context: int, time: int, *, last: bool, wrap: bool):
        super().__init__()
        self.resnets = nn.ModuleList(ContextBlock(each, outputs, context, time, wrap=wrap) for each in inputs)
        if not last:
            self.downsamplers = nn.ModuleList([Resample(outputs, stride=2, wrap=wrap)])

    def forward(self, h: Tensor, time: Tensor, context: Tensor, skips: list[Tensor]) -> Tensor:
        """Leaves what the way up needs in `skips`."""
        for block in self.resnets:
            h = block(h, time, context)
            skips.append(h)
        for shrink in getattr(self, "downsamplers", ()):
            h = shrink(h)
            skips.append(h)
        return h


class UpStage(nn.Module):
    """The residual blocks of one resolution on the way up, each with a picture of the way down beside its input, and
    the way to the next."""

    def __init__(self, inputs: list[int], outputs: int, context: int, time: int, *, last: bool, wrap: bool):
        super().__init__()
        self.resnets = nn.ModuleList(ContextBlock(each, outputs, context, time, wrap=wrap) for each in inputs)
        if not last:
            self.upsamplers = nn.ModuleList([Resample(outputs, grow=2, wrap=wrap)])

    def forward(self, h: Tensor, time: Tensor, context: Tensor, skips: list[Tensor]) -> Tensor:
        for block in self.resnets:
            h = block(torch.cat([h, skips.pop()], dim=1), time, context)
        for enlarge in getattr(self, "upsamplers", ()):
            h = enlarge(h)
        return h


class Resample(nn.Module):
    def __init__(self, channels: int, *, stride: int = 1, grow: int = 1, wrap: bool):
        super().__init__()
        self.grow = grow
        self.conv = Conv(channels, channels, stride=stride, wrap=wrap)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=float(self.grow)) if self.grow > 1 else x)


class ContextBlock(Recomputable):
    """A residual block; the latent scales and shifts its first normalisation, time its second."""

    def __init__(self, inputs: int, outputs: int, context: int, time: int, *, wrap: bool):
        super().__init__()
        self.norm1 = SpatialAdaGroupNorm(inputs, context)
        self.conv1 = Conv(inputs, outputs, wrap=wrap)
        self.time_emb_proj = nn.Linear(time, 2 * outputs)
        self.norm2 = nn.GroupNorm(32, outputs)
        self.conv2 = Conv(outputs, outputs, wrap=wrap)
        if inputs != outputs:
            self.conv_shortcut = nn.Conv2d(inputs, outputs, 1)

    def compute(self, x: Tensor, time: Tensor, context: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x, context)))
        scale, shift = self.time_emb_proj(time)[:, :, None, None].chunk(2, dim=1)
        h = torch.addcmul(shift, self.norm2(h), 1 + scale)
        h = self.conv2(F.silu(h))
        return h + (self.conv_shortcut(x) if hasattr(self, "conv_shortcut") else x)


class SpatialAdaGroupNorm(nn.Module):
    """GroupNorm whose scale and shift are a linear function of the context at every place.

    The context has the latent's resolution and is the same for all pixels of a latent cell. So it is projected there
    and spread over the cells by broadcasting, rather than enlarged and projected at every pixel.
    """

    def __init__(self, channels: int, context: int):
        super().__init__()
        self.ctx_proj = nn.Conv2d(context, 2 * channels, 1)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        scale, shift = self.ctx_proj(context).chunk(2, dim=1)
        normed = F.group_norm(x, 32)
        rows, columns = x.shape[-2] // context.shape[-2], x.shape[-1] // context.shape[-1]
        if rows == columns == 1:
            return torch.addcmul(shift, normed, 1 + scale)
        cells = normed.unflatten(3, (-1, columns)).unflatten(2, (-1, rows))  # (B, C, h, rows, w, columns)
        scale, shift = scale[:, :, :, None, :, None], shift[:, :, :, None, :, None]
        return torch.addcmul(shift, cells, 1 + scale).flatten(4, 5).flatten(2, 3)


class Transformer(nn.Module):
    """Transformer layers between linear maps, around a skip."""

    def __init__(self, channels: int, context: int, layers: int, heads: int, *, wrap: bool):
        super().__init__()
        self.norm = nn.GroupNorm(32, channels)
        self.proj_in, self.proj_out = nn.Linear(channels, channels), nn.Linear(channels, channels)
        self.transformer_blocks = nn.ModuleList(
            TransformerLayer(channels, context, heads, wrap=wrap) for _ in range(layers)
        )

    def forward(self, x: Tensor, context: Tensor, aligned: int) -> tuple[Tensor, Tensor]:
        """Also the tokens, as a picture, after `aligned` layers."""
        grid = x.shape[-2:]
        context = F.interpolate(context, grid) if context.shape[-2:] != grid else context
        context = context.flatten(2).transpose(1, 2)
        h = self.proj_in(self.norm(x).flatten(2).transpose(1, 2))
        features = h
        for number, layer in enumerate(self.transformer_blocks, start=1):
            h = layer(h, context, *grid)
            if number == aligned:
                features = h
        h = self.proj_out(h).transpose(1, 2).unflatten(2, grid)
        return x + h, features.transpose(1, 2).unflatten(2, grid)


class TransformerLayer(Recomputable):
    """Windowed attention and a GEGLU perceptron; the latent scales and shifts the first normalisation."""

    def __init__(self, channels: int, context: int, heads: int, *, wrap: bool):
        super().__init__()
        self.norm1 = AdaLayerNorm(channels, context)
        self.attn1 = Attention(channels, heads)
        self.norm2 = nn.LayerNorm(channels)
        self.ff = GEGLU(channels)
        self.relative_position_bias = RelativePositionBias(heads, wrap=wrap)

    def compute(self, x: Tensor, context: Tensor, height: int, width: int) -> Tensor:
        x = x + self.attn1(self.norm1(x, context), self.relative_position_bias(height, width))
        return x + self.ff(self.norm2(x))


class AdaLayerNorm(nn.Module):
    """LayerNorm whose scale and shift are a linear function of the context of each token."""

    def __init__(self, channels: int, context: int):
        super().__init__()
        self.linear = nn.Linear(context, 2 * channels)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        scale, shift = self.linear(context).chunk(2, dim=-1)
        return torch.addcmul(shift, F.layer_norm(x, x.shape[-1:]), 1 + scale)


class Attention(nn.Module):
    def __init__(self, channels: int, heads: int):
        super().__init__()
        self.heads = heads
        self.to_q, self.to_k, self.to_v = (nn.Linear(channels, channels, bias=False) for _ in range(3))
        self.out_proj = nn.Linear(channels, channels)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        q, k, v = (
            layer(x).unflatten(2, (self.heads, -1)).transpose(1, 2) for layer in (self.to_q, self.to_k, self.to_v)
        )
        seen = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype))
        return self.out_proj(seen.transpose(1, 2).flatten(2))


class GEGLU(nn.Module):
    """A perceptron of four times the width whose hidden layer is gated (Shazeer 2020)."""

    def __init__(self, channels: int):
        super().__init__()
        self.proj_in_act = nn.ModuleDict({"proj": nn.Linear(channels, 8 * channels)})
        self.proj_out = nn.Linear(4 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.proj_in_act["proj"](x).chunk(2, dim=-1)
        return self.proj_out(value * F.gelu(gate))


class RelativePositionBias(nn.Module):
    """What attention adds for a key some rows and columns away from its query, learnt for every offset within the
    window; keys beyond are out of reach. With `wrap`, columns are counted around the circle."""

    def __init__(self, heads: int, *, wrap: bool):
        super().__init__()
        self.wrap = wrap
        self.relative_bias_table = nn.Parameter(torch.zeros(2 * WINDOW - 1, 2 * WINDOW - 1, heads))

    def forward(self, height: int, width: int) -> Tensor:
        """(heads, height·width, height·width), [head, query, key]; the table is indexed by key − query.

        For every query the keys' biases are a shifted window of one picture of offsets: a view of it, whose backward
        pass is a sum of windows, many times faster than that of a lookup for every pair.
        """
        reach = WINDOW - 1
        table = self.relative_bias_table.permute(2, 0, 1)
        table = F.pad(table, (0, 0, height - 1 - reach, height - 1 - reach), value=FAR)
        if self.wrap:  # once around from −width/2, then repeated
            half = width // 2
            ring = F.pad(table, (half - reach, width - half - 1 - reach), value=FAR)
            table = ring[..., (torch.arange(1 - width, width, device=table.device) + half) % width]
        else:
            table = F.pad(table, (width - 1 - reach, width - 1 - reach), value=FAR)
        pairs = table.unfold(1, height, 1).unfold(2, width, 1).flip(1, 2)
        return pairs.reshape(-1, height * width, height * width)


def initialise(module: nn.Module) -> None:
    """Xavier for linear maps, N(0, 0.02²) for convolutions, zero for biases and for the last layer of every residual
    branch, so that blocks start as the identity."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
        elif isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, std=0.02)
        if isinstance(layer, nn.Linear | nn.Conv2d) and layer.bias is not None:
            nn.init.zeros_(layer.bias)
    for layer in module.modules():
        if isinstance(layer, ContextBlock):
            nn.init.zeros_(layer.conv2.weight)
        elif isinstance(layer, GEGLU):
            nn.init.zeros_(layer.proj_out.weight)
