"""Pictures of a scene: colour, distance, depth and instances for any central camera."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from salticid.geometry import se3
from salticid.geometry.cameras import Camera, pixel_grid
from salticid.geometry.rig import Rig
from salticid.world.scene import Scene, Solids
from salticid.world.shade import colour
from salticid.world.tiles import Tiles, join, tiles
from salticid.world.trace import FAR, closest

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int


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
    time: float | Sequence[float] = 0.0,
    supersample: int = 1,
) -> list[Frame]:
    """`render` for several cameras, at one moment or each at its own, faster: the same pictures, bit by bit."""
    times = list(time) if isinstance(time, Sequence) else [time] * len(cameras)
    moments = {moment: number for number, moment in enumerate(dict.fromkeys(times))}
    numbers = [moments[time] for time in times]
    scene, solids = scene.during(list(moments))
    views = [camera.rays() for camera in cameras]
    rays = tiles([rays for rays, _ in views], poses, numbers)
    if supersample == 1:
        seen = [_look(scene, solids, part) for part in rays.batches()]
        hits = [hit for hit, _ in seen]
    else:
        fine = tiles([camera.unproject(_subpixels(camera, supersample))[0] for camera in cameras], poses, numbers)
        seen = [_look(scene, solids, part) for part in fine.batches()]
        hits = [closest(solids, part.origins, part.rays, part.moments) for part in rays.batches()]
    display = torch.cat([display for _, display in seen], dim=1)
    distance, number = (torch.cat(maps) for maps in zip(*hits, strict=True))
    missed = distance >= FAR
    instance = scene.body.index_select(0, number.reshape(-1)).reshape(number.shape).add_(1).masked_fill_(missed, 0)
    maps = (
        join(display, cameras, supersample),
        join(distance.masked_fill_(missed, torch.inf)[None], cameras),
        join(instance[None], cameras),
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


def _look(scene: Scene, solids: Solids, part: Tiles) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """Distance and solid that rays hit, and the colour there."""
    hit = closest(solids, part.origins, part.rays, part.moments)
    return hit, colour(scene, solids, part.origins, part.rays, *hit, part.spread, part.moments)


def _subpixels(camera: Camera, supersample: int) -> "Float[Tensor, 'sh sw 2']":
    """The centres of supersample² parts of every pixel, in pixels of the camera."""
    fine = pixel_grid(camera.height * supersample, camera.width * supersample)
    return (fine + 0.5) / supersample - 0.5
