"""The target as it would look if depth and motion, or optical flow, were right: source frames looked up."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from salticid.data.motion import lens_of
from salticid.geometry.cameras import pixel_grid
from salticid.geometry.warp import reproject, sample
from salticid.recipes.sfm.model import Motions
from salticid.recipes.sfm.settings import Measure


class Synthesis(NamedTuple):
    """Of K sources, for each of S depth maps."""

    images: Tensor
    """(B, S, K, 3, H, W)"""
    valid: Tensor
    """bool (B, S, K, H, W): inside the source's picture."""
    pixels: Tensor
    """(B, S, K, H, W, 2), where the source shows what the target does."""
    far: Tensor
    """(B, S, K, H, W), depth (or distance) from the source's camera."""


def synthesise(sources: Tensor, depth: Tensor, motions: Motions, measure: Measure) -> Synthesis:
    """Source frames (B, K, 3, H, W) looked up at depths (B, S, H, W)."""
    batch, maps, height, width = depth.shape
    camera = lens_of(motions.intrinsics.repeat_interleave(maps, dim=0), height, width)
    flat = depth.flatten(0, 1)[:, None]
    parts = []
    for k in range(sources.shape[1]):
        motion = motions.to_source[:, k].repeat_interleave(maps, dim=0)
        found = reproject(flat, camera, motion, camera, measure=measure)
        pixels = found.pixels.unflatten(0, (batch, maps))
        # Map under map, so that the source is read as it is, not copied for each of them.
        looked = sample(sources[:, k], pixels.flatten(1, 2)).unflatten(2, (maps, height)).transpose(1, 2)
        parts.append(Synthesis(looked, found.valid.view(depth.shape), pixels, found.distance_b.view(depth.shape)))
    return Synthesis(*(torch.stack(field, dim=2) for field in zip(*parts, strict=True)))


def upsampled(maps: list[Tensor], size: tuple[int, int]) -> Tensor:
    """Maps (B, C, h, w) by scale → (B, S, C, H, W), bilinearly."""
    return torch.stack(
        [
            level if level.shape[-2:] == size else F.interpolate(level, size, mode="bilinear", align_corners=False)
            for level in maps
        ],
        dim=1,
    )


def moved_by_flow(sources: Tensor, flow: Tensor) -> Tensor:
    """Sources (B, 3, H, W) looked up at flows (B, S, 2, H, W), pixels: (B, S, 3, H, W)."""
    maps, (height, width) = flow.shape[1], flow.shape[-2:]
    pixels = pixel_grid(height, width, flow.device) + flow.movedim(2, -1)
    return sample(sources, pixels.flatten(1, 2)).unflatten(2, (maps, height)).transpose(1, 2)
