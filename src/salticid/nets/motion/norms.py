"""What takes the place of batch statistics, which differ between one GPU and several, and between training and use."""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm

GROUPS = 32  # Wu & He 2018; fewer where the channels are no multiple


def batch_norms(network: nn.Module) -> list[BatchNorm]:
    """All of its batch normalisations; synchronised ones, and those of timm with an activation inside, are some."""
    return [module for module in network.modules() if isinstance(module, BatchNorm)]


def converted(network: nn.Module, norm: str) -> nn.Module:
    """The network with the normalisation that is named, of those of `FrameEncoder`."""
    if norm == "sync":
        return _replaced(network, SharedBatchNorm)
    return with_group_norm(network) if norm == "group" else network


def with_group_norm(network: nn.Module) -> nn.Module:
    """The network with a GroupNorm in place of each BatchNorm, whose scales and offsets it takes over."""
    return _replaced(network, _group_norm)


def _replaced(network: nn.Module, make: Callable[[BatchNorm], nn.Module]) -> nn.Module:
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, BatchNorm):
                setattr(module, name, make(child))
    return network


class SharedBatchNorm(nn.BatchNorm2d):
    """Normalisation by the statistics of all ranks' batches, in place of `norm`, whose tensors it takes over, with the
    activation that timm keeps inside.

    On GPUs it computes as PyTorch's, which refuses the CPU (and DDP refuses it there): hence another class.
    """

    process_group = None  # what PyTorch's looks for beside the attributes of a BatchNorm
    _check_non_zero_input_channels = nn.SyncBatchNorm._check_non_zero_input_channels

    def __init__(self, norm: BatchNorm):
        super().__init__(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
        self.weight, self.bias = norm.weight, norm.bias
        for name, buffer in norm.named_buffers(recurse=False):
            setattr(self, name, buffer)
        self.drop: nn.Module = getattr(norm, "drop", nn.Identity())
        self.act: nn.Module = getattr(norm, "act", nn.Identity())

    def forward(self, input: Tensor) -> Tensor:
        if not (self.training and dist.is_initialized() and dist.get_world_size() > 1):
            out = super().forward(input)
        elif input.device.type == "cpu":
            out = self._normalised(input)
        else:
            out = nn.SyncBatchNorm.forward(self, input)  # type: ignore[arg-type]
        return self.act(self.drop(out))

    def _normalised(self, input: Tensor) -> Tensor:
        x, dims, shape = input.float(), [0, *range(2, input.ndim)], (1, -1, *[1] * (input.ndim - 2))
        sums = torch.cat([x.sum(dims), x.new_tensor([x.numel() / x.shape[1]])])
        totals = _Total.apply(sums)
        mean, count = totals[:-1] / totals[-1], totals[-1].detach()
        centred = x - mean.view(shape)
        variance = _Total.apply(centred.square().sum(dims)) / count
        self._record(mean.detach(), variance.detach() * count / (count - 1))
        out = centred * (variance + self.eps).rsqrt().view(shape)
        return (out * self.weight.view(shape) + self.bias.view(shape) if self.affine else out).to(input.dtype)

    def _record(self, mean: Tensor, variance: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance, share)


class _Total(torch.autograd.Function):
    """The sum over all ranks. Each rank's loss depends on each rank's values, so the gradient is a sum too."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Tensor:
        return _Total.forward(ctx, grad_outputs[0].contiguous())


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
    for norm, _, count in before:
        # Synchronised ones insist on a count, so they get another.
        norm.momentum, norm.num_batches_tracked = 0.0, None if count is None else count.clone()
    try:
        yield
    finally:
        for norm, momentum, count in before:
            norm.momentum, norm.num_batches_tracked = momentum, count


def freeze_statistics(network: nn.Module) -> None:
    """Normalise by the running statistics, and leave them as they are, in training too; weights can be trained."""
    for norm in batch_norms(network):
        norm.eval()
