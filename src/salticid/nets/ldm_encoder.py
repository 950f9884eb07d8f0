"""The KL encoder of latent diffusion (Rombach et al. 2022), in the sizes and with the parameter names of SSDD."""

import math

import torch.nn.functional as F
from torch import Tensor, nn

from salticid.nets.blocks import Recomputable
from salticid.nets.kl_encoder import DiagonalGaussian

GROUPS, EPSILON = 32, 1e-6
"""Of every normalisation in the encoder."""


class LDMEncoder(nn.Module):
    """Images (B, 3, H, W) in [−1, 1] → Gaussian over latents (B, channels, H/f, W/f), not scaled.

    Widths are 128, 256 and then 512 at every level; two residual blocks a level, attention at the lowest. With four
    channels: 34,163,664 parameters for f = 8, 45,966,800 for 16, 57,769,936 for 32.
    """

    def __init__(self, downsampling: int = 8, channels: int = 4):
        super().__init__()
        self.downsampling = downsampling
        widths = [128, 256] + [512] * (int(math.log2(downsampling)) - 1)
        self.conv_in = nn.Conv2d(3, widths[0], 3, padding=1)
        inputs = [widths[0], *widths[:-1]]
        last = len(widths) - 1
        self.down = nn.ModuleList(
            Level(before, width, shrink=i < last) for i, (before, width) in enumerate(zip(inputs, widths, strict=True))
        )
        self.mid = Middle(widths[-1])
        self.norm_out = norm(widths[-1])
        self.conv_out = nn.Conv2d(widths[-1], 2 * channels, 3, padding=1)
        self.out_proj = nn.Conv2d(2 * channels, 2 * channels, 1)

    def forward(self, images: Tensor) -> DiagonalGaussian:
        h = self.conv_in(images)
        for level in self.down:
            h = level(h)
        h = self.conv_out(F.silu(self.norm_out(self.mid(h))))
        mean, log_variance = self.out_proj(h).float().chunk(2, dim=1)
        return DiagonalGaussian(mean, log_variance.clamp(-30.0, 20.0))


class Level(nn.Module):
    """Two residual blocks, then a convolution of stride 2 where the level is not the last."""

    def __init__(self, inputs: int, outputs: int, *, shrink: bool):
        super().__init__()
        self.block = nn.ModuleList([EncoderBlock(inputs, outputs), EncoderBlock(outputs, outputs)])
        self.downsample = Downsample(outputs) if shrink else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        for block in self.block:
            x = block(x)
        return self.downsample(x)


class Downsample(nn.Module):
    """Stride 2, padded on the right and at the bottom alone, as latent diffusion does."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Middle(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.block_1 = EncoderBlock(channels, channels)
        self.attn_1 = PixelAttention(channels)
        self.block_2 = EncoderBlock(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.block_2(self.attn_1(self.block_1(x)))


class EncoderBlock(Recomputable):
    """GroupNorm → SiLU → conv, twice, around a skip."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.norm1, self.conv1 = norm(inputs), nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm2, self.conv2 = norm(outputs), nn.Conv2d(outputs, outputs, 3, padding=1)
        if inputs != outputs:
            self.nin_shortcut = nn.Conv2d(inputs, outputs, 1)

    def compute(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return h + (self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x)


class PixelAttention(nn.Module):
    """Every position attends to every other, with one head."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = norm(channels)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(channels, channels, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        q, k, v = (layer(h).flatten(2).transpose(1, 2)[:, None] for layer in (self.q, self.k, self.v))
        seen = F.scaled_dot_product_attention(q, k, v)[:, 0].transpose(1, 2).unflatten(2, x.shape[-2:])
        return x + self.proj_out(seen)


def norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(GROUPS, channels, eps=EPSILON)
