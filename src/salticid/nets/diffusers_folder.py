"""A folder in the format of diffusers, whose subfolders are the parts of a model: on the disk, on the hub, or in the
package."""

import functools
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar

from salticid.errors import ConfigError
from salticid.losses.pretrained import first_line, is_hub_id, package

log = logging.getLogger(__name__)

EXTRA = "marigold"
"""Of the package: what brings diffusers, transformers and the hub's client."""
SCHEDULER = "scheduler_config.json"
WEIGHTS = (".safetensors", ".safetensors.index.json", ".bin", ".bin.index.json", ".pt", ".pth", ".ckpt", ".msgpack")


@dataclass(frozen=True)
class Network:
    """How a network lies in its subfolder: `config.json` and, as a rule, a file of weights."""

    kinds: tuple[str, ...]
    """What its configuration may call it; the first, where it says nothing. It can only choose among these: no class is
    looked up by a name in a file."""
    stem: str = "diffusion_pytorch_model"
    """Of the file's name."""


class DiffusersFolder:
    """The files of a model.

    Files of a hub repository are downloaded when they are asked for, configurations apart from weights, and
    safetensors only; then they are cached. HF_HUB_OFFLINE is respected.

    Args:
        name: a folder, a hub id, or the name of the base that ships with the package.
        key: of the configuration, for messages.

    Raises:
        ConfigError: there is no such folder.
    """

    networks: ClassVar[Mapping[str, Network]]
    """By the name of the subfolder."""
    own: ClassVar[str]
    """The name of the base that ships with the package."""
    expected: ClassVar[str]
    """What a base may be."""

    def __init__(self, name: str, key: str):
        self.name, self.key = name, key
        self.on_hub = name != self.own and is_hub_id(name)
        self.folder = shipped(name) if name == self.own else Path(name).expanduser()
        if not (self.on_hub or self.folder.is_dir()):
            raise ConfigError(f"{key}: {name}: no such folder; expected {self.expected}")

    def kind(self, part: str) -> str:
        """What a network is, one of its `kinds`.

        Raises:
            ConfigError: its configuration is missing, or that of another class.
        """
        found, kinds = self.json(part, "config.json"), self.networks[part].kinds
        kind = found.get("_class_name") or found.get("model_type") or kinds[0]
        if kind not in kinds:
            raise ConfigError(f"{self.key}: {part} of {self.name} is a {kind}; expected a {' or '.join(kinds)}")
        return kind

    def config(self, part: str) -> dict[str, Any]:
        """The configuration of a network, without notes on how it came about.

        Raises:
            ConfigError: it is missing, or that of another class.
        """
        self.kind(part)
        return {name: value for name, value in self.json(part, "config.json").items() if not name.startswith("_")}

    def scheduler(self) -> dict[str, Any]:
        """The configuration of the scheduler."""
        return self.json("scheduler", SCHEDULER)

    def weights(self, part: str) -> Path | None:
        """The file of a network's weights; None for one that consists of its configuration.

        Raises:
            ConfigError: the hub has no such file, or the folder has weights in a format that is not read.
        """
        stem = self.networks[part].stem
        names = [f"{stem}.safetensors", f"{stem}.fp16.safetensors"]
        if not self.on_hub:
            names += [f"{stem}.bin", f"{stem}.fp16.bin", "pytorch_model.bin"]
        for name in names:
            if (file := self._locate(part, name) / name).is_file():
                return file
        others = [] if self.on_hub else [p.name for p in (self.folder / part).glob("*") if p.name.endswith(WEIGHTS)]
        if self.on_hub or others:
            instead = f", only {min(others)}" if others else ""
            raise ConfigError(f"{self.key}: {self.name} has no {part}/{stem}.safetensors{instead}")
        return None

    def note_random(self, part: str) -> None:
        """Tell the user that a network has no weights; of the package's own base that is no news."""
        if self.name != self.own:
            log.info("%s of %s has no weights: it begins with random ones", part, self.name)

    def json(self, part: str, name: str) -> dict[str, Any]:
        file = self._need(part, name)
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(f"{self.key}: {file} cannot be read as JSON ({first_line(error)})") from error
        if not isinstance(found, dict):
            raise ConfigError(f"{self.key}: {file} holds a {type(found).__name__}; expected a mapping")
        return found

    def _need(self, part: str, *names: str) -> Path:
        """The first of these files that exists."""
        folder = self._locate(part, *names)
        for name in names:
            if (folder / name).is_file():
                return folder / name
        raise ConfigError(f"{self.key}: {self.name} has no {part}/{names[0]}; expected {self.expected}")

    def _locate(self, part: str, *names: str) -> Path:
        """The folder of a part, with those of the files that exist."""
        if not self.on_hub:
            return self.folder / part
        hub = package("huggingface_hub", self.key, EXTRA)
        try:
            return _download(hub.snapshot_download, self.name, tuple(f"{part}/{name}" for name in names)) / part
        except Exception as error:  # of the network, of the hub, of the cache on the disk
            reason = first_line(error)
            raise ConfigError(f"{self.key}: {self.name}: no such folder, nor from the hub ({reason})") from error


def shipped(name: str) -> Path:
    """The folder of a base that ships with the package."""
    return Path(str(files("salticid") / "bases" / name.replace("-", "_")))


@functools.cache
def _download(snapshot: Any, repository: str, patterns: tuple[str, ...]) -> Path:
    """Ask the hub once in a process."""
    return Path(snapshot(repository, allow_patterns=list(patterns)))
