"""A patch discriminator (Isola et al. 2017) and the hinge losses of it and its generator (Lim & Ye 2017)."""

import torch.nn.functional as F
from torch import Tensor, nn

from salticid.nets.blocks import Conv, group_norm


class PatchDiscriminator(nn.Module):
    """Images (B, inputs, H, W) in [−1, 1] → logits (B, 1, H/2ⁿ, W/2ⁿ), one a patch, n = `layers`; real is positive.

    PatchGAN with two departures. GroupNorm instead of BatchNorm: a sample's logits do not depend on the batch, hence
    not on ranks or micro-batches. 3×3 instead of 4×4 kernels: same-size convolutions, which `wrap` makes seamless for
    360° panoramas; a roll by a multiple of 2ⁿ pixels then rolls the logits. A logit sees 47 pixels for 3 layers
    (6·2ⁿ − 1), and through GroupNorm the statistics of its image.
    """

    def __init__(self, inputs: int = 3, width: int = 64, layers: int = 3, *, wrap: bool = False):
        super().__init__()
        widths = [min(width * 2**i, 8 * width) for i in range(layers + 1)]
        stages: list[nn.Module] = [Conv(inputs, widths[0], stride=2, wrap=wrap), nn.LeakyReLU(0.2)]
        for i in range(1, layers + 1):
            stride = 2 if i < layers else 1
            stages += [
                Conv(widths[i - 1], widths[i], stride=stride, wrap=wrap),
                group_norm(widths[i]),
                nn.LeakyReLU(0.2),
            ]
        self.body = nn.Sequential(*stages, Conv(widths[-1], 1, wrap=wrap))
        for module in self.modules():
            if isinstance(module, Conv):
                nn.init.normal_(module.weight, std=0.02)  # as DCGAN and pix2pix start

    def forward(self, images: Tensor) -> Tensor:
        return self.body(images)


def hinge_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """The discriminator's loss (B,) of logits (B, …): mean of max(0, 1 − real) + mean of max(0, 1 + fake)."""
    return _mean(F.relu(1 - real.float())) + _mean(F.relu(1 + fake.float()))


def hinge_generator(fake: Tensor) -> Tensor:
    """The generator's loss (B,) of logits (B, …) of its images: minus their mean."""
    return -_mean(fake.float())


def _mean(values: Tensor) -> Tensor:
    return values.flatten(1).mean(dim=1)
