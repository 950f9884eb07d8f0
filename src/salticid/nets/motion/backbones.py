"""Feature networks of timm by name: which of their levels are taken, and how they get weights."""

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from salticid.errors import ConfigError
from salticid.losses.pretrained import fill, find, first_line, package, read

STRIDES = (2, 4, 8, 16, 32)
EXPECTED = "a convolutional or hierarchical network of timm with maps at strides (2,) 4, 8, 16 and 32"


def build(name: str, images: int, pretrained: bool | str | Path, *, key: str) -> nn.Module:
    """A feature network of timm for inputs (B, 3·images, H, W), whose output is a list of maps at `STRIDES`, or at all
    of them but the first.

    Pretrained weights of the first convolution are copied for each image and divided by their number, so that equal
    images give what one of them gives. Without pretrained weights they are drawn for each image anew, since copies
    could tell images apart only after many steps.

    Args:
        name: as in `timm.list_models()`, with a tag or without: `resnet18.tv_in1k` are torchvision's weights, which
            the originals start from.
        pretrained: True: timm's weights of that name; a file (.pth, .safetensors) or hub id with the weights of the
            whole network under timm's names, which for ResNets are torchvision's. Its classifier is left out.

    Raises:
        ConfigError: timm is missing or has no such network, its levels are others, or the weights cannot be had or
            are of another network.
    """
    timm = package("timm", key, "sfm")
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise ConfigError(f"{key}.backbone: timm has no {name}{hint}; expected {EXPECTED}")
    network = _create(name, key, in_chans=3 * images)
    levels = _levels(network.feature_info, name, key)
    if levels:
        network = _create(name, key, in_chans=3 * images, **levels)
    if pretrained is True:
        tensors = _create(name, key, pretrained=True, **levels).state_dict()
        network.load_state_dict(_copied(tensors, network.state_dict(), images))
    elif pretrained:
        _load(network, str(pretrained), name, images, f"{key}.pretrained")
    return network


def _create(name: str, key: str, **options: Any) -> Any:
    import timm

    if re.match(r"resnet\d", name):
        options["zero_init_last"] = False  # as torchvision's, which the originals train from scratch
    if getattr(timm.get_pretrained_cfg(name), "fixed_input_size", False):
        try:  # window attention takes other sizes where it is told to
            return timm.create_model(name, features_only=True, strict_img_size=False, **options)
        except TypeError:
            pass
    try:
        return timm.create_model(name, features_only=True, **options)
    except (AssertionError, AttributeError, OSError, RuntimeError, TypeError, ValueError) as error:
        what = "no pretrained weights" if options.get("pretrained") else "no feature maps"
        raise ConfigError(f"{key}.backbone: {name} has {what} ({first_line(error)}); expected {EXPECTED}") from error


def _levels(found: Any, name: str, key: str) -> dict[str, Any]:
    """The option of timm that selects the deepest layer of each stride; none where that is what timm selects anyway.

    `found` is the `feature_info` of what timm selects.
    """
    last = {int(layer["reduction"]): number for number, layer in enumerate(found.info)}
    if not set(STRIDES[1:]) <= set(last):
        raise ConfigError(f"{key}.backbone: {name} has maps at strides {sorted(last)}; expected {EXPECTED}")
    wanted = tuple(last[stride] for stride in STRIDES if stride in last)
    return {} if tuple(found.out_indices) == wanted else {"out_indices": wanted}


def _copied(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor], images: int) -> dict[str, Tensor]:
    """The tensors, first convolutions of one image (…, 3, k, k) made those of several (…, 3·images, k, k)."""
    copied = dict(tensors)
    for name, value in tensors.items():
        if images > 1 and name in wanted and value.ndim == 4 and value.shape[1] == 3:
            wide = value.repeat(1, images, 1, 1)
            copied[name] = wide / images if wide.shape == wanted[name].shape else value
    return copied


def _load(network: nn.Module, weights: str, name: str, images: int, key: str) -> None:
    expected = f"the weights of a {name}"
    file = find(weights, expected + " (.pth, .safetensors or a hub id)", key)
    tensors = read(file, key)
    wanted = network.state_dict()
    names = {ours: _in_file(ours, tensors) for ours in wanted}
    # What lies beside the layers in use is the classifier; what lies among them and has no place is a mistake.
    layers = {theirs.partition(".")[0] for theirs in names.values()}
    used = {theirs: value for theirs, value in tensors.items() if theirs.partition(".")[0] in layers}
    used = _copied(used, {names[ours]: value for ours, value in wanted.items()}, images)
    fill(network, used, file=file, expected=expected, key=key, rename=names.__getitem__)


def _in_file(name: str, tensors: Mapping[str, Tensor]) -> str:
    """What timm's whole network calls a tensor of its feature network: that of `stages_0.x`, `model.x` or `body.x` is
    `stages.0.x` or `x`."""
    layer, _, rest = name.partition(".")
    flat = ".".join([*layer.rsplit("_", 1), rest])
    return next((theirs for theirs in (name, flat, rest) if theirs in tensors), name)
