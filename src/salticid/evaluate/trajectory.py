"""How far an estimated camera trajectory is from the true one.

A trajectory is (N, 4, 4), camera → world, in metres; row i of both is the same moment. All is computed in float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from salticid.errors import UserError
from salticid.evaluate.trajectory_alignment import Kind, align, checked_pair, nearest_rotation
from salticid.geometry import se3

if TYPE_CHECKING:
    from jaxtyping import Float, Float64

SEGMENTS = 100, 200, 300, 400, 500, 600, 700, 800
"""Metres: the lengths of KITTI's odometry benchmark."""
SEGMENT_EVERY = 10
"""Frames from the start of one segment to that of the next there."""


def chain(relative: Float[Tensor, "n 4 4"], start: Float[Tensor, "4 4"] | None = None) -> Float64[Tensor, "n+1 4 4"]:
    """The trajectory of steps, row i of which maps camera i + 1 to camera i.

    Rotations are brought to the nearest true ones first, so that float32 steps do not grow over a long sequence.

    Args:
        start: pose of the first camera; None: the world is the first camera's.
    """
    steps = se3.pose(nearest_rotation(relative[:, :3, :3].double()), relative[:, :3, 3].double())
    first = torch.eye(4, dtype=torch.float64, device=relative.device) if start is None else start.to(steps)
    poses = [first]
    for step in steps:
        poses.append(poses[-1] @ step)
    return torch.stack(poses)


def steps_of(poses: Float[Tensor, "n 4 4"], delta: int = 1) -> Float64[Tensor, "m 4 4"]:
    """Row i maps camera i + `delta` (at least 1) to camera i; N − `delta` of them. `chain` undoes it for 1."""
    poses = poses.double()
    return se3.inverse(poses[:-delta]) @ poses[delta:]


def ate(estimate: Float[Tensor, "n 4 4"], truth: Float[Tensor, "n 4 4"], kind: Kind = "sim3") -> float:
    """Absolute trajectory error after alignment: √(mean squared distance of positions), metres (Sturm et al. 2012).

    `sim3` for estimates of unknown scale, `se3` for metric ones.

    Raises:
        UserError: as in `fit`.
    """
    return (align(estimate, truth, kind) - truth)[:, :3, 3].square().sum(dim=1).mean().sqrt().item()


def snippet_errors(
    estimate: Float[Tensor, "n 4 4"],
    truth: Float[Tensor, "n 4 4"],
    length: int = 5,
    definition: Literal["monodepth2", "positions"] = "monodepth2",
) -> Float64[Tensor, " n-1"]:
    """Trajectory error of the snippet that starts at each frame but the last, metres; papers give mean and deviation.

    A snippet has `length` positions, fewer at the tail (down to 2), and starts at the origin. Its own factor, by least
    squares, scales the estimate; the factor may be negative, so that a snippet that is driven backwards counts as
    good, and is 0 where the estimate stands still. The error is ‖positions − true positions‖ / length: *not* / √length.

    Args:
        definition: `monodepth2` (and SfMLearner): the n-th position is the translation of M₁ M₂ … Mₙ, where Mᵢ maps
            camera i − 1 to camera i. No camera is there (that would be M₁⁻¹ M₂⁻¹ … Mₙ⁻¹), but the published numbers
            are of this. `positions`: the camera's places in the first camera's frame.

    Raises:
        UserError: as in `fit`; or `length` is below 2.
    """
    if length < 2:
        raise UserError(f"snippets of {length}; expected at least 2 frames")
    estimate, truth = checked_pair(estimate, truth)
    ours, theirs = (_snippets(poses, length, definition) for poses in (estimate, truth))
    energy = ours.square().sum(dim=(1, 2))
    scale = torch.where(energy > 0, (ours * theirs).sum(dim=(1, 2)) / torch.where(energy > 0, energy, 1.0), 0.0)
    frames = torch.arange(len(truth), 1, -1, device=truth.device).clamp(max=length)
    return (scale[:, None, None] * ours - theirs).square().sum(dim=(1, 2)).sqrt() / frames


def _snippets(poses: Tensor, length: int, definition: str) -> Tensor:
    """Positions (N − 1, length, 3) of the snippets; what lies beyond the end is 0."""
    motions = steps_of(poses)
    if definition == "monodepth2":
        motions = se3.inverse(motions)
    reached = torch.eye(4).to(motions).expand(len(motions), 4, 4)
    places = [reached[:, :3, 3]]
    for step in range(length - 1):
        # Snippet i goes on by motion i + step; those without one are over.
        reached = reached[: max(len(motions) - step, 0)] @ motions[step:]
        places.append(torch.nn.functional.pad(reached[:, :3, 3], (0, 0, 0, len(motions) - len(reached))))
    return torch.stack(places, dim=1)


@dataclass(frozen=True)
class MotionErrors:
    """Errors of motions, one a row."""

    translation: Float64[Tensor, " m"]
    """Metres."""
    rotation: Float64[Tensor, " m"]
    """Radians, 0 to π."""

    @property
    def rmse(self) -> tuple[float, float, float]:
        """√mean of squares: metres, radians, degrees."""
        metres, radians = (values.square().mean().sqrt() for values in (self.translation, self.rotation))
        return metres.item(), radians.item(), radians.rad2deg().item()


def rpe(estimate: Float[Tensor, "n 4 4"], truth: Float[Tensor, "n 4 4"], delta: int = 1) -> MotionErrors:
    """Relative pose error over steps of `delta` frames, N − `delta` of them (Sturm et al. 2012).

    Of an alignment only the scale matters here: pass `align(estimate, truth, "sim3")` where that is unknown.

    Raises:
        UserError: as in `fit`; or there is no such step.
    """
    estimate, truth = checked_pair(estimate, truth)
    if not 1 <= delta < len(truth):
        raise UserError(
            f"relative pose error over {delta} frames; the trajectory of {len(truth)} poses has no such step"
        )
    return _difference(steps_of(estimate, delta), steps_of(truth, delta))


@dataclass(frozen=True)
class Drift:
    """Errors over segments of KITTI's odometry benchmark, one a row. Without any, both means are NaN."""

    length: Float64[Tensor, " s"]
    """Metres: which of `SEGMENTS`."""
    errors: MotionErrors

    @property
    def percent(self) -> float:
        """Mean error of translation, % of the length."""
        return 100 * (self.errors.translation / self.length).mean().item()

    @property
    def degrees_per_100m(self) -> float:
        """Mean error of rotation."""
        return 100 * (self.errors.rotation.rad2deg() / self.length).mean().item()


def drift(estimate: Float[Tensor, "n 4 4"], truth: Float[Tensor, "n 4 4"]) -> Drift:
    """KITTI's odometry errors (Geiger et al. 2012): from every 10th frame, over 100, 200, … 800 m of the true way, to
    the first frame beyond that. Of an alignment only the scale matters.

    Raises:
        UserError: as in `fit`.
    """
    estimate, truth = checked_pair(estimate, truth)
    way = torch.cat((truth.new_zeros(1), truth[:, :3, 3].diff(dim=0).norm(dim=1).cumsum(0)))
    starts = torch.arange(0, len(truth), SEGMENT_EVERY, device=truth.device)
    lengths = torch.tensor(SEGMENTS).to(truth)
    ends = torch.searchsorted(way, way[starts, None] + lengths, right=True)
    start, which = (ends < len(truth)).nonzero(as_tuple=True)
    first, last = starts[start], ends[start, which]
    ours, theirs = (se3.inverse(poses[first]) @ poses[last] for poses in (estimate, truth))
    return Drift(lengths[which], _difference(ours, theirs))


def direction_errors(
    estimate: Float[Tensor, "m 4 4"], truth: Float[Tensor, "m 4 4"], still: float = 0.0
) -> Float64[Tensor, " m"]:
    """Angle between translations of motions, radians, 0 to π: an error that needs no scale.

    NaN where the truth moves by `still` metres or less: it has no direction. Where it moves and the estimate does not
    at all, π/2, as a random direction has on average.

    Args:
        estimate, truth: motions of pairs, e.g. `steps_of` trajectories or a sample's poses.
    """
    ours, theirs = estimate[:, :3, 3].double(), truth[:, :3, 3].double()
    angle = torch.atan2(torch.linalg.cross(ours, theirs).norm(dim=1), (ours * theirs).sum(dim=1))
    angle = torch.where(ours.norm(dim=1) > 0, angle, torch.pi / 2)
    return torch.where(theirs.norm(dim=1) > still, angle, torch.nan)


def rotation_errors(estimate: Float[Tensor, "m 4 4"], truth: Float[Tensor, "m 4 4"]) -> Float64[Tensor, " m"]:
    """Angle of the rotation from one motion to the other, radians, 0 to π. The identity as the estimate gives the size
    of the true rotations."""
    return _angle(estimate[:, :3, :3].double().mT @ truth[:, :3, :3].double())


def _difference(ours: Tensor, theirs: Tensor) -> MotionErrors:
    # ‖translation of ours⁻¹ · theirs‖ is the distance of the two translations.
    return MotionErrors((ours - theirs)[:, :3, 3].norm(dim=1), rotation_errors(ours, theirs))


def _angle(rotations: Tensor) -> Tensor:
    return se3.matrix_to_axis_angle(rotations).norm(dim=-1)
