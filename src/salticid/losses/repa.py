"""REPA: hidden features made to agree with those of a self-supervised vision model (Yu et al. 2024)."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from salticid.errors import ConfigError
from salticid.losses.frozen import Frozen
from salticid.losses.pretrained import first_line, is_hub_id, package

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, in [0, 1]
TEACHERS = {"dinov2": "Dinov2Model", "dinov2_with_registers": "Dinov2WithRegistersModel"}  # config type → class
DINOV2_BASE = 768
"""Width of the tokens of DINOv2-base."""
EXPECTED = "a folder with config.json and model.safetensors of DINOv2, or a hub id such as facebook/dinov2-base"


class Repa(nn.Module):
    """One minus the cosine similarity of projected features and DINOv2's patch tokens, in float32.

    The projection is trained: channels → hidden → width of the teacher, with SiLU between (SSDD's 288 → 288 → 768).
    The teacher, which only training needs, is frozen and outside `state_dict()` (see `Frozen`): `load` brings it.

    Args:
        channels: of the features to align.
        width: of the teacher's tokens.
        hidden: width of the projection; None: as many as channels.
    """

    def __init__(self, channels: int, width: int = DINOV2_BASE, *, hidden: int | None = None):
        super().__init__()
        hidden = hidden or channels
        self.projection = nn.Sequential(nn.Linear(channels, hidden), nn.SiLU(), nn.Linear(hidden, width))
        self.width = width
        self.teacher: Frozen | None = None

    def load(self, weights: str, *, key: str = "losses.repa") -> None:
        """Take the teacher from a folder of a DINOv2 (with or without register tokens) as `save_pretrained` writes
        it, or from the hub. `key`: of the configuration, for messages.

        Raises:
            ConfigError: the package `transformers` is missing, or the model is, or it is none of these.
        """
        network = _teacher(weights, key)
        if network.config.hidden_size != self.width:
            raise ConfigError(f"{key}: tokens of {weights} have {network.config.hidden_size} numbers, not {self.width}")
        self.teacher = Frozen(network)

    def forward(self, features: Tensor, images: Tensor) -> Tensor:
        """The loss (B,), mean over tokens, from 0 (aligned) to 2, of features (B, C, h, w) and the images
        (B, 3, H, W) in [−1, 1] that they are to describe.

        Raises:
            ValueError: no teacher has been loaded.
        """
        grid = features.shape[-2:]
        with torch.autocast(features.device.type, enabled=False):
            target = self.tokens(images, (grid[0], grid[1]))
            ours = self.projection(features.to(target.dtype).flatten(2).transpose(1, 2))
            return 1 - F.cosine_similarity(ours, target, dim=-1).mean(dim=1)

    @torch.no_grad()
    def tokens(self, images: Tensor, grid: tuple[int, int]) -> Tensor:
        """The teacher's last hidden state (B, h·w, width), row by row, of images resized so that its patches are
        (h, w); without CLS and register tokens."""
        if self.teacher is None:
            raise ValueError("REPA has no teacher: load one")
        network = self.teacher.network
        with torch.autocast(images.device.type, enabled=False):
            pixels = _normalised(images.to(self.teacher.dtype), _size(network.config.patch_size, grid))
            return self.teacher(pixels).last_hidden_state[:, -grid[0] * grid[1] :]


def _size(patch: int | list[int], grid: tuple[int, int]) -> tuple[int, int]:
    """Pixels (H, W) that make so many patches."""
    height, width = (patch, patch) if isinstance(patch, int) else patch
    return height * grid[0], width * grid[1]


def _normalised(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Images in [−1, 1], bicubically resized (without aliasing where they shrink), normalised as ImageNet's."""
    shrinks = images.shape[-2] > size[0] or images.shape[-1] > size[1]
    if images.shape[-2:] != size:
        images = F.interpolate(images, size=size, mode="bicubic", align_corners=False, antialias=shrinks)
    mean, std = (images.new_tensor(values)[:, None, None] for values in (MEAN, STD))
    return ((images + 1) / 2 - mean) / std


def _teacher(weights: str, key: str) -> Any:
    """DINOv2 from safetensors, whole, in float32."""
    transformers = package("transformers", key)
    try:
        config = transformers.AutoConfig.from_pretrained(weights)
        name = TEACHERS.get(config.model_type)
        if name is None:
            raise ConfigError(f"{key}: {weights} is of type {config.model_type}; expected {EXPECTED}")
        network, report = getattr(transformers, name).from_pretrained(
            weights, config=config, use_safetensors=True, output_loading_info=True
        )
    except ConfigError:
        raise
    except Exception as error:  # of the hub, of the file system, of safetensors, of what checks configurations
        where = f"{weights}: no such folder, nor from the hub" if is_hub_id(weights) else weights
        raise ConfigError(f"{key}: {where} ({first_line(error)}); expected {EXPECTED}") from error
    if report["missing_keys"]:  # they would stay random
        raise ConfigError(f"{key}: {weights} has no {min(report['missing_keys'])}; expected {EXPECTED}")
    return network.float()
