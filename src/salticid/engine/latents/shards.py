"""A shard of latents: one safetensors file with all outcomes of a range of samples.

Tensors are named `sample/outcome/name`. The file's metadata hold the seal of the cache, the CRC-32 of every tensor,
so that a flipped bit is found when its sample is read, and why samples cannot be read.
"""

import json
import os
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from salticid.data.source import Sample
from salticid.engine.disk import flush
from salticid.engine.latents.fingerprint import raw
from salticid.engine.latents.index import STORED, Index
from salticid.engine.latents.lease import Lease
from salticid.errors import UnreadableSample, UserError

ENTRY = "latents"
"""Of the file's metadata: JSON with `seal`, `crc32` by tensor, `skipped` by sample and outcome."""

Place = tuple[int, int]
"""A sample's index, and which of its outcomes."""


def key_of(place: Place, name: str = "") -> str:
    return f"{place[0]}/{place[1]}/{name}"


def stored(tensor: Tensor, index: Index) -> Tensor:
    """As it is kept: whole numbers as they are, others in the cache's type; in memory of its own, on the CPU.

    Raises:
        ValueError: a number does not fit that type.
    """
    if not tensor.is_floating_point():
        return tensor.cpu().contiguous().clone()
    kept = tensor.to("cpu", STORED[index.storage], copy=True).contiguous()
    if not torch.equal(kept.isinf(), tensor.isinf().cpu()):
        raise ValueError(f"a value of {float(tensor.abs().nan_to_num().max()):.3g} does not fit {index.storage}")
    return kept


def stored_size(tensor: Tensor, index: Index) -> int:
    """How many bytes it takes."""
    return tensor.numel() * (STORED[index.storage] if tensor.is_floating_point() else tensor.dtype).itemsize


class Draft:
    """A shard that is being made."""

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        self.skipped: dict[str, str] = {}
        """Why outcomes are missing, by their key."""

    def add(self, place: Place, latents: Mapping[str, Tensor]) -> None:
        """Latents of one outcome, as they are to be stored."""
        self.tensors |= {key_of(place, name): value for name, value in latents.items()}

    def skip(self, place: Place, reason: str) -> None:
        self.skipped[key_of(place)] = reason

    @property
    def samples(self) -> int:
        """How many have been tried."""
        return len({key.partition("/")[0] for key in [*self.tensors, *self.skipped]})

    @property
    def size(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.nbytes for tensor in self.tensors.values())

    def publish(self, lease: Lease, index: Index) -> None:
        """Write it aside, flush it to the disk, and give it its name, unless the lease has gone to another worker.

        Raises:
            OSError: it cannot be written.
        """
        sums = {name: zlib.crc32(raw(tensor)) for name, tensor in self.tensors.items()}
        record = {"seal": index.seal, "crc32": sums, "skipped": self.skipped}
        try:  # one entry: safetensors writes several in any order, and workers are to write the same bytes
            save_file(self.tensors, lease.aside, {ENTRY: json.dumps(record)})
        except SafetensorError as error:
            raise OSError(str(error)) from error
        flush(lease.aside)
        if lease.held():
            os.replace(lease.aside, lease.target)
            flush(lease.target.parent)


class Shard:
    """A shard to read from, open."""

    def __init__(self, path: Path, index: Index) -> None:
        """Raises UserError where it is missing, damaged or of another cache."""
        self.path, self.index = path, index
        try:
            self._file = safe_open(path, framework="pt")
            record = json.loads(self._file.metadata()[ENTRY])
            self._sums: dict[str, int] = dict(record["crc32"])
            self._skipped: dict[str, str] = dict(record["skipped"])
            seal = record["seal"]
        except FileNotFoundError:
            raise UserError(f"{path} is missing: complete the latents with: {index.command}") from None
        except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
            raise self._damaged(str(error) or type(error).__name__) from error
        if seal != index.seal:
            raise self._damaged("it is of other latents")

    def read(self, place: Place) -> Sample:
        """The latents of one outcome of a sample.

        Raises:
            UnreadableSample: it could not be read when the cache was made; with the reason of that time.
            UserError: the file is damaged.
        """
        if key_of(place) in self._skipped:
            raise UnreadableSample(self._skipped[key_of(place)])
        return {name: self._tensor(key_of(place, name)).to(self.index.dtype(name)) for name in self.index.tensors}

    def _tensor(self, key: str) -> Tensor:
        try:
            tensor = self._file.get_tensor(key)
            right = zlib.crc32(raw(tensor)) == self._sums[key]
        except (OSError, SafetensorError, KeyError) as error:
            raise self._damaged(str(error)) from error
        if not right:
            raise self._damaged(f"the checksum of {key} does not match")
        return tensor

    def _damaged(self, reason: str) -> UserError:
        return UserError(f"{self.path} is damaged ({reason}): delete it and make it anew with: {self.index.command}")


def whole(path: Path, index: Index) -> bool:
    """Whether there is a shard of this cache, as far as its header tells."""
    with suppress(UserError):
        Shard(path, index)
        return True
    return False
