"""A small video model with random weights, as the libraries themselves save it, and as one file of generative-models.

The names in that file are written down here as the originals' modules are nested, independently of the package's map.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKLTemporalDecoder, UNetSpatioTemporalConditionModel
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from salticid.nets.video import TINY, VideoUNet, config_to_diffusers

VAE = {
    "block_out_channels": (32, 64),
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "layers_per_block": 2,
    "scaling_factor": 0.3,
}
CLIP = {
    "hidden_size": 160,
    "intermediate_size": 48,
    "projection_dim": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 7,
    "hidden_act": "gelu",
}


def alive(module: torch.nn.Module) -> torch.nn.Module:
    """Makes every weight count, those that begin as 0 or 1 among them."""
    with torch.no_grad():
        for parameter in module.parameters():
            spread = 0.5 * parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.3
            parameter.add_(torch.randn_like(parameter) * spread)
    return module.eval().requires_grad_(False)


@pytest.fixture(scope="session")
def vae() -> AutoencoderKLTemporalDecoder:
    torch.manual_seed(0)
    return alive(AutoencoderKLTemporalDecoder(**VAE))


@pytest.fixture(scope="session")
def clip() -> CLIPVisionModelWithProjection:
    torch.manual_seed(1)
    return alive(CLIPVisionModelWithProjection(CLIPVisionConfig(**CLIP)))


@pytest.fixture(scope="session")
def saved_base(tmp_path_factory: pytest.TempPathFactory, vae, clip) -> Path:
    folder = tmp_path_factory.mktemp("video-base")
    torch.manual_seed(2)
    UNetSpatioTemporalConditionModel(**config_to_diffusers(TINY)).save_pretrained(folder / "unet")
    vae.save_pretrained(folder / "vae")
    clip.save_pretrained(folder / "image_encoder")
    (folder / "feature_extractor").mkdir()
    normal = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4]}
    (folder / "feature_extractor" / "preprocessor_config.json").write_text(json.dumps(normal))
    return folder


@pytest.fixture
def base(saved_base: Path, tmp_path: Path) -> Path:
    """A copy that the test may spoil."""
    return Path(shutil.copytree(saved_base, tmp_path / "base"))


def residual(theirs: str, shortcut: bool = False) -> dict[str, str]:
    parts = {"norm1": "norm1", "conv1": "conv1", "norm2": "norm2", "conv2": "conv2"}
    return {f"{theirs}.{k}": v for k, v in (parts | ({"conv_shortcut": "nin_shortcut"} if shortcut else {})).items()}


def in_time(theirs: str) -> dict[str, str]:
    parts = {"norm1": "in_layers.0", "conv1": "in_layers.2", "norm2": "out_layers.0", "conv2": "out_layers.3"}
    return {f"{theirs}.{name}": f"time_stack.{other}" for name, other in parts.items()}


def original_vae_layers(temporal: bool, levels: int, widens: tuple[int, ...]) -> dict[str, str]:
    """Layer of diffusers' VAE → that of generative-models. `widens`: levels whose first block changes the width, on
    the way down; on the way up it is that of the level before."""
    found = {"quant_conv": "quant_conv", "post_quant_conv": "post_quant_conv"}
    around = {"conv_in": "conv_in", "conv_norm_out": "norm_out", "conv_out": "conv_out"}
    for half in ("encoder", "decoder"):
        found |= {f"{half}.{name}": f"{half}.{other}" for name, other in around.items()}
        attention = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
        middle = f"{half}.mid_block.attentions.0"
        found |= {f"{middle}.{name}": f"{half}.mid.attn_1.{other}" for name, other in attention.items()}

    def block(theirs: str, ours: str, shortcut: bool, time: bool) -> None:
        if not time:
            found.update({name: f"{ours}.{other}" for name, other in residual(theirs, shortcut).items()})
            return
        parts = residual(f"{theirs}.spatial_res_block", shortcut) | in_time(f"{theirs}.temporal_res_block")
        found.update({name: f"{ours}.{other}" for name, other in parts.items()})
        found[f"{theirs}.time_mixer"] = ours

    for number in (0, 1):
        block(f"encoder.mid_block.resnets.{number}", f"encoder.mid.block_{number + 1}", False, False)
        block(f"decoder.mid_block.resnets.{number}", f"decoder.mid.block_{number + 1}", False, temporal)
    for level in range(levels):
        for number in range(2):
            first = number == 0 and level in widens
            block(f"encoder.down_blocks.{level}.resnets.{number}", f"encoder.down.{level}.block.{number}", first, False)
        up = levels - 1 - level
        for number in range(3):
            first = number == 0 and up + 1 in widens
            block(f"decoder.up_blocks.{level}.resnets.{number}", f"decoder.up.{up}.block.{number}", first, temporal)
        if level < levels - 1:
            found[f"encoder.down_blocks.{level}.downsamplers.0.conv"] = f"encoder.down.{level}.downsample.conv"
            found[f"decoder.up_blocks.{level}.upsamplers.0.conv"] = f"decoder.up.{up}.upsample.conv"
    if temporal:
        found["decoder.time_conv_out"] = "decoder.conv_out.time_mix_conv"
    return found


def as_original_vae(weights: dict[str, Tensor], levels: int = 2, widens: tuple[int, ...] = (1,)) -> dict[str, Tensor]:
    """A state dict of diffusers' VAE as generative-models has it; attention is 1×1 convolutions there."""
    layers = original_vae_layers("decoder.time_conv_out.weight" in weights, levels, widens)
    found = {}
    for name, value in weights.items():
        layer, _, kind = name.rpartition(".")
        matrix = ".attentions.0.to_" in name and kind == "weight"
        found[f"{layers[layer]}.{kind}"] = (value[..., None, None] if matrix else value).clone()
    return found


def as_open_clip(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state dict of transformers' image half of CLIP as open_clip has it."""
    weights = {name.removeprefix("vision_model."): value for name, value in weights.items()}
    found = {
        "class_embedding": weights["embeddings.class_embedding"],
        "conv1.weight": weights["embeddings.patch_embedding.weight"],
        "positional_embedding": weights["embeddings.position_embedding.weight"],
        "proj": weights["visual_projection.weight"].T.contiguous(),
    }
    for kind in ("weight", "bias"):
        found[f"ln_pre.{kind}"] = weights[f"pre_layrnorm.{kind}"]
        found[f"ln_post.{kind}"] = weights[f"post_layernorm.{kind}"]
        for number in range(sum(name.endswith("layer_norm1.bias") for name in weights)):
            ours, theirs = f"transformer.resblocks.{number}", f"encoder.layers.{number}"
            stacked = [weights[f"{theirs}.self_attn.{which}_proj.{kind}"] for which in "qkv"]
            found[f"{ours}.attn.in_proj_{kind}"] = torch.cat(stacked)
            found[f"{ours}.attn.out_proj.{kind}"] = weights[f"{theirs}.self_attn.out_proj.{kind}"]
            found[f"{ours}.ln_1.{kind}"] = weights[f"{theirs}.layer_norm1.{kind}"]
            found[f"{ours}.ln_2.{kind}"] = weights[f"{theirs}.layer_norm2.{kind}"]
            found[f"{ours}.mlp.c_fc.{kind}"] = weights[f"{theirs}.mlp.fc1.{kind}"]
            found[f"{ours}.mlp.c_proj.{kind}"] = weights[f"{theirs}.mlp.fc2.{kind}"]
    return found


def below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: value.clone() for name, value in tensors.items()}


@pytest.fixture(scope="session")
def svd_tensors(vae, clip) -> dict[str, Tensor]:
    """As in `svd.safetensors`: a first stage without `quant_conv`, and a VAE of the conditioner."""
    torch.manual_seed(3)
    first_stage = as_original_vae(vae.state_dict())
    first_stage = {name: value for name, value in first_stage.items() if not name.startswith("quant_conv")}
    text = {"positional_embedding": torch.zeros(7, 4), "logit_scale": torch.zeros(())}  # left of open_clip's other half
    clip_model = text | below("visual.", as_open_clip(clip.state_dict()))
    return {
        **below("model.diffusion_model.", alive(VideoUNet(TINY)).state_dict()),
        **below("first_stage_model.", first_stage),
        **below("conditioner.embedders.0.open_clip.model.", clip_model),
        "conditioner.embedders.3.encoder.encoder.conv_in.weight": torch.zeros(1),
    }


@pytest.fixture
def write(tmp_path: Path) -> Callable[[dict[str, Tensor]], str]:
    """Writes tensors into a file and says where."""

    def to_file(tensors: dict[str, Tensor]) -> str:
        save_file({name: value.clone() for name, value in tensors.items()}, tmp_path / "video.safetensors")
        return str(tmp_path / "video.safetensors")

    return to_file
