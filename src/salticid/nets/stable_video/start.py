"""A UNet that begins with the weights of a base, of which it may not be an exact copy."""

import re
from dataclasses import replace

import torch

from salticid.errors import ConfigError
from salticid.nets.stable_video.base import open_base
from salticid.nets.stable_video.original import Original
from salticid.nets.stable_video.unet import fill_unet, unet_config
from salticid.nets.video import VideoUNet, VideoUNetConfig
from salticid.nets.video.initial import adopt

ANEW = re.compile(
    r"input_blocks\.0\.0\.weight|label_emb\.0\.0\.weight|out\.2\.(weight|bias)"
    r"|.*\.attn2\.to_[kv]\.weight|.*\.(motion_blocks|time_mix_motion_embed)\..*"
)
"""Weights that depend on what the network is told: they may begin anew where that is not what the base is told."""


def make_unet(config: VideoUNetConfig, base: str, key: str = "recipe.base") -> VideoUNet:
    """A new network; or one of zeros, which costs no time, where all its weights are those of the base.

    Raises:
        ConfigError: there is no such base.
    """
    if not has_weights(base, key) or not _same(unet_config(base, key), config):
        return VideoUNet(config)
    with torch.device("meta"):
        network = VideoUNet(config)
    return network._apply(lambda tensor: torch.zeros_like(tensor, device="cpu"))


@torch.no_grad()
def start_unet(unet: VideoUNet, base: str, key: str = "recipe.base") -> dict[str, str]:
    """Give a UNet the weights of a base; where the two are told different things, as far as they fit.

    A base without weights leaves it as it is, and so are weights left that are not in the base.

    Args:
        unet: as `make_unet` made it.

    Returns:
        Name of each weight that begins anew → why.

    Raises:
        ConfigError: the base is damaged, or its network is of other sizes.
    """
    theirs = unet_config(base, key)
    if not has_weights(base, key) or _same(theirs, unet.config):
        fill_unet(unet, base, key)
        return {}
    with torch.device("meta"):
        other = VideoUNet(theirs)
    fill_unet(other, base, key)
    left = adopt(unet, other.state_dict())
    if odd := next((name for name in left if not ANEW.fullmatch(name)), None):
        raise ConfigError(f"{key}: the UNet of {base} does not fit: {odd}: {left[odd]}")
    return left


def has_weights(base: str, key: str = "recipe.base") -> bool:
    """Whether the UNet of a base is more than its configuration."""
    found = open_base(base, key)
    return isinstance(found, Original) or found.weights("unet") is not None


def _same(a: VideoUNetConfig, b: VideoUNetConfig) -> bool:
    """Whether they have the same weights."""
    return replace(a, diffusers_norms=b.diffusers_norms) == b
