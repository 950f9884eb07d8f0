"""The target as it would look if depth and motion, or optical flow, were right: source frames looked up."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from salticid.data.motion import lens_of
from salticid.geometry.cameras import pixel_grid
from salticid.geometry.warp import reproject_maps, sample
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
    maps, height, width = depth.shape[1:]
    camera = lens_of(motions.intrinsics, height, width)
    found = reproject_maps(depth, camera, motions.to_source, camera, measure=measure)
    # Map under map, so that a source is read as it is, not copied for each of them.
    looked = [sample(*pair) for pair in zip(sources.unbind(1), found.pixels.flatten(2, 3).unbind(1), strict=True)]
    images = torch.stack([image.unflatten(2, (maps, height)).transpose(1, 2) for image in looked], dim=2)
    return Synthesis(images, *(field.transpose(1, 2) for field in (found.valid, found.pixels, found.distance_b)))


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
