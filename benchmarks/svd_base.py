"""SVD's configurations as a base without weights; for the video benchmarks beside this file."""

import json
from importlib.resources import files
from pathlib import Path
from shutil import copytree, ignore_patterns

import torch
from torch import nn

from salticid.nets.video import SVD, config_to_diffusers

VAE = {
    "_class_name": "AutoencoderKLTemporalDecoder",
    "sample_size": 768,
    "latent_channels": 4,
    "block_out_channels": [128, 256, 512, 512],
    "layers_per_block": 2,
    "down_block_types": 4 * ["DownEncoderBlock2D"],
    "scaling_factor": 0.18215,
    "force_upcast": True,
}
VIT_H = {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 16,
    "patch_size": 14,
}


def write_base(folder: Path, *, whole: bool) -> str:
    """SVD's UNet; VAE and image encoder, too, are SVD's if it is `whole`, else those of tiny-video, with embeddings as
    long as SVD's. A recipe gives all of them random weights."""
    tiny = Path(str(files("salticid") / "bases" / "tiny_video"))
    copytree(tiny, folder, ignore=ignore_patterns("*.safetensors"))
    config = json.loads((tiny / "image_encoder" / "config.json").read_text(encoding="utf-8"))
    parts = {
        "unet": {"_class_name": "UNetSpatioTemporalConditionModel"} | config_to_diffusers(SVD),
        "image_encoder": config | (VIT_H if whole else {}) | {"projection_dim": SVD.context},
    }
    for part, content in (parts | ({"vae": VAE} if whole else {})).items():
        (folder / part / "config.json").write_text(json.dumps(content), encoding="utf-8")
    return str(folder)


@torch.no_grad()
def enliven(network: nn.Module) -> None:
    """Give matrices that begin at zero a content: a UNet that answers nothing would agree with any other."""
    for parameter in network.parameters():
        if parameter.ndim > 1 and not parameter.any():
            parameter.normal_(std=0.5 * parameter[0].numel() ** -0.5)
