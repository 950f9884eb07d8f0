"""Where the parts of a Stable Video Diffusion are: a folder in the format of diffusers, the hub, one file of
generative-models, or the package."""

from pathlib import Path
from typing import Any

from salticid.nets.diffusers_folder import DiffusersFolder, Network
from salticid.nets.stable_diffusion import base as stable_diffusion
from salticid.nets.stable_video.original import Original

TINY = "tiny-video"
"""The name of the base that ships with the package."""
NETWORKS = {
    "unet": Network(("UNetSpatioTemporalConditionModel",)),
    "vae": Network(("AutoencoderKLTemporalDecoder", "AutoencoderKL")),
    "image_encoder": Network(("clip_vision_model",), "model"),
}
PREPROCESSOR = "preprocessor_config.json"


class Base(DiffusersFolder):
    """The files of a Stable Video Diffusion."""

    networks = NETWORKS
    own = TINY
    expected = (
        "a folder in the format of diffusers (unet/, vae/, image_encoder/, feature_extractor/, scheduler/), a hub id "
        "such as stabilityai/stable-video-diffusion-img2vid, a file of generative-models such as svd.safetensors, or "
        f"{TINY}"
    )

    def feature_extractor(self) -> dict[str, Any]:
        """How pictures are prepared for the image encoder."""
        return self.json("feature_extractor", PREPROCESSOR)

    def weights(self, part: str) -> Path | None:
        """As everywhere; the package's own base has the VAE of its Stable Diffusion."""
        if self.name == TINY and part == "vae":
            return stable_diffusion.Base(stable_diffusion.TINY, self.key).weights(part)
        return super().weights(part)


def open_base(name: str, key: str) -> Base | Original:
    """A base by its name.

    Raises:
        ConfigError: there is no such base, or it is a file that cannot be read.
    """
    file = Path(name).expanduser()
    return Original(file, key) if file.is_file() else Base(name, key)
