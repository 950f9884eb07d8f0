"""Relative pose from a cost volume: how well the features of two frames match under small shifts."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from salticid.nets.blocks import group_norm
from salticid.nets.motion.decoder import Head

STRIDE = 4
GROUPS = 8


class CostVolumePose(nn.Module):
    """Motion between two frames, which sees displacements as such and not colours: correlations of learnt features
    over a window of shifts, beside the rays along which the pixels look, so that one network serves any lens.

    A pose network that sees two frames alone has to learn first to compare them, and at the beginning of
    self-supervised training nothing tells it to; here comparing is built in, as in optical-flow networks (Sun et al.
    2018, PWC-Net). GroupNorm: nothing depends on the batch.

    Args:
        radius: of the window, in feature pixels (four of the picture): 4 sees motion up to 16 pixels.
        width: channels.
        scale: what rotation and translation are multiplied by.
    """

    def __init__(self, radius: int = 4, width: int = 64, scale: float = 0.01):
        super().__init__()
        self.radius, self.scale = radius, scale
        self.features = nn.Sequential(_block(3, width // 2, 2), _block(width // 2, width, 2), _block(width, width, 1))
        correlations = (2 * radius + 1) ** 2
        self.motion = nn.Sequential(
            _block(correlations + 3, 2 * width, 1),
            _block(2 * width, 2 * width, 2),
            _block(2 * width, 2 * width, 2),
            _block(2 * width, 4 * width, 2),
        )
        self.last = Head(4 * width, 6, 1)

    def forward(self, first: Tensor, second: Tensor, rays: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Frames (B, 3, H, W) in [0, 1] and rays (B, 3, H, W) → axis-angle in radians and translation, both (B, 3),
        and the last map (B, C, h, w)."""
        a, b = (self.features((x - 0.45) / 0.225) for x in (first, second))
        volume = correlate(a, b, self.radius)
        rays = F.interpolate(rays, volume.shape[-2:], mode="bilinear", antialias=True)
        x = self.motion(torch.cat([volume, rays.to(volume.dtype)], dim=1))
        pose = self.scale * self.last(x).mean(dim=(2, 3))
        return pose[:, :3], pose[:, 3:], x


def correlate(a: Tensor, b: Tensor, radius: int) -> Tensor:
    """Cosines of features (B, C, h, w): channel (dy + r)(2r + 1) + dx + r compares pixel p of `a` with p + (dx, dy) of
    `b`; 0 beyond the border."""
    a, b = F.normalize(a, dim=1), F.normalize(b, dim=1)
    height, width = a.shape[-2:]
    padded = F.pad(b, (radius,) * 4)
    shifts = range(2 * radius + 1)
    return torch.stack(
        [(a * padded[..., dy : dy + height, dx : dx + width]).sum(dim=1) for dy in shifts for dx in shifts], dim=1
    )


def _block(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
    return nn.Sequential(convolution, group_norm(outputs, GROUPS), nn.SiLU(inplace=True))
