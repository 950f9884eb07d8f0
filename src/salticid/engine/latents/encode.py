"""A recipe that encodes, and the cache that its latents go to."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path

import torch
from torch import Tensor

from salticid.data.loader import outcome_batches
from salticid.data.source import Batch, Source
from salticid.engine.evaluation import judging, to_device
from salticid.engine.latents.fingerprint import Fingerprint, difference
from salticid.engine.latents.index import FILE, Index, Storage, create_index, read_index, types_of
from salticid.engine.precision import Precision
from salticid.engine.recipe import Recipe
from salticid.errors import ConfigError, UserError

SHARD = 256
"""Samples in a shard, where nothing else is said: tens of megabytes of latents of an image."""
PROBES = 16
"""Samples of which the first that can be read says what latents look like."""


class Encoder:
    """A recipe that encodes, on its device."""

    def __init__(self, recipe: Recipe, device: torch.device, precision: Precision, batch: int, workers: int) -> None:
        """`batch`: outcomes that go through the recipe at a time; `workers`: processes that read them."""
        self.recipe, self.device, self.precision = recipe, device, precision
        self.batch, self.workers = batch, workers

    def conditions(self) -> AbstractContextManager[None]:
        """Within which `encode` is to be called: as in an evaluation."""
        return judging(self.recipe, self.device, self.precision, seed=0)

    def encode(self, batch: Batch) -> dict[str, Tensor]:
        """The latents of a batch, checked."""
        count, owner = len(batch["id"]), type(self.recipe).__name__
        latents = self.recipe.encode(to_device(batch, self.device))
        for name, value in latents.items():
            if len(value) != count:
                raise ConfigError(f"{owner}.encode: {name} has shape {tuple(value.shape)} for {count} samples")
        return latents

    def probe(self, source: Source) -> dict[str, Tensor]:
        """The latents of the first sample that can be read, (1, …) each.

        Raises:
            ConfigError: none of the first samples can.
        """
        reason = "it has no samples"
        with self.conditions():
            for index in range(min(len(source), PROBES)):
                found = next(outcome_batches(source, [(index, 0)], 1))
                if found["batches"]:
                    return self.encode(found["batches"][0])
                reason = next(iter(found["skipped"].values()))
        raise ConfigError(f"data: no sample can be read: {reason}")


def check_outcomes(source: Source) -> None:
    """Raise ConfigError where augmentation has endlessly many outcomes."""
    if source.outcomes is None:
        raise ConfigError(
            "data: the augmentation of its training samples has endlessly many outcomes, which cannot be encoded once "
            "and for all: turn off random crops, colour jitter and the like (a flip is fine), or train without latents"
        )


def begin(
    folder: Path,
    fingerprint: Fingerprint,
    latents: Mapping[str, Tensor],
    *,
    storage: Storage | None = None,
    samples_per_shard: int | None = None,
    command: str,
) -> Index:
    """The index of the cache in `folder`, which is made where there is none.

    Args:
        latents: of some sample.
        storage, samples_per_shard: None: as it is in the cache, or else fp32 and `SHARD`.
        command: what completes the cache, for messages.

    Raises:
        UserError: there is a cache of something else, or something else, or it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        index = read_index(folder)
        if index is None:
            names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
            if names and FILE not in names:  # another worker may just have made it
                raise UserError(f"{folder} has {names[0]}, but no {FILE}; expected an empty folder, or one of latents")
            layout = storage or "fp32", samples_per_shard or SHARD, types_of(latents)
            index = create_index(folder, Index(fingerprint, *layout, command))
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {error.strerror}") from error
    if odd := difference(index.fingerprint, fingerprint):
        raise UserError(f"{folder} has latents of something else ({odd}); expected another folder")
    for key, there, here in (("--dtype", index.storage, storage), ("--shard", index.shard, samples_per_shard)):
        if here is not None and here != there:
            raise UserError(f"{key} {here}: {folder} was begun with {there}")
    return index
