"""Distillation from a frozen depth model of transformers (Depth Anything, DPT, MiDaS, …)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from salticid.errors import ConfigError
from salticid.evaluate.consensus import least_squares
from salticid.losses.frozen import Frozen
from salticid.losses.pretrained import first_line, package

KEY = "recipe.teacher"
MULTIPLE = 14
"""Sides of the pictures that a vision transformer of 14-pixel patches takes."""


class Teacher(nn.Module):
    """A model whose disparity, known up to scale and shift, is to be matched.

    Args:
        weights: a local folder or hub id of an `AutoModelForDepthEstimation` that predicts relative disparity.

    Raises:
        ConfigError: it cannot be loaded.
    """

    def __init__(self, weights: str):
        super().__init__()
        transformers = package("transformers", KEY, "marigold")
        try:
            network = transformers.AutoModelForDepthEstimation.from_pretrained(weights, use_safetensors=True)
        except (OSError, ValueError) as error:
            raise ConfigError(f"{KEY}: {weights}: {first_line(error)}") from error
        self.network = Frozen(network)

    def error(self, disparity: Tensor, images: Tensor) -> Tensor:
        """Mean |a·disparity + b − teacher's| of disparity (B, 1, H, W) and images (B, 3, H, W) in [0, 1], with the best
        a and b of each sample; the teacher's brought to mean 0 and mean |deviation| 1."""
        wanted = self.disparity(images)
        ours, theirs = disparity.float().flatten(1), wanted.flatten(1)
        scale, shift = least_squares(ours, theirs, torch.ones_like(theirs, dtype=torch.bool))
        return (scale[:, None] * ours + shift[:, None] - theirs).abs().mean()

    @torch.no_grad()
    def disparity(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        size = [max(round(side / MULTIPLE), 1) * MULTIPLE for side in (height, width)]
        mean, deviation = (images.new_tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
        seen = (F.interpolate(images, size, mode="bicubic", antialias=True) - mean) / deviation
        found = self.network(seen).predicted_depth[:, None].float()
        found = F.interpolate(found, (height, width), mode="bilinear")
        found = found - found.mean(dim=(-2, -1), keepdim=True)
        return found / found.abs().mean(dim=(-2, -1), keepdim=True).clamp(min=1e-6)
