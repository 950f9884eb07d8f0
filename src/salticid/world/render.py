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

_BLOCK = 64
"""Rays are traced in blocks of at most `_BLOCK`² samples: small enough for the cache and for leaving out solids that
are out of sight, large enough to drown the cost of calling torch. Blocks never span cameras, so a picture does not
depend on what else is rendered."""


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
    A pure function, bitwise, on the CPU; it does not depend on the number of threads.
    """
    return _render(scene, scene.at(time), camera, pose, supersample)


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
    """`render` for several cameras at one moment: the same pictures bit by bit, the scene set up once."""
    solids = scene.at(time)
    pairs = zip(cameras, poses, strict=True)
    return [_render(scene, solids, camera, pose, supersample) for camera, pose in pairs]


def _render(scene: Scene, solids: Solids, camera: Camera, pose: Tensor, supersample: int) -> Frame:
    rays, valid = camera.rays()
    fine, _ = (rays, valid) if supersample == 1 else camera.unproject(_subpixels(camera, supersample))
    rgb = torch.empty(3, camera.height, camera.width)
    distance = torch.empty(camera.height, camera.width)
    instance = torch.empty(camera.height, camera.width, dtype=torch.int64)
    rotation, origin = pose[:3, :3].float(), pose[:3, 3].float()
    for rows, columns in _blocks(camera, supersample):
        shape = rows.stop - rows.start, columns.stop - columns.start
        world = _to_world(rotation, rays[rows, columns])
        hit = closest(solids, origin, world)
        distance[rows, columns], instance[rows, columns] = _identify(scene, *hit, shape)
        wide = tuple(slice(s.start * supersample, s.stop * supersample) for s in (rows, columns))
        spread = _spread(fine[wide])
        if supersample > 1:
            world = _to_world(rotation, fine[wide])
            hit = closest(solids, origin, world)
        display = colour(scene, solids, origin, world, *hit, spread)
        rgb[:, rows, columns] = _average(display, shape, supersample)
    rgb = rgb.mul_(2).sub_(1).masked_fill_(~valid, -1)
    distance.masked_fill_(~valid, 0)
    return Frame(rgb, distance, _depth(distance, rays), valid, instance.masked_fill_(~valid, 0))


def _blocks(camera: Camera, supersample: int) -> Iterator[tuple[slice, slice]]:
    side = max(_BLOCK // supersample, 1)
    for top in range(0, camera.height, side):
        for left in range(0, camera.width, side):
            yield slice(top, min(top + side, camera.height)), slice(left, min(left + side, camera.width))


def _subpixels(camera: Camera, supersample: int) -> "Float[Tensor, 'sh sw 2']":
    """The centres of supersample² parts of every pixel, in pixels of the camera."""
    fine = pixel_grid(camera.height * supersample, camera.width * supersample)
    return (fine + 0.5) / supersample - 0.5


def _to_world(rotation: Tensor, rays: "Float[Tensor, 'h w 3']") -> "Float[Tensor, '3 p']":
    return rotation @ rays.reshape(-1, 3).t()


def _spread(rays: "Float[Tensor, 'h w 3']") -> float:
    """Mean angle between vertical neighbours, rad: how far apart the samples of a block lie."""
    if len(rays) < 2:
        return 0.01
    return (rays[1:] - rays[:-1]).square().sum(-1).mean().sqrt().item()


def _identify(scene: Scene, distance: Tensor, number: Tensor, shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Infinite distance and instance 0 for what hits nothing."""
    missed = distance >= FAR
    instance = (scene.body.index_select(0, number) + 1).masked_fill_(missed, 0)
    return distance.masked_fill(missed, torch.inf).reshape(shape), instance.reshape(shape)


def _average(display: "Float[Tensor, '3 p']", shape: tuple[int, int], supersample: int) -> "Float[Tensor, '3 h w']":
    return display.reshape(3, shape[0], supersample, shape[1], supersample).mean((2, 4))


def _depth(distance: Tensor, rays: Tensor) -> Tensor:
    """z of the point; for the sky ±∞, without 0·∞."""
    z = rays[..., 2]
    return torch.where(distance.isinf(), distance.copysign(z), distance * z)
