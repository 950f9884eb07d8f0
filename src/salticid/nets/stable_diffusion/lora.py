"""Low-rank adapters (LoRA; Hu et al. 2021) beside the layers of a UNet, by peft.

peft puts each adapted layer into a wrapper. What was `….to_q.weight` is then `….to_q.base_layer.weight`, and beside it
there are `….to_q.lora_A.default.weight` (rank, inputs) and `….to_q.lora_B.default.weight` (outputs, rank): the layer
answers W x + alpha / rank · B A x. B begins at zero, so that a fresh adapter changes nothing.
"""

import copy
from collections.abc import Sequence
from typing import Protocol

from salticid.errors import ConfigError
from salticid.losses.pretrained import first_line, package
from salticid.nets.stable_diffusion.unet import UNet


class LoraSettings(Protocol):
    """Settings of the adapters: all weigh alpha / rank; `targets` are the ends of names of layers."""

    @property
    def rank(self) -> int: ...
    @property
    def alpha(self) -> float: ...
    @property
    def targets(self) -> Sequence[str]: ...


def add_lora(unet: UNet, lora: LoraSettings, key: str = "recipe.lora") -> None:
    """Freeze a UNet, and add adapters that are trained in its place, from torch's generator. Its first convolution
    stays trainable as a whole: where it was widened, nothing else can learn what its new channels are.

    Raises:
        ConfigError: peft is not installed, or a target is no layer that can be adapted.
    """
    peft = package("peft", key, "marigold")
    for target in lora.targets:
        if not any(name == target or name.endswith(f".{target}") for name, _ in unet.named_modules()):
            raise ConfigError(f"{key}.targets: the UNet has no layer {target}")
        if target == "conv_in":
            raise ConfigError(f"{key}.targets: conv_in is trained as a whole; leave it out")
    try:
        unet.add_adapter(peft.LoraConfig(r=lora.rank, lora_alpha=lora.alpha, target_modules=list(lora.targets)))
    except ValueError as error:
        raise ConfigError(f"{key}: {first_line(error)}") from error
    unet.conv_in.requires_grad_(True)


def merge_lora(unet: UNet) -> UNet:
    """A UNet without adapters that answers as `unet` does with them; `unet` itself, where it has none."""
    if not has_lora(unet):
        return unet
    merged = copy.deepcopy(unet)
    merged.fuse_lora()
    merged.unload_lora()
    return merged


def has_lora(unet: UNet) -> bool:
    """Whether it has adapters."""
    return any(".lora_" in name for name, _ in unet.named_parameters())
