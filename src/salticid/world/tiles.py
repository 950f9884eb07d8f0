"""Rays of any number of cameras, cut into tiles of neighbours that share what they may hit."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from salticid.geometry.cameras import Camera

if TYPE_CHECKING:
    from jaxtyping import Float, Int

_SIDE = 8
"""A tile has `_SIDE`² rays."""
_BATCH = 512
"""Tiles at a time: enough to drown the cost of calling torch, few enough for the cache."""

# glibc gives freed memory back to the kernel above a threshold that follows the largest block ever freed, up to 32 MiB.
# Without this block, which is never touched, page faults cost as much as all arithmetic below.
torch.empty(31 << 20, dtype=torch.uint8)


@dataclass(frozen=True)
class Tiles:
    """Rays of any number of cameras in the world's frame, `_SIDE`² neighbours to a tile."""

    origins: "Float[Tensor, 't 3']"
    rays: "Float[Tensor, '3 t s']"
    spread: "Float[Tensor, 't']"
    """Angle between neighbours, rad."""
    moments: "Int[Tensor, 't']"
    """At which of several moments they look."""

    def batches(self) -> "Iterator[Tiles]":
        for start in range(0, len(self.origins), _BATCH):
            part = slice(start, start + _BATCH)
            yield Tiles(self.origins[part], self.rays[:, part], self.spread[part], self.moments[part])


def tiles(
    rays_of_cameras: "list[Float[Tensor, 'h w 3']]",
    poses: Sequence[Tensor] | Tensor,
    moments: Sequence[int] | None = None,
) -> Tiles:
    origins, tiles = [], []
    for rays, pose in zip(rays_of_cameras, poses, strict=True):
        height, width = (-(-size // _SIDE) * _SIDE for size in rays.shape[:2])
        if (height, width) != rays.shape[:2]:  # whole tiles: the last row and column are repeated
            rays = rays[torch.arange(height).clamp(max=rays.shape[0] - 1)]
            rays = rays[:, torch.arange(width).clamp(max=rays.shape[1] - 1)]
        tile = rays.reshape(height // _SIDE, _SIDE, width // _SIDE, _SIDE, 3).permute(4, 0, 2, 1, 3)
        tile = pose[:3, :3].float() @ tile.reshape(3, -1)
        tiles.append(tile.reshape(3, -1, _SIDE * _SIDE))
        origins.append(pose[:3, 3].float().expand(tiles[-1].shape[1], 3))
    together = torch.cat(tiles, dim=1)
    step = together[..., _SIDE:] - together[..., :-_SIDE]
    spread = step.square_().sum(0).amax(1).sqrt_()
    counts = torch.tensor([len(origin) for origin in origins])
    return Tiles(
        torch.cat(origins), together, spread, torch.tensor(moments or [0] * len(origins)).repeat_interleave(counts)
    )


def join(tiles: "Float[Tensor, 'c t s']", cameras: Sequence[Camera], supersample: int = 1) -> list[Tensor]:
    """Tiles back to the (c, h, w) images of the cameras; subpixels are averaged."""
    images, start = [], 0
    for camera in cameras:
        height, width = camera.height * supersample, camera.width * supersample
        down, across = -(-height // _SIDE), -(-width // _SIDE)
        part = tiles[:, start : start + down * across].reshape(-1, down, across, _SIDE, _SIDE)
        start += down * across
        image = part.transpose(2, 3).reshape(-1, down * _SIDE, across * _SIDE)[:, :height, :width]
        if supersample > 1:
            image = image.reshape(-1, camera.height, supersample, camera.width, supersample).mean((2, 4))
        images.append(image)
    return images
