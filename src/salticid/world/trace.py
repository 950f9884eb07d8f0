"""Rays against solids: nearest hits and soft shadows.

All solids of a kind are met by all rays of a block at once, (axis, solid, ray) tensors in the solids' own frames, in
float32. A block holds a few thousand rays, so that these stay in the cache; solids whose bounding sphere no ray of
the block can meet are left out, which changes no result. Values, not masks, carry misses: selecting is slow.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from salticid.world.scene import Light, Solids

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

FAR = 1e9
"""Metres, beyond any hit."""
_NEVER = 1e20
"""Turns the smallest difference of two distances into one beyond `FAR`, without overflow."""
_NEAREST = 1e-3
"""Metres: nearer is the surface itself."""


def closest(
    solids: Solids, origin: "Float[Tensor, '3']", rays: "Float[Tensor, '3 p']"
) -> "tuple[Float[Tensor, 'p'], Int[Tensor, 'p']]":
    """Distance to the nearest solid along unit `rays` from one origin, and its number.

    Where nothing is hit: the inside of the shell, if there is one, else a distance ≥ `FAR` and number 0.
    """
    near = _in_cone(solids, origin, rays)
    distance, number = rays.new_full(rays.shape[1:], FAR), rays.new_zeros(rays.shape[1:], dtype=torch.uint8)
    if solids.shell:
        shell = slice(len(solids) - 1, len(solids))
        leave = _box_span(*_local(solids, shell, origin, rays))[1][0]
        distance, number = leave, torch.full_like(number, len(solids) - 1)
    for chosen, span in _groups(solids, near):
        enter, leave = span(*_local(solids, chosen, origin, rays))
        miss = (enter - leave).relu_().add_((_NEAREST - enter).relu_())
        enter.add_(miss.mul_(_NEVER))
        first = enter.amin(0)
        which = ((enter == first) * chosen.to(torch.uint8)[:, None]).amax(0)
        number = torch.where(first < distance, which, number)
        distance = torch.minimum(distance, first)
    return distance, number.long()


def lit(solids: Solids, light: Light, points: "Float[Tensor, '3 p']") -> "Float[Tensor, 'p']":
    """Share of the light that reaches each point past all solids, from 0 to 1.

    A convex solid dims the light by the length of the chord that it cuts from the shadow ray, relative to its
    distance from the point: continuous at silhouettes, sharp near contact.
    """
    dark = points.new_zeros(points.shape[1:])
    if light.sun:
        near = _in_beam(solids, light.position, points)
    else:
        rays = points - light.position[:, None]
        length = torch.linalg.vector_norm(rays, dim=0)
        rays = rays / length
        near = _in_cone(solids, light.position, rays)
    for chosen, span in _groups(solids, near):
        if light.sun:
            gap, leave = span(*_local(solids, chosen, points, light.position))
            chord = leave - gap
        else:
            enter, leave = span(*_local(solids, chosen, light.position, rays))
            gap, chord = length - leave, leave - enter
        shade = chord.div_((light.softness * gap).add_(_NEAREST).clamp_(min=_NEAREST)).clamp_(0, 1)
        shade *= gap.sub_(_NEAREST).mul_(1e3).clamp_(0, 1)
        dark = torch.maximum(dark, shade.amax(0))
    return 1 - dark


_Span = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def _groups(solids: Solids, keep: "Bool[Tensor, 'n']") -> "Iterator[tuple[Int[Tensor, 'n'], _Span]]":
    """Numbers of the solids to keep, boxes and round ones, with the function that intersects them."""
    boxes, rounds = keep[: solids.boxes].nonzero()[:, 0], keep[solids.rounds].nonzero()[:, 0] + solids.boxes
    if len(boxes):
        yield boxes, _box_span
    if len(rounds):
        weight = 1 - solids.cylinder.index_select(0, rounds)[:, None]
        yield rounds, lambda origins, rays: _round_span(origins, rays, weight)


def _in_cone(solids: Solids, origin: "Float[Tensor, '3']", rays: "Float[Tensor, '3 p']") -> "Bool[Tensor, 'n']":
    """Solids whose bounding sphere meets the cone around the rays from `origin`."""
    axis = torch.nn.functional.normalize(rays.mean(1), dim=0)
    opening = torch.acos((axis @ rays).amin().clamp(-1, 1))
    towards = solids.centres - origin
    length = torch.linalg.vector_norm(towards, dim=1)
    angle = torch.acos(((towards @ axis) / length).clamp(-1, 1))
    around = torch.asin((solids.radii / length).clamp(max=1))
    return (length <= solids.radii) | (angle <= opening + around + 1e-3)


def _in_beam(solids: Solids, towards: "Float[Tensor, '3']", points: "Float[Tensor, '3 p']") -> "Bool[Tensor, 'n']":
    """Solids whose bounding sphere meets the beam of parallel rays from the points `towards` the sun."""
    across = torch.linalg.cross(towards, towards.roll(1) + 0.1)
    frame = torch.stack((across / across.norm(), torch.linalg.cross(towards, across) / across.norm(), towards))
    centres, points = solids.centres @ frame.T, frame @ points
    low, high = points.amin(1), points.amax(1)
    high[2] = FAR
    reach = solids.radii[:, None] + 1e-3
    return ((centres + reach >= low) & (centres - reach <= high)).all(1)


def _local(
    solids: Solids, chosen: "Int[Tensor, 'n'] | slice", origins: Tensor, rays: Tensor
) -> "tuple[Float[Tensor, '3 n p'], Float[Tensor, '3 n p']]":
    """Origins and directions in the frames of the unit solids; either may be one for all, (3,), which gives p = 1."""
    axes = solids.inverse[chosen].transpose(0, 1)
    flat = axes.reshape(-1, 3)
    shape = (3, axes.shape[1], -1)
    origins = torch.addmm(solids.offsets[chosen].t().reshape(-1, 1), flat, origins.reshape(3, -1)).reshape(shape)
    rays = (flat @ rays.reshape(3, -1)).reshape(shape)
    return origins, rays.add_(1e-12)  # never zero, so that no slab gives 0·∞


def _box_span(origins: Tensor, rays: Tensor) -> tuple[Tensor, Tensor]:
    """Where rays enter and leave [−1, 1]³ (slabs): a miss where they leave before they enter."""
    slope = rays.reciprocal_()
    middle = origins * slope
    half = slope.abs_()
    return (middle + half).neg_().amax(0), (half - middle).amin(0)


def _round_span(origins: Tensor, rays: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Where rays enter and leave the unit ball (weight 1) or the unit cylinder (weight 0), within |y| ≤ 1."""
    (ox, oy, oz), (dx, dy, dz) = origins, rays
    wy = weight * dy
    a = (dx * dx).add_(wy * dy).add_(dz * dz)
    b = (ox * dx).add_(oy * wy).add_(oz * dz)
    c = (ox * ox).add_(weight * oy * oy).add_(oz * oz).sub_(1)
    square = (b * b).sub_(a * c)
    miss = (-square).relu_().mul_(_NEVER)
    root = square.relu_().sqrt_()
    slope = dy.reciprocal()
    middle, half = oy * slope, slope.abs_()
    enter = torch.maximum((-b - root).div_(a), -(middle + half)).add_(miss)
    return enter, torch.minimum((root - b).div_(a), half - middle)
