"""Lenses by name and field of view."""

import math
from typing import Literal, TypeAlias

import torch

from salticid.errors import ConfigError
from salticid.geometry.cameras import UCM, DoubleSphere, KannalaBrandt, Lens, Pinhole

LensName: TypeAlias = Literal["pinhole", "ucm", "kannala_brandt", "double_sphere"]
Shape: TypeAlias = tuple[float, ...]

MODELS: dict[str, type[Lens]] = {
    "pinhole": Pinhole,
    "ucm": UCM,
    "kannala_brandt": KannalaBrandt,
    "double_sphere": DoubleSphere,
}
SHAPES: dict[str, Shape] = {
    "pinhole": (),
    "ucm": (0.9,),
    "kannala_brandt": (-0.02, 0.0, 0.0, 0.0),
    "double_sphere": (-0.2, 0.59),
}
"""Parameters besides focal lengths and principal point: ξ; k1 … k4; ξ, α."""
VIEWS = {"pinhole": (60.0, 80.0)} | dict.fromkeys(("ucm", "kannala_brandt", "double_sphere"), (150.0, 170.0))
"""Horizontal fields of view, degrees."""


def lens_of_view(name: LensName, size: tuple[int, int], view: float, shape: Shape | None = None) -> Lens:
    """A lens with square pixels and the principal point in the middle.

    Args:
        size: height and width, pixels.
        view: angle between the left and the right edge of the image, degrees.
        shape: parameters as in `SHAPES`; None: those.

    Raises:
        ConfigError: another number of parameters, or a lens that does not see that much.
    """
    shape = SHAPES[name] if shape is None else shape
    if len(shape) != len(SHAPES[name]):
        raise ConfigError(f"data.shape: a {name} lens takes {len(SHAPES[name])} parameters, got {len(shape)}")
    half, middle = math.radians(view) / 2, ((size[1] - 1) / 2, (size[0] - 1) / 2)
    unit = MODELS[name](*size, 1.0, 1.0, *middle, *shape)
    if not half < float(unit.limit):
        most = 2 * math.degrees(float(unit.limit))
        raise ConfigError(f"data.view: a {name} lens of these parameters sees {most:.1f}°, not {view:g}°")
    edge = unit.project(torch.tensor((math.sin(half), 0.0, math.cos(half))))[0][0].item() - middle[0]
    focal = size[1] / 2 / edge
    return MODELS[name](*size, focal, focal, *middle, *shape)
