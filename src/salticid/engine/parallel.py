"""Ranks under torchrun: joining and leaving, agreeing, DDP and FSDP2.

A rank that dies closes its connections (gloo) or misses its collective (NCCL, `timeout`), so the others raise within
a step and torchrun ends the job. A rank that is asked to stop tells the others at the end of the step.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from inspect import signature
from typing import Any, Literal, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.nn.parallel import DistributedDataParallel

from salticid.engine.recipe import Recipe
from salticid.errors import ConfigError, UserError

T = TypeVar("T")
Mode = Literal["auto", "ddp", "fsdp"]


class RankLost(UserError):
    """Another rank died or hangs; this one cannot go on."""


class Ranks:
    """The processes of this run, and what they can tell each other; alone, every exchange is free."""

    def __init__(self, device: torch.device, rank: int = 0, world: int = 1) -> None:
        self.device, self.rank, self.world = device, rank, world

    @property
    def first(self) -> bool:
        return self.rank == 0

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """Which of `flags` are true on any rank."""
        if self.world == 1:
            return flags
        votes = torch.tensor(flags, dtype=torch.uint8)
        dist.all_reduce(votes, dist.ReduceOp.MAX)
        return tuple(map(bool, votes.tolist()))

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over all ranks, in place."""
        if self.world > 1:
            dist.all_reduce(tensor)
        return tensor

    def gather(self, value: T) -> list[T]:
        """The (picklable) values of all ranks, in order, on every rank."""
        if self.world == 1:
            return [value]
        values: list[Any] = [None] * self.world
        dist.all_gather_object(values, value)
        return values

    def broadcast(self, value: T) -> T:
        """The (picklable) value of the first rank."""
        if self.world == 1:
            return value
        box: list[Any] = [value]
        dist.broadcast_object_list(box)
        return box[0]

    def together(self, action: Callable[[], T]) -> T:
        """Run `action` on every rank; if it fails on one, every rank raises that error."""
        if self.world == 1:
            return action()
        result, error = None, None
        try:
            result = action()
        except Exception as e:
            error = e
        failures = [e for e in self.gather(None if error is None else f"{error}") if e is not None]
        if error is not None:
            raise error
        if failures:
            raise UserError(failures[0])
        return result  # pyrefly: ignore[bad-return]

    def equalise(self, module: nn.Module) -> None:
        """Give every rank the first one's parameters and buffers."""
        if self.world > 1:
            with torch.no_grad():
                for tensor in module.state_dict(keep_vars=True).values():
                    dist.broadcast(tensor.detach(), 0)

    def equalise_buffers(self, module: nn.Module) -> None:
        """Give every rank the first one's persistent buffers (running statistics): those that are saved."""
        if self.world > 1:
            parameters = {id(p) for p in module.parameters()}
            for tensor in module.state_dict(keep_vars=True).values():
                if id(tensor) not in parameters:
                    dist.broadcast(tensor, 0)


def pick_device(name: str) -> torch.device:
    """`auto`, `cpu` or `cuda`; this rank's GPU of several.

    Raises:
        ConfigError: CUDA is asked for and not there.
    """
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise ConfigError("trainer.device is cuda, but torch sees no CUDA device (salticid doctor says more)")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    torch.cuda.set_device(device)
    return device


def world_size() -> int:
    """How many processes torchrun started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", 1))


@contextmanager
def joined(device: torch.device, timeout: float) -> Iterator[Ranks]:
    """The ranks of this run: those that torchrun started, or this process alone.

    Args:
        timeout: seconds after which a rank that waits in vain for another gives up.

    Raises:
        RankLost: in place of torch's error when another rank went away.
    """
    world = world_size()
    if world == 1:
        yield Ranks(device)
        return
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    try:
        dist.init_process_group(backend, timeout=timedelta(seconds=timeout))
        yield Ranks(device, dist.get_rank(), world)
        dist.barrier()  # without it, a rank that leaves early can break another's last exchange
    except Exception as error:
        if connection_lost(error):
            raise RankLost(f"another rank is gone or silent for {timeout:.0f} s ({_first_line(error)})") from error
        raise
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def connection_lost(error: BaseException) -> bool:
    """Whether `error` is what torch raises when another rank went away."""
    return isinstance(error, dist.DistError) or "gloo" in str(error)


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


class Parallel:
    """How the forward and backward passes of the phases run: alone, under DDP, or sharded.

    Every pass goes through `forward`, within `pass_`. DDP gets one wrapper for each phase, over that phase's
    parameters alone, so that phases neither wait for nor average each other's gradients.
    """

    def __init__(self, recipe: Recipe, parameters: Mapping[str, Mapping[str, nn.Parameter]], ranks: Ranks) -> None:
        """`parameters`: those of each phase, by phase and name. For FSDP call `shard` first."""
        self.recipe, self.ranks = recipe, ranks
        self.sharded = isinstance(recipe, FSDPModule)
        self._wrapped: dict[str, DistributedDataParallel] = {}
        self._all = [p for group in parameters.values() for p in group.values()]
        self._of = {phase: {id(p) for p in group.values()} for phase, group in parameters.items()}
        if ranks.world > 1 and not self.sharded:
            for phase in parameters:
                with self.only(phase):
                    self._wrapped[phase] = _ddp(recipe)

    @contextmanager
    def only(self, phase: str) -> Iterator[None]:
        """Let the other phases' parameters need no gradients."""
        if len(self._of) == 1:
            yield
            return
        own = self._of[phase]
        for p in self._all:
            p.requires_grad_(id(p) in own)
        try:
            yield
        finally:
            for p in self._all:
                p.requires_grad_(True)

    def forward(self, phase: str) -> nn.Module:
        """The module to call as the recipe."""
        return self._wrapped.get(phase, self.recipe)

    def pass_(self, phase: str, last: bool) -> AbstractContextManager[None]:
        """Around forward and backward of a micro-batch; gradients are exchanged in the `last` of a step alone."""
        if isinstance(self.recipe, FSDPModule):
            self.recipe.set_requires_gradient_sync(last)
            return nullcontext()
        if phase in self._wrapped and not last:
            return self._wrapped[phase].no_sync()
        return nullcontext()


class _Pass(nn.Module):
    """What DDP wraps: the recipe, and a parameter that no loss uses.

    A loss may leave parameters unused in some steps (a dropped branch), and nobody knows beforehand which: DDP has to
    search for them. Where it finds none it writes a warning on every rank, past Python; here it always finds one.
    """

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.idle = nn.Parameter(torch.zeros(1, device=next(recipe.parameters()).device))
        self.recipe = recipe

    def forward(self, *arguments: Any) -> Any:
        return self.recipe(*arguments)


def _ddp(recipe: Recipe) -> DistributedDataParallel:
    # Buffers are equalised before every step (`Ranks.equalise_buffers`); the switch has two names by torch's version.
    names = signature(DistributedDataParallel).parameters
    switch = "forward_sync_buffers" if "forward_sync_buffers" in names else "broadcast_buffers"
    options: dict[str, Any] = {switch: False, "init_sync": False, "gradient_as_bucket_view": True}
    return DistributedDataParallel(_Pass(recipe), find_unused_parameters=True, **options)


def shard(recipe: Recipe, ranks: Ranks) -> None:
    """Shard parameters, gradients and optimiser state over the ranks (FSDP2): `recipe.blocks()` one by one, then the
    rest. Blocks must be called as modules; `loss`, `evaluate`, `preview` and `predict` of the recipe may be too."""
    mesh = dist.init_device_mesh(ranks.device.type, (ranks.world,))
    for block in list(recipe.blocks()):
        for module in _callable_modules(block):
            if next(module.parameters(), None) is not None:
                fully_shard(module, mesh=mesh)
    fully_shard(recipe, mesh=mesh)
    for method in ("evaluate", "preview", "predict"):
        register_fsdp_forward_method(recipe, method)


def _callable_modules(module: nn.Module) -> Iterator[nn.Module]:
    """The module itself, or what is in it where it is a mere container."""
    if isinstance(module, nn.ModuleList | nn.ModuleDict):
        for child in module.children():
            yield from _callable_modules(child)
    else:
        yield module
