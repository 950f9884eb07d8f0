"""What takes the place of batch statistics, which differ between one GPU and several, and between training and use."""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm

GROUPS = 32  # Wu & He 2018; fewer where the channels are no multiple


def batch_norms(network: nn.Module) -> list[BatchNorm]:
    """All of its batch normalisations; synchronised ones, and those of timm with an activation inside, are some."""
    return [module for module in network.modules() if isinstance(module, BatchNorm)]


def converted(network: nn.Module, norm: str) -> nn.Module:
    """The network with the normalisation that is named, of those of `FrameEncoder`."""
    from timm.layers import convert_sync_batchnorm

    if norm == "sync":  # PyTorch's own conversion drops the activations that timm keeps inside a BatchNorm
        return convert_sync_batchnorm(network)
    return with_group_norm(network) if norm == "group" else network


def with_group_norm(network: nn.Module) -> nn.Module:
    """The network with a GroupNorm in place of each BatchNorm, whose scales and offsets it takes over."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, BatchNorm):
                setattr(module, name, _group_norm(child))
    return network


def _group_norm(norm: BatchNorm) -> nn.Module:
    from timm.layers import BatchNormAct2d, GroupNormAct

    groups = math.gcd(norm.num_features, GROUPS)
    made: Any
    if isinstance(norm, BatchNormAct2d):
        made = GroupNormAct(norm.num_features, groups, eps=norm.eps, affine=norm.affine)
        made.drop, made.act = norm.drop, norm.act
    else:
        made = nn.GroupNorm(groups, norm.num_features, eps=norm.eps, affine=norm.affine)
    if norm.affine:
        made.weight, made.bias = norm.weight, norm.bias
    return made


@contextmanager
def unrecorded(norms: Iterable[BatchNorm]) -> Iterator[None]:
    """Inside, batches are normalised by their own statistics as ever, but running statistics stay as they are."""
    # Momentum 0 instead of no statistics at all: a recomputed forward pass has to save the same tensors as the first.
    before = [(norm, norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm, _, _ in before:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, momentum, count in before:
            norm.momentum, norm.num_batches_tracked = momentum, count


def freeze_statistics(network: nn.Module) -> None:
    """Normalise by the running statistics, and leave them as they are, in training too; weights can be trained."""
    for norm in batch_norms(network):
        norm.eval()
