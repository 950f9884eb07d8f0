"""One U-Net decoder for depth, optical flow and appearance flow: maps of an encoder → outputs at four scales."""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from salticid.errors import UserError
from salticid.nets.blocks import Recomputable

WIDTHS = (16, 32, 64, 128, 256)
SCALES = 4


class ConvBlock(nn.Conv2d):
    """Reflect-padded 3×3 convolution and ELU."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__(inputs, outputs, 3, padding=1, padding_mode="reflect")

    def forward(self, input: Tensor) -> Tensor:
        return F.elu(super().forward(input), inplace=True)


class Head(nn.Conv2d):
    """A last convolution, in the precision of its weights under autocast too: half precision has 8 bits or 11 for a
    flow of tens of pixels, or for a disparity."""

    def forward(self, input: Tensor) -> Tensor:
        if not torch.is_autocast_enabled(input.device.type):
            return super().forward(input)
        with torch.autocast(input.device.type, enabled=False):
            return super().forward(input.to(self.weight.dtype))


class Level(Recomputable):
    """Convolution, nearest ×2, the encoder's map beside it, convolution."""

    def __init__(self, inputs: int, skip: int, outputs: int):
        super().__init__()
        self.before = ConvBlock(inputs, outputs)
        self.after = ConvBlock(outputs + skip, outputs)

    def compute(self, x: Tensor, height: int, width: int, skip: Tensor | None = None) -> Tensor:
        """(B, inputs, ⌈height/2⌉, ⌈width/2⌉), skip (B, skip, height, width) → (B, outputs, height, width)."""
        x = F.interpolate(self.before(x), scale_factor=2.0, mode="nearest")
        if x.shape[-2:] != (height, width):
            x = x[..., :height, :width]
        return self.after(x if skip is None else torch.cat([x, skip], dim=1))


class UNetDecoder(nn.Module):
    """Monodepth2's decoder. Level i (4 to 0) goes from the encoder's map i to the size of its map i − 1, level 0 to the
    size of the image; scale s is a convolution of what level s makes.

    A map of odd height or width is met by cutting the last row or column of the enlarged one: pixel x of a level stays
    beside the pixels 2x and 2x + 1 of the next finer one, where the encoder's strides put it. So scale s has
    ⌈H/2^s⌉ × ⌈W/2^s⌉ pixels.

    Args:
        channels: of the encoder's five maps, finest first.
        outputs: channels at each scale.
        padding_mode: of the last convolutions.
    """

    def __init__(self, channels: Sequence[int], outputs: int, padding_mode: Literal["reflect", "zeros"] = "reflect"):
        super().__init__()
        inputs, skips = (*WIDTHS[1:], channels[-1]), (0, *channels[:-1])
        self.levels = nn.ModuleList(Level(*sizes) for sizes in zip(inputs, skips, WIDTHS, strict=True))
        self.heads = nn.ModuleList(Head(n, outputs, 3, padding=1, padding_mode=padding_mode) for n in WIDTHS[:SCALES])

    def forward(self, maps: list[Tensor], size: tuple[int, int]) -> list[Tensor]:
        """The encoder's maps and the (height, width) of its images → outputs by scale, 0 (as large as the images) to 3:
        (B, outputs, ⌈H/2^s⌉, ⌈W/2^s⌉), float32 under autocast.

        Raises:
            UserError: the images are too small to be padded by reflection at the coarsest map.
        """
        if min(maps[-1].shape[-2:]) < 2:
            raise UserError(f"images of {size[0]}×{size[1]} pixels; motion networks need more than 32 on each side")
        x, decoded = maps[-1], []
        for i in range(4, 0, -1):
            x = self.levels[i](x, *maps[i - 1].shape[-2:], maps[i - 1])
            decoded.append(x)
        decoded.append(self.levels[0](x, *size))
        return [self.activate(head(x)) for head, x in zip(self.heads, reversed(decoded), strict=False)]

    def activate(self, x: Tensor) -> Tensor:
        """From the last convolution to the output."""
        raise NotImplementedError

    def checkpoint_activations(self) -> None:
        """Compute what lies inside the levels again in the backward pass."""
        for level in self.levels:
            level.recompute = True  # type: ignore[assignment]


class DepthDecoder(UNetDecoder):
    """Disparity in (0, 1), one channel: the share of the way from the farthest depth's inverse to the nearest's."""

    def __init__(self, channels: Sequence[int]):
        super().__init__(channels, 1)

    def activate(self, x: Tensor) -> Tensor:
        return x.sigmoid()


class PositionDecoder(UNetDecoder):
    """Optical flow (x, y) in pixels of the full resolution at every scale; it starts at almost nothing."""

    def __init__(self, channels: Sequence[int]):
        super().__init__(channels, 2, "zeros")
        for head in self.heads:
            nn.init.normal_(head.weight, std=1e-5)  # type: ignore[arg-type]
            nn.init.zeros_(head.bias)  # type: ignore[arg-type]

    def activate(self, x: Tensor) -> Tensor:
        return x


class TransformDecoder(UNetDecoder):
    """Appearance flow in (−1, 1): what is added to the three colours of an image with values in [0, 1]."""

    def __init__(self, channels: Sequence[int]):
        super().__init__(channels, 3)

    def activate(self, x: Tensor) -> Tensor:
        return x.tanh()
