"""What the weights of a `VideoUNet` are called elsewhere: by diffusers, and in files of SVD, SV3D and SV4D."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from salticid.nets.video.config import VideoUNetConfig

PREFIX = "model.diffusion_model."
"""Before the names of the UNet in files of generative-models, which hold the other networks as well."""
SV4D_NAMES = {"time_stack": "time_mix_blocks", "time_pos_embed": "time_mix_time_embed"}
"""Our part of a name → that of SV4D's files; the others are the same."""
AROUND = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "label_emb.0.0": "add_embedding.linear_1",
    "label_emb.0.2": "add_embedding.linear_2",
    "input_blocks.0.0": "conv_in",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}
RESIDUAL = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
TRANSFORMER = {
    "time_stack.0": "temporal_transformer_blocks.0",
    "time_pos_embed.0": "time_pos_embed.linear_1",
    "time_pos_embed.2": "time_pos_embed.linear_2",
}
"""Here, too, the others are the same."""
WITH, WITHOUT = "CrossAttn{}BlockSpatioTemporal", "{}BlockSpatioTemporal"
"""Kinds of levels of diffusers, with and without attention; "Down" or "Up"."""


def diffusers_names(config: VideoUNetConfig, names: Mapping[str, Any]) -> dict[str, str]:
    """Our name → that in diffusers' `UNetSpatioTemporalConditionModel`, for each of `names`, a state dict of ours.

    Raises:
        ValueError: the network has frame attention (`config.reference`), for which diffusers has no name.
    """
    if config.reference:
        raise ValueError("diffusers has no network of views and frames, SV4D")
    layers = _layers(config)
    return {name: _renamed(name, layers) for name in names}


def to_diffusers(config: VideoUNetConfig, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict of ours under diffusers' names; the tensors are shared.

    Raises:
        ValueError: the network has frame attention.
    """
    names = diffusers_names(config, weights)
    return {names[name]: value for name, value in weights.items()}


def from_diffusers(
    config: VideoUNetConfig, ours: Mapping[str, Any], weights: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """A state dict of diffusers' network under our names (the keys of `ours`, a state dict of such a network); the
    tensors are shared. What belongs to no name of ours keeps its own, so that whoever loads it can name it.

    Raises:
        ValueError: the network has frame attention.
    """
    back = {theirs: name for name, theirs in diffusers_names(config, ours).items()}
    return {back.get(name, name): value for name, value in weights.items()}


def sv4d_name(name: str) -> str:
    """Our name of a tensor of SV4D's UNet → that in `sv4d.safetensors`, without `PREFIX`."""
    return ".".join(SV4D_NAMES.get(part, part) for part in name.split("."))


def config_to_diffusers(config: VideoUNetConfig, numbers: int = 3, frames: int = 14) -> dict[str, Any]:
    """Arguments of `UNetSpatioTemporalConditionModel` for the same network.

    Args:
        numbers: how many numbers (fps, motion bucket, noise) share the vector's length; a divisor of it.
        frames: what the pipeline generates unless told otherwise.

    Raises:
        ValueError: the network has frame attention, or `numbers` does not divide the vector's length.
    """
    if config.reference:
        raise ValueError("diffusers has no network of views and frames, SV4D")
    if config.vector % numbers:
        raise ValueError(f"{numbers} numbers do not divide a vector of length {config.vector}")
    kinds = [WITH if attention else WITHOUT for attention in config.attention]
    return {
        "in_channels": config.in_channels,
        "out_channels": config.out_channels,
        "block_out_channels": config.widths,
        "layers_per_block": config.blocks,
        "num_attention_heads": config.heads,
        "cross_attention_dim": config.context,
        "projection_class_embeddings_input_dim": config.vector,
        "addition_time_embed_dim": config.vector // numbers,
        "down_block_types": tuple(kind.format("Down") for kind in kinds),
        "up_block_types": tuple(kind.format("Up") for kind in reversed(kinds)),
        "num_frames": frames,
    }


def config_from_diffusers(given: Mapping[str, Any]) -> VideoUNetConfig:
    """The same network, of the same norms, from a `config.json` of diffusers; what is not there is as in SVD.

    Raises:
        ValueError: it describes a network of another kind.
    """
    default = config_to_diffusers(VideoUNetConfig())
    found = default | {name: value for name, value in given.items() if name in default}
    kinds = {WITH.format("Down"): True, WITHOUT.format("Down"): False}
    downs = found["down_block_types"]
    if unknown := [kind for kind in downs if kind not in kinds]:
        raise ValueError(f"down_block_types has {unknown[0]}; expected {' or '.join(kinds)}")
    levels = len(found["block_out_channels"])
    heads = found["num_attention_heads"]
    for name in ("layers_per_block", "cross_attention_dim"):
        if not isinstance(found[name], int):
            raise ValueError(f"{name} is {found[name]}; expected one number for all levels")
    if given.get("transformer_layers_per_block", 1) != 1:
        raise ValueError(f"transformer_layers_per_block is {given['transformer_layers_per_block']}; expected 1")
    config = VideoUNetConfig(
        in_channels=found["in_channels"],
        out_channels=found["out_channels"],
        widths=tuple(found["block_out_channels"]),
        blocks=found["layers_per_block"],
        attention=tuple(kinds[kind] for kind in downs),
        heads=(heads,) * levels if isinstance(heads, int) else tuple(heads),
        context=found["cross_attention_dim"],
        vector=found["projection_class_embeddings_input_dim"],
        diffusers_norms=True,
    )
    if tuple(found["up_block_types"]) != config_to_diffusers(config, numbers=1)["up_block_types"]:
        raise ValueError(f"up_block_types is {found['up_block_types']}, not the mirror image of down_block_types")
    return config


def _layers(config: VideoUNetConfig) -> dict[str, str]:
    """The beginning of our names → that of theirs, for everything but what is inside transformers unchanged."""
    levels, found = len(config.widths), dict(AROUND)

    def residual(ours: str, theirs: str) -> None:
        found[f"{ours}.time_mixer"] = f"{theirs}.time_mixer"
        for name, other in RESIDUAL.items():
            found[f"{ours}.{name}"] = f"{theirs}.spatial_res_block.{other}"
            found[f"{ours}.time_stack.{name}"] = f"{theirs}.temporal_res_block.{other}"

    def transformer(ours: str, theirs: str) -> None:
        found[ours] = theirs
        for name, other in TRANSFORMER.items():
            found[f"{ours}.{name}"] = f"{theirs}.{other}"

    def stage(ours: str, theirs: str, number: int, attention: bool) -> None:
        residual(f"{ours}.0", f"{theirs}.resnets.{number}")
        if attention:
            transformer(f"{ours}.1", f"{theirs}.attentions.{number}")

    for level, attention in enumerate(config.attention):
        place = level * (config.blocks + 1) + 1
        for number in range(config.blocks):
            stage(f"input_blocks.{place + number}", f"down_blocks.{level}", number, attention)
        found[f"input_blocks.{place + config.blocks}.0.op"] = f"down_blocks.{level}.downsamplers.0.conv"
        up = levels - 1 - level
        place = up * (config.blocks + 1)
        for number in range(config.blocks + 1):
            stage(f"output_blocks.{place + number}", f"up_blocks.{up}", number, attention)
        found[f"output_blocks.{place + config.blocks}.{1 + attention}.conv"] = f"up_blocks.{up}.upsamplers.0.conv"
    residual("middle_block.0", "mid_block.resnets.0")
    transformer("middle_block.1", "mid_block.attentions.0")
    residual("middle_block.2", "mid_block.resnets.1")
    return found


def _renamed(name: str, layers: Mapping[str, str]) -> str:
    """By the longest beginning of the name that is among `layers`."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        if (other := layers.get(".".join(parts[:length]))) is not None:
            return ".".join([other, *parts[length:]])
    raise ValueError(f"{name} is no weight of a VideoUNet of this configuration")
