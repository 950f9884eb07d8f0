"""Paints hit points: the two layers of `materials.py`, limited to what a pixel can resolve."""

import torch
from torch import Tensor

from salticid.world.materials import FIELDS

_Fields = dict[str, Tensor]


def paint(materials: Tensor, ids: Tensor, u: Tensor, v: Tensor, footprint: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Colour, gloss and glow of surface points.

    Args:
        materials: float (F, M), the fields of every material (`Scene.materials`).
        ids: integer (P,), the material of each point.
        u, v: float (P,), position on the surface, m.
        footprint: float (P,), size of a pixel on the surface, m. Detail finer than this fades to its mean.

    Returns:
        Linear-light colour (3, P) in [0, 1], gloss (P,) and glow (P,).
    """
    rows = materials.index_select(1, ids)
    field = dict(zip(FIELDS, rows.unbind(), strict=True))
    wave = _wave(field, u, v, footprint)
    mix, shade, line = _grid(field, u, v, footprint)
    mix += field["marble"] * (0.5 + 0.5 * wave)
    shade += field["grain"] * wave
    colour = torch.lerp(rows[0:3], rows[3:6], mix.clamp_(0, 1)).mul_(shade)
    return torch.lerp(colour, rows[6:9], line).clamp_(0, 1), field["gloss"], field["glow"]


def _wave(field: _Fields, u: Tensor, v: Tensor, footprint: Tensor) -> Tensor:
    """Four octaves of sines, each bent by the one before; about [−1, 1]. An octave fades out where its local
    wavelength nears two pixels."""
    warp, rough, phase = field["warp"], field["rough"], field["phase"]
    x, y = field["wave_u"] * u + phase, field["wave_v"] * v + 1.7 * phase
    detail = torch.maximum(field["wave_u"], field["wave_v"]).mul_(footprint).mul_(1 + 0.5 * warp)
    fade = lambda octave: (2 - octave * detail).clamp_(0, 1)  # noqa: E731
    first = torch.sin(x + warp * torch.sin(0.8 * y + 0.3 * x))
    second = torch.sin(1.9 * y - 1.1 * x + warp * first)
    third = torch.sin(4.3 * x + 2.7 * y + 1.5 * warp * second)
    fourth = torch.sin(9.1 * y - 7.3 * x + warp * third)
    fine = (0.5 * second).mul_(fade(2.2)).add_((0.3 * third).mul_(fade(5.1))).add_((0.2 * fourth).mul_(fade(11.7)))
    return first.mul_(fade(1.0)).add_(fine.mul_(rough)).div_(1 + 0.6 * rough)


def _grid(field: _Fields, u: Tensor, v: Tensor, footprint: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Share of the second colour, brightness, and share of the line colour, from the cells of a grid.

    Edges are box-filtered over the footprint; cells smaller than a pixel give their mean.
    """
    per_u, per_v = field["cell_u"].reciprocal(), field["cell_v"].reciprocal()
    y = (v * per_v).add_(0.5)
    row = y.floor()
    x = (u * per_u).add_(0.5).add_(field["bond"] * row).add_(_golden(row).mul_(field["random_bond"]))
    column = x.floor()
    x = x.sub_(column).sub_(0.5)  # from the middle of the cell, in cells
    y = y.sub_(row).sub_(0.5)
    edge_u, edge_v = x.abs().neg_().add_(0.5), y.abs().neg_().add_(0.5)
    pixels_u, pixels_v = footprint * per_u, footprint * per_v
    resolved = (1.5 - 2 * torch.maximum(pixels_u, pixels_v)).clamp_(0, 1)
    ramp = (2 * edge_u / pixels_u).clamp_(max=1).mul_((2 * edge_v / pixels_v).clamp_(max=1)).mul_(resolved)

    chance, parity = _hash(column, row)
    mix = field["check"] * (0.5 - 0.5 * parity * ramp) + field["pick"] * (0.5 + chance * ramp)
    shade = 1 + field["tint"] * ramp * _golden(64 * chance).sub_(0.5)

    width = field["line_width"]
    edge = torch.minimum(edge_u * field["cell_u"], edge_v * field["cell_v"])
    reach = torch.minimum(footprint, 2 * width)
    line = torch.minimum((width + 0.5 * footprint - edge).clamp_(min=0), reach).div_(footprint)
    dot = field["dot"]
    radius = torch.sqrt((x * field["cell_u"]).square_().add_((y * field["cell_v"]).square_()))
    disc = torch.minimum((dot + 0.5 * footprint - radius).clamp_(min=0), torch.minimum(footprint, 2 * dot)).div_(
        footprint
    )
    mean = 2 * width * (per_u + per_v) + 3.14 * dot.square() * per_u * per_v
    return mix, shade, torch.lerp(mean, torch.maximum(line, disc), resolved)


def _golden(n: Tensor) -> Tensor:
    """Multiples of the golden ratio modulo 1: an even spread for consecutive n."""
    spread = n * 0.6180339
    return spread.sub_(spread.floor())


def _hash(column: Tensor, row: Tensor) -> tuple[Tensor, Tensor]:
    """A random number in [−½, ½) and the chequerboard sign of each cell, from integer arithmetic alone, so that it
    is the same on every machine."""
    i, j = column.int(), row.int()
    h = i * 374761393 + j * 668265263
    h = (h ^ (h >> 13)) * 1274126177
    chance = ((h >> 9) & 0xFFFF).float().mul_(1 / 65536).sub_(0.5)
    return chance, ((i + j) & 1).float().mul_(-2).add_(1)
