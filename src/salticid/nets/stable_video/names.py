"""What the weights around the UNet are called in files of generative-models, whose VAE is that of latent diffusion and
whose image encoder is that of open_clip."""

import re
from collections.abc import Mapping

from torch import Tensor

VAE_RULES = (
    (r"\.down_blocks\.(\d+)\.", r".down.\1."),
    (r"\.up_blocks\.(\d+)\.", r".up.\1."),
    (r"\.mid_block\.resnets\.0\.", ".mid.block_1."),
    (r"\.mid_block\.resnets\.1\.", ".mid.block_2."),
    (r"\.mid_block\.attentions\.0\.", ".mid.attn_1."),
    (r"\.resnets\.", ".block."),
    (r"\.(up|down)samplers\.0\.", r".\1sample."),
    (r"\.conv_shortcut\.", ".nin_shortcut."),
    (r"\.conv_norm_out\.", ".norm_out."),
    (r"\.group_norm\.", ".norm."),
    (r"\.to_([qkv])\.", r".\1."),
    (r"\.to_out\.0\.", ".proj_out."),
    (r"\.time_conv_out\.", ".conv_out.time_mix_conv."),
    (r"\.spatial_res_block\.", "."),
    (r"\.temporal_res_block\.norm1\.", ".time_stack.in_layers.0."),
    (r"\.temporal_res_block\.conv1\.", ".time_stack.in_layers.2."),
    (r"\.temporal_res_block\.norm2\.", ".time_stack.out_layers.0."),
    (r"\.temporal_res_block\.conv2\.", ".time_stack.out_layers.3."),
    (r"\.time_mixer\.", "."),
)
"""Of diffusers' names, one after the other; what no rule changes is called the same."""
CLIP_LAYER = {
    "attn.out_proj": "self_attn.out_proj",
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
CLIP_AROUND = {
    "class_embedding": "embeddings.class_embedding",
    "positional_embedding": "embeddings.position_embedding.weight",
    "conv1.weight": "embeddings.patch_embedding.weight",
    "ln_pre.weight": "pre_layrnorm.weight",
    "ln_pre.bias": "pre_layrnorm.bias",
    "ln_post.weight": "post_layernorm.weight",
    "ln_post.bias": "post_layernorm.bias",
}
LAYER = re.compile(r"transformer\.resblocks\.(\d+)\.(.+)\.(weight|bias)")
STACKED = re.compile(r"transformer\.resblocks\.(\d+)\.attn\.in_proj_(weight|bias)")


def original_vae_name(name: str, levels: int) -> str:
    """The name of a tensor in a VAE of diffusers, temporal or not, → that in generative-models.

    There, levels on the way up are counted from the finest.
    """
    name = re.sub(r"(?<=\.up_blocks\.)\d+", lambda match: str(levels - 1 - int(match[0])), name)
    for pattern, replacement in VAE_RULES:
        name = re.sub(pattern, replacement, name)
    return name


def vae_as_diffusers_has_it(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Under the same names: the attention's 1×1 convolutions as linear layers."""
    return {name: value[..., 0, 0] if _is_attention(name, value) else value for name, value in tensors.items()}


def _is_attention(name: str, value: Tensor) -> bool:
    return ".attn_1." in name and value.ndim == 4 and value.shape[2:] == (1, 1)


def clip_from_open_clip(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The image half of an open_clip (its `visual`) under the names of transformers' `CLIPVisionModelWithProjection`,
    without `vision_model.`. What belongs to none keeps its name, so that whoever loads it can name it."""
    found: dict[str, Tensor] = {}
    for name, value in tensors.items():
        if name == "proj":
            found["visual_projection.weight"] = value.T
        elif match := STACKED.fullmatch(name):
            for which, part in zip("qkv", value.chunk(3), strict=False):
                found[f"encoder.layers.{match[1]}.self_attn.{which}_proj.{match[2]}"] = part
        elif (match := LAYER.fullmatch(name)) and match[2] in CLIP_LAYER:
            found[f"encoder.layers.{match[1]}.{CLIP_LAYER[match[2]]}.{match[3]}"] = value
        else:
            found[CLIP_AROUND.get(name, name)] = value
    return found
