"""The encoder of one frame, or of several stacked in the channels: five maps, each half the size of the one before."""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from salticid.errors import ConfigError
from salticid.losses.pretrained import first_line
from salticid.nets.blocks import group_norm
from salticid.nets.motion import backbones, norms

Norm = Literal["batch", "sync", "frozen", "group"]

STRIDES = backbones.STRIDES
MEAN, DEVIATION = 0.45, 0.225  # Monodepth2's one pair for all three colours
STEM = 64


class FrameEncoder(nn.Module):
    """A backbone of timm as encoder; with a ResNet, Monodepth2's, or, not normalised, AF-SfMLearner's.

    Level k (0 to 4) has the size ⌈H/2^(k+1)⌉ × ⌈W/2^(k+1)⌉, for any H and W: images are extended to the right and to
    the bottom, by their border pixels, to multiples of 32, and maps are cut. So column x of level k stands for the
    image's columns from 2^(k+1)·x on, whatever the size.

    A ResNet's levels are its first convolution after ReLU and layer1 to layer4. A backbone whose first map has stride
    4 (ConvNeXt, Swin, PVT, …) gets a first level of its own beside it: what a ResNet begins with, a 7×7 convolution of
    stride 2 to 64 channels, with GroupNorm and ReLU, of random weights.

    Args:
        backbone: its name in timm, see `backbones.build`.
        images: how many frames the input holds.
        pretrained: weights of the backbone, see `backbones.build`.
        normalise: take (x − 0.45)/0.225 of the input.
        norm: `batch`: as the backbone is; `sync`: with statistics of all GPUs (alone the same as `batch`); `frozen`:
            the running statistics are used and kept in training too, which is for pretrained weights; `group`:
            GroupNorm in place of BatchNorm.
        key: configuration key that errors name.

    Raises:
        ConfigError: the backbone or its weights do not do; or `norm` speaks of a BatchNorm and there is none.
    """

    def __init__(
        self,
        backbone: str = "resnet18",
        images: int = 1,
        pretrained: bool | str | Path = False,
        normalise: bool = True,
        norm: Norm = "batch",
        *,
        key: str = "recipe.encoder",
    ):
        super().__init__()
        network = backbones.build(backbone, images, pretrained, key=key)
        if norm != "batch" and not norms.batch_norms(network):
            raise ConfigError(f"{key}.norm: {norm}, but {backbone} has no BatchNorm; expected batch")
        self.name, self.images, self.normalise, self.frozen = backbone, images, normalise, norm == "frozen"
        self.backbone = norms.converted(network, norm)
        channels = tuple(int(n) for n in network.feature_info.channels())  # type: ignore[operator]
        self.stem = _stem(3 * images) if len(channels) == 4 else None
        self.channels: tuple[int, ...] = channels if self.stem is None else (STEM, *channels)
        """Channels of the five levels."""
        self.recompute = False
        self._check(key)
        self.train()

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3·images, H, W) in [0, 1] → five maps (B, channels[k], ⌈H/2^(k+1)⌉, ⌈W/2^(k+1)⌉), finest first."""
        height, width = images.shape[-2:]
        x = (images - MEAN) / DEVIATION if self.normalise else images
        if height % 32 or width % 32:
            x = F.pad(x, (0, -width % 32, 0, -height % 32), mode="replicate")
        return [_cut(level, -(-height // s), -(-width // s)) for level, s in zip(self._levels(x), STRIDES, strict=True)]

    def checkpoint_activations(self) -> None:
        """Keep the maps alone for the backward pass, and compute what lies between them again, stage by stage (a
        backbone that timm does not cut into stages: all of it at once).

        Random numbers are drawn again the same, and running statistics see a batch once.
        """
        self.recompute = True

    def train(self, mode: bool = True) -> "FrameEncoder":
        super().train(mode)
        if self.frozen:
            norms.freeze_statistics(self.backbone)
        return self

    def _levels(self, x: Tensor) -> list[Tensor]:
        first = [] if self.stem is None else self._run(self.stem, x)
        levels: list[Tensor] = []
        for stage in _stages(self.backbone) if self.recompute else [self.backbone]:
            levels += self._run(stage, x)
            x = levels[-1]
        return first + self._upright(levels)

    def _run(self, stage: nn.Module, x: Tensor) -> list[Tensor]:
        """The maps that a stage ends with: one, or those of the whole backbone."""
        maps = self._recomputed(stage, x) if self.recompute and torch.is_grad_enabled() else stage(x)
        return maps if isinstance(maps, list) else [maps]

    @torch.compiler.disable  # it knows no contexts of a checkpoint; what is recomputed runs as it is written
    def _recomputed(self, stage: nn.Module, x: Tensor) -> Tensor | list[Tensor]:
        def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
            return nullcontext(), norms.unrecorded(norms.batch_norms(stage))

        return checkpoint(stage, x, use_reentrant=False, preserve_rng_state=True, context_fn=contexts)

    def _upright(self, maps: list[Tensor]) -> list[Tensor]:
        """Channels before rows, where the backbone has them last."""
        last = getattr(self.backbone, "output_fmt", "NCHW") == "NHWC"
        return [level.permute(0, 3, 1, 2) for level in maps] if last else list(maps)

    def _check(self, key: str) -> None:
        """Look at the maps of a small image: timm's networks for one size only do not say that they are."""
        size = (96, 160)
        blank = torch.zeros(1, 3 * self.images, *size, device=next(self.parameters()).device)
        self.eval()
        try:
            with torch.no_grad():
                shapes = [tuple(level.shape[1:]) for level in self._levels(blank)]
        except (AssertionError, RuntimeError, ValueError) as error:
            reason = f"does not take images of any size ({first_line(error)})"
            raise ConfigError(f"{key}.backbone: {self.name} {reason}; expected {backbones.EXPECTED}") from error
        if shapes != [(n, size[0] // s, size[1] // s) for n, s in zip(self.channels, STRIDES, strict=True)]:
            raise ConfigError(f"{key}.backbone: {self.name} has maps of {shapes}; expected {backbones.EXPECTED}")


def _stages(backbone: nn.Module) -> list[nn.Module]:
    """The layers up to each map, as far as timm has them one after the other."""
    from timm.models import FeatureListNet

    if not isinstance(backbone, FeatureListNet):
        return [backbone]
    stages: list[list[nn.Module]] = [[]]
    for name, layer in backbone.items():
        stages[-1].append(layer)
        if name in backbone.return_layers:
            stages.append([])
    return [nn.Sequential(*layers) for layers in stages if layers]


def _stem(inputs: int) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, STEM, 7, stride=2, padding=3, bias=False)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(convolution, group_norm(STEM, norms.GROUPS), nn.ReLU(inplace=True))


def _cut(level: Tensor, height: int, width: int) -> Tensor:
    return level if level.shape[-2:] == (height, width) else level[..., :height, :width]
