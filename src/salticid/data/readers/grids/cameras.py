"""Where cameras stand, out of JSON files that are not trusted."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from salticid.data.grids import from_opengl, poses_from_orbit
from salticid.errors import UserError
from salticid.geometry.entry import Entry
from salticid.geometry.foreign import check_rotation

if TYPE_CHECKING:
    from jaxtyping import Float64
    from torch import Tensor

MAX_BYTES = 32 * 2**20
MAX_VIEWS = 20_000
ANGLES = ("azimuth", "elevation", "polar", "distance")


class Cameras(NamedTuple):
    """What a cameras.json says; see `MultiViewRenders`."""

    names: list[str]
    poses: Float64[Tensor, "v 4 4"]
    centre: Tensor
    up: Tensor
    """Float64 (3,)."""
    angle: float | None
    fps: float | None


def read_cameras(path: Path) -> Cameras:
    """Raises UserError, with the key, unless the file is as `MultiViewRenders` says."""
    root = read_json(path)
    views = _views(root.get("views"))
    kinds = {"transform_matrix" in view.value for view in views}
    if len(kinds) > 1:
        raise UserError(f"{path}: views: expected a transform_matrix in all of them or in none")
    angle = field_of_view(root) if "camera_angle_x" in root.value else None
    fps = root.get("fps").positive() if "fps" in root.value else None
    names = [view.key.removeprefix("views.") for view in views]
    if kinds == {False}:
        root.only("views", "camera_angle_x", "fps")
        centre, up, towards = torch.tensor(((0.0, 0.0, 0.0), (0.0, -1.0, 0.0), (0.0, 0.0, -1.0)), dtype=torch.float64)
        poses = poses_from_orbit(torch.stack([_place(view) for view in views]), centre, up, towards)
        return Cameras(names, poses, centre, up, angle, fps)
    root.only("views", "camera_angle_x", "fps", "centre", "up")
    centre, up = _vector(root.get("centre", default=[0, 0, 0])), _vector(root.get("up", default=[0, 0, 1]))
    if not up.any():
        raise root.get("up").error("a direction")
    for view in views:
        view.only("transform_matrix")
    poses = torch.stack([pose(view.get("transform_matrix"), centre) for view in views])
    return Cameras(names, poses, centre, up, angle, fps)


def read_json(path: Path) -> Entry:
    """The mapping in a JSON file.

    Raises:
        UserError: it cannot be read, is too large, not JSON, or no mapping, or has a key twice.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
        if len(raw) > MAX_BYTES:
            raise UserError(f"{path}: larger than {MAX_BYTES >> 20} MiB; expected the cameras of one object")
        value = json.loads(raw, object_pairs_hook=_without_doubles)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not a JSON file ({error})") from None
    if not isinstance(value, dict):
        raise UserError(f"{path}: expected a mapping at the top")
    return Entry(path, "", value)


def pose(entry: Entry, centre: Tensor) -> Float64[Tensor, "4 4"]:
    """Camera to world, in this project's axes, of a 4×4 matrix in OpenGL's.

    Raises:
        UserError: it is no rigid motion, or the camera stands in the centre.
    """
    matrix = torch.tensor(entry.numbers(16), dtype=torch.float64).reshape(4, 4)
    check_rotation(entry, matrix[:3, :3])
    if matrix[3].tolist() != [0, 0, 0, 1]:
        raise entry.error("0, 0, 0, 1 as the last row")
    if torch.linalg.vector_norm(matrix[:3, 3] - centre) < 1e-6:
        raise entry.error("a camera away from the centre")
    return from_opengl(matrix)


def field_of_view(root: Entry) -> float:
    """`camera_angle_x`, rad. Raises UserError."""
    entry = root.get("camera_angle_x")
    if not 0 < entry.number() < math.pi:
        raise entry.error("an angle in radians, between 0 and π")
    return entry.number()


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"key {next(name for name in names if names.count(name) > 1)!r} twice")
    return found


def _views(entry: Entry) -> list[Entry]:
    if not isinstance(entry.value, dict) or not 0 < len(entry.value) <= MAX_VIEWS:
        raise entry.error(f"a mapping of 1 to {MAX_VIEWS} views by name")
    for name, view in entry.value.items():
        if name in ("", ".", "..") or "/" in name or "\0" in name:
            raise UserError(f"{entry.path}: {entry.key}: {name!r} is not the name of a file or folder")
        if not isinstance(view, dict):
            raise entry.get(name).error("a mapping")
    return [entry.get(name) for name in entry.value]


def _place(view: Entry) -> Tensor:
    """Polar angle, azimuth, distance; float64."""
    view.only(*ANGLES)
    if ("elevation" in view.value) == ("polar" in view.value):
        raise view.error("either elevation or polar")
    entry = view.get("elevation", "polar")
    polar = 90 - entry.number() if "elevation" in view.value else entry.number()
    if not 0 <= polar <= 180:
        raise entry.error("degrees, −90 to 90" if "elevation" in view.value else "degrees, 0 to 180")
    azimuth = math.radians(view.get("azimuth").number() % 360)
    return torch.tensor((math.radians(polar), azimuth, view.get("distance").positive()), dtype=torch.float64)


def _vector(entry: Entry) -> Tensor:
    return torch.tensor(entry.numbers(3), dtype=torch.float64)
