"""The networks of Stable Diffusion, by diffusers and transformers, from a folder, the hub or the package."""

from salticid.nets.lora import add_lora, has_lora, merge_lora
from salticid.nets.stable_diffusion.parts import TextEncoder, Vae, empty_prompt, make_vae, scheduler_config
from salticid.nets.stable_diffusion.unet import (
    UNet,
    blocks,
    checkpoint_activations,
    input_channels,
    load_unet,
    make_unet,
)

__all__ = [
    "TextEncoder",
    "UNet",
    "Vae",
    "add_lora",
    "blocks",
    "checkpoint_activations",
    "empty_prompt",
    "has_lora",
    "input_channels",
    "load_unet",
    "make_unet",
    "make_vae",
    "merge_lora",
    "scheduler_config",
]
