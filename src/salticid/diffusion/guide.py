"""Guidance: wrappers around `denoise`. Without guidance there is no wrapper."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from salticid.diffusion.path import precision
from salticid.diffusion.solve import Denoise
from salticid.errors import ConfigError

if TYPE_CHECKING:
    from jaxtyping import Float


def classifier_free(denoise: Denoise, scale: float | Float[Tensor, " frames"]) -> Denoise:
    """Classifier-free guidance (Ho & Salimans 2022), with both predictions from one call on a doubled batch.

    Args:
        denoise: bound to conditions of twice the batch, the unconditional ones first.
        scale: 0 is the unconditional prediction, 1 the conditional one; or a scale for each frame (`linear_scale`,
            `triangle_scale`) where x is (clips · frames, ...) with frames innermost.

    Raises:
        ConfigError: when called with x that is no whole number of clips.
    """

    def guided(x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        weight = _per_row(scale, x) if isinstance(scale, Tensor) else scale
        # x0 and eps are affine in the output, so that guiding both is guiding it, and they still add up to x.
        (x0_free, x0), (eps_free, eps) = (pair.chunk(2) for pair in denoise(torch.cat([x, x]), t))
        return x0_free + weight * (x0 - x0_free), eps_free + weight * (eps - eps_free)

    return guided


def linear_scale(frames: int, low: float, high: float) -> Float[Tensor, " frames"]:
    """From `low` at the given first frame to `high` at the last (Stable Video Diffusion: 1 to 2.5 or 3)."""
    return torch.linspace(low, high, frames)


def triangle_scale(frames: int, low: float, high: float) -> Float[Tensor, " frames"]:
    """From `low` up to `high` halfway and back: for orbits, which end where they start (SV3D: 1, 2.5, 1)."""
    return low + (high - low) * (1 - (2 * torch.linspace(0, 1, frames) - 1).abs())


def _per_row(scale: Tensor, x: Tensor) -> Tensor:
    if len(x) % len(scale):
        raise ConfigError(f"guidance: {len(x)} frames are no whole number of clips of {len(scale)}")
    rows = scale.to(x.device, precision(x)).repeat(len(x) // len(scale))
    return rows.reshape(-1, *[1] * (x.ndim - 1))
