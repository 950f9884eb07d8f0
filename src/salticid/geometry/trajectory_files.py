"""Camera trajectories as text files, in the formats of the TUM RGB-D and the KITTI odometry benchmarks.

TUM: `time x y z qx qy qz qw`, seconds and metres, lines that begin with # are comments. KITTI: the twelve numbers of
the upper three rows of the pose, one frame after the other, or thirteen, with the frame's number first. Poses are
camera → world, (N, 4, 4) float64. A file appears complete or not at all; numbers read back to the same bits in KITTI's
format and to round-off in TUM's, which has quaternions.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from salticid.errors import UserError
from salticid.files import written_aside
from salticid.geometry import se3

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from jaxtyping import Float, Float64, Int64

ROUGH = 0.01
"""How far the length of a quaternion or of a rotation's column may be from 1: files have few digits."""


def read_tum(path: Path) -> tuple[Float64[Tensor, " n"], Float64[Tensor, "n 4 4"]]:
    """Times in seconds, ascending, and poses.

    Raises:
        UserError: the file cannot be read or is empty; or a line, which is named, does not hold eight finite numbers, a
            time after the one before, and a quaternion of length 1.
    """
    rows = list(_numbers(path, (8,)))
    table = torch.tensor([row for _, row in rows], dtype=torch.float64)
    lengths = table[:, 4:].norm(dim=1)
    _refuse(path, rows, (lengths - 1).abs() > ROUGH, "the quaternion (numbers 5 to 8) does not have length 1")
    _refuse_unordered(path, rows, "time")
    return table[:, 0], se3.pose(quaternion_to_matrix(table[:, 4:]), table[:, 1:4])


def read_kitti(path: Path) -> tuple[Int64[Tensor, " n"], Float64[Tensor, "n 4 4"]]:
    """Numbers of the frames, ascending (0, 1, 2, … where the file has none), and poses.

    Raises:
        UserError: the file cannot be read or is empty; or a line, which is named, does not hold twelve finite numbers
            (thirteen, where the first has as many, and then a whole number that is larger than the one before) whose
            matrix is a rotation beside a translation.
    """
    rows = list(_numbers(path, (12, 13)))
    table = torch.tensor([row for _, row in rows], dtype=torch.float64)
    frames = torch.arange(len(rows))
    if table.shape[1] == 13:
        _refuse(path, rows, table[:, 0] != table[:, 0].round(), "the frame's number (the first of 13) is not whole")
        _refuse_unordered(path, rows, "frame's number")
        frames = table[:, 0].long()
    top = table[:, -12:].view(-1, 3, 4)
    rotation = top[:, :, :3]
    off = (rotation @ rotation.mT - torch.eye(3, dtype=torch.float64)).abs().amax(dim=(1, 2))
    improper = (off > 2 * ROUGH) | (torch.linalg.det(rotation) < 0)
    _refuse(path, rows, improper, "the left 3×3 of the 3×4 matrix is not a rotation")
    return frames, se3.pose(rotation, top[:, :, 3])


def write_tum(path: Path, times: Float[Tensor, " n"], poses: Float[Tensor, "n 4 4"]) -> None:
    """Write times, in seconds, and poses.

    Raises:
        UserError: something is not finite, or the file cannot be written.
    """
    poses = poses.detach().double().cpu()
    quaternions = matrix_to_quaternion(poses[:, :3, :3])
    _write(path, torch.cat((times.detach().double().cpu()[:, None], poses[:, :3, 3], quaternions), dim=1).tolist())


def write_kitti(path: Path, poses: Float[Tensor, "n 4 4"], frames: Int64[Tensor, " n"] | None = None) -> None:
    """Write poses.

    Args:
        frames: their numbers, for trajectories with gaps; None: the file has twelve numbers a line.

    Raises:
        UserError: something is not finite, or the file cannot be written.
    """
    rows = poses.detach().double().cpu()[:, :3].flatten(1).tolist()
    if frames is not None:
        rows = [[frame, *row] for frame, row in zip(frames.tolist(), rows, strict=True)]
    _write(path, rows)


def associate(
    times: Float[Tensor, " n"], others: Float[Tensor, " m"], tolerance: float = 0.02
) -> tuple[Int64[Tensor, " k"], Int64[Tensor, " k"]]:
    """Places of the moments that both have: each of `times` beside the nearest of `others`, no more than `tolerance`
    away (0 for frame numbers); where several have the same nearest, the nearest of them alone.

    Args:
        times, others: ascending.

    Raises:
        UserError: they have no moment in common.
    """
    times, others = times.double(), others.double()
    nearest = _nearest(times, others)
    mutual = _nearest(others, times)[nearest] == torch.arange(len(times), device=times.device)
    ours = (mutual & ((others[nearest] - times).abs() <= tolerance)).nonzero()[:, 0]
    if len(ours) == 0:
        raise UserError(
            f"trajectories from {times[0]:.10g} to {times[-1]:.10g} and from {others[0]:.10g} to {others[-1]:.10g} "
            f"have no moment in common; expected some no more than {tolerance:g} apart"
        )
    return ours, nearest[ours]


def _nearest(times: Tensor, others: Tensor) -> Tensor:
    after = torch.searchsorted(others, times).clamp(max=len(others) - 1)
    before = (after - 1).clamp(min=0)
    return torch.where((times - others[before]).abs() <= (others[after] - times).abs(), before, after)


def quaternion_to_matrix(quaternion: Float[Tensor, "*batch 4"]) -> Float[Tensor, "*batch 3 3"]:
    """Rotation of a quaternion (x, y, z, w) of any length but 0."""
    vector, w = (quaternion / quaternion.norm(dim=-1, keepdim=True)).split((3, 1), dim=-1)
    x, y, z = (2 * vector[..., :, None] * vector[..., None, :]).unbind(dim=-2)  # 2 v vᵀ, row by row
    wx, wy, wz = (2 * w * vector).unbind(dim=-1)
    rows = (
        (1 - y[..., 1] - z[..., 2], x[..., 1] - wz, x[..., 2] + wy),
        (x[..., 1] + wz, 1 - x[..., 0] - z[..., 2], y[..., 2] - wx),
        (x[..., 2] - wy, y[..., 2] + wx, 1 - x[..., 0] - y[..., 1]),
    )
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def matrix_to_quaternion(rotation: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 4"]:
    """Quaternion (x, y, z, w) of length 1 with w ≥ 0."""
    half = se3.matrix_to_axis_angle(rotation) / 2
    angle = half.norm(dim=-1, keepdim=True)
    return torch.cat((half * torch.sinc(angle / math.pi), angle.cos().clamp(min=0)), dim=-1)


def _numbers(path: Path, counts: tuple[int, ...]) -> Iterator[tuple[int, list[float]]]:
    """Line numbers, from 1, and the numbers there; comments and empty lines are skipped. All lines have as many
    numbers as the first, one of `counts`."""
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError:
        raise UserError(f"{path}: is not text; expected lines of {_either(counts)} numbers") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None
    found = False
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) not in counts:
            raise UserError(f"{path}:{number}: {len(words)} words; expected {_either(counts)} numbers")
        counts, found = (len(words),), True
        yield number, [_number(path, number, word) for word in words]
    if not found:
        raise UserError(f"{path}: holds no pose; expected lines of {_either(counts)} numbers")


def _number(path: Path, line: int, word: str) -> float:
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError(f"{path}:{line}: {word[:40]!r} is not a finite number")
    return value


def _either(counts: tuple[int, ...]) -> str:
    return " or ".join(map(str, counts))


def _refuse(path: Path, rows: list[tuple[int, list[float]]], wrong: Tensor, why: str) -> None:
    """Raise a UserError at the first line that is `wrong`."""
    if wrong.any():
        raise UserError(f"{path}:{rows[int(wrong.int().argmax())][0]}: {why}")


def _refuse_unordered(path: Path, rows: list[tuple[int, list[float]]], what: str) -> None:
    """Raise a UserError at the first line whose first number is not larger than that of the line before."""
    for (_, (before, *_)), (number, (now, *_)) in pairwise(rows):
        if now <= before:
            raise UserError(f"{path}:{number}: the {what} {now!r} does not come after {before!r} of the line before")


def _write(path: Path, rows: list[list[float]]) -> None:
    if not all(math.isfinite(value) for row in rows for value in row):
        raise UserError(f"{path}: is not written, because the trajectory is not finite")
    text = "".join(" ".join(map(repr, row)) + "\n" for row in rows)
    with written_aside(path) as aside:
        aside.write_text(text, encoding="utf-8")
