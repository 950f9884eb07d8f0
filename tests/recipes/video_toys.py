"""Small video recipes and batches for their tests: a UNet of one level, clips and grids of random bytes."""

import json
import math
import shutil
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from salticid.data.source import Batch
from salticid.engine.recipe import Clock
from salticid.nets.diffusers_folder import shipped
from salticid.nets.stable_video import unet_config
from salticid.nets.video import VideoUNet, to_diffusers
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


def base_with_weights(folder: Path) -> Path:
    """The base that ships with the package, with a UNet of one level that has weights."""
    shutil.copytree(shipped("tiny-video"), folder)
    shutil.copytree(shipped("tiny") / "vae", folder / "vae", dirs_exist_ok=True)
    shutil.copy(shipped("tiny-video") / "vae/config.json", folder / "vae")
    file = folder / "unet/config.json"
    config = json.loads(file.read_text()) | {
        "block_out_channels": [32],
        "down_block_types": ["CrossAttnDownBlockSpatioTemporal"],
        "up_block_types": ["CrossAttnUpBlockSpatioTemporal"],
        "num_attention_heads": [2],
    }
    file.write_text(json.dumps(config))
    torch.manual_seed(3)
    unet = shaken(VideoUNet(unet_config(str(folder))))
    tensors = {name: value.contiguous() for name, value in to_diffusers(unet.config, unet.state_dict()).items()}
    save_file(tensors, folder / "unet/diffusion_pytorch_model.safetensors")
    return folder


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
