"""Rays against solids: nearest hits and soft shadows.

Rays come in tiles of neighbours. A tile meets only solids whose bounds it may hit; these (tile, solid) pairs are what
is computed, all of a kind at once, as (pair, ray) arrays in the solids' own frames. The pairs of a tile are then folded
in rounds: with the tiles in order of how many pairs they have, round r is an operation on a leading slice, and nothing
is gathered. Misses are carried by values (far away), not by masks: selecting is slow.
"""

from collections.abc import Iterator
from dataclasses import dataclass
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
    solids: Solids,
    origins: "Float[Tensor, 't 3']",
    rays: "Float[Tensor, '3 t s']",
    moments: "Int[Tensor, 't'] | None" = None,
) -> "tuple[Float[Tensor, 't s'], Int[Tensor, 't s']]":
    """Distance to the nearest solid along unit `rays` from the origin of their tile, and its number; of solids at
    several moments, those at the tile's.

    Where nothing is hit: the inside of the shell, if there is one, else a distance ≥ `FAR` and number 0.
    """
    if solids.shell:
        shell = torch.full((rays.shape[1],), len(solids) - 1)
        distance = _box_span(*_local(solids, shell, origins.t()[..., None], rays))[1]
        number = torch.full_like(distance, len(solids) - 1)
    else:
        distance, number = rays.new_full(rays.shape[1:], FAR), rays.new_zeros(rays.shape[1:])
    keep = _in_view(solids, origins, rays) & _there(solids, moments)
    for pairs in _pairs(solids, keep):
        enter, leave = pairs.span(solids, origins.t()[..., None], rays)
        enter.add_((enter - leave).relu_().add_((_NEAREST - enter).relu_()).mul_(_NEVER))
        best, which = distance.index_select(0, pairs.order), number.index_select(0, pairs.order)
        for one, solid in pairs.rounds(enter, pairs.solid.float()[:, None]):
            old = best[: len(one)]
            which[: len(one)].lerp_(solid, (one < old).float())  # exact: the weight is 0 or 1
            torch.minimum(old, one, out=old)
        distance[pairs.order], number[pairs.order] = best, which
    return distance, number.long()


def lit(
    solids: Solids, light: Light, points: "Float[Tensor, '3 t s']", moments: "Int[Tensor, 't'] | None" = None
) -> "Float[Tensor, 't s']":
    """Share of the light that reaches each point past all solids (of several moments, past those of its tile's), from 0
    to 1.

    A convex solid dims the light by the length of the chord that it cuts from the shadow ray, relative to its
    distance from the point: continuous at silhouettes, sharp near contact.
    """
    bright = points.new_ones(points.shape[1:])
    there = _there(solids, moments)
    for pairs, gap, chord in (_past_sun if light.sun else _past_lamp)(solids, light.position, points, there):
        past = 1 - chord.div_((light.softness * gap).add_(_NEAREST).clamp_(min=_NEAREST)).clamp_(0, 1)
        past = torch.maximum(past, 1 - gap.sub_(_NEAREST).mul_(1e3).clamp_(0, 1))  # nothing in between
        best = bright.index_select(0, pairs.order)
        for (one,) in pairs.rounds(past):
            torch.minimum(best[: len(one)], one, out=best[: len(one)])
        bright[pairs.order] = best
    return bright


def _past_sun(
    solids: Solids, towards: Tensor, points: Tensor, there: Tensor
) -> "Iterator[tuple[_Pairs, Tensor, Tensor]]":
    """Pairs, distance from the points to the solid and chord through it, towards a sun."""
    for pairs in _pairs(solids, _in_beam(solids, towards, points) & there):
        gap, leave = pairs.span(solids, points, towards[:, None, None])
        yield pairs, gap, leave.sub_(gap)


def _past_lamp(
    solids: Solids, position: Tensor, points: Tensor, there: Tensor
) -> "Iterator[tuple[_Pairs, Tensor, Tensor]]":
    """The same towards a lamp, with rays from the lamp: a common origin makes them cheaper."""
    position = position[:, None, None]
    rays = points - position
    length = rays.square().sum(0).sqrt_()
    rays /= length
    for pairs in _pairs(solids, _in_view(solids, position[:, 0].t(), rays) & there):
        enter, leave = pairs.span(solids, position, rays)
        yield pairs, length.index_select(0, pairs.tile).sub_(leave), leave - enter.clamp_(min=0)


# which tile may meet which solid --------------------------------------------------------------------------------


def _in_view(solids: Solids, origins: Tensor, rays: "Float[Tensor, '3 t s']") -> "Bool[Tensor, 't n']":
    """Whether a tile's rays may meet a solid: its bounding box against the pyramid around the rays. `origins` (t, 3)
    may be (1, 3)."""
    axis = torch.nn.functional.normalize(rays.mean(2), dim=0)
    across = torch.nn.functional.normalize(torch.linalg.cross(axis, axis.roll(1, 0) + 0.1, dim=0), dim=0)
    frame = torch.stack((across, torch.linalg.cross(axis, across, dim=0), axis))[..., None]
    x, y, z = combine(frame.transpose(0, 1), rays)
    wide = z.amin(1) < 0.05  # a pyramid no more
    z = z.clamp_(min=0.05).reciprocal_()
    sides = []
    for slope, direction in ((x.mul_(z), frame[0, ..., 0]), (y.mul_(z), frame[1, ..., 0])):
        sides += [direction - (slope.amax(1) + 1e-3) * axis, (slope.amin(1) - 1e-3) * axis - direction]
    normals = torch.stack(sides).permute(0, 2, 1)  # (4, t, 3), outwards
    out = normals @ solids.centres.t() - (normals * origins).sum(-1, keepdim=True)
    for half_axis in solids.axes.unbind(-1):
        out -= (normals @ half_axis.t()).abs_()
    return (out.amax(0) <= 1e-3) | wide[:, None]


def _in_beam(solids: Solids, towards: "Float[Tensor, '3']", points: "Float[Tensor, '3 t s']") -> "Bool[Tensor, 't n']":
    """Whether the shadow of a solid, parallel to `towards`, may fall on a tile's points: by their bounds in a frame
    along the light."""
    first = torch.nn.functional.normalize(torch.linalg.cross(towards, towards.roll(1) + 0.1), dim=0)
    frame = torch.stack((first, torch.linalg.cross(towards, first), towards))
    points = (frame @ points.reshape(3, -1)).reshape(points.shape)
    low, high = points.amin(2)[..., None], points.amax(2)[..., None]
    centres, reach = frame @ solids.centres.t(), (frame @ solids.axes).abs().sum(-1).t() + 1e-3
    first, last = centres - reach, centres + reach
    across = [(last[i] >= low[i]) & (first[i] <= high[i]) for i in (0, 1)]
    return across[0] & across[1] & (last[2] >= low[2])


def _there(solids: Solids, moments: "Int[Tensor, 't'] | None") -> "Bool[Tensor, 't n'] | Bool[Tensor, '1 1']":
    """Whether a solid is there at the moment of a tile."""
    if solids.moments is None or moments is None:
        return torch.ones(1, 1, dtype=torch.bool)
    return (solids.moments == moments[:, None]) | (solids.moments < 0)


@dataclass(frozen=True)
class _Pairs:
    """Tiles and the solids of one kind that they may meet, round by round."""

    tile: "Int[Tensor, 'k']"
    solid: "Int[Tensor, 'k']"
    order: "Int[Tensor, 'm']"
    """The tiles that have pairs, those with most first: the n-th pair of a round is of tile `order[n]`."""
    counts: list[int]
    """Pairs in each round."""
    box: bool

    def rounds(self, *values: "Float[Tensor, 'k _']") -> Iterator[tuple[Tensor, ...]]:
        """Values of the pairs, one round at a time."""
        return zip(*(value.split(self.counts) for value in values), strict=True)

    def span(
        self, solids: Solids, origins: Tensor, rays: Tensor
    ) -> "tuple[Float[Tensor, 'k s'], Float[Tensor, 'k s']]":
        """Where rays enter and leave the solids. `origins` and `rays` are (3, t or 1, s or 1)."""
        pick = lambda x: x if x.shape[1] == 1 else x.index_select(1, self.tile)  # noqa: E731
        origins, rays = _local(solids, self.solid, pick(origins), pick(rays))
        if self.box:
            return _box_span(origins, rays)
        return _round_span(origins, rays, 1 - solids.cylinder.index_select(0, self.solid)[:, None])


def _pairs(solids: Solids, keep: "Bool[Tensor, 't n']") -> Iterator[_Pairs]:
    for kind, box in ((slice(0, solids.boxes), True), (solids.rounds, False)):
        mine = keep[:, kind]
        counts = mine.sum(1)
        if not bool(counts.any()):
            continue
        counts, order = counts.sort(descending=True, stable=True)
        order = order[: int((counts > 0).sum())]
        mine = mine.index_select(0, order)
        place, solid = mine.nonzero(as_tuple=True)
        rank = mine.cumsum(1)[place, solid]
        rank, by_rank = rank.sort(stable=True)
        place, solid = place[by_rank], solid[by_rank] + kind.start
        yield _Pairs(order[place], solid, order, rank.bincount()[1:].tolist(), box)


# one solid and one ray ------------------------------------------------------------------------------------------


def _local(
    solids: Solids, chosen: "Int[Tensor, 'k']", origins: Tensor, rays: Tensor
) -> "tuple[Float[Tensor, '3 k s'], Float[Tensor, '3 k s']]":
    """Origins and directions in the frames of the unit solids."""
    columns = solids.inverse.index_select(0, chosen).permute(2, 1, 0)[..., None].contiguous()
    offsets = solids.offsets.index_select(0, chosen).t()[..., None]
    # A direction is never exactly zero, so that no slab gives 0·∞.
    return combine(columns, origins).add_(offsets), combine(columns, rays).add_(1e-12)


def combine(vectors: "Float[Tensor, '3 *shape']", weights: "Float[Tensor, '3 *other']") -> Tensor:
    """Weighted sum of three vectors: the product of a matrix, as its columns, and a vector, point by point."""
    (a, b, c), (x, y, z) = vectors.unbind(), weights.unbind()
    return (a * x).add_(b * y).add_(c * z)


def _box_span(origins: Tensor, rays: Tensor) -> tuple[Tensor, Tensor]:
    """Where rays enter and leave [−1, 1]³ (slabs): a miss where they leave before they enter."""
    slope = rays.reciprocal_()
    middle = origins * slope
    half = slope.abs_()
    leave = (half - middle).amin(0)
    return (middle + half).neg_().amax(0), leave


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
