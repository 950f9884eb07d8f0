"""Where the parts of a latent diffusion model are: a folder in the format of diffusers, the hub, or the package."""

import functools
import json
import logging
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from salticid.errors import ConfigError
from salticid.losses.pretrained import first_line, is_hub_id, package

log = logging.getLogger(__name__)

Network = Literal["unet", "vae", "text_encoder"]

TINY = "tiny"
"""The name of the base that ships with the package."""
KINDS = {"unet": "UNet2DConditionModel", "vae": "AutoencoderKL", "text_encoder": "clip_text_model"}
"""What a configuration calls its network. It can only confirm it: no class is looked up by a name in a file."""
STEMS = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "model"}
TOKENIZER = ("vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
SCHEDULER = "scheduler_config.json"
WEIGHTS = (".safetensors", ".safetensors.index.json", ".bin", ".bin.index.json", ".pt", ".pth", ".ckpt", ".msgpack")
EXPECTED = (
    "a folder in the format of diffusers (unet/, vae/, text_encoder/, tokenizer/, scheduler/), a hub id such as "
    f"prs-eth/marigold-depth-v1-1, or {TINY}"
)


class Base:
    """The files of a Stable Diffusion, or of a Marigold, which has the same parts.

    Files of a hub repository are downloaded when they are asked for, configurations apart from weights, and
    safetensors only; then they are cached. HF_HUB_OFFLINE is respected.

    Args:
        name: a folder, a hub id, or `tiny`.
        key: of the configuration, for messages.

    Raises:
        ConfigError: there is no such folder.
    """

    def __init__(self, name: str, key: str):
        self.name, self.key = name, key
        self.on_hub = name != TINY and is_hub_id(name)
        self.folder = Path(str(files("salticid") / "bases" / TINY)) if name == TINY else Path(name).expanduser()
        if not (self.on_hub or self.folder.is_dir()):
            raise ConfigError(f"{key}: {name}: no such folder; expected {EXPECTED}")

    def config(self, part: Network) -> dict[str, Any]:
        """The configuration of a network, without notes on how it came about.

        Raises:
            ConfigError: it is missing, or that of another class.
        """
        found = self.json(part, "config.json")
        kind = found.get("_class_name") or found.get("model_type") or KINDS[part]
        if kind != KINDS[part]:
            raise ConfigError(f"{self.key}: {part} of {self.name} is a {kind}; expected a {KINDS[part]}")
        return {name: value for name, value in found.items() if not name.startswith("_")}

    def scheduler(self) -> dict[str, Any]:
        """The configuration of the scheduler."""
        return self.json("scheduler", SCHEDULER)

    def tokenizer(self) -> Path:
        """The folder of the tokenizer."""
        return self._need("tokenizer", *TOKENIZER).parent

    def weights(self, part: Network) -> Path | None:
        """The file of a network's weights; None for one that consists of its configuration.

        Raises:
            ConfigError: the hub has no such file, or the folder has weights in a format that is not read.
        """
        stem = STEMS[part]
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

    def note_random(self, part: Network) -> None:
        """Tell the user that a network has no weights; of the package's own base that is no news."""
        if self.name != TINY:
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
        raise ConfigError(f"{self.key}: {self.name} has no {part}/{names[0]}; expected {EXPECTED}")

    def _locate(self, part: str, *names: str) -> Path:
        """The folder of a part, with those of the files that exist."""
        if not self.on_hub:
            return self.folder / part
        hub = package("huggingface_hub", self.key, "marigold")
        try:
            return _download(hub.snapshot_download, self.name, tuple(f"{part}/{name}" for name in names)) / part
        except Exception as error:  # of the network, of the hub, of the cache on the disk
            reason = first_line(error)
            raise ConfigError(f"{self.key}: {self.name}: no such folder, nor from the hub ({reason})") from error


@functools.cache
def _download(snapshot: Any, repository: str, patterns: tuple[str, ...]) -> Path:
    """Ask the hub once in a process."""
    return Path(snapshot(repository, allow_patterns=list(patterns)))
