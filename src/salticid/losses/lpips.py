"""LPIPS: how different two images look, as a distance of the features of a classifier (Zhang et al. 2018)."""

import warnings
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from salticid.errors import ConfigError, UserError
from salticid.losses.frozen import Frozen
from salticid.losses.pretrained import fill, find, package, read

Net = Literal["vgg", "alex"]

BACKBONES = {"vgg": "VGG16", "alex": "AlexNet"}
SMALLEST = {"vgg": 16, "alex": 31}  # pixels on a side that survive the poolings
EPSILON = 1e-10  # of the reference implementation; far below what half precision can tell from zero


class Lpips(nn.Module):
    """LPIPS v0.1 of the package `lpips`: its linear heads, with the backbone from `weights`.

    Numbers and gradients are the package's. Computed in float32 whatever autocast says: in fp16, the package divides
    zero by zero where a pixel has no feature at all. Frozen and outside `state_dict()`: see `Frozen`.

    Args:
        weights: file (.pth, .safetensors) with the state dict of torchvision's VGG16 or AlexNet, trained on ImageNet,
            or a hub id of one, such as `timm/vgg16.tv_in1k`.
        net: `vgg` is what is usually trained with, `alex` what is usually reported.
        key: configuration key that errors name.

    Raises:
        ConfigError: the package is missing, or the weights are, or they are not those of this backbone.
    """

    def __init__(self, weights: str, net: Net = "vgg", *, key: str = "losses.lpips"):
        super().__init__()
        if net not in BACKBONES:
            raise ConfigError(f"{key}: net is {net}; expected vgg or alex")
        self.net, self.key = net, key
        self.judge = Frozen(_network(weights, net, key))

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """The distance (B,) of images (B, 3, H, W) in [−1, 1]: 0 where they are equal, without an upper bound.

        Raises:
            UserError: the images are too small for the backbone.
        """
        self._check_size(a)
        with torch.autocast(a.device.type, enabled=False):
            pairs = zip(self._features(a), self._features(b), self.judge.network.lins, strict=True)
            return torch.stack([head((x - y).square()).mean(dim=(1, 2, 3)) for x, y, head in pairs]).sum(dim=0)

    def _features(self, images: Tensor) -> list[Tensor]:
        """Features of five layers, each pixel's of length 1."""
        network = self.judge.network
        return [_unit(layer) for layer in network.net(network.scaling_layer(images.to(self.judge.dtype)))]

    def _check_size(self, images: Tensor) -> None:
        height, width = images.shape[-2:]
        least = SMALLEST[self.net]
        if min(height, width) < least:
            raise UserError(f"{self.key}: images of {height}×{width} pixels; {self.net} needs at least {least}×{least}")


def _unit(features: Tensor) -> Tensor:
    # vector_norm has the subgradient 0 at 0, where the square root of a sum of squares has NaN.
    return features / (torch.linalg.vector_norm(features, dim=1, keepdim=True) + EPSILON)


def _network(weights: str, net: Net, key: str) -> nn.Module:
    """The package's network without a download, without an initialisation that would be thrown away."""
    lpips = package("lpips", key)
    expected = f"the state dict of torchvision's {BACKBONES[net]}"
    file = find(weights, expected + " (.pth or .safetensors)", key)
    tensors = read(file, key)
    with warnings.catch_warnings(), torch.device("meta"):
        warnings.filterwarnings("ignore", category=UserWarning, module="torchvision")  # how the package calls it
        network = lpips.LPIPS(net=net, pretrained=False, pnet_rand=True, verbose=False)
    features = {name: value for name, value in tensors.items() if name.startswith("features.")}  # no classifier
    fill(network.net, features, file=file, expected=expected, key=key, rename=_in_torchvision)
    heads = Path(lpips.__file__).with_name("weights") / "v0.1" / f"{net}.pth"
    fill(network.lins, read(heads, key), file=heads, expected="LPIPS v0.1", key=key, rename=_in_heads)
    return network


def _in_torchvision(name: str) -> str:
    """The package cuts the backbone into slices, but its layers keep their numbers: slice2.5.bias → features.5.bias."""
    return "features." + name.split(".", 1)[1]


def _in_heads(name: str) -> str:
    """0.model.1.weight → lin0.model.1.weight."""
    return "lin" + name
