"""Settings of the panorama recipe, and the refusal of values that make no sense."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from salticid.errors import require

EncoderName = Literal["small", "f8c4", "f16c4", "f32c4"]
DecoderName = Literal["small", "S", "B", "M", "L", "XL", "H"]
FusionName = Literal["concat_conv", "average", "attention", "rays"]


@dataclass(frozen=True)
class Sampler:
    """Euler steps on the time grid linspace(1, 0, steps + 1) ** power."""

    steps: int = 12
    power: float = 2.0

    def __post_init__(self) -> None:
        require("recipe.sampler.steps", self.steps, self.steps >= 1, "at least 1")
        require("recipe.sampler.power", self.power, positive(self.power), "a number above 0")


@dataclass(frozen=True)
class LossWeights:
    """What the terms of the training loss count; a term that counts nothing is left out."""

    flow: float = 1.0
    """Flow matching: squared error of the velocity x₀ − ε."""
    image: float = 1.0
    """Squared error of the image head, which draws the panorama from the latent without noise."""
    kl: float = 1e-6
    """KL divergence of a view's latent to N(0, 1), summed over the latent (nats)."""
    lpips: float = 0.0
    """LPIPS of the predicted x̂₀ (SSDD: 0.5); needs `judges.vgg`."""
    repa: float = 0.0
    """Alignment of the decoder's features with DINOv2's of the truth (SSDD: 0.25); needs `judges.dinov2`."""
    gan: float = 0.0
    """Hinge loss of a patch discriminator, trained as a second phase, on x̂₀."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            require(f"recipe.weights.{name}", value, 0 <= value < math.inf, "a number from 0")


@dataclass(frozen=True)
class Gan:
    """The discriminator, where `weights.gan` is above 0."""

    start: int = 0
    """First step of the discriminator's phase and of its term in the loss."""
    width: int = 64
    lr_scale: float = 1.0
    """The discriminator's learning rate, relative to the model's."""

    def __post_init__(self) -> None:
        require("recipe.gan.start", self.start, self.start >= 0, "a step from 0")
        require("recipe.gan.width", self.width, self.width >= 1, "at least 1")
        require("recipe.gan.lr_scale", self.lr_scale, positive(self.lr_scale), "a number above 0")


@dataclass(frozen=True)
class Judges:
    """Pretrained networks that losses and metrics look through: local files or folders, or hub ids. They are no part
    of the model and not in its checkpoints."""

    vgg: str | None = None
    """State dict of torchvision's VGG16, or a hub id such as timm/vgg16.tv_in1k: for the loss LPIPS."""
    dinov2: str | None = None
    """Folder of a DINOv2, or a hub id such as facebook/dinov2-base: for REPA."""
    alex: str | None = None
    """State dict of torchvision's AlexNet: evaluation then reports LPIPS."""
    inception: str | None = None
    """torch-fidelity's Inception (pt_inception-2015-12-05-6726825d.pth): evaluation then reports FID."""


@dataclass(frozen=True)
class Initial:
    """Weights to begin with: those of a run of ours, or of the public code's checkpoints."""

    path: str
    """A run directory, one of its checkpoints, or a .safetensors, .pth or .pt file of SSDD or its multi-view fork."""
    weights: Literal["ema", "raw"] = "ema"
    """Which of them, where there are both; a file with neither prefix holds raw ones."""
    parts: Literal["all", "encoder"] = "all"
    """`encoder`: nothing but the encoder is taken."""


@dataclass(frozen=True)
class Distillation:
    """Teach the decoder to do in one step what its initial weights do in `steps` (SSDD, section on distillation)."""

    steps: int = 12
    power: float = 2.0

    def __post_init__(self) -> None:
        require("recipe.distill.steps", self.steps, self.steps >= 2, "at least 2")
        require("recipe.distill.power", self.power, positive(self.power), "a number above 0")


def check_sizes(
    height: int,
    view_size: int,
    views: int,
    latent: int,
    encoder: EncoderName,
    encoder_widths: Sequence[int],
    decoder_widths: Sequence[int],
) -> None:
    """Refuse sizes that the networks cannot take."""
    multiple = shrinks_by(encoder)
    expected = f"a multiple of {multiple}, at least {multiple}" + (f" ({encoder})" if encoder != "small" else "")
    require("recipe.height", height, height >= multiple and height % multiple == 0, expected)
    require("recipe.view_size", view_size, view_size >= multiple and view_size % multiple == 0, expected)
    require("recipe.views", views, views >= 1, "at least 1")
    require("recipe.latent", latent, latent >= 1, "at least 1")
    for name, widths in (("encoder_widths", encoder_widths), ("decoder_widths", decoder_widths)):
        three = len(widths) == 3 and all(width >= 1 for width in widths)
        require(f"recipe.{name}", widths, three, "three numbers of channels, one for each halving of the size")


def shrinks_by(encoder: EncoderName) -> int:
    """By how much an encoder shrinks: 8 of `small` and `f8c4`."""
    return 8 if encoder == "small" else int(encoder[1:].partition("c")[0])


def positive(*values: float) -> bool:
    """Whether all are above 0 and finite."""
    return all(0 < value < math.inf for value in values)


def distances(*values: float) -> bool:
    """Whether all are above 0; infinity is a distance."""
    return all(value > 0 for value in values)
