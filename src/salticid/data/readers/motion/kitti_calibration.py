"""KITTI's files beside the pictures: calibrations, laser scans, and the speed of the car (Geiger et al. 2013)."""

from __future__ import annotations

from datetime import datetime
from itertools import accumulate, pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from salticid.data.readers.depth.decode import decoding
from salticid.data.readers.motion.film import check_lens
from salticid.data.readers.motion.tables import read_text
from salticid.errors import ConfigError
from salticid.geometry.cameras import Pinhole

if TYPE_CHECKING:
    from jaxtyping import Float, Float32

_SPEEDS = slice(8, 11)
"""Of the numbers of an OXTS record: speed forward, to the left and up, m/s."""


def read_calibration(path: Path) -> dict[str, list[float]]:
    """The lists of numbers of a calibration file, by name; lines that hold something else (a date) are left out.

    Raises:
        ConfigError: it cannot be read.
    """
    values = {}
    for line in read_text(path, "data.root").splitlines():
        name, colon, numbers = line.partition(":")
        try:
            values[name.strip()] = [float(number) for number in numbers.split()]
        except ValueError:
            continue
        if not colon:
            raise ConfigError(f"data.root: {path}: {line[:40]!r} is not NAME: NUMBERS")
    return values


def matrix(values: dict[str, list[float]], name: str, shape: tuple[int, int], path: Path) -> Float[np.ndarray, "r c"]:
    """One of the matrices of a calibration. Raises ConfigError where it is missing or has another size."""
    if len(numbers := values.get(name, [])) != shape[0] * shape[1]:
        raise ConfigError(f"data.root: {path}: {name} has {len(numbers)} numbers; expected {shape[0] * shape[1]}")
    return np.array(numbers).reshape(shape)


def projected_lens(projection: Float[np.ndarray, "3 4"], size: tuple[int, int], path: Path) -> Pinhole:
    """The camera of a projection matrix of rectified pictures of `size`, whose pixels count from 0 at their centres.
    Raises ConfigError as `check_lens`."""
    lens = Pinhole(*size, *(float(projection[i]) for i in ((0, 0), (1, 1), (0, 2), (1, 2))))
    check_lens(lens, f"data.root: {path}")
    return lens


def distance(left: Float[np.ndarray, "3 4"], right: Float[np.ndarray, "3 4"]) -> float:
    """From the left camera to the right one, m, of their projections."""
    return float(left[0, 3] / left[0, 0] - right[0, 3] / right[0, 0])


def laser_depth(
    scan: Path, to_pixels: Float[np.ndarray, "3 4"], shape: tuple[int, int], *, forward: bool
) -> Float32[np.ndarray, "h w"]:
    """Depth of what a laser scan saw, in the pixels of a camera; 0 where it saw nothing. Of several points in a pixel,
    the nearest counts.

    Pixels are rounded and then one is taken off, as the ground truth that the field compares by has it (Eigen et al.
    2014; the benchmark's own tools count from 1).

    Args:
        scan: float32 records x (forward), y, z, reflectance.
        to_pixels: homogeneous points of the scanner to homogeneous pixels times depth.
        forward: the scanner's x, 27 cm behind the camera, is taken for the depth, as published results do; else z.

    Raises:
        UnreadableSample: the file is missing or damaged.
    """
    with decoding(scan):
        points = np.fromfile(scan, "<f4").reshape(-1, 4).astype(np.float64)
    points = points[points[:, 0] >= 0]
    points[:, 3] = 1
    u, v, z = to_pixels @ points.T
    ahead = z > 0
    u, v, z, x = u[ahead], v[ahead], z[ahead], points[ahead, 0]
    column, row = np.round(u / z).astype(int) - 1, np.round(v / z).astype(int) - 1
    inside = (column >= 0) & (column < shape[1]) & (row >= 0) & (row < shape[0])
    depth = np.full(shape, np.inf)
    np.minimum.at(depth, (row[inside], column[inside]), (x if forward else z)[inside])
    return np.where(np.isinf(depth), 0, depth).astype(np.float32)


def travelled(drive: Path) -> dict[int, float]:
    """How far a car has come at every frame of a drive, m: its speed, over time. Empty without `oxts`.

    Raises:
        ConfigError: a file of `oxts` cannot be read.
    """
    files = sorted((drive / "oxts/data").glob("*.txt"))
    if not files:
        return {}
    path = drive / "oxts/timestamps.txt"
    stamps = [line.strip() for line in read_text(path, "data.root").splitlines() if line.strip()]
    try:  # microseconds are what Python knows of them
        times = [datetime.fromisoformat(stamps[int(file.stem)][:26]).timestamp() for file in files]
    except (ValueError, IndexError):
        raise ConfigError(f"data.root: {path}: {len(stamps)} lines; expected a time for each record") from None
    speeds = [float(np.linalg.norm(_record(file)[_SPEEDS])) for file in files]
    steps = [(b - a) * (s + t) / 2 for (a, b), (s, t) in zip(pairwise(times), pairwise(speeds), strict=True)]
    return dict(zip((int(file.stem) for file in files), accumulate(steps, initial=0.0), strict=True))


def _record(path: Path) -> list[float]:
    try:
        numbers = [float(word) for word in read_text(path, "data.root").split()]
    except ValueError:
        numbers = []
    if len(numbers) < _SPEEDS.stop:
        raise ConfigError(f"data.root: {path}: not a record of OXTS; expected 30 numbers")
    return numbers
