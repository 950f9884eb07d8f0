"""Small video recipes and batches for their tests: a UNet of one level, clips and grids of random bytes."""

import math
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from salticid.data.source import Batch
from salticid.engine.recipe import Clock
from salticid.recipes import Sv4dRecipe, SvdRecipe
from salticid.recipes.video.settings import Guider, Network, Sampler, Scoring

Module = TypeVar("Module", bound=nn.Module)
NETWORK = Network(widths=(32,), attention=(True,), heads=(2,), blocks=1)
CLOCK = Clock(step=0, steps=10, seed=5)
SIZE, FACTOR = 16, 4


def svd(**options: Any) -> SvdRecipe:
    """With weights of which none is zero; in evaluation mode."""
    torch.manual_seed(0)
    options = {"network": NETWORK, "sampler": Sampler(steps=2), "scoring": Scoring(levels=2)} | options
    recipe = SvdRecipe(**options)
    return shaken(recipe).eval()


def sv4d(**options: Any) -> Sv4dRecipe:
    """The same."""
    torch.manual_seed(0)
    sampler = Sampler(steps=2, guider=Guider("spatiotemporal", 1.0, 2.0))
    options = {"network": NETWORK, "sampler": sampler, "scoring": Scoring(levels=2)} | options
    return shaken(Sv4dRecipe(**options)).eval()


@torch.no_grad()
def shaken(module: Module) -> Module:
    """A module that says something: a new UNet answers 0, and its blocks are the identity. What is frozen is left."""
    generator = torch.Generator().manual_seed(1)
    for parameter in module.parameters():
        if not parameter.requires_grad:
            continue
        parameter.add_(0.08 * torch.randn(parameter.shape, generator=generator))
    return module


def clips(keys: tuple[int, ...] = (3, 8), frames: int = 3, size: int = SIZE) -> Batch:
    """Clips that depend on their keys alone, each with numbers of its own."""
    return {
        "id": [f"clip-{key}" for key in keys],
        "key": torch.tensor(keys),
        "replaced": [],
        "video": torch.stack([_bytes(key, 3, frames, size, size) for key in keys]),
        "fps": torch.tensor([5.0 + key for key in keys]),
        "motion_bucket": torch.tensor([20.0 * key for key in keys]),
        "image_only": torch.zeros(len(keys), frames, dtype=torch.bool),
    }


def grids(keys: tuple[int, ...] = (3, 8), frames: int = 3, views: int = 2, size: int = SIZE) -> Batch:
    """Grids that depend on their keys alone."""
    angles = torch.arange(1, views + 1) * 2 * math.pi / (views + 1)
    cameras = [torch.stack([torch.full((views,), 1.2 + key / 50), angles, torch.ones(views)], dim=1) for key in keys]
    return {
        "id": [f"grid-{key}" for key in keys],
        "key": torch.tensor(keys),
        "replaced": [],
        "image": torch.stack([_bytes(key, 3, frames, views, size, size) for key in keys]),
        "context": torch.stack([_bytes(key + 1000, frames, 3, size, size) for key in keys]),
        "reference": torch.stack([_bytes(key + 2000, views, 3, size, size) for key in keys]),
        "camera": torch.stack(cameras),
        "fps": torch.full((len(keys),), 8.0),
    }


def part(batch: Batch, row: int) -> Batch:
    """A batch of one of its samples."""
    return {name: value[row : row + 1] if name != "replaced" else [] for name, value in batch.items()}


def floats(pictures: Tensor) -> Tensor:
    """Bytes as numbers in [−1, 1]."""
    return pictures.double().div(127.5).sub(1).float()


def _bytes(seed: int, *shape: int) -> Tensor:
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
