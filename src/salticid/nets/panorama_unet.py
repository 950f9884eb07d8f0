"""A small flow-matching decoder: panorama latent (and geometric stitches) → panorama.

The networks of the `panorama-tiny` presets. What a latent already says about the picture is drawn first, by an image
head in the `Sketch`; the `PanoramaUNet` then predicts the flow of what is left.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from salticid.nets.blocks import Conv, ResBlock, TimeEmbedding, group_norm

Features = tuple[int, int, int]
FEATURES: Features = (96, 64, 32)
"""Channels that the latent is read into at 1/8, 1/4 and 1/2 of the panorama."""


@dataclass(frozen=True)
class Drawn:
    """What a `Sketch` makes of a latent and its stitches."""

    pyramid: tuple[Tensor, Tensor, Tensor]
    """Features of the latent at 1/8, 1/4 and 1/2 of the panorama."""
    estimate: Tensor | None
    """The image head's panorama (B, 3, H, W), where there is a head."""


class ImageHead(nn.Module):
    """The panorama as the latent shows it, as a correction to a blend of the stitches where there are any.

    The blend chooses between stitches made for different distances by a softmax per pixel: a plane sweep whose
    cost is learnt.
    """

    def __init__(self, features: int, stitches: int, hidden: int = 48, *, wrap: bool = True):
        super().__init__()
        self.stitches = stitches
        self.enter = Conv(features + guide_channels(stitches), hidden, wrap=wrap)
        self.body = ResBlock(hidden, hidden, wrap=wrap)
        self.wide = nn.Sequential(
            Conv(hidden, hidden, stride=2, wrap=wrap),
            ResBlock(hidden, hidden, wrap=wrap),
            ResBlock(hidden, hidden, wrap=wrap),
        )
        self.leave = nn.Sequential(
            ResBlock(hidden, hidden, wrap=wrap), nn.SiLU(), Conv(hidden, 4 * (3 + stitches), wrap=wrap)
        )

    def forward(self, features: Tensor, guide: Tensor | None, stitches: Tensor | None) -> Tensor:
        """`stitches` (B, S, 3, H, W) are the pictures that `guide` holds in folded form."""
        h = self.body(self.enter(features if guide is None else torch.cat([features, guide], dim=1)))
        h = h + F.interpolate(self.wide(h), scale_factor=2.0, mode="nearest")
        drawn = F.pixel_shuffle(self.leave(h), 2).float()
        if stitches is None:
            return drawn
        weights = drawn[:, 3:].softmax(dim=1)[:, :, None]
        return drawn[:, :3] + (weights * stitches).sum(dim=1)


class Sketch(nn.Module):
    """Reads the latent and the stitches once per panorama: features at every scale, and the image head's picture."""

    def __init__(
        self,
        latent: int = 4,
        *,
        stitches: int = 0,
        image_head: bool = True,
        features: Features = FEATURES,
        wrap: bool = True,
    ):
        super().__init__()
        f8, f4, f2 = features
        self.latent8 = nn.Sequential(Conv(latent, f8, wrap=wrap), ResBlock(f8, f8, wrap=wrap))
        self.latent4 = ResBlock(f8, f4, wrap=wrap)
        self.latent2 = ResBlock(f4, f2, wrap=wrap)
        self.image_head = ImageHead(f2, stitches, wrap=wrap) if image_head else None

    def forward(self, latent: Tensor, height: int, stitches: Tensor | None, coverage: Tensor | None) -> Drawn:
        """For a panorama of `height` rows; `stitches` (B, S, 3, H, W) in [−1, 1] and `coverage` (B, 1, H, W), or
        neither. A latent coarser than 1/8 of the panorama is enlarged."""
        if latent.shape[-2] != height // 8:
            latent = F.interpolate(latent, (height // 8, height // 4))
        f8 = self.latent8(latent)
        f4 = self.latent4(double(f8))
        f2 = self.latent2(double(f4))
        estimate = None if self.image_head is None else self.image_head(f2, fold(stitches, coverage), stitches)
        return Drawn((f8, f4, f2), estimate)


class PanoramaUNet(nn.Module):
    """Predicts (B, 3, H, W) from a noisy panorama, its time and what a `Sketch` has drawn; H and W are multiples
    of 8."""

    def __init__(
        self,
        *,
        stitches: int = 0,
        image_head: bool = True,
        widths: Sequence[int] = (40, 64, 96),
        features: Features = FEATURES,
        time: int = 96,
        wrap: bool = True,
    ):
        super().__init__()
        fine, middle, coarse = widths
        f8, f4, f2 = features
        self.time = TimeEmbedding(time)
        self.feature_channels = coarse
        self.enter = Conv(12 + 12 * image_head + f2 + guide_channels(stitches), fine, wrap=wrap)
        self.down2 = ResBlock(fine, fine, time=time, wrap=wrap)
        self.shrink2 = Conv(fine, middle, stride=2, wrap=wrap)
        self.down4 = ResBlock(middle + f4, middle, time=time, wrap=wrap)
        self.shrink4 = Conv(middle, coarse, stride=2, wrap=wrap)
        self.middle1 = ResBlock(coarse + f8, coarse, time=time, wrap=wrap)
        self.middle2 = ResBlock(coarse, coarse, time=time, wrap=wrap)
        self.up4 = ResBlock(coarse + middle, middle, time=time, wrap=wrap)
        self.up2 = ResBlock(middle + fine, fine, time=time, wrap=wrap)
        self.leave = nn.Sequential(group_norm(fine), nn.SiLU(), Conv(fine, 12, wrap=wrap))
        nn.init.zeros_(self.leave[2].weight)  # type: ignore[arg-type]

    def forward(
        self,
        noisy: Tensor,
        time: Tensor,
        drawn: Drawn,
        stitches: Tensor | None = None,
        coverage: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """`noisy` (B, 3, H, W) of about unit variance, `time` (B,) in [0, 1000] → the output in float32, and features
        (B, feature_channels, H/8, W/8)."""
        f8, f4, f2 = drawn.pyramid
        embedding = self.time(time)
        inputs = [F.pixel_unshuffle(noisy, 2)]
        if drawn.estimate is not None:
            inputs.append(F.pixel_unshuffle(drawn.estimate.detach(), 2))
        inputs.append(f2)
        if (guide := fold(stitches, coverage)) is not None:
            inputs.append(guide)
        h2 = self.down2(self.enter(torch.cat(inputs, dim=1)), embedding)
        h4 = self.down4(torch.cat([self.shrink2(h2), f4], dim=1), embedding)
        h8 = self.middle1(torch.cat([self.shrink4(h4), f8], dim=1), embedding)
        h8 = self.middle2(h8, embedding)
        h4 = self.up4(torch.cat([double(h8), h4], dim=1), embedding)
        h2 = self.up2(torch.cat([double(h4), h2], dim=1), embedding)
        return F.pixel_shuffle(self.leave(h2), 2).float(), h8


def fold(stitches: Tensor | None, coverage: Tensor | None) -> Tensor | None:
    """Stitches and coverage at half resolution, 2×2 pixels folded into channels; None without stitches."""
    if stitches is None or coverage is None:
        return None
    return F.pixel_unshuffle(torch.cat([stitches.flatten(1, 2), coverage], dim=1), 2)


def guide_channels(stitches: int) -> int:
    """Channels of stitches and coverage with 2×2 pixels folded into them; none without stitches."""
    return 4 * (3 * stitches + 1) if stitches else 0


def double(x: Tensor) -> Tensor:
    """Nearest-neighbour upsampling by 2."""
    return F.interpolate(x, scale_factor=2.0, mode="nearest")
