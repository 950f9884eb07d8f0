"""The sky: a gradient, a sun with its glow, clouds and two rows of hills, all at infinity."""

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from salticid.world.scene import Light, Sky

if TYPE_CHECKING:
    from jaxtyping import Float


def radiance(sky: Sky, light: Light, rays: "Float[Tensor, '3 p']") -> "Float[Tensor, '3 p']":
    """Linear-light colour seen along unit rays."""
    x, y, z = rays
    up = (-y).clamp_(min=0)
    colour = torch.lerp(sky.horizon[:, None], sky.zenith[:, None], up.sqrt())
    towards = (light.position @ rays).clamp_(min=0)
    glow = towards.pow(12).mul_(0.18).add_(towards.pow(400), alpha=0.6)
    colour += light.colour[:, None] * glow
    colour += light.colour[:, None] * ((towards - math.cos(0.035)) * 2500).clamp_(0, 1).mul_(3)
    lit = 0.75 + 0.25 * light.colour[:, None] + 0.4 * glow
    colour = torch.lerp(colour, lit, _clouds(sky, x, up, z))
    return _hills(sky, colour, x, y, z)


def _clouds(sky: Sky, x: Tensor, up: Tensor, z: Tensor) -> Tensor:
    """Opacity of a flat layer of clouds: warped sines over the plane that the ray meets, thinning at the horizon."""
    reach = 1 / (up + 0.12)
    u, v = x * reach * 1.1 + sky.phase, z * reach * 1.1 + 2.3 * sky.phase
    large = torch.sin(u + 1.6 * torch.sin(0.7 * v + 0.4 * u))
    medium = torch.sin(2.3 * v - 1.1 * u + 1.9 * large)
    small = torch.sin(5.3 * u + 3.1 * v + 2.2 * medium)
    finest = torch.sin(9.7 * v - 8.3 * u + 2.0 * small)
    density = 0.45 * large + 0.3 * medium + 0.16 * small + 0.09 * finest
    density = (density + (2 * sky.cover - 1)).mul_(1.6).clamp_(0, 1)
    return (density * density * (3 - 2 * density)).mul_((up * 6).clamp_(max=0.9))


def _hills(sky: Sky, colour: Tensor, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    """Two rows of hills, the far one paler, and the far ground below the horizon. Sines of whole multiples of the
    azimuth close around the circle."""
    azimuth = torch.atan2(x, z)
    flat = torch.sqrt(x * x + z * z)
    slope = -y / flat.clamp(min=1e-6)
    for row, (haze, first) in enumerate(((0.6, 3), (0.25, 5))):
        phase = sky.phase * (3 + row)
        height = torch.sin(first * azimuth + phase) + 0.5 * torch.sin((2 * first + 1) * azimuth + 2 * phase)
        height += 0.22 * torch.sin((5 * first + 2) * azimuth + 3 * phase)
        top = sky.relief * (1 - 0.35 * row) * (0.9 + 0.55 * height)
        inside = ((top - slope) * 250).clamp_(0, 1)
        colour = torch.lerp(colour, torch.lerp(sky.hills, sky.horizon, haze)[:, None], inside)
    below = (-slope * 250).clamp_(0, 1)
    return torch.lerp(colour, torch.lerp(sky.ground, sky.horizon, 0.5)[:, None], below)
