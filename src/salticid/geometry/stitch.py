"""Warp-and-blend: the panorama that a rig's views make together, and how much of the sphere they see."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from salticid.errors import UserError
from salticid.geometry.cameras import Camera, Equirectangular, Lens
from salticid.geometry.lens import fit
from salticid.geometry.rig import Rig
from salticid.geometry.warp import sample

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

_EPSILON = 1e-6


class Stitcher:
    """Stitches batches of views of a rig, with its maps computed once.

    Each view is weighted by a smooth window that falls to zero, with zero slope, at the border of its image and of
    its image circle, so that no view starts or ends in a visible edge.
    """

    def __init__(
        self,
        rig: Rig,
        target: Equirectangular,
        *,
        distance: float = math.inf,
        device: torch.device | str | None = None,
    ) -> None:
        """`distance`, metres from the rig's centre, is where the views agree: views from different places cannot
        agree everywhere.

        Raises:
            UserError: `distance` is not above 0.
        """
        if not distance > 0:
            raise UserError(f"distance is {distance}; expected metres above 0, or inf")
        self.target = target
        rays, _ = target.rays(device)
        seen = [look_from(rig, i, rays, distance) for i in range(len(rig))]
        self.wraps = [isinstance(camera, Equirectangular) for camera in rig.cameras]
        self.pixels = [pixels for pixels, _ in seen]
        """For each view (1 or b, h, w, 2)."""
        weights = torch.stack([weight for _, weight in seen], dim=1)
        total = weights.sum(dim=1, keepdim=True)
        self.coverage: Float[Tensor, "b 1 h w"] = (total > 0).to(total.dtype)
        self.weights: Float[Tensor, "b n h w"] = weights / total.clamp(min=1e-20)

    def __call__(self, images: "Sequence[Float[Tensor, 'b c h w']]") -> "Float[Tensor, 'b c h w']":
        """The panorama of views in the rig's order; pixels that no view sees have the mean colour of the others."""
        views = [
            sample(image, pixels, wrap=wrap)
            for image, pixels, wrap in zip(images, self.pixels, self.wraps, strict=True)
        ]
        panorama = (torch.stack(views, dim=1) * self.weights[:, :, None]).sum(dim=1)
        share = self.coverage.mean(dim=(-2, -1), keepdim=True).clamp(min=_EPSILON)
        mean = panorama.mean(dim=(-2, -1), keepdim=True) / share
        return torch.where(self.coverage > 0, panorama, mean)


def look_from(rig: Rig, index: int, rays: "Float[Tensor, 'h w 3']", distance: float) -> tuple[Tensor, Tensor]:
    """Where view `index` sees points at `distance` along the rig's rays, pixels (b, h, w, 2), and with which
    weight (b, h, w); b is 1 unless the rig holds one camera or pose for each sample."""
    camera, points = rig.cameras[index], rig.points(index, rays, 1 / distance)
    pixels, valid = camera.project(points)
    return pixels, window(camera, points, pixels) * valid


def window(camera: Camera, points: Tensor, pixels: Tensor) -> Tensor:
    """Smooth weight of a view, from 1 on its axis to 0, with zero slope, at the border of what it sees."""
    x, y = pixels.unbind(-1)
    weight = _bump((x + 0.5) / camera.width * 2 - 1) * _bump((y + 0.5) / camera.height * 2 - 1)
    if isinstance(camera, Lens):
        angle = torch.acos((points[..., 2] / torch.linalg.vector_norm(points, dim=-1)).clamp(-1, 1))
        weight = weight * _bump(angle / fit(camera.limit, angle))
    # Whatever is seen counts, however little: the border itself is covered.
    return weight + _EPSILON


def _bump(position: Tensor) -> Tensor:
    return (1 - position * position).clamp(min=0) ** 2


def stitch(
    images: "Sequence[Float[Tensor, 'b c h w']] | Float[Tensor, 'b n c h w']",
    rig: Rig,
    target: Equirectangular,
    *,
    distance: float = math.inf,
) -> "tuple[Float[Tensor, 'b c h_out w_out'], Float[Tensor, 'b 1 h_out w_out']]":
    """The panorama of a rig's views and its coverage in [0, 1], 1 where at least one view sees the pixel.

    The rig's cameras may hold intrinsics of shape (b,), one for each sample. See `Stitcher`.
    """
    views = images.unbind(dim=1) if isinstance(images, Tensor) else images
    stitcher = Stitcher(rig, target, distance=distance, device=views[0].device)
    return stitcher(views), stitcher.coverage


@dataclass(frozen=True)
class Coverage:
    """How much of the sphere a rig sees."""

    views: "Int[Tensor, 'h w']"
    """By how many cameras each pixel of an equirectangular grid is seen."""
    mask: "Bool[Tensor, 'h w']"
    solid_angle: float
    """Share of the sphere that at least one camera sees, of 4π."""
    pixels: float
    """Share of the pixels of the equirectangular grid."""


def coverage(rig: Rig, height: int = 256) -> Coverage:
    """What the cameras of `rig` see of things far away, measured on a grid of `height` × 2·`height`."""
    sphere = Equirectangular(height, 2 * height)
    device = rig.poses.device
    rays, _ = sphere.rays(device)
    views = torch.stack([look_from(rig, i, rays, math.inf)[1][0] > 0 for i in range(len(rig))]).sum(dim=0)
    mask = views > 0
    area = torch.cos((torch.arange(height, dtype=torch.float64, device=device) + 0.5) / height * math.pi - math.pi / 2)
    solid_angle = float((mask.double().mean(dim=1) * area).sum() / area.sum())
    return Coverage(views, mask, solid_angle, float(mask.double().mean()))
