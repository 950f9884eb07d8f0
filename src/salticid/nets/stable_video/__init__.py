"""The networks of Stable Video Diffusion: from a folder, the hub, a file of generative-models, or the package."""

from salticid.nets.stable_video.image_encoder import ImageEncoder, make_image_encoder
from salticid.nets.stable_video.start import has_weights, make_unet, start_unet
from salticid.nets.stable_video.unet import fill_unet, unet_config
from salticid.nets.stable_video.vae import Vae, make_vae

__all__ = [
    "ImageEncoder",
    "Vae",
    "fill_unet",
    "has_weights",
    "make_image_encoder",
    "make_unet",
    "make_vae",
    "start_unet",
    "unet_config",
]
