"""What a block of rays sees: surface points, their light, and their colour."""

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from salticid.world import sky as far_sky
from salticid.world.scene import Scene, Solids
from salticid.world.texture import paint
from salticid.world.trace import FAR, combine, lit

if TYPE_CHECKING:
    from jaxtyping import Float, Int

_EXPOSURE = 1.5


class Surface(NamedTuple):
    """Points on solids."""

    points: "Float[Tensor, '3 p']"
    """World, m."""
    normals: "Float[Tensor, '3 p']"
    """Unit, towards the ray's origin."""
    u: "Float[Tensor, 'p']"
    v: "Float[Tensor, 'p']"
    """Position on the surface, m, in the solid's own frame: it moves with the solid."""
    materials: "Int[Tensor, 'p']"


def surface(scene: Scene, solids: Solids, points: Tensor, rays: Tensor, number: Tensor) -> Surface:
    """The surfaces of solids `number` (P,) at `points` (3, P) on them, seen along `rays` (3, P)."""
    round_ = torch.zeros(len(solids))
    round_[solids.rounds] = 1
    kinds = torch.stack((round_, solids.cylinder))
    table = torch.cat((solids.inverse.reshape(-1, 9).t(), solids.offsets.t(), solids.sizes.t(), kinds))
    rows = table.index_select(1, number)
    matrix, offset, sizes, (round_, cylinder) = rows[:9].reshape(3, 3, -1), rows[9:12], rows[12:15], rows[15:]
    unit = combine(matrix.transpose(0, 1), points).add_(offset)
    (x, _, z), (ax, ay, az), (sx, sy, sz) = unit, unit.abs(), unit.sign()
    on_x, on_y = ((ax >= ay) & (ax >= az)).float(), ((ay > ax) & (ay >= az)).float()
    cap = (ay * ay >= x * x + z * z).float().mul_(cylinder)
    side = round_ - cap  # 1 on round sides, 0 on everything flat (boxes: their caps are where on_y)
    on_y = torch.lerp(on_y, cap, round_)
    flat = 1 - round_
    flat_x, flat_z = on_x * flat, (1 - on_x).sub_(on_y).mul_(flat)

    towards = torch.stack((flat_x * sx, on_y * sy, flat_z * sz))  # ±1 along the axis of a flat face
    positive = (towards.sum(0) > 0).float()
    metric_x, metric_y, metric_z = unit * sizes
    unit[1] *= 1 - cylinder * side  # the side of a cylinder is upright
    normals = combine(matrix, towards.add_(unit * side))
    normals *= torch.rsqrt((normals * normals).sum(0).clamp_(min=1e-20)) * -(normals * rays).sum(0).sign()

    around = torch.atan2(x, z).mul_(sizes[0])
    u = torch.lerp(torch.lerp(metric_x, metric_z, flat_x), around, side)
    v = torch.lerp(metric_y, metric_z, on_y)
    face = (2 * on_y + 4 * flat_z).add_(positive).long()
    materials = scene.faces.reshape(-1).index_select(0, number * 6 + face)
    return Surface(points, normals, u, v, materials)


def colour(
    scene: Scene,
    solids: Solids,
    origins: "Float[Tensor, 't 3']",
    rays: "Float[Tensor, '3 t s']",
    distance: "Float[Tensor, 't s']",
    number: "Int[Tensor, 't s']",
    spread: "Float[Tensor, 't']",
    moments: "Int[Tensor, 't']",
) -> "Float[Tensor, '3 t s']":
    """Display colour in [0, 1] along unit rays in tiles, given what they hit (`trace.closest`).

    `spread`: the angle between neighbouring rays of each tile, rad. `moments`: at which of several they look.
    """
    if scene.sky is None:
        return _display(_solid_colour(scene, solids, origins, rays, distance, number, spread, moments))
    missed = distance >= FAR
    distance = torch.where(missed, distance.amin(1, keepdim=True), distance)  # keeps the bounds of a tile small
    linear = torch.empty_like(rays)
    solid, sky = (~missed).any(1).nonzero()[:, 0], missed.any(1).nonzero()[:, 0]
    if len(solid):
        tiles = (origins[solid], rays[:, solid], *(x[solid] for x in (distance, number, spread, moments)))
        linear[:, solid] = _solid_colour(scene, solids, *tiles)
    if len(sky):
        far = far_sky.radiance(scene.sky, scene.light, rays[:, sky].reshape(3, -1)).reshape(3, len(sky), -1)
        linear[:, sky] = torch.where(missed[sky], far, linear[:, sky])
    return _display(linear)


def _solid_colour(
    scene: Scene,
    solids: Solids,
    origins: Tensor,
    rays: Tensor,
    distance: Tensor,
    number: Tensor,
    spread: Tensor,
    moments: Tensor,
) -> "Float[Tensor, '3 t s']":
    shape = rays.shape
    points = (rays * distance).add_(origins.t()[..., None]).reshape(3, -1)
    footprint = (distance * spread[:, None]).reshape(-1)
    rays, distance = rays.reshape(3, -1), distance.reshape(-1)
    seen = surface(scene, solids, points, rays, number.reshape(-1))
    footprint /= (seen.normals * rays).sum(0).neg_().clamp_(min=0.12)
    albedo, gloss, glow = paint(scene.materials, seen.materials, seen.u, seen.v, footprint)
    light, highlight = _light(scene, solids, seen, rays, shape, moments)
    linear = albedo.mul_(light.lerp_(light.new_ones(()), glow)).add_(highlight.mul_(gloss))
    if scene.sky:
        linear = torch.lerp(linear, scene.sky.horizon[:, None], 1 - torch.exp(distance * -scene.sky.fog))
    return linear.reshape(shape)


def _light(
    scene: Scene, solids: Solids, seen: Surface, rays: Tensor, shape: torch.Size, moments: Tensor
) -> tuple[Tensor, Tensor]:
    """Light that falls on points, (3, P), and the highlight that a glossy surface would mirror to the eye (Blinn)."""
    light = scene.light
    if light.sun:
        towards, strength = light.position[:, None].expand_as(rays), 1.0
    else:
        towards = light.position[:, None] - seen.points
        square = (towards * towards).sum(0)
        towards = towards * torch.rsqrt(square)
        strength = 1 / (1 + square / light.reach**2)
    above = (seen.points + seen.normals * 2e-3).reshape(shape)
    shadow = lit(solids, light, above, moments).reshape(-1).mul_(strength)
    direct = (seen.normals * towards).sum(0).clamp_(min=0).mul_(shadow)
    openness = _openness(scene, solids, seen)
    upwards = (0.5 - 0.5 * seen.normals[1]) * openness
    downwards = openness - upwards
    total = light.colour[:, None] * direct + light.above[:, None] * upwards + light.below[:, None] * downwards
    middle = towards - rays
    shine = (seen.normals * middle).sum(0).clamp_(min=0).square_().div_((middle * middle).sum(0).clamp_(min=1e-6))
    return total, light.colour[:, None] * shine.pow_(16).mul_(shadow)


def _openness(scene: Scene, solids: Solids, seen: Surface) -> Tensor:
    """Share of the ambient light that corners leave: of the room, or between things and the ground."""
    if not solids.shell:
        return 1 - 0.5 * torch.exp((seen.points[1] - scene.floor) * 1.8) * (1 - seen.normals[1].square())
    room = len(solids) - 1
    inside = solids.inverse[room] @ seen.points + solids.offsets[room][:, None]
    gaps = (1 - inside.abs()).mul_(solids.sizes[room][:, None])
    near = torch.exp(gaps.clamp_(min=0).mul_(-2.2))
    return 1 - 0.42 * (near.sum(0) - near.amax(0)).clamp_(max=1.6)


def _display(linear: Tensor) -> Tensor:
    """Linear light to display values in [0, 1]: a soft shoulder for bright light, then a gamma of two."""
    return torch.exp(linear * -_EXPOSURE).neg_().add_(1).clamp_(min=0).sqrt_()
