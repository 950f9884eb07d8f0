"""Relative pose from a cost volume: where the features of one frame are found in the other."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from salticid.nets.blocks import group_norm
from salticid.nets.motion.decoder import Head

GROUPS = 8
SHARPNESS = 20.0
"""At first, of the matches: what cosines are multiplied by."""
TILE = 8
"""Pixels of a side."""


class CostVolumePose(nn.Module):
    """Motion between two frames, which sees displacements as such and not colours: how far each feature has moved, and
    how surely, beside the ray along which its pixel looks, so that one network serves any lens.

    A pose network that sees two frames alone has to learn first to compare them, and at the beginning of
    self-supervised training nothing tells it to. Here features of half the resolution are correlated over a window of
    shifts, as in optical-flow networks (Sun et al. 2018, PWC-Net), and the expected shift is taken (soft argmax,
    Kendall et al. 2017), which tells fractions of a pixel even of features that nobody has trained yet. GroupNorm:
    nothing depends on the batch.

    Args:
        radius: of the window, in features (two pixels of the picture).
        width: channels.
        scale: what rotation and translation are multiplied by.
    """

    def __init__(self, radius: int = 4, width: int = 32, scale: float = 0.01):
        super().__init__()
        self.radius, self.scale = radius, scale
        self.features = nn.Sequential(_block(3, width // 2, 2), _block(width // 2, width, 1))
        self.sharpness = nn.Parameter(torch.tensor([math.log(SHARPNESS)]))
        self.motion = nn.Sequential(
            _block(2 + 1 + 3, 2 * width, 2), _block(2 * width, 2 * width, 2), _block(2 * width, 4 * width, 2)
        )
        self.last = Head(4 * width, 6, 1)

    def forward(self, first: Tensor, second: Tensor, rays: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Frames (B, 3, H, W) in [0, 1] and rays (B, 3, H, W) → axis-angle in radians and translation, both (B, 3),
        and the last map (B, C, h, w)."""
        a, b = (self.features((x - 0.45) / 0.225) for x in (first, second))
        moved = displacement(correlate(a, b, self.radius), self.sharpness.exp())
        rays = F.interpolate(rays, moved.shape[-2:], mode="bilinear", antialias=True)
        x = self.motion(torch.cat([moved, rays.to(moved.dtype)], dim=1))
        pose = self.scale * self.last(x).mean(dim=(2, 3))
        return pose[:, :3], pose[:, 3:], x


def correlate(a: Tensor, b: Tensor, radius: int) -> Tensor:
    """Cosines of features (B, C, h, w): channel (dy + r)(2r + 1) + dx + r compares pixel p of `a` with p + (dx, dy) of
    `b`; 0 beyond the border.

    Tiles of `a` are multiplied, as matrices, with all that the window shows of `b` around them. That computes about
    three times the products that are kept, and takes a small part of the time of one product after another."""
    height, width = a.shape[-2:]
    below, right = -height % TILE, -width % TILE
    around = TILE + 2 * radius
    tiles = _tiles(F.pad(F.normalize(a, dim=1), (0, right, 0, below)), TILE)
    windows = _tiles(F.pad(F.normalize(b, dim=1), (radius, radius + right, radius, radius + below)), around)
    products = tiles.mT @ windows  # (B, rows, columns, TILE², around²)
    # In the row of a tile's pixel (y, x) the shift (dy, dx) is found at (y + dy) · around + x + dx.
    side, row = 2 * radius + 1, around**2
    strides = (*products.stride()[:3], TILE * row + around, row + 1, around, 1)
    kept = products.contiguous().as_strided((*products.shape[:3], TILE, TILE, side, side), strides)
    volume = kept.permute(0, 5, 6, 1, 3, 2, 4).flatten(5, 6).flatten(3, 4).flatten(1, 2)
    return volume[..., :height, :width]


def _tiles(image: Tensor, size: int) -> Tensor:
    """Squares of `size` pixels, a `TILE` apart: (B, C, H, W) → (B, rows, columns, C, size²)."""
    squares = image.unfold(2, size, TILE).unfold(3, size, TILE)
    return squares.permute(0, 2, 3, 1, 4, 5).flatten(-2)


def displacement(volume: Tensor, sharpness: Tensor) -> Tensor:
    """Of cosines ((2r + 1)² channels, as `correlate` makes them): the expected shift x and y, pixels, under the softmax
    of `sharpness` times them, and the likelihood of the likeliest shift: (B, 3, h, w), float32."""
    likelihood = (volume.float() * sharpness.float()).softmax(dim=1)
    side = math.isqrt(volume.shape[1])
    shift = torch.arange(side, device=volume.device, dtype=torch.float32) - side // 2
    square = likelihood.unflatten(1, (side, side))
    x = (square.sum(dim=1) * shift[:, None, None]).sum(dim=1)
    y = (square.sum(dim=2) * shift[:, None, None]).sum(dim=1)
    return torch.stack([x, y, likelihood.amax(dim=1)], dim=1)


def _block(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
    return nn.Sequential(convolution, group_norm(outputs, GROUPS), nn.SiLU(inplace=True))
