"""Which part of the UNet learns."""

from typing import Literal

from salticid.nets.video import VideoUNet, idle

Train = Literal["all", "temporal", "spatial"]

TEMPORAL = ("time_stack", "time_mixer", "time_pos_embed", "motion_blocks", "time_mix_motion_embed")
"""Parts of the names of layers along time and views, and of their blends."""


def is_temporal(name: str) -> bool:
    """Whether a weight, by its dotted name, is one of layers along time or views, or of a blend."""
    return any(part in TEMPORAL for part in name.split("."))


def freeze(unet: VideoUNet, train: Train) -> None:
    """Freeze what is not to learn."""
    for name, parameter in unet.named_parameters():
        parameter.requires_grad_(train == "all" or is_temporal(name) == (train == "temporal"))


def freeze_idle(unet: VideoUNet) -> None:
    """Freeze what does nothing with a single token of context, adapters beside it included."""
    for layer in idle(unet):
        layer.requires_grad_(False)
