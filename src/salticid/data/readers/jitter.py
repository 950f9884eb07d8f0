"""Rigs drawn around a nominal one."""

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
    # Equal cameras become one object: its rays are then computed once.
    drawn: dict[Camera, Camera] = {
        camera: replace(camera, fx=camera.fx * focal, fy=camera.fy * focal, xi=camera.xi * xi)
        for camera in set(rig.cameras)
        if isinstance(camera, UCM)
    }
    poses = rig.poses.clone()
    turn = yaw_pitch_roll(*angles.to(poses.dtype).unbind(-1))
    poses[:, :3, :3] = poses[:, :3, :3] @ turn
    return replace(rig, cameras=tuple(drawn[camera] for camera in rig.cameras), poses=poses)


def signed(shape: int | tuple[int, ...], generator: Generator) -> Tensor:
    """Uniform on [−1, 1]."""
    return 2 * torch.rand(shape, generator=generator) - 1
