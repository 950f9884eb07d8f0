"""The tensors of a recipe by name: which are trained, which are saved, and how they come from files and back.

Tensors may be DTensors (FSDP2): `gather` makes them whole, `assign` cuts whole ones to the local part.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from salticid.engine.recipe import Recipe
from salticid.errors import CheckpointError, ConfigError


def trainable(module: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters that require gradients, by name; a shared one under its first name."""
    return {name: p for name, p in module.named_parameters() if p.requires_grad}


def saved(recipe: Recipe) -> dict[str, Tensor]:
    """What `model.safetensors` holds: the state dict, a shared tensor under its first name, frozen parameters only
    where the recipe wants them saved.

    Raises:
        ConfigError: the state dict holds something other than tensors.
    """
    names: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, value in recipe.state_dict(keep_vars=True).items():
        if not isinstance(value, Tensor):
            raise ConfigError(f"{type(recipe).__name__}: {name} in the state dict is not a tensor; use a buffer")
        frozen = isinstance(value, nn.Parameter) and not value.requires_grad
        if id(value) in seen or (frozen and not recipe.save_frozen):
            continue
        seen.add(id(value))
        names[name] = value
    return names


def gather(tensors: Mapping[str, Tensor], keep: bool = True) -> dict[str, Tensor]:
    """Whole, contiguous tensors on the CPU. All ranks must call it where tensors are sharded; those with `keep`
    False get an empty dict and hold one tensor at a time."""
    whole: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        value = tensor.detach()
        full = value.full_tensor() if isinstance(value, DTensor) else value
        if keep:
            whole[name] = full.cpu().contiguous()
    return whole


def local(tensor: Tensor) -> Tensor:
    """The part on this rank, detached: enough for element-wise work, of which DTensors do not know every kind."""
    tensor = tensor.detach()
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


@torch.no_grad()
def assign(target: Tensor, whole: Tensor) -> None:
    """Overwrite `target`, or its local part, by a whole tensor of the same shape."""
    if isinstance(target, DTensor):
        whole = whole.to(target.device, target.dtype)
        # Every rank has read the whole tensor: cut it here, send nothing.
        part = distribute_tensor(whole, target.device_mesh, target.placements, src_data_rank=None)
        local(target).copy_(local(part))
    else:
        target.copy_(whole)


def load_tensors(file: Path, targets: Mapping[str, Tensor]) -> None:
    """Fill `targets` from a safetensors file that must hold exactly these names and shapes.

    Raises:
        CheckpointError: it does not, or cannot be read; the message names the first differences.
    """
    try:
        with safe_open(file, framework="pt") as stored:
            names = set(stored.keys())
            _same_names(file, names, set(targets))
            for name, target in targets.items():
                value = stored.get_tensor(name)
                if value.shape != target.shape:
                    raise CheckpointError(
                        f"{file}: {name} has shape {tuple(value.shape)}, the model wants {tuple(target.shape)}"
                    )
                assign(target, value)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{file} cannot be read: {error}") from error


def _same_names(file: Path, stored: set[str], wanted: set[str]) -> None:
    for what, names in (("lacks", wanted - stored), ("has unknown", stored - wanted)):
        if names:
            some = ", ".join(sorted(names)[:3]) + (", …" if len(names) > 3 else "")
            raise CheckpointError(f"{file} {what} {some} ({len(names)} in all): it belongs to another model")


@contextmanager
def swapped(parameters: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> Iterator[None]:
    """Let `parameters` hold `values` inside the block, and exactly what they held before after it."""
    names = [name for name, p in parameters.items() if values[name] is not p]
    held = [local(parameters[name]) for name in names]
    before = [p.clone() for p in held]
    _copy(held, [local(values[name]) for name in names])
    try:
        yield
    finally:
        _copy(held, before)


def _copy(targets: list[Tensor], values: list[Tensor]) -> None:
    if targets:
        torch._foreach_copy_(targets, values)
