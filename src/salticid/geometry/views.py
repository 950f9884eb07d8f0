"""Making the views of a rig from a panorama, fast enough to do it anew for every training sample."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from salticid.errors import UserError
from salticid.geometry.rig import Rig
from salticid.geometry.se3 import compose

if TYPE_CHECKING:
    from jaxtyping import Float, UInt8


@torch.no_grad()
def views_from_panorama(
    panorama: "UInt8[Tensor, '3 h w'] | Float[Tensor, '3 h w']",
    rig: Rig,
    rotation: "Float[Tensor, '3 3'] | None" = None,
    *,
    prefilter: int | None = None,
    outside: float = -1.0,
) -> "Float[Tensor, 'n 3 h_view w_view']":
    """What the cameras of `rig` (all of one size) see of a panorama, as of a world infinitely far away, with the rig
    turned by `rotation` (rig to panorama). On the CPU; not differentiable.

    Args:
        panorama: uint8, which becomes float32 in [−1, 1], or float, whose range is kept. Fastest where its memory
            is (h, w, 3), as of a decoded picture that was permuted.
        prefilter: the panorama is shrunk by this factor first, against aliasing; default: `prefilter_factor`. A
            caller who makes several rigs' views shrinks it once (`shrink_panorama`) and says 1.
        outside: value of pixels outside the image circle of a lens.

    Raises:
        UserError: the cameras' images are not of one size.
    """
    height, width = panorama.shape[-2:]
    sizes = {(camera.height, camera.width) for camera in rig.cameras}
    if len(sizes) > 1:
        raise UserError(f"a rig whose views are made from panoramas has images of one size, not {sorted(sizes)}")
    if prefilter is None:
        prefilter = prefilter_factor(rig, height)
    image = shrink_panorama(panorama, height // prefilter, width // prefilter)
    grid, seen = _lookup(rig, rotation, image.shape[-2:])
    n, h, w = grid.shape[:3]
    views = F.grid_sample(_padded(image)[None], grid.reshape(1, n * h, w, 2), align_corners=False)[0]
    views = views.unflatten(1, (n, h)).transpose(0, 1).contiguous()
    if panorama.dtype == torch.uint8:
        views.mul_(1 / 127.5).sub_(1)
    return views if seen is None else torch.where(seen[:, None], views, outside)


def _lookup(rig: Rig, rotation: Tensor | None, size: Sequence[int]) -> tuple[Tensor, Tensor | None]:
    """Where the views' pixels are in the padded panorama of `size`, as `grid_sample` counts (−1 to 1, the centre of
    the panorama at 0): (n, h, w, 2). And which of them see anything, (n, h, w), or None for all."""
    across, down = size[1] / (size[1] + 2), size[0] / (size[0] + 2)
    turns = rig.poses[:, :3, :3]
    turns = turns if rotation is None else compose(rotation.to(turns)[None], turns)
    if all(camera is rig.cameras[0] for camera in rig.cameras):
        *rays, seen = rig.cameras[0].unproject_uv(*rig.cameras[0].pixel_axes())
        rays = torch.stack(rays)[None]
    else:
        each = [camera.unproject_uv(*camera.pixel_axes()) for camera in rig.cameras]
        rays, seen = torch.stack([torch.stack(ray) for *ray, _ in each]), torch.stack([valid for *_, valid in each])
    with torch.autocast("cpu", enabled=False):
        x, y, z = (turns @ rays.flatten(2)).unflatten(2, rays.shape[2:]).unbind(dim=1)
    # The rays are unit and nothing is differentiated: the arcsine is safe here.
    longitude, latitude = torch.atan2(x, z), y.clamp_(-1, 1).asin_()
    grid = torch.stack((longitude.mul_(across / math.pi), latitude.mul_(down * 2 / math.pi)), dim=-1)
    return grid, None if bool(seen.all()) else seen.expand(grid.shape[:3])


def _padded(panorama: Tensor) -> Tensor:
    """The panorama (3, h, w) in float32 with a pixel more on every side: around the seam, over the poles."""
    height, width = panorama.shape[-2:]
    if panorama.stride(0) == 1:  # the three channels lie together: keep it so
        padded = torch.empty(height + 2, width + 2, 3).permute(2, 0, 1)
    else:
        padded = torch.empty(3, height + 2, width + 2)
    padded[:, 1:-1, 1:-1] = panorama
    padded[:, 0, 1:-1] = panorama[:, 0].roll(width // 2, dims=-1)
    padded[:, -1, 1:-1] = panorama[:, -1].roll(width // 2, dims=-1)
    padded[..., 0], padded[..., -1] = padded[..., -2], padded[..., 1]
    return padded


def prefilter_factor(rig: Rig, height: int) -> int:
    """By how much a panorama of `height` rows may be shrunk before `rig` looks at it: so much that it keeps one and
    a half pixels or more for each pixel of a view, by their mean angular pitch."""
    pitches = []
    for camera in set(rig.cameras):
        rays, _ = camera.resized(16, 16).rays()
        steps = torch.linalg.vector_norm(rays.diff(dim=0), dim=-1).mean() * 16 / camera.height
        pitches.append(float(steps))
    return max(1, int(min(pitches) * height / math.pi / 1.5))


def shrink_panorama(panorama: "Float[Tensor, '3 h w']", height: int, width: int) -> Tensor:
    """The panorama resized with an antialiasing (triangle) filter that goes on around its seam; uint8 stays uint8.

    Raises:
        ValueError: `height` × `width` is larger than the panorama.
    """
    old_height, old_width = panorama.shape[-2:]
    if (height, width) == (old_height, old_width):
        return panorama
    if height > old_height or width > old_width:
        raise ValueError(f"a panorama of {old_height}×{old_width} cannot be shrunk to {height}×{width}")

    def resize(image: Tensor, columns: int) -> Tensor:
        return F.interpolate(image[None], (height, columns), mode="bilinear", antialias=True)[0]

    shrunk = resize(panorama, width)
    # The filter reaches over the seam in the outermost columns alone: these again, each from its neighbourhood.
    ratio = old_width / width
    reach = math.ceil(1.5 * ratio)
    nearby = torch.arange(-reach, reach)
    weights = (1 - abs(nearby - (ratio - 1) / 2) / ratio).clamp(min=0)
    weights = torch.stack((weights, weights.flip(0))) / weights.sum()
    strip = panorama.index_select(-1, nearby % old_width)
    ends = resize((strip[..., None, :] * weights).sum(dim=-1), 2)
    shrunk[..., [0, -1]] = ends if panorama.is_floating_point() else ends.round().to(panorama.dtype)
    return shrunk
