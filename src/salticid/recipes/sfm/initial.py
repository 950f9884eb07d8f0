"""Where networks start from: files of Monodepth2 and AF-SfMLearner, or a checkpoint of this recipe."""

from pathlib import Path

from torch import nn

from salticid.errors import ConfigError
from salticid.losses.pretrained import fill, read
from salticid.nets.motion import PoseDecoder
from salticid.nets.motion.foreign import Network, load
from salticid.recipes.sfm.model import MotionModel, PairPose, UNet

KEY = "recipe.initial"


def load_published(model: MotionModel, folder: Path, *, frozen_flow: bool) -> None:
    """Fill the networks whose files are in `folder`.

    Raises:
        ConfigError: there are none, one does not fit, or a flow that is not to be trained is missing.
    """
    own = folder if folder.is_file() else folder / "model.safetensors"
    if own.is_file():
        _load_own(model, own, frozen_flow)
        return
    files = {name: folder / f"{name}.pth" for name in _networks(model)}
    found = {name: path for name, path in files.items() if path.is_file()}
    if not found:
        expected = ", ".join(path.name for path in files.values())
        raise ConfigError(f"{KEY}: {folder} has none of {expected}, and no model.safetensors")
    if frozen_flow and not {"position_encoder", "position"} <= found.keys():
        raise ConfigError(f"{KEY}: {folder} has no position_encoder.pth and position.pth; this stage needs a flow")
    for name, path in found.items():
        load(_networks(model)[name], path, key=KEY)


def _networks(model: MotionModel) -> dict[str, Network]:
    """By the name of their file, without its ending."""
    found: dict[str, Network] = {}
    for name, encoder, part in (
        ("depth", "encoder", model.depth),
        ("position", "position_encoder", model.flow),
        ("transform", "transform_encoder", model.appearance),
    ):
        if isinstance(part, UNet):
            found |= {encoder: part.encoder, name: part.decoder}
    if isinstance(model.pose, PairPose):
        found |= {"pose_encoder": model.pose.encoder, "pose": model.pose.decoder}
    elif isinstance(model.pose, PoseDecoder):
        found["pose"] = model.pose
    return found


def _load_own(model: MotionModel, file: Path, frozen_flow: bool) -> None:
    """The parts of a checkpoint of this recipe that the model has too."""
    tensors = {name.removeprefix("model."): value for name, value in read(file, KEY).items()}
    parts = [name for name, _ in model.named_children() if any(key.startswith(f"{name}.") for key in tensors)]
    if not parts:
        raise ConfigError(f"{KEY}: {file} has no network of this stage")
    if frozen_flow and "flow" not in parts:
        raise ConfigError(f"{KEY}: {file} has no flow; this stage needs one")
    for name in parts:
        part: nn.Module = getattr(model, name)
        own = {key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")}
        fill(part, own, file=file, expected=f"a checkpoint with the {name} network of this configuration", key=KEY)
