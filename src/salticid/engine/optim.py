"""Optimisers and learning-rate schedules. A schedule is a pure function of the step: there is no state to save."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from salticid.errors import ConfigError, UserError

OptimizerName = Literal["adamw", "adam", "adamw_schedulefree", "radam_schedulefree"]
ScheduleKind = Literal["constant", "linear", "cosine", "exponential", "step"]


@dataclass(frozen=True)
class OptimizerConfig:
    """`adamw` decays weights decoupled from the gradient, `adam` as an L2 term; the schedule-free ones (Defazio et
    al., 2024) need the package `schedulefree` and `schedule.kind: constant`. Every parameter is decayed."""

    name: OptimizerName = "adamw"
    lr: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0

    @property
    def schedule_free(self) -> bool:
        return self.name.endswith("_schedulefree")

    def check(self) -> None:
        if not self.lr > 0:
            raise ConfigError(f"optimizer.lr is {self.lr}; it must be above 0")
        if not all(0 <= b < 1 for b in self.betas):
            raise ConfigError(f"optimizer.betas is {self.betas}; both must be in [0, 1)")
        if self.schedule_free and self.betas[0] == 0:
            raise ConfigError("optimizer.betas: schedule-free optimisers need a first beta above 0")

    def build(self, parameters: Mapping[nn.Parameter, float]) -> Optimizer:
        """A fresh optimiser of parameters, each with a factor of the learning rate: those with the same are a group,
        which holds it as `rate`.

        Raises:
            UserError: a schedule-free optimiser without its package.
        """
        common = {"lr": self.lr, "betas": self.betas, "eps": self.eps, "weight_decay": self.weight_decay}
        groups: dict[float, list[nn.Parameter]] = {}
        for parameter, rate in parameters.items():
            groups.setdefault(rate, []).append(parameter)
        listed = [{"params": group, "rate": rate} for rate, group in groups.items()]
        if not self.schedule_free:
            kind = torch.optim.AdamW if self.name == "adamw" else torch.optim.Adam
            return kind(listed, fused=True, **common)
        try:
            import schedulefree
        except ImportError as error:
            raise UserError(
                f"optimizer.name {self.name} needs the package schedulefree: pip install 'salticid[optim]'"
            ) from error
        kinds = {
            "adamw_schedulefree": schedulefree.AdamWScheduleFree,
            "radam_schedulefree": schedulefree.RAdamScheduleFree,
        }
        optimizer: Any = kinds[self.name](listed, **common)
        optimizer.train()
        return optimizer


@dataclass(frozen=True)
class ScheduleConfig:
    """The learning rate over a run, as a factor of `optimizer.lr`.

    Over `warmup` steps it rises linearly from 1/warmup to 1. From there to the last step it goes to `final_ratio`:
    `linear` on a line, `cosine` on half a cosine, `exponential` as final_ratio^progress (Marigold's schedule);
    `constant` stays at 1; `step` is multiplied by `drop` every `drop_every` steps (StepLR). With `total` it arrives at
    that step: later than the last, where the run is part of a longer plan, or earlier, to stay there.
    """

    kind: ScheduleKind = "constant"
    warmup: int = 0
    final_ratio: float = 0.0
    total: int | None = None
    drop_every: int | None = None
    drop: float = 0.1

    def check(self, steps: int, optimizer: OptimizerConfig) -> None:
        if self.warmup < 0 or self.warmup > (self.total or steps):
            raise ConfigError(f"schedule.warmup is {self.warmup}; it must be in [0, {self.total or steps}], the steps")
        if not 0 <= self.final_ratio <= 1:
            raise ConfigError(f"schedule.final_ratio is {self.final_ratio}; it must be in [0, 1]")
        if self.kind == "exponential" and self.final_ratio == 0:
            raise ConfigError("schedule.final_ratio must be above 0 for an exponential schedule (Marigold: 0.01)")
        if self.total is not None and self.total < steps and self.final_ratio == 0:
            raise ConfigError(
                f"schedule.total is {self.total}, less than the run's {steps} steps; that needs a schedule.final_ratio "
                "above 0, at which the rest is trained"
            )
        every = self.drop_every
        if (self.kind == "step") != (every is not None) or (every is not None and every < 1):
            raise ConfigError(f"schedule.drop_every is {every}; expected steps with schedule.kind: step, or null")
        if not 0 < self.drop <= 1:
            raise ConfigError(f"schedule.drop is {self.drop}; it must be in (0, 1]")
        if optimizer.schedule_free and self.kind != "constant":
            raise ConfigError(f"schedule.kind is {self.kind}, but {optimizer.name} replaces a schedule: use constant")

    def factor(self, step: int, steps: int) -> float:
        """The factor in `step` (from 0) of a run of `steps`."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        span = max((self.total or steps) - self.warmup, 1)
        progress = min((step - self.warmup) / span, 1.0)
        match self.kind:
            case "constant":
                return 1.0
            case "step":
                return self.drop ** (step // (self.drop_every or 1))
            case "linear":
                return 1.0 + (self.final_ratio - 1.0) * progress
            case "cosine":
                return self.final_ratio + (1.0 - self.final_ratio) * 0.5 * (1.0 + math.cos(math.pi * progress))
            case "exponential":
                return self.final_ratio**progress


def evaluation_weights(optimizer: Optimizer, parameters: dict[str, nn.Parameter]) -> dict[str, Tensor]:
    """The weights to evaluate, average and publish.

    For schedule-free optimisers these are not the parameters y in training but x = y + (z − y)·(1 − 1/β₁), here
    computed beside them: the package's own `eval()` and `train()` overwrite y and bring it back only up to rounding,
    and a run that validates or saves would no longer be the run that does not.
    """
    group = optimizer.param_groups[0]
    if "train_mode" not in group:
        return dict(parameters)
    share = 1 - 1 / group["betas"][0]
    weights: dict[str, Tensor] = dict(parameters)
    moved = {name: optimizer.state[p]["z"] for name, p in parameters.items() if "z" in optimizer.state.get(p, {})}
    if moved:
        training = [parameters[name].detach() for name in moved]
        weights |= zip(moved, torch._foreach_lerp(training, list(moved.values()), share), strict=True)
    return weights
