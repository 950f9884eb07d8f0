"""Depth maps as files: 16-bit PNG, NumPy array, picture in colours, point cloud. A file appears complete or not at all.

All depth is (H, W) of any device and type; what is not finite is not known.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from salticid.errors import UserError
from salticid.evaluate.colour import Palette, coloured
from salticid.evaluate.pictures import save_png
from salticid.files import written_aside
from salticid.geometry.cameras import Pinhole

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, UInt8

LARGEST = 65535
POINT = np.dtype(
    [(name, "<f4") for name in ("x", "y", "z")] + [(name, "u1") for name in ("red", "green", "blue")]  # no padding
)
PLY_TYPES = {"<f4": "float", "|u1": "uchar"}


def save_depth_png(depth: Float[Tensor, "h w"], path: Path, *, scale: float = LARGEST) -> None:
    """Write depth · `scale`, rounded, as 16-bit grey PNG; pixels that are not known are 0.

    Args:
        scale: levels a unit: the default is for relative depth in [0, 1]; for metres 1000 (millimetres) and 256 (as
            in KITTI) are usual.

    Raises:
        UserError: a level is negative or above 65535, or the file cannot be written.
    """
    from PIL import Image

    known = depth.isfinite()
    levels = torch.where(known, depth.detach().double() * scale, 0.0).round()
    least, greatest = levels.amin().item(), levels.amax().item()
    if least < 0 or greatest > LARGEST:
        raise UserError(
            f"{path}: depth from {least / scale:.4g} to {greatest / scale:.4g} does not fit into 16 bits with scale "
            f"{scale:g}; expected values in [0, {LARGEST / scale:.6g}]"
        )
    pixels = Image.fromarray(levels.cpu().numpy().astype(np.uint16))
    with written_aside(path) as aside:
        pixels.save(aside, format="PNG")


def save_depth_npy(depth: Float[Tensor, "h w"], path: Path) -> None:
    """Write depth as it is, float32.

    Raises:
        UserError: the file cannot be written.
    """
    with written_aside(path) as aside, aside.open("wb") as file:
        np.save(file, depth.detach().float().cpu().numpy(), allow_pickle=False)


def save_depth_picture(
    depth: Float[Tensor, "h w"],
    path: Path,
    *,
    limits: tuple[float, float] | None = None,
    palette: Palette = "spectral",
) -> None:
    """Write depth in colours (see `coloured`) as PNG.

    Args:
        limits: what the first and the last colour stand for; None: the least and the greatest depth.

    Raises:
        UserError: the file cannot be written.
    """
    bounds = None if limits is None else torch.tensor([limits])
    save_png(coloured(depth.detach()[None, None], bounds, palette=palette)[0], path)


def save_point_cloud(
    depth: Float[Tensor, "h w"],
    image: UInt8[Tensor, "3 h w"],
    camera: Pinhole,
    path: Path,
    *,
    mask: Bool[Tensor, "h w"] | None = None,
) -> None:
    """Write what each pixel shows, with its colour, as binary PLY: x right, y down, z forward from the camera, in the
    depth's unit. Pixels without positive, finite depth or outside the mask are left out.

    Args:
        camera: its intrinsics are brought to the depth's size where it is of another.

    Raises:
        UserError: the file cannot be written.
    """
    depth = depth.detach().double()
    rays, seen = camera.resized(*depth.shape).to(depth.device).rays(depth.device, torch.float64)
    known = seen & depth.isfinite() & (depth > 0)
    if mask is not None:
        known = known & mask
    save_points((rays / rays[..., 2:] * depth[..., None])[known], image.permute(1, 2, 0)[known.to(image.device)], path)


def save_points(points: Float[Tensor, "n 3"], colours: UInt8[Tensor, "n 3"], path: Path) -> None:
    """Write points (x, y, z) with their colours as binary PLY.

    Raises:
        UserError: the file cannot be written.
    """
    cloud = np.empty(len(points), POINT)
    for place, name in enumerate(("x", "y", "z")):
        cloud[name] = points[:, place].cpu().numpy()
    for place, name in enumerate(("red", "green", "blue")):
        cloud[name] = colours[:, place].cpu().numpy()
    with written_aside(path) as aside:
        aside.write_bytes(_ply_header(len(cloud)) + cloud.tobytes())


def _ply_header(count: int) -> bytes:
    fields = [f"property {PLY_TYPES[POINT[name].str]} {name}" for name in POINT.names or ()]
    lines = ["ply", "format binary_little_endian 1.0", f"element vertex {count}", *fields, "end_header", ""]
    return "\n".join(lines).encode("ascii")
