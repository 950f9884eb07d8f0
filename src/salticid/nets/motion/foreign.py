"""Checkpoint files of Monodepth2 and AF-SfMLearner by name map: `encoder.pth`, `depth.pth`, `pose_encoder.pth`,
`pose.pth`, `position_encoder.pth`, `position.pth`, `transform_encoder.pth`, `transform.pth`."""

from pathlib import Path

from torch import nn

from salticid.errors import ConfigError
from salticid.losses.pretrained import fill, find, read
from salticid.nets.motion.decoder import SCALES, WIDTHS, PositionDecoder, UNetDecoder
from salticid.nets.motion.encoder import FrameEncoder
from salticid.nets.motion.pose import PoseDecoder

Network = FrameEncoder | UNetDecoder | PoseDecoder

CLASSIFIER = ("encoder.fc.weight", "encoder.fc.bias")
POSE = {"squeeze": "net.0", "first": "net.1", "second": "net.2", "last": "net.3"}


def load(network: Network, file: str | Path, *, key: str) -> None:
    """Give a network the weights of such a file.

    An encoder's file also has a classifier, which is left out, and the training size (`height`, `width`), which is not
    looked at. AF-SfMLearner's flow is (y, x), ours (x, y): the last convolutions of its `position.pth` are swapped.

    Args:
        key: configuration key that errors name.

    Raises:
        ConfigError: there is no such file, it holds code or no weights, or a weight is missing, superfluous or of
            another shape; the message names file and weight.
    """
    kind = (
        f"{network.name}, {network.images} × 3 channels"
        if isinstance(network, FrameEncoder)
        else type(network).__name__
    )
    expected = f"a file of Monodepth2 or AF-SfMLearner ({kind})"
    path = find(str(file), expected, key)
    tensors = read(path, key)
    target: nn.Module = network
    if isinstance(network, FrameEncoder):
        if network.stem is not None:
            raise ConfigError(f"{key}: {path} is for a ResNet, but the encoder is a {network.name}")
        target = network.backbone
        tensors = {name: value for name, value in tensors.items() if name not in CLASSIFIER}
    names = foreign_names(network)
    if isinstance(network, PositionDecoder):
        heads = {names[name] for name in names if name.startswith("heads.")}
        tensors = {name: value.flip(0) if name in heads and value.ndim else value for name, value in tensors.items()}
    fill(target, tensors, file=path, expected=expected, key=key, rename=names.__getitem__)


def foreign_names(network: Network) -> dict[str, str]:
    """Our name → theirs, for each tensor of a network (of an encoder: of its `backbone`)."""
    if isinstance(network, FrameEncoder):
        return {name: f"encoder.{name}" for name in network.backbone.state_dict()}
    layers = POSE if isinstance(network, PoseDecoder) else _decoder_layers(plain=isinstance(network, PositionDecoder))
    return {f"{ours}.{kind}": f"{theirs}.{kind}" for ours, theirs in layers.items() for kind in ("weight", "bias")}


def _decoder_layers(plain: bool) -> dict[str, str]:
    """Their decoders are one list: the levels from the coarsest, two convolutions each, then the scales from the
    finest. `plain`: the last convolutions are not inside a module of their own."""
    layers = {}
    for level in range(len(WIDTHS)):
        place = 2 * (len(WIDTHS) - 1 - level)
        layers[f"levels.{level}.before"] = f"decoder.{place}.conv.conv"
        layers[f"levels.{level}.after"] = f"decoder.{place + 1}.conv.conv"
    for scale in range(SCALES):
        layers[f"heads.{scale}"] = f"decoder.{2 * len(WIDTHS) + scale}" + ("" if plain else ".conv")
    return layers
