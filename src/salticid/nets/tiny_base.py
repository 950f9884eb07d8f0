"""The base that ships with the package: the parts of a latent diffusion model, small enough to train in minutes.

    python -m salticid.nets.tiny_base [FOLDER]

writes it, by default to its place in the package: the same bytes every time. The UNet is a configuration alone, since
every run trains its own. The text encoder, which only ever reads the empty prompt, has seeded random weights. The VAE
that ships is an export of the preset `vae-tiny`; where there is none, a configuration is put in its place.
"""

import json
import math
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

WIDTH = 32
"""Of the text encoder's hidden states."""

UNET = {
    "_class_name": "UNet2DConditionModel",
    "sample_size": 16,
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": [64, 96, 96],
    "layers_per_block": 1,
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    "attention_head_dim": 4,  # diffusers' name for the number of heads
    "cross_attention_dim": WIDTH,
    "norm_num_groups": 16,
    "use_linear_projection": True,
}
VAE = {
    "_class_name": "AutoencoderKL",
    "sample_size": 64,
    "latent_channels": 4,
    "block_out_channels": [24, 48, 64],
    "layers_per_block": 1,
    "down_block_types": ["DownEncoderBlock2D"] * 3,
    "up_block_types": ["UpDecoderBlock2D"] * 3,
    "norm_num_groups": 8,
}
TEXT_ENCODER = {
    "architectures": ["CLIPTextModel"],
    "model_type": "clip_text_model",
    "vocab_size": 3,
    "hidden_size": WIDTH,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "max_position_embeddings": 77,
    "hidden_act": "gelu",
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
TOKENIZER = {
    "tokenizer_class": "CLIPTokenizer",
    "model_max_length": 77,
    "bos_token": "<|startoftext|>",
    "eos_token": "<|endoftext|>",
    "unk_token": "<|endoftext|>",
    "pad_token": "!",
}
VOCABULARY = {"!": 0, "<|startoftext|>": 1, "<|endoftext|>": 2}
SCHEDULER = {
    "_class_name": "DDIMScheduler",
    "num_train_timesteps": 1000,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "prediction_type": "v_prediction",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "timestep_spacing": "trailing",
    "rescale_betas_zero_snr": True,
}


def write(folder: Path) -> None:
    """Write the base, but for a VAE that is there already."""
    for name, content in {
        "unet/config.json": UNET,
        "text_encoder/config.json": TEXT_ENCODER,
        "tokenizer/tokenizer_config.json": TOKENIZER,
        "tokenizer/vocab.json": VOCABULARY,
        "scheduler/scheduler_config.json": SCHEDULER,
    }.items():
        _write_json(folder / name, content)
    (folder / "tokenizer" / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    weights = save(_text_encoder(), metadata={"format": "pt"})
    (folder / "text_encoder" / "model.safetensors").write_bytes(weights)
    if not (folder / "vae" / "config.json").exists():
        _write_json(folder / "vae" / "config.json", VAE)


def _write_json(file: Path, content: dict[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _text_encoder() -> dict[str, Tensor]:
    """Seeded weights under the names that published files have: normal, of variance 1 / inputs."""
    generator = torch.Generator().manual_seed(0)

    def matrix(outputs: int, inputs: int) -> Tensor:
        return torch.randn(outputs, inputs, generator=generator) / math.sqrt(inputs)

    tensors = {
        "embeddings.token_embedding.weight": matrix(len(VOCABULARY), WIDTH),
        "embeddings.position_embedding.weight": matrix(77, WIDTH),
    }
    layer = "encoder.layers.0."
    shapes = {f"self_attn.{name}_proj": (WIDTH, WIDTH) for name in ("q", "k", "v", "out")}
    for name, (outputs, inputs) in (shapes | {"mlp.fc1": (64, WIDTH), "mlp.fc2": (WIDTH, 64)}).items():
        tensors |= {f"{layer}{name}.weight": matrix(outputs, inputs), f"{layer}{name}.bias": torch.zeros(outputs)}
    for name in (f"{layer}layer_norm1", f"{layer}layer_norm2", "final_layer_norm"):
        tensors |= {f"{name}.weight": torch.ones(WIDTH), f"{name}.bias": torch.zeros(WIDTH)}
    return {f"text_model.{name}": value for name, value in tensors.items()}


def main(arguments: list[str]) -> None:
    folder = Path(arguments[0]) if arguments else Path(str(files("salticid") / "bases" / "tiny"))
    write(folder)
    print(folder)


if __name__ == "__main__":
    main(sys.argv[1:])
