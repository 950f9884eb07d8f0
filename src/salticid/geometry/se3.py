"""Rotations and rigid motions as matrices. Elementwise throughout, so that autocast never halves their precision."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Float


def axis_angle_to_matrix(axis_angle: "Float[Tensor, '*batch 3']") -> "Float[Tensor, '*batch 3 3']":
    """Rotation about `axis_angle` by its length in radians, right-handed (Rodrigues). Smooth at zero."""
    x, y, z = axis_angle.unbind(-1)
    squared = x * x + y * y + z * z
    small = squared < 1e-6
    angle = torch.sqrt(torch.where(small, 1.0, squared))
    # sin θ / θ and (1 − cos θ) / θ²; their series below 1e-3 rad are exact in float64.
    a = torch.where(small, 1 - squared / 6 * (1 - squared / 20), torch.sin(angle) / angle)
    b = torch.where(small, 0.5 - squared / 24 * (1 - squared / 30), 2 * (torch.sin(angle / 2) / angle) ** 2)
    rows = (
        (1 - b * (y * y + z * z), b * x * y - a * z, b * x * z + a * y),
        (b * x * y + a * z, 1 - b * (x * x + z * z), b * y * z - a * x),
        (b * x * z - a * y, b * y * z + a * x, 1 - b * (x * x + y * y)),
    )
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def matrix_to_axis_angle(rotation: "Float[Tensor, '*batch 3 3']") -> "Float[Tensor, '*batch 3']":
    """Inverse of `axis_angle_to_matrix`, with angles in [0, π]."""
    r = rotation
    trace = r[..., 0, 0] + r[..., 1, 1] + r[..., 2, 2]
    # The unit quaternion up to scale, four times over; the best conditioned of the four (Shepperd 1978).
    candidates = torch.stack(
        (
            _stack(
                1 + trace,
                r[..., 2, 1] - r[..., 1, 2],
                r[..., 0, 2] - r[..., 2, 0],
                r[..., 1, 0] - r[..., 0, 1],
            ),
            _stack(
                r[..., 2, 1] - r[..., 1, 2],
                1 + 2 * r[..., 0, 0] - trace,
                r[..., 1, 0] + r[..., 0, 1],
                r[..., 0, 2] + r[..., 2, 0],
            ),
            _stack(
                r[..., 0, 2] - r[..., 2, 0],
                r[..., 1, 0] + r[..., 0, 1],
                1 + 2 * r[..., 1, 1] - trace,
                r[..., 2, 1] + r[..., 1, 2],
            ),
            _stack(
                r[..., 1, 0] - r[..., 0, 1],
                r[..., 0, 2] + r[..., 2, 0],
                r[..., 2, 1] + r[..., 1, 2],
                1 + 2 * r[..., 2, 2] - trace,
            ),
        ),
        dim=-2,
    )
    best = torch.diagonal(candidates, dim1=-2, dim2=-1).argmax(dim=-1)
    quaternion = candidates.gather(-2, best[..., None, None].expand(*best.shape, 1, 4))[..., 0, :]
    quaternion = quaternion / torch.linalg.vector_norm(quaternion, dim=-1, keepdim=True)
    w, vector = quaternion[..., :1], quaternion[..., 1:]
    w, vector = torch.where(w < 0, -w, w), torch.where(w < 0, -vector, vector)
    squared = (vector * vector).sum(dim=-1, keepdim=True)
    small = squared < 1e-14
    sine = torch.sqrt(torch.where(small, 1.0, squared))
    return vector * torch.where(small, 2.0, 2 * torch.atan2(sine, w) / sine)


def _stack(*values: Tensor) -> Tensor:
    return torch.stack(values, dim=-1)


def yaw_pitch_roll(
    yaw: float | Tensor, pitch: float | Tensor = 0.0, roll: float | Tensor = 0.0
) -> "Float[Tensor, '*batch 3 3']":
    """Rotation of a camera, in radians: first roll about its z (clockwise in its image for the camera itself),
    then pitch about x, then yaw about the vertical. Positive yaw turns +z towards +x (right), positive pitch turns
    +z towards −y (up), positive roll turns +x towards +y."""
    angles = torch.broadcast_tensors(*(torch.as_tensor(angle) for angle in (yaw, pitch, roll)))
    (cy, cp, cr), (sy, sp, sr) = (f(torch.stack(angles)).unbind() for f in (torch.cos, torch.sin))
    rows = (
        (cy * cr + sy * sp * sr, sy * sp * cr - cy * sr, sy * cp),
        (cp * sr, cp * cr, -sp),
        (cy * sp * sr - sy * cr, sy * sr + cy * sp * cr, cy * cp),
    )
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def pose(
    rotation: "Float[Tensor, '*batch 3 3']", translation: "Float[Tensor, '*batch 3'] | None" = None
) -> "Float[Tensor, '*batch 4 4']":
    """x ↦ rotation · x + translation, as a 4×4 matrix."""
    if translation is None:
        translation = torch.zeros_like(rotation[..., 0])
    batch = torch.broadcast_shapes(rotation.shape[:-2], translation.shape[:-1])
    top = torch.cat((rotation.expand(*batch, 3, 3), translation[..., None].expand(*batch, 3, 1)), dim=-1)
    last = torch.tensor((0.0, 0.0, 0.0, 1.0), dtype=top.dtype, device=top.device)
    return torch.cat((top, last.expand(*batch, 1, 4)), dim=-2)


def compose(first: "Float[Tensor, '*batch n n']", second: "Float[Tensor, '*batch n n']") -> Tensor:
    """Matrix product, in the precision of its factors even under autocast: apply `second`, then `first`."""
    return (first[..., :, :, None] * second[..., None, :, :]).sum(dim=-2)


def inverse(pose_: "Float[Tensor, '*batch 4 4']") -> "Float[Tensor, '*batch 4 4']":
    """The inverse rigid motion."""
    back = pose_[..., :3, :3].transpose(-1, -2)
    return pose(back, -rotate(back, pose_[..., :3, 3]))


def rotate(
    rotation: "Float[Tensor, '*batch n n']", vectors: "Float[Tensor, '*batch ... 3']"
) -> "Float[Tensor, '*batch ... 3']":
    """Turn vectors by a rotation (3×3) or by the rotation of a pose (4×4). Batch dimensions lead in both."""
    extra = vectors.ndim - rotation.ndim + 1
    r = rotation.reshape(*rotation.shape[:-2], *(1,) * max(extra, 0), *rotation.shape[-2:])
    x, y, z = vectors[..., 0:1], vectors[..., 1:2], vectors[..., 2:3]
    return x * r[..., :3, 0] + y * r[..., :3, 1] + z * r[..., :3, 2]


def transform(pose_: "Float[Tensor, '*batch 4 4']", points: "Float[Tensor, '*batch ... 3']") -> Tensor:
    """Move points by a pose. Batch dimensions lead in both."""
    translation = pose_[..., :3, 3]
    extra = points.ndim - translation.ndim
    return rotate(pose_, points) + translation.reshape(*translation.shape[:-1], *(1,) * max(extra, 0), 3)


def look_at(
    position: "Float[Tensor, '*batch 3']",
    target: "Float[Tensor, '*batch 3']",
    down: tuple[float, float, float] = (0.0, 1.0, 0.0),
) -> "Float[Tensor, '*batch 4 4']":
    """Camera-to-world pose at `position` whose axis goes through `target`; `down` is the world's downward vector,
    which must not be parallel to the axis."""
    z = torch.nn.functional.normalize(target - position, dim=-1)
    x = torch.nn.functional.normalize(torch.linalg.cross(z.new_tensor(down).expand_as(z), z), dim=-1)
    y = torch.linalg.cross(z, x)
    return pose(torch.stack((x, y, z), dim=-1), position)


__all__ = [
    "axis_angle_to_matrix",
    "compose",
    "inverse",
    "look_at",
    "matrix_to_axis_angle",
    "pose",
    "rotate",
    "transform",
    "yaw_pitch_roll",
]
