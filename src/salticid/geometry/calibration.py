"""Calibration files of rigs: our own format, OpenCV fisheye calibrations and Kalibr camera chains, all YAML.

Our own format, which `rig.save_rig` writes (a camera's `pose` maps it to the rig; either may be left out, or 0):

```yaml
format: salticid-rig
cameras:
  - name: front
    model: ucm                    # pinhole | ucm | double_sphere | kannala_brandt | equirectangular
    size: [640, 960]              # height, width
    parameters: {fx: 220.0, fy: 220.0, cx: 479.5, cy: 319.5, xi: 0.85}
    max_angle: 95.0               # degrees from the axis, radius of the image circle; default: none
    pose:
      rotation: {yaw: 90.0, pitch: 0.0, roll: 0.0}    # degrees; or an axis-angle vector in radians, or a 3×3 matrix
      translation: [0.1, 0.0, 0.0]                    # metres
```

`parameters` are in pixels, pixel centres at integers: double_sphere has `xi` and `alpha`, kannala_brandt `k1` to
`k4`, equirectangular none. Yaw turns to the right, pitch up, roll clockwise (`se3.yaw_pitch_roll`).
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from salticid.errors import UserError
from salticid.geometry import se3
from salticid.geometry.cameras import (
    UCM,
    Camera,
    DoubleSphere,
    Equirectangular,
    KannalaBrandt,
    Lens,
    Pinhole,
)
from salticid.geometry.entry import Entry
from salticid.geometry.foreign import CameraSet, check_rotation, kalibr_chain, opencv_fisheye

FORMAT = "salticid-rig"
MODELS: dict[str, type[Camera]] = {
    "pinhole": Pinhole,
    "ucm": UCM,
    "double_sphere": DoubleSphere,
    "kannala_brandt": KannalaBrandt,
    "equirectangular": Equirectangular,
}


def read(path: Path) -> CameraSet:
    """See `salticid.geometry.rig.load_rig`."""
    root = Entry(path, "", _parse(path))
    if not isinstance(root.value, dict):
        raise UserError(f"{path}: expected a mapping at the top, with the cameras of a rig")
    if "cameras" in root.value:
        return _own_rig(root)
    if "cam0" in root.value:
        return kalibr_chain(root)
    if "camera_matrix" in root.value or "K" in root.value:
        return (opencv_fisheye(root),), torch.eye(4, dtype=torch.float64)[None], (path.stem,)
    raise UserError(
        f"{path}: not a rig: it has none of cameras (salticid), cam0 (Kalibr), camera_matrix or K (OpenCV fisheye)"
    )


def write(path: Path, cameras: Sequence[Camera], poses: Tensor, names: Sequence[str]) -> None:
    """See `salticid.geometry.rig.save_rig`."""
    import yaml

    models = {model: name for name, model in MODELS.items()}
    entries = []
    for name, camera, pose in zip(names, cameras, poses.double(), strict=True):
        parameters = {key: float(value) for key, value in camera.parameters.items()}
        max_angle = math.degrees(parameters.pop("max_angle", math.pi))
        entry: dict[str, Any] = {
            "name": name,
            "model": models[type(camera)],
            "size": [camera.height, camera.width],
            "parameters": parameters,
            "pose": {"rotation": pose[:3, :3].tolist(), "translation": pose[:3, 3].tolist()},
        }
        if max_angle < 180:
            entry["max_angle"] = max_angle
        entries.append(entry)
    text = yaml.safe_dump({"format": FORMAT, "cameras": entries}, sort_keys=False, default_flow_style=None)
    path.write_text(text, encoding="utf-8")


def _parse(path: Path) -> Any:
    """The plain data of a YAML file. OpenCV's directive, tags and tabs are made into plain YAML."""
    import yaml

    try:
        if path.stat().st_size > 1 << 20:
            raise UserError(f"{path}: too large for the calibration of a rig")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from error
    text = re.sub(r"\A\ufeff?%YAML[: ]?1\.\d[^\n]*\n", "", text)
    text = re.sub(r"!!opencv-(matrix|nd-matrix)", "", text)
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark else ""
        raise UserError(f"{path}: not valid YAML{where}: {getattr(error, 'problem', None) or error}") from error


def _own_rig(root: Entry) -> CameraSet:
    root.only("format", "cameras")
    if (form := root.get("format", default=FORMAT)).value != FORMAT:
        raise form.error(repr(FORMAT))
    entries = root.get("cameras").items()
    for entry in entries:
        entry.only("name", "model", "size", "parameters", "max_angle", "pose")
    names = [entry.get("name", default=f"camera{i}").text() for i, entry in enumerate(entries)]
    for i, name in enumerate(names):
        if name in names[:i]:
            raise entries[i].get("name").error("a name of its own for every camera")
    cameras = tuple(_own_camera(entry) for entry in entries)
    poses = torch.stack([_own_pose(entry.get("pose", default={})) for entry in entries])
    return cameras, poses, tuple(names)


def _own_camera(entry: Entry) -> Camera:
    model = entry.get("model")
    if model.text() not in MODELS:
        raise model.error(f"one of {', '.join(MODELS)}")
    kind = MODELS[model.value]
    height, width = entry.get("size").size()
    given = entry.get("parameters", default={})
    named = [f for f in fields(kind) if f.name not in ("height", "width", "max_angle")]
    given.only(*(f.name for f in named))
    parameters = {}
    for parameter in named:
        optional = parameter.default is not MISSING
        value = given.get(parameter.name, default=parameter.default if optional else MISSING)
        parameters[parameter.name] = value.positive() if parameter.name in ("fx", "fy") else value.number()
    if kind is UCM and parameters["xi"] < 0:
        raise given.get("xi").error("a number ≥ 0")
    if kind is DoubleSphere and not 0 <= parameters["alpha"] < 1:
        raise given.get("alpha").error("a number in [0, 1)")
    if issubclass(kind, Lens):
        parameters["max_angle"] = _degrees(entry.get("max_angle", default=180.0))
    return kind(height, width, **parameters)


def _degrees(entry: Entry) -> float:
    if (angle := entry.positive()) > 180:
        raise entry.error("at most 180 degrees")
    return math.radians(angle)


def _own_pose(entry: Entry) -> Tensor:
    entry.only("rotation", "translation")
    rotation = entry.get("rotation", default=[0.0, 0.0, 0.0])
    translation = entry.get("translation", default=[0.0, 0.0, 0.0]).numbers(3)
    if isinstance(rotation.value, Mapping):
        rotation.only("yaw", "pitch", "roll")
        angles = [math.radians(rotation.get(n, default=0.0).number()) for n in ("yaw", "pitch", "roll")]
        matrix = se3.yaw_pitch_roll(*torch.tensor(angles, dtype=torch.float64))
    elif isinstance(rotation.value, list) and len(rotation.value) == 3 and not isinstance(rotation.value[0], list):
        matrix = se3.axis_angle_to_matrix(torch.tensor(rotation.numbers(3), dtype=torch.float64))
    else:
        matrix = torch.tensor(rotation.numbers(9), dtype=torch.float64).reshape(3, 3)
        check_rotation(rotation, matrix)
    return se3.pose(matrix, torch.tensor(translation, dtype=torch.float64))
