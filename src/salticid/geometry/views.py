"""Making the views of a rig from a panorama, fast enough to do it anew for every training sample."""

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from salticid.geometry.rig import Rig
from salticid.geometry.se3 import compose
from salticid.geometry.warp import sample

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
    turned by `rotation` (rig to panorama). Not differentiable.

    Args:
        panorama: uint8, which becomes float32 in [−1, 1], or float, whose range is kept. Fastest where its memory
            is (h, w, 3), as of a decoded picture that was permuted.
        prefilter: the panorama is shrunk by this factor first, against aliasing; default: `prefilter_factor`. A
            caller who makes several rigs' views shrinks it once (`shrink_panorama`) and says 1.
        outside: value of pixels outside the image circle of a lens.
    """
    height, width = panorama.shape[-2:]
    if prefilter is None:
        prefilter = prefilter_factor(rig, height)
    image = shrink_panorama(panorama, height // prefilter, width // prefilter)[None]
    if image.dtype == torch.uint8:
        image = image.float().mul_(1 / 127.5).sub_(1)
    turns = rig.poses[:, :3, :3]
    turns = turns if rotation is None else compose(rotation.to(turns)[None], turns)
    rays: dict[int, list[Tensor]] = {}
    pixels, seen = [], []
    for camera, turn in zip(rig.cameras, turns.tolist(), strict=True):
        if id(camera) not in rays:
            rays[id(camera)] = list(camera.unproject_uv(*camera.pixel_axes()))
        x, y, z, valid = rays[id(camera)]
        x, y, z = ((x * a).add_(y, alpha=b).add_(z, alpha=c) for a, b, c in turn)
        pixels.append(_sphere_pixels(x, y, z, *image.shape[-2:]))
        seen.append(valid)
    n, (h, w) = len(rig), pixels[0].shape[:2]
    views = sample(image, torch.cat(pixels)[None], wrap=True)[0].unflatten(1, (n, h)).transpose(0, 1)
    if not all(bool(valid.all()) for valid in seen):
        views = torch.where(torch.stack(seen).expand(n, h, w)[:, None], views, outside)
    return views.contiguous()


def _sphere_pixels(x: Tensor, y: Tensor, z: Tensor, height: int, width: int) -> Tensor:
    """`Equirectangular.project` of unit rays without gradients, where the arcsine is enough; consumes its inputs."""
    u = torch.atan2(x, z).mul_(width / (2 * math.pi)).add_(width / 2 - 0.5)
    v = y.clamp_(-1, 1).asin_().mul_(height / math.pi).add_(height / 2 - 0.5)
    return torch.stack((u, v), dim=-1)


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
    """The panorama resized with an antialiasing (triangle) filter that goes on around its seam; uint8 stays uint8."""
    old_height, old_width = panorama.shape[-2:]
    if (height, width) == (old_height, old_width):
        return panorama

    def resize(image: Tensor, columns: int) -> Tensor:
        return F.interpolate(image[None], (height, columns), mode="bilinear", antialias=True)[0]

    shrunk = resize(panorama, width)
    ratio = old_width / width
    if ratio.is_integer() and width >= 8:
        # The two columns on either side of the seam again, in a strip across it.
        margin = 4 * int(ratio)
        strip = resize(torch.cat((panorama[..., -margin:], panorama[..., :margin]), dim=-1), 8)
        shrunk[..., -2:], shrunk[..., :2] = strip[..., 2:4], strip[..., 4:6]
    return shrunk
