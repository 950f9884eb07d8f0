"""`index.json` of a cache: what its latents are of, and how they are laid out."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal
from uuid import uuid4

import torch
from torch import Tensor

from salticid.engine import disk
from salticid.engine.latents.fingerprint import Fingerprint, seal
from salticid.errors import UserError

FILE = "index.json"
FORMAT = 1

Storage = Literal["fp32", "bf16", "fp16"]
STORED: dict[Storage, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Index:
    """What a cache is."""

    fingerprint: Fingerprint
    storage: Storage
    """As what numbers that are not whole are kept; they are read as what they were."""
    shard: int
    """Samples in a shard."""
    tensors: dict[str, str]
    """Names of the latents, and what they were: `float32`, `bool` …"""
    command: str
    """What has written it, and completes it."""

    @property
    def seal(self) -> str:
        """Stands for the fingerprint and the layout: shards carry it."""
        return seal(self.fingerprint | {"storage": self.storage, "shard": self.shard, "tensors": self.tensors})

    @property
    def shards(self) -> int:
        """How many a complete cache has."""
        return -(-self.fingerprint["samples"] // self.shard)

    def samples_of(self, number: int) -> range:
        """The samples in a shard, by index."""
        return range(number * self.shard, min((number + 1) * self.shard, self.fingerprint["samples"]))

    def dtype(self, name: str) -> torch.dtype:
        """What latents of a name were when they were encoded."""
        return getattr(torch, self.tensors[name])


def read_index(folder: Path) -> Index | None:
    """The index of the cache in `folder`; None where there is no cache.

    Raises:
        UserError: it cannot be read, or is of another format.
    """
    path = folder / FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        found = content.pop("format")
        if found != FORMAT:
            raise UserError(f"{path}: format {found}; this version reads format {FORMAT}")
        index = Index(**content)
        _check(index)
        return index
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is damaged, or no index of latents: {error!r}") from error


def _check(index: Index) -> None:
    """Raise ValueError unless all that is used later is what it should be: the file may be a stranger's."""
    samples = index.fingerprint["samples"]
    right = type(samples) is int and samples >= 0 and type(index.shard) is int and index.shard > 0
    if not right or index.storage not in STORED:
        raise ValueError("samples, shard or storage is not what it should be")
    for name in index.tensors:
        if not isinstance(index.dtype(name), torch.dtype):
            raise ValueError(f"{name} is no tensor")


def create_index(folder: Path, index: Index) -> Index:
    """Write the index, unless another worker has been quicker; returns the one that is there."""
    path, aside = folder / FILE, folder / f".{FILE}.{uuid4().hex}"
    try:
        aside.write_text(json.dumps({"format": FORMAT} | asdict(index), indent=1), encoding="utf-8")
        disk.flush(aside)
        try:
            os.link(aside, path)
        except FileExistsError:
            pass
        except OSError:  # a file system without hard links
            if not path.exists():
                os.replace(aside, path)
        disk.flush(folder)
    finally:
        aside.unlink(missing_ok=True)
    return read_index(folder) or index


def missing(folder: Path, index: Index) -> Sequence[int]:
    """The numbers of the shards that are not there, by the names of files."""
    names = set(os.listdir(folder))
    return [number for number in range(index.shards) if shard_name(number) not in names]


def shard_name(number: int) -> str:
    return f"shard-{number:05d}.safetensors"


def types_of(latents: Mapping[str, Tensor]) -> dict[str, str]:
    """As `Index.tensors` has them."""
    return {name: str(value.dtype).removeprefix("torch.") for name, value in latents.items()}
