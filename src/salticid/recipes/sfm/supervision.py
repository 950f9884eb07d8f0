"""Terms that compare with the truth, where a data set has some."""

import torch
import torch.nn.functional as F
from torch import Tensor

from salticid.geometry import se3
from salticid.losses.pixels import masked_mean


def depth_error(depth: Tensor, truth: Tensor, valid: Tensor) -> Tensor:
    """Mean over samples of their mean |ln depth − ln truth| over valid pixels; depth (B, H, W), truth and valid
    (B, 1, h, w)."""
    made = depth[:, None]
    if made.shape[-2:] != truth.shape[-2:]:
        made = F.interpolate(made, truth.shape[-2:], mode="nearest")
    return masked_mean((made.log() - truth.where(valid, 1.0).log()).abs(), valid).mean()


def pose_error(to_source: Tensor, poses: Tensor) -> Tensor:
    """Mean of the angle (rad) and the length (m) of what is left between motions (B, K, 4, 4), target to source, and
    true poses (B, K + 1, 4, 4), source to target, the target's own first."""
    own = to_source[:, : poses.shape[1] - 1]
    left = se3.compose(own, poses[:, 1:])
    return (rotation_angle(left) + torch.linalg.vector_norm(left[..., :3, 3], dim=-1)).mean()


def travel_error(to_source: Tensor, travel: Tensor) -> Tensor:
    """Mean |‖t‖ − distance travelled|, m; travel (B, K)."""
    lengths = torch.linalg.vector_norm(to_source[:, : travel.shape[1], :3, 3], dim=-1)
    return (lengths - travel).abs().mean()


def rotation_angle(pose: Tensor) -> Tensor:
    """Of poses (…, 4, 4), rad."""
    return torch.linalg.vector_norm(se3.matrix_to_axis_angle(pose[..., :3, :3]), dim=-1)
