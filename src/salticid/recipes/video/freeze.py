"""Which part of the UNet learns."""

from typing import Literal

from salticid.nets.video import VideoUNet, idle

Train = Literal["all", "temporal", "spatial"]

TEMPORAL = ("time_stack", "time_mixer", "time_pos_embed", "motion_blocks", "time_mix_motion_embed")
"""Parts of the names of layers along time and views, and of their blends."""


def is_temporal(name: str) -> bool:
    """Whether a weight, by its dotted name, is one of layers along time or views, or of a blend."""
    return any(part in TEMPORAL for part in name.split("."))


def freeze(unet: VideoUNet, train: Train, *, single_token: bool) -> None:
    """Freeze what is not to learn, and with a `single_token` of context, too, what then does nothing (`idle`)."""
    for name, parameter in unet.named_parameters():
        parameter.requires_grad_(train == "all" or is_temporal(name) == (train == "temporal"))
    if single_token:
        for layer in idle(unet):
            layer.requires_grad_(False)
