"""Small text files beside frames: lists of targets, tables of times, poses."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from salticid.errors import ConfigError, UserError
from salticid.geometry.trajectory_files import read_kitti, read_tum

if TYPE_CHECKING:
    from jaxtyping import Float64
    from torch import Tensor


def read_text(path: Path, key: str) -> str:
    """Raises ConfigError where the file cannot be read."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise ConfigError(f"{key}: {path} cannot be read ({reason})") from None


def read_targets(path: Path, key: str) -> list[tuple[str, int, str]]:
    """Folder, number of the frame and side (l or r) of every line of a list; the side may be missing: l.

    Raises:
        ConfigError: it cannot be read or is empty, or a line, which is named, holds something else.
    """
    targets = []
    for count, line in enumerate(read_text(path, key).splitlines(), 1):
        if not (words := line.split()):
            continue
        folder, number, side = (*words, "l")[:3] if len(words) in (2, 3) else ("", "", "")
        if not number.isdecimal() or side not in ("l", "r", "2", "3"):
            raise ConfigError(f"{key}: line {count} of {path} is {line[:60]!r}; expected FOLDER NUMBER l|r")
        targets.append((folder, int(number), {"2": "l", "3": "r"}.get(side, side)))
    if not targets:
        raise ConfigError(f"{key}: {path} names no frame")
    return targets


def read_times(path: Path) -> tuple[list[float], list[str]]:
    """Times and names of a table of TUM's RGB-D benchmark, `time name` a line, # before comments.

    Raises:
        ConfigError: it cannot be read, or a line, which is named, holds something else or does not come later.
    """
    times: list[float] = []
    names: list[str] = []
    for count, line in enumerate(read_text(path, "data.root").splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        try:
            time, name = float(words[0]), words[1]
        except (ValueError, IndexError):
            raise ConfigError(f"data.root: {path}:{count}: expected a time and a name, got {line[:60]!r}") from None
        if times and time <= times[-1]:
            raise ConfigError(f"data.root: {path}:{count}: the time {time!r} does not come after {times[-1]!r}")
        times.append(time)
        names.append(name)
    return times, names


def read_poses(path: Path, times: dict[int, float]) -> dict[int, Float64[Tensor, "4 4"]]:
    """Camera-to-world poses by the number of the frame, of a trajectory in TUM's format (by `times`, number → s, to
    20 ms), KITTI's (the first line is frame 0, unless lines have numbers), or Open3D's (.log, by the first number above
    each matrix).

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        if path.suffix == ".log":
            return _open3d(path)
        words = next((line.split() for line in read_text(path, "data").splitlines() if line[:1] not in ("#", "")), [])
        if len(words) in (12, 13):
            numbers, poses = read_kitti(path)
            return dict(zip(numbers.tolist(), poses, strict=True))
        stamps, poses = read_tum(path)
    except ConfigError:
        raise
    except UserError as error:
        raise ConfigError(f"data: {error}") from None
    return {number: poses[place] for number, place in nearest(times, stamps.tolist()).items()}


def _open3d(path: Path) -> dict[int, Float64[Tensor, "4 4"]]:
    lines = [line.split() for line in read_text(path, "data").splitlines() if line.strip()]
    try:
        rows = [[float(word) for word in line] for line in lines]
        table = {int(rows[i][0]): torch.tensor(rows[i + 1 : i + 5]).double() for i in range(0, len(rows), 5)}
    except (ValueError, IndexError):
        table = {}
    if not table or any(pose.shape != (4, 4) for pose in table.values()):
        raise ConfigError(f"data: {path} is not a trajectory of Open3D; expected three numbers and 4×4 matrices")
    return table


def nearest(times: dict[int, float], others: list[float], tolerance: float = 0.02) -> dict[int, int]:
    """For every number (of number → time, s) the place of the nearest of `others`, if it is no farther away than
    `tolerance`."""
    if not others or not times:
        return {}
    line = torch.tensor(others, dtype=torch.float64)
    wanted = torch.tensor(list(times.values()), dtype=torch.float64)
    distance, place = (wanted[:, None] - line).abs().min(dim=1)
    found = zip(times, distance.tolist(), place.tolist(), strict=True)
    return {number: place for number, distance, place in found if distance <= tolerance}
