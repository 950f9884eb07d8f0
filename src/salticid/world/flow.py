"""Optical flow between two cameras, poses and times, exact and with occlusions."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from salticid.geometry import se3
from salticid.geometry.cameras import Camera, Equirectangular, pixel_grid
from salticid.world.scene import Scene, Solids
from salticid.world.tiles import join, tiles
from salticid.world.trace import FAR, closest

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

_SLACK = 2e-3
"""A point is hidden where something is nearer by this share of its distance, and by this many metres."""


@dataclass(frozen=True)
class Flow:
    """Where the pixels of one picture go in another."""

    flow: "Float[Tensor, 'h w 2']"
    """(x, y) in pixels. In a panorama, x takes the shorter way round."""
    valid: "Bool[Tensor, 'h w']"
    """Camera a sees the point (the sky counts) and it lies inside the image of camera b."""
    occluded: "Bool[Tensor, 'h w']"
    """Valid, but at time b something else, or the other side of the same body, hides the point from camera b."""


def flow(
    scene: Scene,
    camera_a: Camera,
    pose_a: "Float[Tensor, '4 4']",
    time_a: float,
    camera_b: Camera,
    pose_b: "Float[Tensor, '4 4']",
    time_b: float,
) -> Flow:
    """Flow from what `camera_a` sees at `time_a` to where `camera_b` sees the same surface points at `time_b`, with the
    motion of the bodies. Poses are camera to world."""
    rays, valid_a = camera_a.rays()
    world = se3.rotate(pose_a, rays)
    distance, number = _hits(scene.at(time_a), world, pose_a[:3, 3], camera_a)
    sky = distance >= FAR
    points = torch.where(sky, 0.0, distance)[..., None] * world + pose_a[:3, 3]
    moves = scene.motion(time_a, time_b).index_select(0, scene.body).index_select(0, number.reshape(-1))
    points = se3.transform(moves, points.reshape(-1, 3)).reshape(points.shape)

    towards = torch.where(sky[..., None], world, points - pose_b[:3, 3])
    pixels, valid_b = camera_b.project(se3.rotate(se3.inverse(pose_b), towards))
    step = pixels - pixel_grid(camera_a.height, camera_a.width)
    if isinstance(camera_b, Equirectangular):
        step[..., 0] -= camera_b.width * torch.round(step[..., 0] / camera_b.width)
    valid = valid_a & valid_b

    length = torch.linalg.vector_norm(towards, dim=-1)
    nearest, _ = _hits(scene.at(time_b), towards / length[..., None].clamp(min=1e-9), pose_b[:3, 3], camera_a)
    length = torch.where(sky, FAR, length)
    return Flow(step, valid, valid & (nearest < length * (1 - _SLACK) - _SLACK))


def _hits(
    solids: Solids, rays: "Float[Tensor, 'h w 3']", origin: "Float[Tensor, '3']", camera: Camera
) -> "tuple[Float[Tensor, 'h w'], Int[Tensor, 'h w']]":
    """Nearest hits along world rays that are laid out as the pixels of `camera`."""
    parts = tiles([rays], [se3.pose(torch.eye(3), origin)]).batches()
    distance, number = zip(*(closest(solids, part.origins, part.rays) for part in parts), strict=True)
    return join(torch.cat(distance)[None], [camera])[0][0], join(torch.cat(number)[None], [camera])[0][0]


def orbit(
    centre: "Float[Tensor, '3']", radius: float, count: int, elevation: float = 0.0, start: float = 0.0
) -> "Float[Tensor, 'n 4 4']":
    """Camera-to-world poses on a circle around `centre`, all looking at it, evenly spaced to the right.

    Args:
        radius: distance from the centre, m.
        elevation: angle above the horizontal, rad, less than a right angle.
        start: azimuth of the first, rad; 0 looks along +z.
    """
    angles = start + torch.arange(count) * (2 * math.pi / count)
    flat = math.cos(elevation)
    away = torch.stack(
        (-flat * torch.sin(angles), torch.full_like(angles, -math.sin(elevation)), -flat * torch.cos(angles)), -1
    )
    return se3.look_at(centre + radius * away, centre.expand(count, 3))
