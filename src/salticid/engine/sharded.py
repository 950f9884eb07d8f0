"""Named tensors, sharded or not, to a directory and back in torch's distributed checkpoint format (DCP).

Any number of ranks reads what any number has written. DCP describes its files in a pickle, which could run code when
loaded; here it is read by an unpickler that knows DCP's own few classes and nothing else, and the files that it may
point to are those beside it. Tensors are read with `weights_only=True`; entries that are not tensors are refused.
"""

import pickle
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta, TensorStorageMetadata

from salticid.errors import CheckpointError

_ALLOWED = {
    ("torch.distributed.checkpoint.metadata", name)
    for name in (
        "Metadata",
        "MetadataIndex",
        "TensorStorageMetadata",
        "ChunkStorageMetadata",
        "TensorProperties",
        "StorageMeta",
        "_MEM_FORMAT_ENCODING",
    )
} | {
    ("torch.distributed.checkpoint.filesystem", "_StorageInfo"),
    ("torch", "Size"),
    ("torch.serialization", "_get_layout"),
    ("pathlib", "PosixPath"),
    ("pathlib", "Path"),
    ("pathlib._local", "PosixPath"),
}
_DTYPES = {str(v).removeprefix("torch.") for v in vars(torch).values() if isinstance(v, torch.dtype)}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _ALLOWED or (module == "torch" and name in _DTYPES):
            return super().find_class(module, name)
        raise CheckpointError(f"the description of the tensors names {module}.{name}, which has no place there")


class _Reader(dcp.FileSystemReader):
    """A reader of untrusted directories."""

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        with open(Path(self.path) / ".metadata", "rb") as file:
            metadata = _Unpickler(file).load()
        if not isinstance(metadata, Metadata):
            raise CheckpointError("the description of the tensors is not one")
        for name, entry in metadata.state_dict_metadata.items():
            if not isinstance(entry, TensorStorageMetadata):
                raise CheckpointError(f"entry {name} is not a tensor")
        for place in metadata.storage_data.values():
            if Path(place.relative_path).name != place.relative_path or place.transform_descriptors:
                raise CheckpointError(f"the description of the tensors points to {place.relative_path!r}")
        metadata.storage_meta = metadata.storage_meta or StorageMeta()
        metadata.storage_meta.load_id = self.load_id
        return metadata


def describe(directory: Path) -> dict[str, tuple[torch.Size, torch.dtype]]:
    """Shape and dtype of every tensor in `directory`.

    Raises:
        CheckpointError: the description is damaged, or holds what a checkpoint does not.
    """
    try:
        entries: dict[str, Any] = _Reader(directory).read_metadata().state_dict_metadata
        return {name: (entry.size, entry.properties.dtype) for name, entry in entries.items()}
    except CheckpointError as error:
        raise CheckpointError(f"{directory / '.metadata'}: {error}") from None
    except Exception as error:  # a damaged pickle can raise anything
        raise CheckpointError(f"{directory / '.metadata'} cannot be read: {error!r}") from error


def write(directory: Path, tensors: dict[str, Tensor], *, distributed: bool) -> None:
    """Write `tensors` (whole ones once, sharded ones by each rank) and flush them to the disk.

    Raises:
        CheckpointError: it fails on some rank; all ranks raise.
    """
    writer = dcp.FileSystemWriter(directory, sync_files=True)
    with _plain_errors(directory, "written"):
        dcp.save(tensors, storage_writer=writer, no_dist=not distributed)


def read(directory: Path, tensors: dict[str, Tensor], *, distributed: bool) -> None:
    """Fill `tensors`, or their local parts, from what `write` wrote.

    Raises:
        CheckpointError: a name is missing or has another shape, or the files cannot be read.
    """
    stored = describe(directory)
    for name, tensor in tensors.items():
        if name not in stored or stored[name][0] != tensor.shape:
            raise CheckpointError(f"{directory}: {name} of shape {tuple(tensor.shape)} is not there")
    with _plain_errors(directory, "read"):
        dcp.load(tensors, storage_reader=_Reader(directory), no_dist=not distributed)


@contextmanager
def _plain_errors(directory: Path, verb: str) -> Iterator[None]:
    """Turn what DCP raises (a BaseException that holds those of the ranks) into an error of ours."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="torch.distributed is (disabled|unavailable)")
            yield
    except CheckpointException as error:
        cause = next(iter(error.failures.values()))[0]
        raise CheckpointError(f"{directory} cannot be {verb}: {str(cause).splitlines()[0]}") from error
