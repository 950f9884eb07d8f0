"""The UNets of SVD, SV3D and SV4D: pictures in rows, with attention along frames, and along views."""

from salticid.nets.video.config import SV3D_P, SV3D_U, SV4D, SVD, TINY, VideoUNetConfig
from salticid.nets.video.initial import adopt, load_unet
from salticid.nets.video.names import (
    config_from_diffusers,
    config_to_diffusers,
    from_diffusers,
    sv4d_name,
    to_diffusers,
)
from salticid.nets.video.unet import VideoUNet, blocks, checkpoint_activations, idle

__all__ = [
    "SV3D_P",
    "SV3D_U",
    "SV4D",
    "SVD",
    "TINY",
    "VideoUNet",
    "VideoUNetConfig",
    "adopt",
    "blocks",
    "checkpoint_activations",
    "config_from_diffusers",
    "config_to_diffusers",
    "from_diffusers",
    "idle",
    "load_unet",
    "sv4d_name",
    "to_diffusers",
]
