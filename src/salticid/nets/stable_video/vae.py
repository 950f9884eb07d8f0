"""The autoencoder of a base, with a temporal decoder or without, behind one interface."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from salticid.errors import ConfigError
from salticid.losses.pretrained import fill, first_line, package
from salticid.nets.diffusers_folder import EXTRA
from salticid.nets.loading import load_vae
from salticid.nets.stable_video.base import open_base
from salticid.nets.stable_video.names import original_vae_name, vae_as_diffusers_has_it
from salticid.nets.stable_video.original import Original

if TYPE_CHECKING:
    from jaxtyping import Float

FIRST_STAGE = "first_stage_model."
CONDITIONER = r"(conditioner\.embedders\.\d+\.encoder\.)encoder\.conv_in\.weight"
"""The VAE that encodes what SVD, SV3D and SV4D are told to look at."""
PARTS = ("encoder.", "decoder.", "quant_conv.", "post_quant_conv.")
ORIGINAL = "the first stage of SVD, SV3D or SV4D, in the format of generative-models"
TEMPORAL = "decoder.conv_out.time_mix_conv.weight"
"""What only a temporal decoder has."""


class Vae(nn.Module):
    """Pictures (N, 3, H, W) in [−1, 1] ↔ latents (N, latent_channels, H/factor, W/factor), not scaled.

    Args:
        network: `AutoencoderKLTemporalDecoder` of diffusers, whose decoder looks at neighbouring frames, or
            `AutoencoderKL`, which takes each frame by itself.
    """

    def __init__(self, network: Any):
        super().__init__()
        self.network = network

    @property
    def temporal(self) -> bool:
        """Whether a decoded frame depends on its neighbours."""
        return hasattr(self.network.decoder, "time_conv_out")

    @property
    def scaling_factor(self) -> float:
        """What latents are multiplied by to have unit variance."""
        return self.network.config["scaling_factor"]

    @property
    def factor(self) -> int:
        """Pixels of a latent, along one side."""
        return 2 ** (len(self.network.config["block_out_channels"]) - 1)

    @property
    def latent_channels(self) -> int:
        return self.network.config["latent_channels"]

    def encode_mode(self, pictures: "Float[Tensor, 'n 3 height width']") -> "Float[Tensor, 'n c h w']":
        """The posterior's mode, which is its mean: nothing is drawn."""
        return self.network.encode(pictures).latent_dist.mode()

    def decode(self, latents: "Float[Tensor, 'n c h w']", frames: int) -> "Float[Tensor, 'n 3 height width']":
        """Pictures of clips of so many frames, one clip's frames after the other's; not clipped."""
        options = {"num_frames": frames} if self.temporal else {}
        return self.network.decode(latents, **options).sample


def make_vae(base: str, key: str = "recipe.base") -> Vae:
    """The autoencoder of a base, in float32, frozen, in eval mode; random where a folder has no weights.

    The files of SV3D and SV4D have a decoder alone, of pictures: their encoder is that of the conditioner. SVD's has
    both, whose weights may differ; its own is taken, which has no `quant_conv`.

    Raises:
        ConfigError: there is no such base, or its VAE is damaged or of another kind.
    """
    found = open_base(base, key)
    network = _from_original(found) if isinstance(found, Original) else load_vae(found)
    return Vae(network).eval().requires_grad_(False)


def _from_original(file: Original) -> Any:
    tensors = vae_as_diffusers_has_it(_first_stage(file))
    kind = "AutoencoderKLTemporalDecoder" if TEMPORAL in tensors else "AutoencoderKL"
    try:
        config = _config(tensors)
        with torch.device("meta"):
            vae = getattr(package("diffusers", file.key, EXTRA), kind)(**config)
    except (LookupError, ValueError) as error:
        raise ConfigError(f"{file.key}: {file.file} has no VAE ({first_line(error)}); expected {ORIGINAL}") from error
    levels = len(config["block_out_channels"])
    fill(
        vae,
        tensors,
        file=file.file,
        expected=ORIGINAL,
        key=file.key,
        rename=lambda name: original_vae_name(name, levels),
    )
    return vae


def _first_stage(file: Original) -> dict[str, Tensor]:
    """Encoder, decoder and the 1×1 convolutions between, of which the one behind the encoder may be the identity."""
    found = {name: value for name, value in file.part(FIRST_STAGE).items() if name.startswith(PARTS)}
    if "encoder.conv_in.weight" not in found and (prefix := file.prefix(CONDITIONER)):
        other = file.part(prefix)
        found |= {name: value for name, value in other.items() if name.startswith(("encoder.", "quant_conv."))}
    if "encoder.conv_out.weight" in found and "quant_conv.weight" not in found:
        channels = len(found["encoder.conv_out.weight"])
        found |= {"quant_conv.weight": torch.eye(channels)[..., None, None], "quant_conv.bias": torch.zeros(channels)}
    return found


def _config(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Arguments of diffusers' class, from shapes.

    Raises:
        KeyError: a tensor is missing.
    """

    def count(name: str) -> int:
        number = 0
        while name.format(number) in tensors:
            number += 1
        return number

    first = "encoder.down.{}.block.0.conv1.weight"
    widths = tuple(len(tensors[first.format(level)]) for level in range(count(first)))
    config: dict[str, Any] = {
        "block_out_channels": widths,
        "down_block_types": ("DownEncoderBlock2D",) * len(widths),
        "layers_per_block": count("encoder.down.0.block.{}.conv1.weight"),
        "latent_channels": tensors["decoder.conv_in.weight"].shape[1],
        "sample_size": 768,
    }
    if TEMPORAL in tensors:
        return config
    up = {"up_block_types": ("UpDecoderBlock2D",) * len(widths)}
    return config | up | {"use_post_quant_conv": "post_quant_conv.weight" in tensors}
