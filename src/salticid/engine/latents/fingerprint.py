"""What latents depend on, in the clear: the encoder, its precision, and the samples."""

import json
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import torch
from torch import Tensor, nn

from salticid.data.source import Source
from salticid.engine.precision import Precision
from salticid.engine.recipe import Recipe
from salticid.errors import ConfigError

VERSION = 1
"""Of this package's way from samples to files; another one makes all caches stale."""

Fingerprint = dict[str, Any]
"""Plain JSON; see `fingerprint`."""


def digest(tensors: nn.Module | Mapping[str, Tensor]) -> str:
    """SHA-256 of names, types, shapes and values; of a module, those of its state dict. The same on any device."""
    named = tensors.state_dict() if isinstance(tensors, nn.Module) else tensors
    found = sha256()
    for name in sorted(named):
        value = named[name]
        found.update(f"{name}\x1f{value.dtype}\x1f{tuple(value.shape)}\x1f".encode())
        found.update(raw(value))
    return found.hexdigest()


def raw(tensor: Tensor) -> memoryview:
    """The bytes of a tensor, row by row."""
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data


def fingerprint(recipe: Recipe, source: Source, data: Mapping[str, Any], precision: Precision) -> Fingerprint:
    """All that the latents of a training source depend on.

    Args:
        data: of the configuration, what the samples depend on.
        precision: in which the recipe encodes.

    Raises:
        ConfigError: the recipe has nothing to encode, or tells of it in something other than plain JSON.
    """
    ids = sha256()
    for index in range(len(source)):
        ids.update(f"{source.id(index)}\x1f{source.outcomes_of(index)}\n".encode())
    found = {
        "version": VERSION,
        "recipe": type(recipe).__name__,
        "encoding": recipe.encoding(),
        "precision": precision,
        "data": data,
        "samples": len(source),
        "outcomes": source.outcomes,
        "ids": ids.hexdigest(),
    }
    try:
        return json.loads(json.dumps(found))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{type(recipe).__name__}.encoding() is not plain JSON: {error}") from error


def seal(found: Fingerprint) -> str:
    """A fingerprint in 64 letters."""
    return sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()


def difference(cached: Fingerprint, wanted: Fingerprint) -> str | None:
    """The first key in which a cache is not what is wanted, with both values; None where it is."""
    old, new = dict(_leaves(cached)), dict(_leaves(wanted))
    for key in old | new:
        if key not in old or key not in new or old[key] != new[key]:
            return f"{key}: {_short(old, key)} there, {_short(new, key)} here"
    return None


def _leaves(value: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    leaves: list[tuple[str, Any]] = []
    for name, inner in value.items():
        leaves += _leaves(inner, f"{prefix}{name}.") if isinstance(inner, Mapping) else [(prefix + name, inner)]
    return leaves


def _short(leaves: Mapping[str, Any], key: str) -> str:
    text = json.dumps(leaves[key]) if key in leaves else "nothing"
    return text if len(text) <= 40 else text[:37] + "..."
