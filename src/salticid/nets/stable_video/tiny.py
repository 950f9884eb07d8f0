"""The base that ships with the package: the parts of a Stable Video Diffusion, small enough to train in minutes.

    python -m salticid.nets.stable_video.tiny [FOLDER]

writes it, by default to its place in the package: the same bytes every time. The UNet is a configuration alone, since
every run trains its own. The image encoder has seeded random weights, in half precision; it looks at pictures of
224×224, the only size that the pipeline of diffusers gives it. The VAE is that of the base `tiny`, with a scaling
factor of its own.
"""

import json
import math
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from salticid.nets.diffusers_folder import SCHEDULER, shipped
from salticid.nets.stable_diffusion import base as stable_diffusion
from salticid.nets.stable_video.base import PREPROCESSOR, TINY
from salticid.nets.stable_video.image_encoder import feature_extractor
from salticid.nets.stable_video.scheduler import euler

WIDTH, INNER, PATCH, SIZE = 32, 64, 16, 224
"""Of the image encoder: its tokens and embeddings, its feed-forward layer, patches and pictures in pixels."""

UNET = {
    "_class_name": "UNetSpatioTemporalConditionModel",
    "sample_size": 16,
    "in_channels": 8,
    "out_channels": 4,
    "block_out_channels": [32, 64, 96],
    "layers_per_block": 1,
    "down_block_types": ["DownBlockSpatioTemporal", *["CrossAttnDownBlockSpatioTemporal"] * 2],
    "up_block_types": [*["CrossAttnUpBlockSpatioTemporal"] * 2, "UpBlockSpatioTemporal"],
    "num_attention_heads": [2, 4, 4],
    "cross_attention_dim": WIDTH,
    "addition_time_embed_dim": 32,
    "projection_class_embeddings_input_dim": 96,
    "num_frames": 8,
}
IMAGE_ENCODER = {
    "architectures": ["CLIPVisionModelWithProjection"],
    "model_type": "clip_vision_model",
    "hidden_size": WIDTH,
    "intermediate_size": INNER,
    "projection_dim": WIDTH,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": SIZE,
    "patch_size": PATCH,
    "hidden_act": "gelu",
    "torch_dtype": "float32",
}
SCALING_FACTOR = 0.4926
"""1 / the standard deviation of the VAE's latents of the first 200 training pictures of `WorldDepth()`; for `tiny` it
was measured on pictures and depth maps."""


def write(folder: Path) -> None:
    """Write the base."""
    vae = stable_diffusion.Base(stable_diffusion.TINY, "base").json("vae", "config.json")
    for name, content in {
        "unet/config.json": UNET,
        "vae/config.json": vae | {"scaling_factor": SCALING_FACTOR},
        "image_encoder/config.json": IMAGE_ENCODER,
        f"feature_extractor/{PREPROCESSOR}": feature_extractor(SIZE),
        f"scheduler/{SCHEDULER}": euler(0.002, 700.0),
    }.items():
        _write_json(folder / name, content)
    weights = save(_image_encoder(), metadata={"format": "pt"})
    (folder / "image_encoder" / "model.safetensors").write_bytes(weights)


def _write_json(file: Path, content: dict[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _image_encoder() -> dict[str, Tensor]:
    """Seeded weights: normal, of variance 1 / inputs. The class token begins at zero, and learns what it looks at."""
    generator = torch.Generator().manual_seed(0)

    def matrix(outputs: int, inputs: int) -> Tensor:
        return torch.randn(outputs, inputs, generator=generator) / math.sqrt(inputs)

    tower, layer = "vision_model.", "vision_model.encoder.layers.0."
    tensors = {
        f"{tower}embeddings.class_embedding": torch.zeros(WIDTH),
        f"{tower}embeddings.patch_embedding.weight": matrix(WIDTH, 3 * PATCH**2).view(WIDTH, 3, PATCH, PATCH),
        f"{tower}embeddings.position_embedding.weight": matrix((SIZE // PATCH) ** 2 + 1, WIDTH),
        "visual_projection.weight": matrix(WIDTH, WIDTH),
    }
    shapes = {f"self_attn.{name}_proj": (WIDTH, WIDTH) for name in ("q", "k", "v", "out")}
    for name, (outputs, inputs) in (shapes | {"mlp.fc1": (INNER, WIDTH), "mlp.fc2": (WIDTH, INNER)}).items():
        tensors |= {f"{layer}{name}.weight": matrix(outputs, inputs), f"{layer}{name}.bias": torch.zeros(outputs)}
    for name in (f"{layer}layer_norm1", f"{layer}layer_norm2", f"{tower}pre_layrnorm", f"{tower}post_layernorm"):
        tensors |= {f"{name}.weight": torch.ones(WIDTH), f"{name}.bias": torch.zeros(WIDTH)}
    return {name: value.half() for name, value in tensors.items()}


def main(arguments: list[str]) -> None:
    folder = Path(arguments[0]) if arguments else shipped(TINY)
    write(folder)
    print(folder)


if __name__ == "__main__":
    main(sys.argv[1:])
