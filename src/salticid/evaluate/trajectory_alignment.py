"""Bring an estimated camera trajectory into the world of the true one (Umeyama 1991 and simpler ways).

A trajectory is (N, 4, 4), camera → world, in metres; row i of both is the same moment.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from salticid.errors import UserError
from salticid.geometry import se3

if TYPE_CHECKING:
    from jaxtyping import Float, Float64

Kind = Literal["none", "first", "scale", "se3", "sim3"]

STILL = 1e-9
"""A trajectory whose positions differ by less than this share of their size stands still: what is left is round-off."""
UNRELATED = 1e-12
"""A singular value of the covariance below this share of the largest possible one says nothing of the rotation."""


@dataclass(frozen=True)
class Similarity:
    """x ↦ scale · rotation · x + translation."""

    scale: float
    rotation: Float64[Tensor, "3 3"]
    translation: Float64[Tensor, " 3"]
    undetermined: tuple[str, ...] = ()
    """What the positions do not tell, of `scale` and `rotation`; see `fit` for what it is then."""

    def apply(self, poses: Float[Tensor, "n 4 4"]) -> Float64[Tensor, "n 4 4"]:
        """Poses in the new world; rotations stay rotations."""
        poses = poses.double()
        moved = self.scale * poses[:, :3, 3] @ self.rotation.T + self.translation
        return se3.pose(self.rotation @ poses[:, :3, :3], moved)


def fit(estimate: Float[Tensor, "n 4 4"], truth: Float[Tensor, "n 4 4"], kind: Kind = "sim3") -> Similarity:
    """What brings the estimate's world to the true one.

    - `none`: nothing is changed;
    - `first`: the first poses become equal;
    - `scale`: `first`, then the factor ≥ 0 about the first position with the least squared distance of positions;
    - `se3`, `sim3`: the rotation and translation, for `sim3` the scale too, with the least squared distance of
      positions (Umeyama 1991; never a reflection).

    Positions that lie on a line, or at one place, leave a rotation open (for `se3` and `sim3`); among the best ones the
    one is taken that turns the cameras nearest to the true ones, so that the error of positions is still the least and
    nothing is left to chance. Where the estimate stands still no scale is better than another: it is 1. Where the truth
    stands still and the estimate moves, the best scale is 0. Both are told in `undetermined`.

    Raises:
        UserError: the trajectories differ in length, are empty, not (N, 4, 4) or not finite; or `kind` is unknown.
    """
    estimate, truth = checked_pair(estimate, truth)
    if kind in ("se3", "sim3"):
        return _umeyama(estimate, truth, with_scale=kind == "sim3")
    if kind not in ("none", "first", "scale"):
        raise UserError(f"alignment {kind!r}; expected none, first, scale, se3 or sim3")
    start = torch.eye(4).to(truth) if kind == "none" else truth[0] @ se3.inverse(estimate[0])
    if kind != "scale":
        return Similarity(1.0, start[:3, :3], start[:3, 3])
    origin = truth[0, :3, 3]
    ours, theirs = se3.transform(start, estimate[:, :3, 3]) - origin, truth[:, :3, 3] - origin
    still = _still(estimate), _still(truth)
    scale = 1.0 if still[0] else ((ours * theirs).sum() / ours.square().sum()).clamp(min=0).item()
    return Similarity(scale, start[:3, :3], scale * (start[:3, 3] - origin) + origin, ("scale",) if any(still) else ())


def align(
    estimate: Float[Tensor, "n 4 4"], truth: Float[Tensor, "n 4 4"], kind: Kind = "none"
) -> Float64[Tensor, "n 4 4"]:
    """The estimate in the true world; kinds, outcome of degenerate input and errors as in `fit`."""
    return fit(estimate, truth, kind).apply(estimate)


def checked(poses: Tensor, name: str) -> Float64[Tensor, "n 4 4"]:
    """The poses as float64.

    Raises:
        UserError: they are not (N, 4, 4), not finite or none; it says of which trajectory by `name`.
    """
    if poses.ndim != 3 or poses.shape[1:] != (4, 4) or len(poses) == 0:
        raise UserError(f"the {name} trajectory is {tuple(poses.shape)}; expected (N, 4, 4) with at least one pose")
    bad = (~poses.isfinite()).flatten(1).any(dim=1).nonzero()
    if len(bad):
        raise UserError(f"the {name} trajectory: pose {bad[0].item()} is not finite ({len(bad)} such poses)")
    return poses.detach().double()


def checked_pair(estimate: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Both as float64.

    Raises:
        UserError: as in `fit`.
    """
    estimate, truth = checked(estimate, "estimated"), checked(truth, "true")
    if len(estimate) != len(truth):
        raise UserError(
            f"the estimated trajectory has {len(estimate)} poses, the true one {len(truth)}; expected the same moments"
        )
    return estimate, truth


def _still(poses: Tensor) -> bool:
    positions = poses[:, :3, 3]
    return bool((positions - positions[0]).abs().amax() <= STILL * positions.abs().amax())


def _umeyama(estimate: Tensor, truth: Tensor, with_scale: bool) -> Similarity:
    (centre, ours), (goal, theirs) = _centred(estimate), _centred(truth)
    spread = ours.square().sum(), theirs.square().sum()
    u, strength, vh = torch.linalg.svd(theirs.mT @ ours)
    proper = torch.ones_like(strength)
    proper[2] = (u.det() * vh.det()).sign()
    rotation = u @ proper.diag() @ vh
    least = UNRELATED * (spread[0] * spread[1]).sqrt()
    undetermined = []
    # Two directions fix a rotation; with a reflection among the best ones, the weakest direction counts against.
    if (strength[1] + proper[2] * strength[2] <= least).item():
        undetermined.append("rotation")
        axis = u[:, 0] if (strength[0] > least).item() else None
        rotation = _turned_as_cameras(rotation, axis, estimate[:, :3, :3], truth[:, :3, :3])
    scale = 1.0
    if with_scale:
        if min(spread).item() == 0:
            undetermined.insert(0, "scale")
        if spread[0].item() > 0:
            scale = ((strength * proper).sum() / spread[0]).item()
    return Similarity(scale, rotation, goal - scale * rotation @ centre, tuple(undetermined))


def _centred(poses: Tensor) -> tuple[Tensor, Tensor]:
    """Mean position and the positions without it, all 0 where the trajectory stands still."""
    positions = poses[:, :3, 3]
    if _still(poses):
        return positions[0], torch.zeros_like(positions)
    return positions.mean(dim=0), positions - positions.mean(dim=0)


def _turned_as_cameras(rotation: Tensor, axis: Tensor | None, ours: Tensor, theirs: Tensor) -> Tensor:
    """`rotation`, then the turn about `axis` (None: any rotation instead) that brings the cameras' orientations
    (N, 3, 3) nearest to the true ones: the largest Σ trace(theirsᵀ · turn · rotation · ours)."""
    if axis is None:
        return nearest_rotation((theirs @ ours.mT).sum(dim=0))
    a = (theirs @ (rotation @ ours).mT).sum(dim=0)
    skew = torch.stack((a[2, 1] - a[1, 2], a[0, 2] - a[2, 0], a[1, 0] - a[0, 1]))
    angle = torch.atan2(axis @ skew, a.trace() - axis @ a @ axis)
    return se3.axis_angle_to_matrix(angle * axis) @ rotation


def nearest_rotation(matrices: Tensor) -> Tensor:
    """The rotations (…, 3, 3) nearest to matrices in the sum of squares."""
    u, _, vh = torch.linalg.svd(matrices)
    u = torch.cat((u[..., :2], u[..., 2:] * torch.linalg.det(u @ vh).sign()[..., None, None]), dim=-1)
    return u @ vh
