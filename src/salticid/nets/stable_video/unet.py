"""The UNet of a base: its sizes, and its weights."""

from dataclasses import replace

from salticid.errors import ConfigError
from salticid.losses.pretrained import first_line
from salticid.nets.stable_video.base import open_base
from salticid.nets.stable_video.original import Original
from salticid.nets.video import SVD, VideoUNet, VideoUNetConfig, config_from_diffusers, load_unet
from salticid.nets.video.names import PREFIX

ORIGINAL = "the UNet of SVD, SV3D or SV4D, in the format of generative-models"
VECTOR = f"{PREFIX}label_emb.0.0.weight"
REFERENCE = f"{PREFIX}middle_block.1.motion_blocks.0.attn2.to_k.weight"
"""What only networks with frame attention have: (width, channels of the reference)."""


def unet_config(base: str, key: str = "recipe.base") -> VideoUNetConfig:
    """Sizes of a base's UNet. Of a file of generative-models: those of SVD, but for the vector and for the reference
    of SV4D, which are read off its shapes.

    Raises:
        ConfigError: there is no such base, or its UNet is of another kind.
    """
    found = open_base(base, key)
    if isinstance(found, Original):
        vector = found.shape(VECTOR, 2, ORIGINAL)[1]
        reference = found.shape(REFERENCE, 2, ORIGINAL)[1] if REFERENCE in found.shapes else 0
        return replace(SVD, vector=vector, reference=reference)
    config = found.config("unet")
    try:
        return config_from_diffusers(config)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{key}: unet of {base}: config.json ({first_line(error)})") from error


def fill_unet(unet: VideoUNet, base: str, key: str = "recipe.base") -> None:
    """Give a UNet of the sizes of `unet_config`, possibly on the meta device, the weights of its base, in float32 on
    the CPU. A base that is a configuration alone leaves it as it is.

    Raises:
        ConfigError: the file is damaged, or a weight is missing, superfluous or of another shape.
    """
    found = open_base(base, key)
    if (file := found.file if isinstance(found, Original) else found.weights("unet")) is not None:
        load_unet(unet, file, key)
    elif not isinstance(found, Original):
        found.note_random("unet")
