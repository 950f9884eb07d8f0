"""The image encoder of a base: what CLIP makes of a picture, with what is done to the picture before."""

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from salticid.errors import ConfigError
from salticid.losses.pretrained import first_line, package
from salticid.nets.diffusers_folder import EXTRA
from salticid.nets.loading import fill_clip, load_clip
from salticid.nets.stable_video.base import Base, open_base
from salticid.nets.stable_video.names import clip_from_open_clip
from salticid.nets.stable_video.original import Original

if TYPE_CHECKING:
    from jaxtyping import Float

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""Of CLIP's training pictures, red, green and blue in [0, 1]."""
VISUAL = r"(conditioner\.embedders\.\d+\.open_clip\.model\.visual\.)class_embedding"
ORIGINAL = "the image encoder of SVD, SV3D or SV4D, in the format of generative-models"
HEAD = 80
"""Channels of a head in OpenCLIP's ViT-H/14, which cannot be read off the shapes."""


class ImageEncoder(nn.Module):
    """Pictures (N, 3, H, W) in [−1, 1] → CLIP's image embeddings (N, width), not normalised.

    Args:
        network: `CLIPVisionModelWithProjection` of transformers.
        mean, std: by which its pictures are normalised.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: Any, mean: Sequence[float] = MEAN, std: Sequence[float] = STD):
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(std)[:, None, None], persistent=False)

    @property
    def width(self) -> int:
        return self.network.config.projection_dim

    @property
    def size(self) -> int:
        """Height and width at which it looks at pictures."""
        return self.network.config.image_size

    def forward(self, pictures: "Float[Tensor, 'n 3 height width']") -> "Float[Tensor, 'n d']":
        small = (resize_smoothed(pictures, self.size) + 1) / 2
        return self.network(pixel_values=(small - self.mean) / self.std).image_embeds


def resize_smoothed(pictures: "Float[Tensor, 'n c height width']", size: int) -> "Float[Tensor, 'n c size size']":
    """Bicubic, corners on corners, after a Gaussian blur of σ = ½ (factor − 1) pixels along sides that shrink: what
    generative-models and diffusers do before CLIP."""
    for axis in (-2, -1):
        pictures = _blur(pictures, (pictures.shape[axis] / size - 1) / 2, axis)
    return F.interpolate(pictures, (size, size), mode="bicubic", align_corners=True)


def _blur(pictures: Tensor, sigma: float, axis: int) -> Tensor:
    """Along one axis, over about 2 σ to both sides, mirrored at the borders."""
    if sigma <= 0:
        return pictures
    half = int(max(4 * sigma, 3)) // 2
    places = torch.arange(-half, half + 1, device=pictures.device, dtype=pictures.dtype)
    weights = torch.exp(-0.5 * (places / sigma) ** 2)
    upright = axis == -2
    kernel = (weights / weights.sum()).view((1, 1, -1, 1) if upright else (1, 1, 1, -1))
    padded = F.pad(pictures, (0, 0, half, half) if upright else (half, half, 0, 0), mode="reflect")
    return F.conv2d(padded.flatten(0, 1)[:, None], kernel).view_as(pictures)


def feature_extractor(size: int, mean: Sequence[float] = MEAN, std: Sequence[float] = STD) -> dict[str, Any]:
    """The configuration of the `CLIPImageProcessor` that does to pictures of `size` pixels what `ImageEncoder` does."""
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": size},
        "resample": 3,  # bicubic
        "do_center_crop": True,
        "crop_size": {"height": size, "width": size},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(mean),
        "image_std": list(std),
        "do_convert_rgb": True,
    }


def make_image_encoder(base: str, key: str = "recipe.base") -> ImageEncoder:
    """The image encoder of a base, in float32, frozen, in eval mode; random where a folder has no weights.

    Raises:
        ConfigError: there is no such base, or its image encoder is damaged or of another kind.
    """
    found = open_base(base, key)
    if isinstance(found, Original):
        return ImageEncoder(_from_original(found)).eval().requires_grad_(False)
    network = load_clip(found, "image_encoder", "CLIPVisionConfig", "CLIPVisionModelWithProjection")
    return ImageEncoder(network, *_normalisation(found)).eval().requires_grad_(False)


def _normalisation(base: Base) -> Iterator[list[float]]:
    """Mean and standard deviation of a folder's feature extractor."""
    given = base.feature_extractor()
    for name, usual in (("image_mean", MEAN), ("image_std", STD)):
        values = given.get(name, usual)
        try:
            red, green, blue = map(float, values)
        except (TypeError, ValueError) as error:
            what = f"{name} of {base.name}/feature_extractor"
            raise ConfigError(f"{base.key}: {what} is {values}; expected three numbers") from error
        yield [red, green, blue]


def _from_original(file: Original) -> Any:
    """CLIPVisionModelWithProjection, of OpenCLIP's weights."""
    prefix = file.prefix(VISUAL)
    if prefix is None:
        raise ConfigError(f"{file.key}: {file.file} has no image encoder; expected {ORIGINAL}")
    transformers = package("transformers", file.key, EXTRA)
    try:
        config = transformers.CLIPVisionConfig(**_config(file, prefix))
        with torch.device("meta"):
            network = transformers.CLIPVisionModelWithProjection(config)
    except ConfigError:
        raise
    except Exception as error:  # wrong sizes fail wherever they are used first
        raise ConfigError(f"{file.key}: {file.file}: image encoder ({first_line(error)})") from error
    fill_clip(network, clip_from_open_clip(file.part(prefix)), file.file, file.key)
    return network


def _config(file: Original, prefix: str) -> dict[str, Any]:
    """Arguments of `CLIPVisionConfig`, from shapes."""
    width, _, _, patch = file.shape(f"{prefix}conv1.weight", 4, ORIGINAL)
    layer = f"{prefix}transformer.resblocks."
    return {
        "hidden_size": width,
        "intermediate_size": file.shape(f"{layer}0.mlp.c_fc.weight", 2, ORIGINAL)[0],
        "projection_dim": file.shape(f"{prefix}proj", 2, ORIGINAL)[1],
        "num_hidden_layers": sum(n.startswith(layer) and n.endswith(".ln_1.weight") for n in file.shapes),
        "num_attention_heads": width // HEAD,
        "image_size": patch * math.isqrt(file.shape(f"{prefix}positional_embedding", 2, ORIGINAL)[0] - 1),
        "patch_size": patch,
        "hidden_act": "gelu",
    }
