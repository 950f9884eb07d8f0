"""Rigs drawn around a nominal one."""

import itertools
import math
from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor

from salticid.geometry.cameras import UCM, Camera
from salticid.geometry.rig import Rig
from salticid.geometry.se3 import yaw_pitch_roll


@dataclass(frozen=True)
class RigJitter:
    """How much the cameras of a training sample differ from the nominal rig. Poses and intrinsics in the sample
    are the jittered ones, so a model that looks at them is told the truth."""

    xi: float = 0.0
    """ξ is multiplied by a factor drawn uniformly from [1 − xi, 1 + xi]; below 1."""
    focal: float = 0.0
    """The focal length is multiplied by a factor drawn log-uniformly from [1/(1 + focal), 1 + focal]."""
    rotation: float = 0.0
    """Degrees: every view is turned by independent yaw, pitch and roll drawn uniformly from ± this."""


def jittered(rig: Rig, jitter: RigJitter, generator: Generator) -> Rig:
    """The rig of UCM cameras with others drawn around them; the factors are shared by all views of a sample."""
    xi = 1 + jitter.xi * float(signed(1, generator))
    focal = (1 + jitter.focal) ** float(signed(1, generator))
    angles = signed((len(rig.cameras), 3), generator) * math.radians(jitter.rotation)
    return altered(rig, xi, focal, angles)


def extremes(rig: Rig, jitter: RigJitter) -> list[Rig]:
    """The rigs that see least of the sphere among those that `jittered` may draw.

    The longest focal length always sees least. A larger ξ bends more into the image, but above 1 it narrows the image
    circle: the smallest and the largest are both there. Of the rotations: all views pitched up, which opens a gap
    below; neighbours yawed apart besides; and rolled besides.
    """
    xi_factors = sorted({1 - jitter.xi, 1 + jitter.xi})
    turns = [torch.zeros(len(rig), 3)]
    if jitter.rotation:
        full = math.radians(jitter.rotation)
        side = 1.0 - 2.0 * (torch.arange(len(rig)) % 2)
        # Beyond these angles the gaps close again.
        yaw, pitch = min(full, math.pi / len(rig)) * side, torch.full_like(side, min(full, math.pi / 2))
        still = torch.zeros_like(side)
        cases = (still, pitch, still), (yaw, pitch, still), (yaw, pitch, full * side)
        turns = [torch.stack(case, dim=-1) for case in cases]
    return [altered(rig, xi, 1 + jitter.focal, turn) for xi, turn in itertools.product(xi_factors, turns)]


def altered(rig: Rig, xi: float, focal: float, angles: Tensor) -> Rig:
    """The rig of UCM cameras with ξ and focal lengths multiplied by factors and every view turned by its `angles`
    (n, 3): yaw, pitch and roll in radians."""
    # Equal cameras become one object: its rays are then computed once.
    changed: dict[Camera, Camera] = {
        camera: replace(camera, fx=camera.fx * focal, fy=camera.fy * focal, xi=camera.xi * xi)
        for camera in set(rig.cameras)
        if isinstance(camera, UCM)
    }
    poses = rig.poses.clone()
    turn = yaw_pitch_roll(*angles.to(poses.dtype).unbind(-1))
    poses[:, :3, :3] = poses[:, :3, :3] @ turn
    return replace(rig, cameras=tuple(changed[camera] for camera in rig.cameras), poses=poses)


def signed(shape: int | tuple[int, ...], generator: Generator) -> Tensor:
    """Uniform on [−1, 1]."""
    return 2 * torch.rand(shape, generator=generator) - 1
