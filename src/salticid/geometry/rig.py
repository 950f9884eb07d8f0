"""Rigs: cameras that are fixed to each other."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor

from salticid.errors import UserError
from salticid.geometry import calibration
from salticid.geometry.cameras import UCM, Camera
from salticid.geometry.se3 import inverse, pose, rotate, yaw_pitch_roll

if TYPE_CHECKING:
    from jaxtyping import Float


@dataclass(frozen=True)
class Rig:
    """N cameras and their poses, camera to rig. The rig's frame is that of its panorama: z forward, y down."""

    cameras: tuple[Camera, ...]
    poses: "Float[Tensor, '*batch n 4 4']"
    """Metres. Leading batch dimensions hold one rig for each sample."""
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        counts = len(self.cameras), self.poses.shape[-3], len(self.names)
        if len(set(counts)) != 1:
            raise ValueError("a rig of {} cameras with {} poses and {} names".format(*counts))

    def __len__(self) -> int:
        return len(self.cameras)

    @classmethod
    def ring(cls, n: int, camera: Camera, radius: float = 0.0) -> Self:
        """`n` equal cameras in a horizontal circle: number k looks at yaw k·2π/n (to the right of the rig's forward
        direction), its optical centre `radius` metres from the rig's along its axis."""
        rotations = yaw_pitch_roll(torch.arange(n, dtype=torch.float64) * (2 * math.pi / n))
        poses = pose(rotations, rotations[..., 2] * radius).float()
        return cls((camera,) * n, poses, tuple(f"yaw{360 * k / n:g}" for k in range(n)))

    def resized(self, height: int, width: int) -> Self:
        """The rig with all its images resized to `height` × `width`."""
        return replace(self, cameras=tuple(camera.resized(height, width) for camera in self.cameras))

    def to(self, device: torch.device | str) -> Self:
        return replace(self, cameras=tuple(c.to(device) for c in self.cameras), poses=self.poses.to(device))

    def points(
        self, index: int, rays: "Float[Tensor, 'h w 3']", inverse_distance: float = 0.0
    ) -> "Float[Tensor, 'b h w 3']":
        """Points along `rays` of the rig's frame as camera `index` has them in its own frame, up to scale; b is 1
        unless the rig holds one camera or pose for each sample. In the precision of `rays` even under autocast.

        A point at distance 1/q (metres) along a ray lies at R⁻¹(ray − q·t) up to scale, R and t being the camera's
        pose, so infinity, q = 0, is no special case.
        """
        to_rig = self.poses[..., index, :, :]
        batch = torch.broadcast_shapes((1,), self.cameras[index].batch_shape, to_rig.shape[:-2])
        to_camera = inverse(to_rig).to(rays).expand(*batch, 4, 4)
        directions = rotate(to_camera, rays.expand(*batch, *rays.shape))
        return directions + inverse_distance * to_camera[:, None, None, :3, 3]

    def check_images(self, sizes: Sequence[tuple[int, int]], *, source: str = "images") -> None:
        """Refuse images that are not the rig's: `sizes` holds (height, width) of each, in the rig's order.

        Raises:
            UserError: another number of images, or another size than the camera's; `source` says whose they are.
        """
        if len(sizes) != len(self):
            raise UserError(f"{source}: {len(sizes)} images for the {len(self)} cameras {', '.join(self.names)}")
        for name, camera, (height, width) in zip(self.names, self.cameras, sizes, strict=True):
            if (height, width) != (camera.height, camera.width):
                raise UserError(
                    f"{source}: the image of camera {name!r} is {height}×{width} (height × width), "
                    f"but the rig says {camera.height}×{camera.width}"
                )


def ucm_intrinsics(rig: Rig) -> "Float[Tensor, 'n 5']":
    """fx, fy, cx, cy (pixels) and ξ of a rig's UCM cameras, float32.

    Raises:
        ValueError: a camera is of another model, or holds one value for each sample.
    """
    for name, camera in zip(rig.names, rig.cameras, strict=True):
        if not isinstance(camera, UCM) or camera.batch_shape:
            raise ValueError(f"camera {name!r} is {camera}; expected a UCM with plain numbers")
    names = ("fx", "fy", "cx", "cy", "xi")
    return torch.tensor([[float(camera.parameters[name]) for name in names] for camera in rig.cameras])


def load_rig(path: str | Path) -> Rig:
    """Read a rig from a YAML file: our own format (`salticid.geometry.calibration` describes it), an OpenCV fisheye
    calibration of one camera (`camera_matrix` or `K`, `dist_coeffs` or `D`, `resolution` or `image_width` and
    `image_height`), or a Kalibr camera chain, whose first camera is the rig's origin.

    Raises:
        UserError: the file cannot be read or is malformed; the message names file and key.
    """
    cameras, poses, names = calibration.read(Path(path))
    return Rig(cameras, poses.float(), names)


def save_rig(rig: Rig, path: str | Path) -> None:
    """Write a rig, without batch dimensions, in our own format."""
    calibration.write(Path(path), rig.cameras, rig.poses, rig.names)
