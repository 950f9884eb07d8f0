"""Pictures of a scene: colour, distance, depth and instances for any central camera."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from salticid.geometry import se3
from salticid.geometry.cameras import Camera, pixel_grid
from salticid.geometry.rig import Rig
from salticid.world.scene import Scene, Solids
from salticid.world.shade import colour
from salticid.world.trace import FAR, closest

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

_SIDE = 16
"""Rays are traced in tiles of `_SIDE`² neighbours, which share what they may hit."""
_BATCH = 128
"""Tiles at a time: enough to drown the cost of calling torch, few enough for the cache."""


@dataclass(frozen=True)
class Frame:
    """One picture with its ground truth."""

    rgb: "Float[Tensor, '3 h w']"
    """In [−1, 1]; −1 where not valid."""
    distance: "Float[Tensor, 'h w']"
    """Along the ray of the pixel's centre, m. Infinite for the sky, which is seen (valid) but nowhere; 0 where not
    valid."""
    depth: "Float[Tensor, 'h w']"
    """Along the camera's axis, m: distance · z of the unit ray; negative behind a wide camera; infinite in the sky (of
    the sign of z)."""
    valid: "Bool[Tensor, 'h w']"
    """The camera sees along this pixel."""
    instance: "Int[Tensor, 'h w']"
    """Which body is hit, int64: 1 is the room or the ground; 0 the sky, or not valid. `Scene.bounds` takes these."""


def render(
    scene: Scene,
    camera: Camera,
    pose: "Float[Tensor, '4 4']",
    time: float = 0.0,
    supersample: int = 1,
) -> Frame:
    """Look at `scene` with `camera`, whose camera-to-world pose is `pose`, at `time` (s).

    `supersample`² rays a pixel are averaged for the colour. The other maps are those of the pixel's centre.
    A pure function, bitwise, on the CPU: neither the number of threads nor what else is rendered changes a bit.
    """
    return render_many(scene, [camera], pose[None], time, supersample)[0]


def render_rig(
    scene: Scene, rig: Rig, pose: "Float[Tensor, '4 4']", time: float = 0.0, supersample: int = 1
) -> list[Frame]:
    """What the cameras of a rig see, each from its own centre; `pose` is rig-to-world."""
    return render_many(scene, rig.cameras, se3.compose(pose, rig.poses), time, supersample)


def render_many(
    scene: Scene,
    cameras: Sequence[Camera],
    poses: "Float[Tensor, 'n 4 4'] | Sequence[Tensor]",
    time: float = 0.0,
    supersample: int = 1,
) -> list[Frame]:
    """`render` for several cameras at one moment, faster: the same pictures, bit by bit."""
    solids = scene.at(time)
    views = [camera.rays() for camera in cameras]
    rays = _tiles([rays for rays, _ in views], poses)
    if supersample == 1:
        seen = [_look(scene, solids, part) for part in rays.batches()]
    else:
        fine = _tiles([camera.unproject(_subpixels(camera, supersample))[0] for camera in cameras], poses)
        display = torch.cat([_look(scene, solids, part)[2] for part in fine.batches()], dim=1)
        seen = [(*closest(solids, part.origins, part.rays), part.rays) for part in rays.batches()]
    distance, number = (torch.cat(maps) for maps in list(zip(*seen, strict=True))[:2])
    if supersample == 1:
        display = torch.cat([colours for *_, colours in seen], dim=1)
    missed = distance >= FAR
    instance = scene.body.index_select(0, number.reshape(-1)).reshape(number.shape).add_(1).masked_fill_(missed, 0)
    maps = (
        _join(display, cameras, supersample),
        _join(distance.masked_fill_(missed, torch.inf)[None], cameras),
        _join(instance[None], cameras),
    )
    return [_frame(*parts) for parts in zip(*maps, views, strict=True)]


def _frame(rgb: Tensor, distance: Tensor, instance: Tensor, view: tuple[Tensor, Tensor]) -> Frame:
    rays, valid = view
    distance = distance[0].masked_fill(~valid, 0)
    rgb = rgb.mul(2).sub_(1).masked_fill_(~valid, -1)
    return Frame(rgb, distance, _depth(distance, rays), valid, instance[0].masked_fill(~valid, 0))


def _depth(distance: Tensor, rays: Tensor) -> Tensor:
    """z of the point; for the sky ±∞, without 0·∞."""
    z = rays[..., 2]
    return torch.where(distance.isinf(), distance.copysign(z), distance * z)


@dataclass(frozen=True)
class _Tiles:
    """Rays of any number of cameras in the world's frame, `_SIDE`² neighbours to a tile."""

    origins: "Float[Tensor, 't 3']"
    rays: "Float[Tensor, '3 t s']"
    spread: "Float[Tensor, 't']"
    """Angle between neighbours, rad."""

    def batches(self) -> "Iterator[_Tiles]":
        for start in range(0, len(self.origins), _BATCH):
            part = slice(start, start + _BATCH)
            yield _Tiles(self.origins[part], self.rays[:, part], self.spread[part])


def _tiles(rays_of_cameras: "list[Float[Tensor, 'h w 3']]", poses: Sequence[Tensor] | Tensor) -> _Tiles:
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
    return _Tiles(torch.cat(origins), together, step.square_().sum(0).amax(1).sqrt_())


def _join(tiles: "Float[Tensor, 'c t s']", cameras: Sequence[Camera], supersample: int = 1) -> list[Tensor]:
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


def _look(scene: Scene, solids: Solids, part: _Tiles) -> tuple[Tensor, Tensor, Tensor]:
    distance, number = closest(solids, part.origins, part.rays)
    return distance, number, colour(scene, solids, part.origins, part.rays, distance, number, part.spread)


def _subpixels(camera: Camera, supersample: int) -> "Float[Tensor, 'sh sw 2']":
    """The centres of supersample² parts of every pixel, in pixels of the camera."""
    fine = pixel_grid(camera.height * supersample, camera.width * supersample)
    return (fine + 0.5) / supersample - 0.5
