"""Gaussian paths from data to noise: x_t = alpha(t) x0 + sigma(t) eps, noisier as t grows."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from salticid.errors import ConfigError

if TYPE_CHECKING:
    from jaxtyping import Float, Float64


def precision(*tensors: Tensor) -> torch.dtype:
    """What to compute in: float32, or float64 where a tensor has it. Element-wise arithmetic in it is outside
    autocast's reach."""
    return reduce(torch.promote_types, (tensor.dtype for tensor in tensors), torch.float32)


def per_row(t: Tensor, x: Float[Tensor, "b ..."]) -> Tensor:
    """A time for every row of x (b,), from one for all (), one for each row (b,), or one for each clip.

    A clip's frames share their noise level: with x of (clips · frames, ...), frames innermost, `t` may be (clips,).
    With x of (clips, frames, ...) a clip is a row.

    Raises:
        ConfigError: the rows are no whole number of frames for each time.
    """
    if t.ndim == 0:
        return t.expand(len(x))
    if len(t) == len(x):
        return t
    if not len(t) or len(x) % len(t):
        raise ConfigError(f"times: {len(t)} of them for {len(x)} rows; expected one for each row or for each clip")
    return t.repeat_interleave(len(x) // len(t))


class Path(ABC):
    """How data turn into noise. `alpha` and `sigma` take times of any shape and keep shape and precision."""

    @abstractmethod
    def alpha(self, t: Tensor) -> Tensor:
        """The factor of the data."""

    @abstractmethod
    def sigma(self, t: Tensor) -> Tensor:
        """The factor of the noise."""

    @property
    def times(self) -> Tensor:
        """Every time of a discrete path, from 0; none for a continuous one."""
        return torch.empty(0)

    def at(self, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """(alpha, sigma) at times as in `per_row`, ready to multiply x (B, ...).

        Tables and grids are in float64; the results are in the precision that x is computed in.
        """
        t = per_row(t.reshape(-1), x).reshape(-1, *[1] * (x.ndim - 1)) if t.ndim else t
        return self.alpha(t).to(x.device, precision(x)), self.sigma(t).to(x.device, precision(x))

    def mix(self, x0: Float[Tensor, "b ..."], eps: Float[Tensor, "b ..."], t: Tensor) -> Float[Tensor, "b ..."]:
        """The noisy x_t, at least in float32."""
        alpha, sigma = self.at(t, x0)
        return alpha * x0 + sigma * eps


@dataclass(frozen=True)
class Flow(Path):
    """Straight lines to noise (Lipman et al. 2023, eq. 22 with time reversed): t in [0, 1], noise at 1."""

    sigma_min: float = 0.0

    def alpha(self, t: Tensor) -> Tensor:
        return 1 - t

    def sigma(self, t: Tensor) -> Tensor:
        return self.sigma_min + (1 - self.sigma_min) * t


@dataclass(frozen=True)
class VE(Path):
    """Variance exploding, as in EDM (Karras et al. 2022): time is the noise level sigma itself."""

    def alpha(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def sigma(self, t: Tensor) -> Tensor:
        return t


class VP(Path):
    """Variance preserving over a table of betas (Ho et al. 2020): integer t, from 0 to len(betas) − 1.

    Time −1 is the end of sampling.

    Args:
        betas: the noise added by each step, in (0, 1].
        zero_terminal_snr: rescale so that the last time holds no signal (Lin et al. 2024, algorithm 1).
        clean_end: whether sampling ends on clean data, or on the noise level of time 0 (`set_alpha_to_one` in
            the configurations of diffusers).
    """

    def __init__(
        self, betas: Float64[Tensor, " steps"], *, zero_terminal_snr: bool = False, clean_end: bool = True
    ) -> None:
        betas = torch.as_tensor(betas, dtype=torch.float64)
        if betas.ndim != 1 or not len(betas) or not ((betas > 0) & (betas <= 1)).all():
            raise ConfigError(f"betas: expected a table of numbers in (0, 1], got {betas}")
        alpha = (1 - betas).cumprod(0).sqrt()
        if zero_terminal_snr:
            alpha = (alpha - alpha[-1]) * alpha[0] / (alpha[0] - alpha[-1])
        end = torch.ones(1, dtype=torch.float64) if clean_end else alpha[:1]
        # The end comes first, so that time −1 reads it and a time past the table is an index error.
        self._alpha = torch.cat([end, alpha])
        self._sigma = (1 - self._alpha.square()).sqrt()

    @classmethod
    def from_scheduler(cls, config: Mapping[str, Any]) -> VP:
        """The path of a model's `scheduler_config.json` in the format of diffusers."""
        table = config.get("trained_betas") or beta_table(
            config.get("beta_schedule", "linear"),
            config.get("num_train_timesteps", 1000),
            config.get("beta_start", 0.0001),
            config.get("beta_end", 0.02),
        )
        return cls(
            torch.as_tensor(table, dtype=torch.float64),
            zero_terminal_snr=config.get("rescale_betas_zero_snr", False),
            clean_end=config.get("set_alpha_to_one", True),
        )

    @property
    def times(self) -> Tensor:
        return torch.arange(len(self._alpha) - 1)

    def alpha(self, t: Tensor) -> Tensor:
        return self._alpha.to(t.device)[t + 1]

    def sigma(self, t: Tensor) -> Tensor:
        return self._sigma.to(t.device)[t + 1]

    def __repr__(self) -> str:
        return f"VP({len(self._alpha) - 1} steps, last alpha {self._alpha[-1]:.4g})"


def beta_table(schedule: str, steps: int = 1000, start: float = 0.0001, end: float = 0.02) -> Float64[Tensor, " steps"]:
    """A table of betas by its usual name.

    Args:
        schedule: `linear` (Ho et al. 2020); `scaled_linear`, linear in √beta (Stable Diffusion);
            `squaredcos_cap_v2` (Nichol & Dhariwal 2021, eq. 17), which has no use for `start` and `end`.

    Raises:
        ConfigError: the name is none of these.
    """
    if schedule == "linear":
        return torch.linspace(start, end, steps, dtype=torch.float64)
    if schedule == "scaled_linear":
        return torch.linspace(start**0.5, end**0.5, steps, dtype=torch.float64).square()
    if schedule == "squaredcos_cap_v2":
        t = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
        alpha_bar = ((t + 0.008) / 1.008 * math.pi / 2).cos().square()
        return (1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=0.999)
    raise ConfigError(f"beta_schedule: {schedule!r} is none of linear, scaled_linear, squaredcos_cap_v2")
