"""What all data sets of several views share: where cameras stand around an object, and which views and frames a sample
takes.

A sample of such a data set, a grid, is an object that moves, seen by V cameras and one more, the context camera:
    image: uint8 (3, T, V, H, W), RGB: T frames of V views in the order of their azimuths; what is to be made.
    context: uint8 (T, 3, H, W): what the context camera saw, at the same moments.
    reference: uint8 (V, 3, H, W): the V views in the first frame of the film.
    camera: float32 (V, 3): of each view the polar angle (rad from straight above: 90° − elevation), the azimuth (rad in
        [0, 2π), from that of the context camera) and the distance from the object (m, or the data set's unit).
    fps: float32 (), frames per second.
The context camera is none of the V views, unless a data set makes it the last. T = 1 is a still object (SV3D).
In validation, where there is truth:
    intrinsics: float32 (P,), of all views, as in `salticid.data.motion`.
    poses: float32 (V, 4, 4), camera to world, m or the data set's unit.
    depth: float32 (T, V, H, W), z; 0 where not valid.

Azimuths grow counterclockwise as seen from above (as in Blender's world, and Zero-1-to-3's): the camera moves to its
right, the object seems to turn to its left.
"""

import math
from typing import TYPE_CHECKING

import torch
from torch import Generator, Tensor
from torch.nn.functional import normalize

from salticid.geometry import se3

if TYPE_CHECKING:
    from jaxtyping import Float

_STRAIGHT = 1e-5
"""Share of its distance that a camera is beside the vertical at least, for its place alone to have an azimuth."""
_ROUNDING = 1e-5
"""Rad: a camera straight above the context camera has azimuth 0, not a full turn."""
_OPENGL = (1.0, -1.0, -1.0, 1.0)


def orbit_camera(
    poses: "Float[Tensor, 'v 4 4']",
    centre: "Float[Tensor, '3']",
    up: "Float[Tensor, '3']",
    context: "Float[Tensor, '4 4'] | None" = None,
) -> "Float[Tensor, 'v 3']":
    """Polar angle in [0, π], azimuth in [0, 2π) from that of `context` (None: the first pose), and distance from
    `centre` of cameras, by their camera-to-world poses. `up` need not be unit.

    Only where a camera stands counts, not where it looks, unless it is straight above or below the centre: then the
    lower edge of its picture says which azimuth it has come from.
    """
    up = normalize(up, dim=0)
    offset = poses[:, :3, 3] - centre
    height = offset @ up
    distance = torch.linalg.vector_norm(offset, dim=-1)
    beside = torch.linalg.vector_norm(offset - height[:, None] * up, dim=-1)
    start = _heading(poses[:1] if context is None else context[None], centre, up)
    heading = _heading(poses, centre, up)
    left = torch.linalg.cross(up.expand_as(start), start)
    azimuth = torch.atan2((heading * left).sum(-1), (heading * start).sum(-1)).remainder(2 * math.pi)
    azimuth = azimuth.masked_fill(azimuth > 2 * math.pi - _ROUNDING, 0.0)
    return torch.stack((torch.atan2(beside, height), azimuth, distance), dim=-1)


def poses_from_orbit(
    camera: "Float[Tensor, 'v 3']",
    centre: "Float[Tensor, '3']",
    up: "Float[Tensor, '3']",
    towards: "Float[Tensor, '3']",
) -> "Float[Tensor, 'v 4 4']":
    """Camera-to-world poses of upright cameras that look at `centre`: the inverse of `orbit_camera`. Straight above and
    below as well.

    Args:
        camera: polar angle, azimuth, distance.
        towards: where, as seen from the centre, azimuth 0 is; not along `up`.
    """
    up = normalize(up, dim=0)
    start = normalize(towards - (towards @ up) * up, dim=0)
    polar, azimuth, distance = camera[:, :, None].unbind(1)
    left = torch.linalg.cross(up, start)
    heading = torch.cos(azimuth) * start + torch.sin(azimuth) * left
    right = torch.cos(azimuth) * left - torch.sin(azimuth) * start
    out = torch.sin(polar) * heading + torch.cos(polar) * up
    down = torch.cos(polar) * heading - torch.sin(polar) * up
    return se3.pose(torch.stack((right, down, -out), dim=-1), centre + distance * out)


def from_opengl(poses: "Float[Tensor, '*batch 4 4']") -> "Float[Tensor, '*batch 4 4']":
    """Camera-to-world poses of cameras whose y points up and that look along −z (OpenGL, Blender, NeRF), for cameras
    whose y points down and that look along z; and the other way round. The world stays as it is."""
    return poses * poses.new_tensor(_OPENGL)


def _heading(poses: Tensor, centre: Tensor, up: Tensor) -> "Float[Tensor, 'v 3']":
    """Horizontal directions from the centre to cameras."""
    offset = poses[:, :3, 3] - centre
    height = (offset @ up)[:, None]
    flat = offset - height * up
    down = poses[:, :3, 1] * height.sign()
    straight = torch.linalg.vector_norm(flat, dim=-1) < _STRAIGHT * torch.linalg.vector_norm(offset, dim=-1)
    return torch.where(straight[:, None], down - (down @ up)[:, None] * up, flat)


def choose(count: int, wanted: int, generator: Generator | None) -> list[int]:
    """Ascending places of `wanted` of `count` views, drawn, or without a generator spread evenly."""
    if generator is None:
        return [(2 * place + 1) * count // (2 * wanted) for place in range(wanted)]
    return sorted(torch.randperm(count, generator=generator)[:wanted].tolist())


def span(frames: int, stride: int) -> int:
    """How many frames of a film `frames` of them take up, one in `stride`."""
    return (frames - 1) * stride + 1


def window(count: int, frames: int, stride: int, generator: Generator | None) -> range:
    """Numbers of `frames` frames of a film of `count`, one in `stride`. The first is drawn, or else 0."""
    room = count - span(frames, stride) + 1
    start = int(torch.randint(room, (), generator=generator)) if generator else 0
    return range(start, start + span(frames, stride), stride)
