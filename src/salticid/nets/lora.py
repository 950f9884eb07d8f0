"""Low-rank adapters (LoRA; Hu et al. 2021) beside the layers of a UNet, by peft.

peft puts each adapted layer into a wrapper. What was `….to_q.weight` is then `….to_q.base_layer.weight`, and beside it
there are `….to_q.lora_A.default.weight` (rank, inputs) and `….to_q.lora_B.default.weight` (outputs, rank): the layer
answers W x + alpha / rank · B A x. B begins at zero, so that a fresh adapter changes nothing.
"""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from torch import nn

from salticid.errors import ConfigError, require
from salticid.losses.pretrained import first_line, package

Network = TypeVar("Network", bound=nn.Module)
FIRST = ("conv_in", "input_blocks.0.0")
"""What a UNet's first convolution is called, in diffusers and in generative-models."""


@dataclass(frozen=True)
class Lora:
    """Train low-rank adapters beside the UNet's attention (Hu et al. 2021), but nothing else of it."""

    rank: int = 16
    alpha: float = 16.0
    """All adapters weigh alpha / rank."""
    targets: Sequence[str] = ("to_q", "to_k", "to_v", "to_out.0")
    """Ends of the names of layers."""

    def __post_init__(self) -> None:
        require("recipe.lora.rank", self.rank, self.rank >= 1, "at least 1")
        require("recipe.lora.alpha", self.alpha, 0 < self.alpha < math.inf, "a number above 0")
        require("recipe.lora.targets", list(self.targets), len(self.targets) > 0, "names of layers")


def add_lora(unet: nn.Module, lora: Lora, key: str = "recipe.lora") -> None:
    """Freeze a UNet, and add adapters that are trained in its place, from torch's generator.

    Raises:
        ConfigError: peft is not installed, or a target is no layer that can be adapted.
    """
    peft = package("peft", key, "marigold")
    for target in lora.targets:
        if not any(name == target or name.endswith(f".{target}") for name, _ in unet.named_modules()):
            raise ConfigError(f"{key}.targets: the UNet has no layer {target}")
        if target in FIRST:
            raise ConfigError(f"{key}.targets: {target} is the first convolution, which is trained as a whole or not")
    unet.requires_grad_(False)
    config = peft.LoraConfig(r=lora.rank, lora_alpha=lora.alpha, target_modules=list(lora.targets))
    try:
        peft.inject_adapter_in_model(config, unet)
    except ValueError as error:
        raise ConfigError(f"{key}: {first_line(error)}") from error


def merge_lora(unet: Network) -> Network:
    """A UNet without adapters that answers as `unet` does with them; `unet` itself, where it has none."""
    if not has_lora(unet):
        return unet
    layer = package("peft.tuners.tuners_utils", "recipe.lora", "marigold").BaseTunerLayer
    merged = copy.deepcopy(unet)
    for name, module in list(merged.named_modules()):
        if isinstance(module, layer):
            module.merge()
            parent, _, own = name.rpartition(".")
            setattr(merged.get_submodule(parent), own, module.get_base_layer())
    return merged


def has_lora(unet: nn.Module) -> bool:
    """Whether it has adapters."""
    return any(".lora_" in name for name, _ in unet.named_parameters())
