"""Calibration files of other tools: OpenCV fisheye and Kalibr."""

from collections.abc import Mapping

import torch
from torch import Tensor

from salticid.geometry import se3
from salticid.geometry.cameras import UCM, Camera, DoubleSphere, KannalaBrandt, Pinhole
from salticid.geometry.entry import Entry

CameraSet = tuple[tuple[Camera, ...], Tensor, tuple[str, ...]]
"""Cameras, their float64 poses (n, 4, 4) camera to rig, and their names."""


def check_rotation(entry: Entry, matrix: Tensor) -> None:
    error = (matrix @ matrix.T - torch.eye(3, dtype=matrix.dtype)).abs().max()
    if error > 1e-3 or torch.linalg.det(matrix) < 0:
        raise entry.error("a rotation: three angles, or a 3×3 matrix that is orthogonal with determinant 1")


def opencv_fisheye(root: Entry) -> KannalaBrandt:
    matrix = _matrix(root.get("camera_matrix", "K"), 9)
    k1, k2, k3, k4 = _matrix(root.get("dist_coeffs", "D", "distortion_coefficients"), 4)
    if "resolution" in root.value:
        entry = root.get("resolution")
        data = Entry(entry.path, entry.key, entry.value["data"]) if isinstance(entry.value, Mapping) else entry
        width, height = data.size()
    else:
        sides = [root.get("image_width").value, root.get("image_height").value]
        width, height = Entry(root.path, "image_width, image_height", sides).size()
    fx, _, cx, _, fy, cy, *_ = matrix
    if fx <= 0 or fy <= 0:
        raise root.get("camera_matrix", "K").error("positive focal lengths")
    return KannalaBrandt(height, width, fx, fy, cx, cy, k1, k2, k3, k4)


def _matrix(entry: Entry, count: int) -> list[float]:
    return (entry.get("data") if isinstance(entry.value, Mapping) else entry).numbers(count)


def kalibr_chain(root: Entry) -> CameraSet:
    """Kalibr's camchain: T_cn_cnm1 maps points of camera n−1 to camera n."""
    n = next(i for i in range(len(root.value) + 1) if f"cam{i}" not in root.value)
    root.only(*(f"cam{i}" for i in range(n)))
    entries = [root.get(f"cam{i}") for i in range(n)]
    to_camera = torch.eye(4, dtype=torch.float64)
    poses = []
    for i, entry in enumerate(entries):
        if i > 0:
            step = entry.get("T_cn_cnm1")
            matrix = torch.tensor(step.numbers(16), dtype=torch.float64).reshape(4, 4)
            check_rotation(step, matrix[:3, :3])
            to_camera = matrix @ to_camera
        poses.append(se3.inverse(to_camera))
    names = tuple(f"cam{i}" for i in range(n))
    return tuple(_kalibr_camera(entry) for entry in entries), torch.stack(poses), names


def _kalibr_camera(entry: Entry) -> Camera:
    model, distortion = entry.get("camera_model"), entry.get("distortion_model", default="none")
    width, height = entry.get("resolution").size()
    intrinsics = entry.get("intrinsics")
    coefficients = entry.get("distortion_coeffs", default=[])
    bent = coefficients.value not in (None, []) and any(coefficients.numbers(len(coefficients.value)))
    match model.value, distortion.value:
        case "pinhole", "equidistant":
            camera = KannalaBrandt(height, width, *intrinsics.numbers(4), *coefficients.numbers(4))
        case "pinhole", _ if not bent:
            camera = Pinhole(height, width, *intrinsics.numbers(4))
        case "omni", _ if not bent:
            xi, fx, fy, cx, cy = intrinsics.numbers(5)
            camera = UCM(height, width, fx, fy, cx, cy, xi)
        case "ds", _ if not bent:
            xi, alpha, fx, fy, cx, cy = intrinsics.numbers(6)
            camera = DoubleSphere(height, width, fx, fy, cx, cy, xi, alpha)
        case (("pinhole" | "omni" | "ds"), _):
            raise distortion.error("equidistant with pinhole, or none: other distortions are not supported")
        case _:
            raise model.error("one of pinhole, omni, ds")
    if camera.fx <= 0 or camera.fy <= 0:
        raise intrinsics.error("positive focal lengths")
    return camera
