"""From pictures of any size to their depth: resize, pad, sample, decode, align an ensemble, resize back."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from salticid.recipes.marigold.coding import DepthCoding
from salticid.recipes.marigold.ensemble import Ensemble
from salticid.recipes.marigold.model import MarigoldModel
from salticid.recipes.marigold.settings import Spacing


@dataclass(frozen=True)
class Estimate:
    """What is thought of a batch of pictures."""

    depth: Tensor
    """(B, 1, H, W) in [0, 1] of the coding's space, or metres where the coding is metric."""
    uncertainty: Tensor | None
    """Spread of the ensemble, in the same units; None of a single prediction."""
    latents: Tensor
    """Of the depth at processing resolution, (B, E, C, h, w)."""


@torch.no_grad()
def estimate(
    model: MarigoldModel,
    coding: DepthCoding,
    pictures: Tensor,
    keys: Tensor,
    *,
    seed: int,
    steps: int,
    ensemble: int = 1,
    processing: int = 0,
    batch: int = 0,
    start: Tensor | None = None,
    spacing: Spacing | None = None,
) -> Estimate:
    """The depth of pictures (B, 3, H, W) in [−1, 1]; noise is a function of (seed, key, member of the ensemble).

    Args:
        steps: of DDIM.
        ensemble: predictions of each picture, reduced to their median.
        processing: longest side at which pictures are looked at; 0: their own.
        batch: predictions that go through the networks at a time; 0: all.
        start: depth latents (1, C, h, w) that sampling starts from, see `MarigoldModel.sample`.
        spacing: of the times; None: the model's.
    """
    size = pictures.shape[-2], pictures.shape[-1]
    small = resized(pictures, processed_size(size[0], size[1], processing))
    padded = to_multiple(small, model.factor)
    image_latents = model.encode(padded)
    members = [
        model.noise(image_latents, keys, seed=seed, stream="sample" if e == 0 else f"sample/{e}")
        for e in range(ensemble)
    ]
    latents = sample_in_parts(model, image_latents, torch.stack(members, dim=1), steps, batch, start, spacing)
    maps = torch.cat(
        [model.decode(part) for part in latents.flatten(0, 1).split(batch or latents[:, :, 0, 0, 0].numel())]
    )
    maps = maps[..., : small.shape[-2], : small.shape[-1]]
    values = coding.decode(maps).unflatten(0, (len(pictures), ensemble))[:, :, 0]  # (B, E, h, w)
    depth, uncertainty = reduce(values, metric=coding.metric)
    return Estimate(resized(depth, size), None if uncertainty is None else resized(uncertainty, size), latents)


def reduce(values: Tensor, *, metric: bool) -> tuple[Tensor, Tensor | None]:
    """Of (B, E, h, w): the one, or the median, (B, 1, h, w), and its spread. Metres need no alignment."""
    if values.shape[1] == 1:
        return values, None
    return Ensemble(scale_invariant=not metric, shift_invariant=not metric)(values)


def sample_in_parts(
    model: MarigoldModel,
    image_latents: Tensor,
    noise: Tensor,
    steps: int,
    batch: int,
    start: Tensor | None,
    spacing: Spacing | None,
) -> Tensor:
    """Depth latents (B, E, C, h, w) from noise of that shape, `batch` at a time; `start`: one (1, C, h, w) for all."""
    images = image_latents[:, None].expand_as(noise).flatten(0, 1)
    flat = noise.flatten(0, 1)
    parts = zip(images.split(batch or len(flat)), flat.split(batch or len(flat)), strict=True)
    made = [model.sample(image, part, steps, start, spacing) for image, part in parts]
    return torch.cat(made).unflatten(0, noise.shape[:2])


def processed_size(height: int, width: int, longest: int) -> tuple[int, int]:
    """The size whose longest side is `longest`; 0: as it is."""
    if not longest:
        return height, width
    scale = longest / max(height, width)
    return max(round(height * scale), 1), max(round(width * scale), 1)


def resized(pictures: Tensor, size: tuple[int, int]) -> Tensor:
    if pictures.shape[-2:] == size:
        return pictures
    return F.interpolate(pictures.float(), size, mode="bilinear", antialias=True, align_corners=False)


def to_multiple(pictures: Tensor, factor: int) -> Tensor:
    """Padded on the right and below, by repeating the border, to multiples of `factor`."""
    height, width = pictures.shape[-2:]
    return F.pad(pictures, (0, -width % factor, 0, -height % factor), mode="replicate")
