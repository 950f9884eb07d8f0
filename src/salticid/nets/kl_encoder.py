"""A small convolutional encoder to a diagonal Gaussian latent, shared by all views of a rig."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from salticid.nets.blocks import Conv, ResBlock, group_norm


@dataclass(frozen=True)
class DiagonalGaussian:
    """N(mean, exp(log_variance)) per latent element (Kingma & Welling 2014)."""

    mean: Tensor
    log_variance: Tensor

    def sample(self, noise: Tensor) -> Tensor:
        """The reparameterised sample for standard normal `noise` of the mean's shape."""
        return self.mean + (0.5 * self.log_variance).exp() * noise

    def kl(self) -> Tensor:
        """KL divergence to N(0, 1) in nats, summed over all but the first dimension: (B,)."""
        mean, log_variance = self.mean.float(), self.log_variance.float()
        return 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).flatten(1).sum(1)


class KLEncoder(nn.Module):
    """Images (B, 3, H, W) in [−1, 1] → Gaussian over latents (B, channels, H/2ⁿ, W/2ⁿ), n = len(widths)."""

    def __init__(self, widths: Sequence[int] = (32, 64, 96), channels: int = 4):
        super().__init__()
        self.downsampling = 2 ** len(widths)
        stages: list[nn.Module] = []
        inputs = 3
        for width in widths:
            stages += [nn.Conv2d(inputs, width, 4, stride=2, padding=1), ResBlock(width, width)]
            inputs = width
        self.body = nn.Sequential(*stages)
        self.head = nn.Sequential(group_norm(inputs), nn.SiLU(), Conv(inputs, 2 * channels))

    def forward(self, images: Tensor) -> DiagonalGaussian:
        mean, log_variance = self.head(self.body(images)).float().chunk(2, dim=1)
        return DiagonalGaussian(mean, torch.clamp(log_variance, -20.0, 5.0))
