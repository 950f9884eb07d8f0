"""Weights of others: found on the disk or on the Hugging Face hub, read without unpickling, checked by name and shape.

Whatever is wrong with them is the ConfigError of one configuration key, in one line.
"""

import importlib
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from salticid.errors import ConfigError

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
FILES = (".safetensors", ".pth", ".pt", ".bin")


def package(name: str, key: str, extra: str = "perceptual") -> Any:
    """Import a module of one of the package's extras.

    Raises:
        ConfigError: it is not installed; the message names the key that asks for it, and the remedy.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = (error.name or name).partition(".")[0]
        raise ConfigError(f"{key}: {missing} is not installed; pip install 'salticid[{extra}]'") from error


def is_hub_id(weights: str) -> bool:
    """Whether the text can only be a hub id such as `timm/vgg16.tv_in1k`: of that form, and nothing on the disk."""
    return bool(HUB_ID.fullmatch(weights)) and not weights.endswith(FILES) and not Path(weights).exists()


def find(weights: str, expected: str, key: str) -> Path:
    """The local file of that name, or `model.safetensors` of a hub repository (downloaded once, then cached).

    Raises:
        ConfigError: there is no such file, or the hub has it not, or cannot be reached.
    """
    if is_hub_id(weights):
        return _download(weights, expected, key)
    file = Path(weights).expanduser()
    if file.is_dir():
        raise ConfigError(f"{key}: {weights} is a folder; expected {expected}")
    if not file.is_file():
        raise ConfigError(f"{key}: {weights}: no such file; expected {expected}")
    return file


def _download(repository: str, expected: str, key: str) -> Path:
    hub, errors = package("huggingface_hub", key), package("huggingface_hub.errors", key)
    try:
        return Path(hub.hf_hub_download(repository, "model.safetensors"))
    except (OSError, ValueError, errors.EntryNotFoundError) as error:
        reason = first_line(error)
        raise ConfigError(
            f"{key}: {repository}: no such file, nor from the hub ({reason}); expected {expected}"
        ) from error


def first_line(error: Exception) -> str:
    """What an exception says, for the one line that a user reads."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else type(error).__name__


def read(file: Path, key: str) -> dict[str, Tensor]:
    """The tensors of a .safetensors file or of a PyTorch state dict, on the CPU.

    Raises:
        ConfigError: the file is damaged, holds code (only tensors are read) or no state dict.
    """
    from safetensors.torch import load_file

    try:
        safe = file.suffix == ".safetensors"
        tensors = load_file(file) if safe else torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file can fail in any way
        raise ConfigError(f"{key}: {file} is not a file of weights that can be read safely") from error
    if not isinstance(tensors, Mapping):
        raise ConfigError(f"{key}: {file} holds a {type(tensors).__name__}; expected a state dict")
    return {name: value for name, value in tensors.items() if isinstance(value, Tensor)}


def fill(
    network: nn.Module,
    tensors: Mapping[str, Tensor],
    *,
    file: Path,
    expected: str,
    key: str,
    rename: Callable[[str], str] = str,
) -> None:
    """Give a network, possibly on the meta device, exactly these weights, in float32.

    `rename` tells what a tensor of the network is called in the file.

    Raises:
        ConfigError: a tensor is missing, superfluous or of another shape; the first such is named.
    """
    given = dict(tensors)
    weights: dict[str, Tensor] = {}
    for name, wanted in network.state_dict().items():
        if name.endswith("num_batches_tracked"):  # old files lack it, and eval mode does not look at it
            given.pop(rename(name), None)
            weights[name] = torch.tensor(0)
            continue
        found = given.pop(rename(name), None)
        if found is None:
            raise ConfigError(f"{key}: {file} has no {rename(name)}; expected {expected}")
        if found.shape != wanted.shape:
            shapes = f"shape {tuple(found.shape)}, not {tuple(wanted.shape)}"
            raise ConfigError(f"{key}: {rename(name)} in {file} has {shapes}; expected {expected}")
        weights[name] = found.float()
    if given:
        raise ConfigError(f"{key}: {file} has {next(iter(given))}, which does not belong there; expected {expected}")
    network.load_state_dict(weights, assign=True)
