"""One phase of one step: accumulate micro-batches, check, clip, update."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from salticid.data.order import mix
from salticid.data.source import Batch
from salticid.engine.parallel import Parallel
from salticid.engine.precision import Precision, autocast
from salticid.engine.recipe import Clock, Loss, Phase
from salticid.errors import CheckpointError, ConfigError

_COUNTERS = ("k", "weight_sum", "lr_max", "scheduled_lr")
"""What schedule-free optimisers count beside their tensors."""

Outcome = Literal["updated", "empty", "nonfinite", "overflow"]
"""What came of a phase: an update; nothing, because all weights are zero or the loss or a gradient is not finite; or
nothing, because the gradients overflowed fp16 under the present loss scale, which is now halved."""


def seed_all(seed: int, device: torch.device) -> None:
    """Seed torch on the CPU and on `device`. (`torch.manual_seed` takes a stack trace for each kind of device that is
    not in use: half of the overhead of a step.)"""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)


@dataclass
class LossScale:
    """Keeps fp16 gradients away from underflow: doubled after `INTERVAL` updates, halved at every overflow."""

    value: float = 65536.0
    clean: int = 0
    """Updates since the last change."""

    INTERVAL = 2000

    def passed(self) -> None:
        self.clean += 1
        if self.clean == self.INTERVAL:
            self.value, self.clean = self.value * 2, 0

    def overflowed(self) -> None:
        self.value, self.clean = self.value / 2, 0


@dataclass
class MicroBatch:
    batch: Batch
    """On the device."""
    position: int
    """Of its first sample in the stream of the run."""
    last: bool
    """Whether it is the last of the step."""


@dataclass
class Report:
    """What a phase of a step did. `loss` and `terms` are means over the global batch, by weight."""

    outcome: Outcome
    loss: float = math.nan
    terms: dict[str, float] = field(default_factory=dict)
    grad_norm: float = math.nan
    """Before clipping."""
    suspects: list[str] = field(default_factory=list)
    """Of this rank: ids of the samples in micro-batches with a non-finite loss, or of all where the loss is finite."""


class PhaseRunner:
    """Owns the optimiser of one phase."""

    def __init__(
        self,
        phase: Phase,
        parameters: dict[str, nn.Parameter],
        optimizer: Optimizer,
        parallel: Parallel,
        *,
        batch: int,
        precision: Precision,
        clip: float | None,
    ) -> None:
        self.phase, self.parameters, self.optimizer, self.parallel = phase, parameters, optimizer, parallel
        self.batch, self.precision, self.clip = batch, precision, clip
        self.scale = LossScale() if precision == "fp16" else None

    def run(self, micro_batches: Iterable[MicroBatch], clock: Clock, lr: float) -> Report:
        """Take the step of this phase.

        The gradient is that of Σ loss·weight / Σ weight over all micro-batches and ranks. The losses are multiplied
        by weight·world/batch as they come, the gradients by batch / Σ weight (1 for plain means) once the sum is
        known; DDP and FSDP take the mean over the ranks.
        """
        sums = _Sums()
        with self.parallel.only(self.phase.name):
            for micro_batch in micro_batches:
                self._backward(micro_batch, clock, sums)
            grads = [p.grad for p in self.parameters.values() if p.grad is not None]
            report, factor = self._judge(sums, grads)
            if report.outcome == "updated":
                self._update(grads, factor, report.grad_norm, lr)
            self._forget()
        return report

    def _backward(self, micro_batch: MicroBatch, clock: Clock, sums: "_Sums") -> None:
        phase, ranks, batch = self.phase.name, self.parallel.ranks, micro_batch.batch
        # What the recipe does not key itself, such as dropout, follows from the first sample's position.
        seed_all(mix(clock.seed, "forward", phase, micro_batch.position), ranks.device)
        with self.parallel.pass_(phase, micro_batch.last):
            with autocast(ranks.device, self.precision):
                loss: Loss = self.parallel.forward(phase)(phase, batch, clock)
            if not loss.total.requires_grad:
                raise ConfigError(f"the loss of phase {phase} depends on none of its trainable parameters")
            weight = len(batch["id"]) if loss.weight is None else loss.weight.detach()
            sums.add(loss, weight, batch["id"])
            factor = weight * (ranks.world / self.batch) * (self.scale.value if self.scale else 1.0)
            total = loss.total
            if isinstance(factor, Tensor):
                total = torch.where(factor > 0, total, 0.0)
            (total if isinstance(factor, float) and factor == 1.0 else total * factor).backward()

    def _judge(self, sums: "_Sums", grads: list[Tensor]) -> tuple[Report, float]:
        """Decide by the loss, weight and gradient norm of all ranks, fetched from the device at once."""
        ranks = self.parallel.ranks
        norm = _norm(grads, ranks.device)
        loss, *terms, weight, norm = torch.cat([ranks.sum(sums.values()), norm]).tolist()
        report = Report("updated")
        if weight == 0:
            report.outcome = "empty"
            return report, 0.0
        factor = self.batch / (weight * (self.scale.value if self.scale else 1.0))
        report.loss, report.grad_norm = loss / weight, norm * factor
        report.terms = {name: term / weight for name, term in zip(sums.names, terms, strict=True)}
        if not math.isfinite(report.loss) or (self.scale is None and not math.isfinite(norm)):
            report.outcome = "nonfinite"
            report.suspects = sums.ids(bad=not math.isfinite(report.loss))
        elif not math.isfinite(norm):
            report.outcome = "overflow"
        return report, factor

    def _update(self, grads: list[Tensor], factor: float, norm: float, lr: float) -> None:
        if self.clip is not None:
            factor *= min(1.0, self.clip / (norm + 1e-6))
        if factor != 1.0:
            torch._foreach_mul_(grads, factor)
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group["rate"]
        self.optimizer.step()

    def _forget(self) -> None:
        for p in self.parameters.values():
            p.grad = None

    def settle(self, report: Report) -> None:
        """Adapt the loss scale to what came of the step."""
        if self.scale and report.outcome == "updated":
            self.scale.passed()
        elif self.scale and report.outcome == "overflow":
            self.scale.overflowed()

    # ---- state ----------------------------------------------------------------------------------------------

    def tensors(self) -> dict[str, Tensor]:
        """The optimiser's tensors by `optimizer.<phase>.<parameter>.<slot>`."""
        return {
            f"optimizer.{self.phase.name}.{name}.{slot}": value
            for name, p in self.parameters.items()
            for slot, value in self.optimizer.state.get(p, {}).items()
            if isinstance(value, Tensor)
        }

    def allocate(self, stored: dict[str, tuple[torch.Size, torch.dtype]]) -> dict[str, Tensor]:
        """Make room for the optimiser's tensors in `stored` (name → shape, dtype); returns them, to be filled.

        Raises:
            CheckpointError: one belongs to no parameter of this phase.
        """
        prefix = f"optimizer.{self.phase.name}."
        for key in (key for key in stored if key.startswith(prefix)):
            name, _, slot = key.removeprefix(prefix).rpartition(".")
            if name not in self.parameters:
                raise CheckpointError(f"the checkpoint has optimiser state for {name}, not trained in this run")
            p, (shape, dtype) = self.parameters[name], stored[key]
            like = shape == p.shape
            value = torch.zeros_like(p, dtype=dtype) if like else torch.zeros(shape, dtype=dtype, device=p.device)
            self.optimizer.state[p][slot] = value.detach()
        return self.tensors()

    def progress(self) -> dict[str, Any]:
        """The rest of the state, as JSON: the optimiser's own counters and the loss scale."""
        groups = self.optimizer.param_groups
        counters = [{name: group[name] for name in _COUNTERS if name in group} for group in groups]
        return {"groups": counters, "scale": [self.scale.value, self.scale.clean] if self.scale else None}

    def restore(self, progress: dict[str, Any]) -> None:
        groups, counters = self.optimizer.param_groups, progress["groups"]
        if len(groups) != len(counters):
            found, expected = len(counters), len(groups)
            raise CheckpointError(f"the checkpoint has {found} groups of parameters with a rate; expected {expected}")
        for group, values in zip(groups, counters, strict=True):
            group.update(values)
        if self.scale and progress["scale"]:
            self.scale = LossScale(*progress["scale"])


class _Sums:
    """Σ weight·(loss, terms…) and Σ weight of the micro-batches of this rank, left on the device."""

    def __init__(self) -> None:
        self.names: tuple[str, ...] = ()
        self._rows: list[Tensor] = []
        self._losses: list[Tensor] = []
        self._ids: list[list[str]] = []

    def add(self, loss: Loss, weight: int | Tensor, ids: list[str]) -> None:
        names = tuple(loss.terms)
        if self._rows and names != self.names:
            raise ConfigError(f"the loss has terms {names}, but {self.names} in another micro-batch of the same step")
        self.names = names
        row = torch.stack([value.detach().double() for value in (loss.total, *loss.terms.values())])
        if isinstance(weight, Tensor):
            row = torch.where(weight > 0, row * weight, 0.0)
            row = torch.cat([row, weight.double().reshape(1)])
        else:
            row = torch.cat([row * weight, row.new_full((1,), weight)])
        self._rows.append(row)
        self._losses.append(row[0])
        self._ids.append(ids)

    def values(self) -> Tensor:
        return torch.stack(self._rows).sum(0)

    def ids(self, bad: bool) -> list[str]:
        """The ids of all samples, or of those in micro-batches with a `bad`, non-finite, loss."""
        pairs = zip(self._ids, self._losses, strict=True)
        return [name for ids, loss in pairs if not (bad and math.isfinite(float(loss))) for name in ids]


def _norm(grads: list[Tensor], device: torch.device) -> Tensor:
    """The 2-norm of all gradients together, float64 (1,)."""
    if not grads:
        return torch.zeros(1, dtype=torch.float64, device=device)
    norm = nn.utils.get_total_norm(grads)
    return (norm.full_tensor() if isinstance(norm, DTensor) else norm).double().reshape(1)
