"""Exponential moving average of the trainable parameters.

What other implementations get wrong, and this one does not: before its start the average *equals* the raw weights
(it is neither frozen at the initial ones nor absent); its counter is saved; frozen parameters are not copied; buffers
are those of the model; evaluating an average that has not begun is refused.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from salticid.engine.weights import local
from salticid.errors import ConfigError, UserError


@dataclass(frozen=True)
class EmaConfig:
    """ema ← d·ema + (1 − d)·weights after every step from `start` on, where d = `decay`, or with `ramp`
    min(decay, (1 + n) / (10 + n)) at the n-th update, counted from 0."""

    decay: float = 0.999
    start: int = 0
    ramp: bool = True

    def check(self, steps: int) -> None:
        """Raise ConfigError where the average would never begin, or never move."""
        if not 0 <= self.decay < 1:
            raise ConfigError(f"ema.decay is {self.decay}; it must be in [0, 1)")
        if not 0 <= self.start < steps:
            raise ConfigError(
                f"ema.start is {self.start}, but the run has {steps} steps: the average would never begin"
            )

    def decay_at(self, step: int) -> float:
        """The decay of the update after `step` (from 0); 0 before the start: the average copies the weights."""
        n = step - self.start
        if n < 0:
            return 0.0
        return min(self.decay, (1 + n) / (10 + n)) if self.ramp else self.decay


class Ema:
    """Averages of named parameters; each lives where its parameter lives (sharded where that is a DTensor)."""

    def __init__(self, config: EmaConfig, weights: dict[str, Tensor]) -> None:
        self.config = config
        self.updates = 0
        """Updates since the start; 0 means that the average still equals the raw weights."""
        self.average = {name: w.detach().clone() for name, w in weights.items()}

    @torch.no_grad()
    def update(self, weights: dict[str, Tensor], step: int) -> None:
        """Follow `weights` (same names, after the optimiser's step number `step`, from 0)."""
        average, current = list(map(local, self.average.values())), list(map(local, weights.values()))
        decay = self.config.decay_at(step)
        if decay:
            torch._foreach_lerp_(average, current, 1 - decay)
        else:
            torch._foreach_copy_(average, current)
        self.updates += step >= self.config.start

    def weights(self) -> dict[str, Tensor]:
        """The averages, for evaluation.

        Raises:
            UserError: nothing has been averaged yet.
        """
        if self.updates == 0:
            raise UserError(
                f"the EMA has no updates yet (ema.start is {self.config.start}): its weights are the raw ones; "
                "evaluate those (weights: raw)"
            )
        return self.average
