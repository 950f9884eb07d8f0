"""What happens to a decoded pair before it is a sample: flip, resize, random crop, colour jitter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from salticid.errors import ConfigError

if TYPE_CHECKING:
    from jaxtyping import Float, Shaped, UInt8

Resampling = Literal["nearest", "area"]

GREY = (0.299, 0.587, 0.114)
"""Weights of red, green and blue (ITU-R BT.601)."""


@dataclass(frozen=True)
class ColourJitter:
    """How much the colours of training pictures vary: every factor is drawn uniformly from [1 − strength,
    1 + strength], and 0 draws nothing. One after the other: levels are multiplied (brightness), moved away from the
    picture's mean grey (contrast), moved away from each pixel's grey (saturation); clipped each time.

    Raises:
        ConfigError: a strength outside [0, 1].
    """

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0

    def __post_init__(self) -> None:
        for name, strength in vars(self).items():
            if not 0 <= strength <= 1:
                raise ConfigError(f"data.jitter.{name} is {strength}; expected 0 to 1")

    def __bool__(self) -> bool:
        return any(vars(self).values())


def jittered(image: Float[Tensor, "3 h w"], jitter: ColourJitter, generator: Generator) -> Float[Tensor, "3 h w"]:
    """The picture, [−1, 1], in other colours."""
    brightness, contrast, saturation = (
        1 + strength * (2 * float(torch.rand((), generator=generator)) - 1) for strength in vars(jitter).values()
    )
    level = ((image + 1) / 2 * brightness).clamp(0, 1)
    level = _away(level, grey(level).mean(), contrast)
    level = _away(level, grey(level), saturation)
    return 2 * level - 1


def grey(level: Float[Tensor, "3 h w"]) -> Float[Tensor, "1 h w"]:
    return torch.einsum("chw,c->hw", level, torch.tensor(GREY))[None]


def _away(level: Tensor, centre: Tensor, factor: float) -> Tensor:
    return (centre + factor * (level - centre)).clamp(0, 1)


def resized(planes: Shaped[Tensor, "c h w"], size: tuple[int, int], resampling: Resampling) -> Shaped[Tensor, "c H W"]:
    """Planes at another size: the nearest pixel's value (nearest-exact: the pixel under the new one's centre), or the
    mean over the new pixel's area, as float32."""
    if planes.shape[-2:] == size:
        return planes
    if resampling == "area":
        return F.interpolate(planes[None].float(), size, mode="area")[0]
    return F.interpolate(planes[None], size, mode="nearest-exact")[0]


def corner(image: UInt8[Tensor, "3 h w"], crop: tuple[int, int], generator: Generator | None) -> tuple[int, int]:
    """Row and column at which to cut `crop` out of a picture that is as large or larger: at random, or without a
    generator from the middle."""
    room = image.shape[-2] - crop[0], image.shape[-1] - crop[1]
    if generator is None:
        return room[0] // 2, room[1] // 2
    top, left = (int(torch.randint(free + 1, (), generator=generator)) for free in room)
    return top, left
