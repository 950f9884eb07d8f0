"""Sampling images at pixels, and where the pixels of one camera are seen in another."""

from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from salticid.geometry.cameras import Camera, Equirectangular
from salticid.geometry.se3 import rotate

if TYPE_CHECKING:
    from jaxtyping import Bool, Float


def sample(
    image: "Float[Tensor, 'b c h w']",
    pixels: "Float[Tensor, 'b h_out w_out 2']",
    *,
    wrap: bool = False,
    padding: Literal["border", "zeros"] = "border",
    mode: Literal["bilinear", "nearest", "bicubic"] = "bilinear",
) -> "Float[Tensor, 'b c h_out w_out']":
    """Values of `image` at `pixels` (x, y), in float32 at least, whatever autocast says.

    `wrap`: the image is an equirectangular panorama: x is periodic, and over the poles the image goes on half a
    turn away. `padding` says what lies outside of other images. Either batch size may be 1.
    """
    dtype = torch.float64 if image.dtype == torch.float64 or pixels.dtype == torch.float64 else torch.float32
    image, pixels = image.to(dtype), pixels.to(dtype)
    batch = max(image.shape[0], pixels.shape[0])
    x, y = pixels.movedim(-1, 0).unbind()
    if wrap:
        margin = 2 if mode == "bicubic" else 1
        x = torch.remainder(x + 0.5, image.shape[-1]) - 0.5 + margin
        y = y + margin
        image = _pad_sphere(image, margin)
    height, width = image.shape[-2:]
    # All x before all y: a copy of blocks, where to interleave them takes several times as long.
    grid = torch.stack((x * (2 / width) + (1 / width - 1), y * (2 / height) + (1 / height - 1))).movedim(0, -1)
    return F.grid_sample(
        image.expand(batch, -1, -1, -1),
        grid.expand(batch, -1, -1, -1),
        mode=mode,
        padding_mode=padding,
        align_corners=False,
    )


def _pad_sphere(panorama: Tensor, margin: int) -> Tensor:
    """`margin` more pixels on every side of a panorama: around the seam and over the poles."""
    half = panorama.shape[-1] // 2
    above = panorama[..., :margin, :].flip(-2).roll(half, dims=-1)
    below = panorama[..., -margin:, :].flip(-2).roll(half, dims=-1)
    tall = torch.cat((above, panorama, below), dim=-2)
    return torch.cat((tall[..., -margin:], tall, tall[..., :margin]), dim=-1)


class Reprojection(NamedTuple):
    """Where another camera sees what this one sees."""

    pixels: "Float[Tensor, 'b h w 2']"
    """(x, y) in the other image; minus this camera's own pixel grid they are the optical flow."""
    valid: "Bool[Tensor, 'b 1 h w']"
    """Both cameras see the point (occlusion is not considered)."""
    distance_b: "Float[Tensor, 'b 1 h w']"
    """Of the point from the other camera, in the measure given."""


class Reprojections(NamedTuple):
    """`Reprojection` of s maps into k cameras, which share what can be shared."""

    pixels: "Float[Tensor, 'b k s h w 2']"
    """The x of all pixels lie side by side in memory, then the y."""
    valid: "Bool[Tensor, 'b k s h w']"
    distance_b: "Float[Tensor, 'b k s h w']"


def reproject(
    distance: "Float[Tensor, 'b 1 h w']",
    camera_a: Camera,
    a_to_b: "Float[Tensor, '*b 4 4']",
    camera_b: Camera,
    *,
    measure: Literal["distance", "depth"] = "distance",
) -> Reprojection:
    """Project the points that `camera_a` sees at `distance` (along its rays; or `depth`, along its axis) into
    `camera_b`, which the rigid motion `a_to_b` leads to. Points may be infinitely far."""
    motions = a_to_b.expand(len(distance), 4, 4)[:, None]
    found = reproject_maps(distance, camera_a, motions, camera_b, measure=measure)
    return Reprojection(found.pixels[:, 0, 0], found.valid[:, 0], found.distance_b[:, 0])


def reproject_maps(
    distances: "Float[Tensor, 'b s h w']",
    camera_a: Camera,
    a_to_b: "Float[Tensor, 'b k 4 4']",
    camera_b: Camera,
    *,
    measure: Literal["distance", "depth"] = "distance",
) -> Reprojections:
    """`reproject` of several maps of distances by several motions. The rays of `camera_a` are computed once, and turned
    once for each motion.

    Points are handled in homogeneous form, ray + translation / distance: nothing is lost at infinity, and the rotated
    ray is the same for all maps. Coordinates are kept apart: every operation runs over memory that lies together.
    """
    far = distances if distances.dtype == torch.float64 else distances.float()
    rays, seen = _points(camera_a, far, measure)
    seen = seen & (far > 0)
    far = torch.where(seen, far, 1.0)[:, None]
    inverse = 1 / far
    motions = a_to_b.to(far.dtype)[..., :3, :, None, None, None]
    x, y, z = (torch.addcmul(_along(row, rays), row[:, :, 3], inverse) for row in motions.unbind(2))
    u, v, valid = camera_b.project_xyz(x, y, z)
    # The root's gradient is infinite at 0, where the point lies in the other camera; the clamped one's is 0.
    length = z if measure == "depth" else (x * x + y * y + z * z).clamp(min=torch.finfo(z.dtype).tiny).sqrt()
    return Reprojections(torch.stack((u, v)).movedim(0, -1), valid & seen[:, None], far * length)


def _points(camera: Camera, like: Tensor, measure: str) -> tuple[tuple[Tensor, ...], Tensor]:
    """What the camera sees at `measure` 1: x, y and z, which broadcast against (b, k, s, h, w), and where it sees it,
    against (b, s, h, w). On the device and of the type of `like`."""
    *rays, seen = (t.unsqueeze(-3) for t in camera.unproject_uv(*camera.pixel_axes(like.device, like.dtype)))
    if measure == "depth":
        ahead = rays[2] > 1e-6
        seen = seen & ahead
        depth = torch.where(ahead, rays[2], 1.0)
        rays = [values / depth for values in rays]
    return tuple(values.unsqueeze(-3) for values in rays), seen


def _along(axis: Tensor, points: tuple[Tensor, ...]) -> Tensor:
    """Coordinate of points along an axis (b, k, 3 or more, 1, 1, 1)."""
    x, y, z = points
    return torch.addcmul(torch.addcmul(axis[:, :, 0] * x, axis[:, :, 1], y), axis[:, :, 2], z)


def resample(
    image: "Float[Tensor, 'b c h w']",
    source: Camera,
    target: Camera,
    target_to_source: "Float[Tensor, '*b 3 3'] | None" = None,
    *,
    supersample: int = 1,
    mode: Literal["bilinear", "nearest", "bicubic"] = "bilinear",
) -> "tuple[Float[Tensor, 'b c h_out w_out'], Bool[Tensor, 'b 1 h_out w_out']]":
    """What `target` sees of the far scene that `source` sees in `image`, turned by the rotation (or pose) from the
    target's frame to the source's; and where it sees it. Unseen pixels are zero.

    `supersample`² samples a pixel are averaged, against aliasing where the source is finer than the target.
    Cameras and rotation may hold one value for each sample.
    """
    fine = target.resized(target.height * supersample, target.width * supersample)
    rays, seen = fine.rays(image.device, torch.float64 if image.dtype == torch.float64 else torch.float32)
    rays = rays.expand(image.shape[0], fine.height, fine.width, 3)
    if target_to_source is not None:
        rays = rotate(target_to_source.to(rays.dtype), rays)
    pixels, valid = source.project(rays)
    valid = (valid & seen)[:, None]
    values = sample(image, pixels, wrap=isinstance(source, Equirectangular), mode=mode) * valid
    if supersample > 1:
        share = F.avg_pool2d(valid.to(values.dtype), supersample)
        values = F.avg_pool2d(values, supersample) / share.clamp(min=1e-6)
        valid = share > 0
    return values, valid


def rotate_panorama(
    panorama: "Float[Tensor, 'b c h w']", rotation: "Float[Tensor, '*b 3 3']"
) -> "Float[Tensor, 'b c h w']":
    """The panorama as seen by a camera that `rotation` turns: what it shows at ray r was at rotation · r."""
    sphere = Equirectangular(*panorama.shape[-2:])
    return resample(panorama, sphere, sphere, rotation)[0]


def shrink(image: "Float[Tensor, 'b c h w']", height: int, width: int) -> "Float[Tensor, 'b c height width']":
    """Area-averaged smaller image: every new pixel is the mean of the old ones that it covers, for any ratio.
    A panorama needs no padding for it."""
    return _average(_average(image.float(), height, -2), width, -1)


def _average(image: Tensor, size: int, dim: int) -> Tensor:
    old = image.shape[dim]
    if old % size == 0:
        return image if old == size else image.unflatten(dim, (size, old // size)).mean(dim=dim)
    # The integral of a piecewise constant image is piecewise linear: interpolate it at the new pixels' edges.
    integral = F.pad(image.double().movedim(dim, -1).cumsum(dim=-1), (1, 0))
    edges = torch.arange(size + 1, dtype=torch.float64, device=image.device) * (old / size)
    left = edges.long().clamp(max=old - 1)
    at_edges = torch.lerp(integral[..., left], integral[..., left + 1], edges - left)
    return (at_edges.diff(dim=-1) * (size / old)).movedim(-1, dim).to(image.dtype)
