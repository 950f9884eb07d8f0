"""The UNet of a Stable Diffusion, with room for the latent of a picture beside the noisy one."""

from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from salticid.errors import ConfigError
from salticid.losses.pretrained import fill, package, read
from salticid.nets.diffusers_folder import EXTRA
from salticid.nets.loading import instantiate
from salticid.nets.stable_diffusion.base import Base

UNet: TypeAlias = Any
"""`UNet2DConditionModel` of diffusers, whose types a checker cannot follow."""
CONDITIONS = ("addition_embed_type", "class_embed_type", "encoder_hid_dim_type", "num_class_embeds")
"""Of a configuration: what the network would have to be told beside time and text."""


def make_unet(base: str, in_channels: int = 8, key: str = "recipe.base") -> UNet:
    """The architecture of a base's UNet with another number of input channels: (B, in_channels, h, w), times (B,) and
    embedded text (B, n, d) → (B, 4, h, w). Attention is torch's `scaled_dot_product_attention`.

    Where the base has weights it is zero, which costs no time, until `load_unet` or a checkpoint fills it; where it is
    a configuration alone its weights are random, from torch's generator.

    Raises:
        ConfigError: there is no such base, its UNet is none of this kind, or its channels do not divide `in_channels`.
    """
    found = Base(base, key)
    config = found.config("unet")
    channels = config.get("in_channels", 4)
    if not isinstance(channels, int) or channels < 1 or in_channels % channels:
        raise ConfigError(f"{key}: the UNet of {base} has {channels} input channels, no divisor of {in_channels}")
    if condition := next((name for name in CONDITIONS if config.get(name) is not None), None):
        raise ConfigError(f"{key}: the UNet of {base} has {condition}: {config[condition]}; expected text alone")
    classes = package("diffusers", key, EXTRA)
    config |= {"in_channels": in_channels}
    return instantiate(classes.UNet2DConditionModel, config, f"{key}: unet of {base}", zero=bool(found.weights("unet")))


def input_channels(base: str, key: str = "recipe.base") -> int:
    """Of a base's UNet: 4 of a Stable Diffusion, 8 of a Marigold."""
    return Base(base, key).config("unet").get("in_channels", 4)


def load_unet(unet: UNet, base: str, key: str = "recipe.base") -> None:
    """Fill a UNet made by `make_unet`, with or without adapters, with the weights of its base, in float32.

    If the first convolution has k times the base's input channels, its weights are repeated k times and divided by k,
    so that on k equal inputs it answers as before; its bias is kept (Marigold: Ke et al. 2024, section 3.2). A base
    without weights leaves the UNet as it is.

    Raises:
        ConfigError: the file is damaged, or names and shapes in it are not the network's; the first such is named.
    """
    found = Base(base, key)
    file = found.weights("unet")
    if file is None:
        found.note_random("unet")
        return
    tensors = read(file, key)
    if (first := tensors.get("conv_in.weight")) is not None and first.ndim == 4:
        tensors["conv_in.weight"] = _widened(first.float(), unet.config["in_channels"])
    with torch.device("meta"):
        loaded = type(unet).from_config(unet.config)
    fill(loaded, tensors, file=file, expected="the weights of its UNet in the format of diffusers", key=key)
    weights = loaded.state_dict()
    with torch.no_grad():
        for name, value in unet.state_dict().items():
            if (plain := without_adapters(name)) is not None:
                value.copy_(weights[plain])


def _widened(weight: Tensor, channels: int) -> Tensor:
    """Weights (C, c, h, w) of a convolution for `channels` inputs, a multiple of c; else as they are."""
    repeats, rest = divmod(channels, max(weight.shape[1], 1))
    return weight if rest or repeats < 2 else weight.repeat(1, repeats, 1, 1) / repeats


def without_adapters(name: str) -> str | None:
    """What a tensor of a UNet with adapters is called in one without (see `lora`); None for those of adapters."""
    return None if ".lora_" in name else name.replace(".base_layer.", ".")


def blocks(unet: UNet) -> list[nn.Module]:
    """The levels on the way down, the middle and those on the way up: what FSDP shards one by one and
    `torch.compile` compiles."""
    return [block for block in (*unet.down_blocks, unet.mid_block, *unet.up_blocks) if block is not None]


def checkpoint_activations(unet: UNet) -> None:
    """Let every block compute its activations anew in the backward pass rather than keep them."""
    unet.enable_gradient_checkpointing()
