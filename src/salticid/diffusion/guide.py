"""Guidance: wrappers around `denoise`. Without guidance there is no wrapper.

A scale over frames or views is a tensor (frames,): what each place in the clip is guided by. A grid of frames × views
is one clip of frames · views places, views innermost (SV4D's order): place = frame · views + view.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from salticid.diffusion.path import precision
from salticid.diffusion.solve import Denoise
from salticid.errors import ConfigError

if TYPE_CHECKING:
    from jaxtyping import Float


def classifier_free(
    denoise: Denoise, scale: float | Float[Tensor, " frames"], *, frame_axis: Literal[0, 1] = 0
) -> Denoise:
    """Classifier-free guidance (Ho & Salimans 2022), with both predictions from one call on a doubled batch.

    Args:
        denoise: bound to conditions of twice the batch, the unconditional ones first.
        scale: 0 is the unconditional prediction, 1 the conditional one; or a scale for each frame (`linear_scale`,
            `triangle_scale`, `spatiotemporal_scale`).
        frame_axis: where the frames of x lie: 0 for (clips · frames, ...) with frames innermost, 1 for
            (clips, frames, ...). Without meaning for a single scale.

    Raises:
        ConfigError: when called with x that is no whole number of clips, or has another number of frames.
    """

    def guided(x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        weight = _placed(scale, x, frame_axis) if isinstance(scale, Tensor) else scale
        times = torch.cat([t, t]) if t.ndim else t
        # x0 and eps are affine in the output, so that guiding both is guiding it, and they still add up to x.
        (x0_free, x0), (eps_free, eps) = (pair.chunk(2) for pair in denoise(torch.cat([x, x]), times))
        return x0_free + weight * (x0 - x0_free), eps_free + weight * (eps - eps_free)

    return guided


def linear_scale(frames: int, low: float, high: float) -> Float[Tensor, " frames"]:
    """From `low` at the given first frame to `high` at the last (Stable Video Diffusion: 1 to 2.5 or 3)."""
    return torch.linspace(low, high, frames)


def triangle_scale(frames: int, low: float, high: float) -> Float[Tensor, " frames"]:
    """From `low` up to `high` halfway and back: for orbits, which end where they start (SV3D: 1, 2.5, 1)."""
    return low + (high - low) * (1 - (2 * torch.linspace(0, 1, frames) - 1).abs())


def spatiotemporal_scale(frames: int, views: int, low: float, high: float) -> Float[Tensor, " frames_times_views"]:
    """From `low` at the given first frame and view: half of the rise along time, half over the orbit and back (SV4D).

    ½ linear over frames + ½ triangle over views; `high` is reached halfway round the orbit in the last frame alone.
    With one frame or one view, that half of the rise is missing: a lone orbit wants `triangle_scale`, a lone video
    `linear_scale`.

    Returns:
        (frames · views,), views innermost.
    """
    rise = linear_scale(frames, 0, 0.5)[:, None] + triangle_scale(views, 0, 0.5)
    return low + (high - low) * rise.flatten()


def _placed(scale: Tensor, x: Tensor, frame_axis: int) -> Tensor:
    """The scale in the precision of x, ready to multiply it."""
    scale = scale.to(x.device, precision(x))
    if frame_axis == 1:
        if x.shape[1] != len(scale):
            raise ConfigError(f"guidance: clips of {x.shape[1]} frames, and scales for {len(scale)}")
        return scale.reshape(-1, *[1] * (x.ndim - 2))
    if len(x) % len(scale):
        raise ConfigError(f"guidance: {len(x)} frames are no whole number of clips of {len(scale)}")
    return scale.repeat(len(x) // len(scale)).reshape(-1, *[1] * (x.ndim - 1))
