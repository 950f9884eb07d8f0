"""When to look: random times to train at, keyed by sample, and grids of times to sample on."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch import Tensor

from salticid.diffusion.noise import keyed_uniform
from salticid.errors import ConfigError

if TYPE_CHECKING:
    from jaxtyping import Float64, Int64, Shaped


@dataclass(frozen=True, kw_only=True)
class TimeSampler(ABC):
    """Training times, each a pure function of (seed, sample key).

    A share of the samples can be drawn evenly near the noisy end, where sampling starts and where a bell-shaped
    distribution almost never looks.
    """

    noisy_share: float = 0.0
    """Fraction of the samples, in [0, 1]."""
    noisy_width: float = 0.1
    """How far from the noisy end they lie at most; the unit is told by the sampler."""
    widest: ClassVar[float] = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.noisy_share <= 1:
            raise ConfigError(f"noisy_share: expected a fraction in [0, 1], got {self.noisy_share}")
        if not 0 < self.noisy_width <= self.widest:
            raise ConfigError(f"noisy_width: expected a number in (0, {self.widest}], got {self.noisy_width}")

    def __call__(
        self,
        keys: Int64[Tensor, " b"],
        *,
        seed: int,
        stream: str = "time",
        device: torch.device | str | None = None,
    ) -> Shaped[Tensor, " b"]:
        """Times (B,) for the samples `keys`; float32, or int64 for a discrete path.

        Args:
            keys: one for each sample; for videos, one for each clip.
            stream: names the use. A second level for the same sample, such as that of noise on a conditioning
                frame, needs its own: else it would rise and fall with the first.
        """
        which, u = keyed_uniform(keys, (2,), seed=seed, stream=stream, device=device).unbind(1)
        return torch.where(which < self.noisy_share, self.noisy(u), self.usual(u))

    @abstractmethod
    def usual(self, u: Float64[Tensor, " b"]) -> Shaped[Tensor, " b"]:
        """The quantile function of the distribution."""

    @abstractmethod
    def noisy(self, u: Float64[Tensor, " b"]) -> Shaped[Tensor, " b"]:
        """The quantile function near the noisy end."""


@dataclass(frozen=True, kw_only=True)
class UniformIntegers(TimeSampler):
    """Integers from 0 to `steps` − 1, for the VP path. Noisy: the last `noisy_width` of them, as a fraction."""

    steps: int = 1000

    def usual(self, u: Tensor) -> Tensor:
        return (u * self.steps).long()

    def noisy(self, u: Tensor) -> Tensor:
        return self.steps - 1 - (self.noisy_width * u * self.steps).long()


@dataclass(frozen=True, kw_only=True)
class LogitNormal(TimeSampler):
    """sigmoid(N(mean, std²)), for the flow path (Esser et al. 2024, section 3.1).

    Noisy: t in [1 − `noisy_width`, 1].
    """

    mean: float = 0.0
    std: float = 1.0

    def usual(self, u: Tensor) -> Tensor:
        return (self.mean + self.std * torch.special.ndtri(u)).sigmoid().float()

    def noisy(self, u: Tensor) -> Tensor:
        return (1 - self.noisy_width * u).float()


@dataclass(frozen=True, kw_only=True)
class LogNormal(TimeSampler):
    """exp(N(mean, std²)), noise levels for the VE path (Karras et al. 2022, table 1).

    Noisy: ln sigma in [ln sigma_max − `noisy_width`, ln sigma_max].
    """

    mean: float = -1.2
    std: float = 1.2
    sigma_max: float = 80.0
    widest: ClassVar[float] = math.inf

    def usual(self, u: Tensor) -> Tensor:
        return (self.mean + self.std * torch.special.ndtri(u)).exp().float()

    def noisy(self, u: Tensor) -> Tensor:
        return (math.log(self.sigma_max) - self.noisy_width * u).exp().float()


@dataclass(frozen=True, kw_only=True, eq=False)
class UniformLevels(TimeSampler):
    """Evenly from a table of noise levels, for the VE path: `UniformIntegers` of a discrete path, as levels.

    Noisy: the last `noisy_width` of the table, as a fraction. With `noise_levels(VP(...))` it trains a network of
    Stable Diffusion's kind in sigma.
    """

    levels: Float64[Tensor, " steps"]
    """Ascending, above 0."""

    def usual(self, u: Tensor) -> Tensor:
        return self._taken(u, UniformIntegers.usual)

    def noisy(self, u: Tensor) -> Tensor:
        return self._taken(u, UniformIntegers.noisy)

    def _taken(self, u: Tensor, quantile: Callable[[UniformIntegers, Tensor], Tensor]) -> Tensor:
        index = quantile(UniformIntegers(steps=len(self.levels), noisy_width=self.noisy_width), u)
        return self.levels.to(u.device)[index].float()


LCM_TIMES = 50


def spaced_grid(
    steps: int, n: int, spacing: Literal["leading", "trailing", "linspace", "lcm"] = "trailing", *, offset: int = 0
) -> Int64[Tensor, " n_plus_1"]:
    """n integer times of a discrete path with `steps` times, descending, and −1 for its end.

    Names and rounding as in diffusers (Lin et al. 2024, table 2). `leading` goes down in even steps to `offset` (the
    `steps_offset` of a scheduler's configuration) and never starts from pure noise; `trailing` starts at the last
    time; `linspace` has both ends; `lcm` takes evenly from the 50 times on which
    latent consistency models are distilled (Luo et al. 2023). Where n does not divide `steps`, diffusers' DDIM steps
    from t to t − steps // n, which need not be the next time of its grid; here every step leads to the next time.

    Raises:
        ConfigError: n does not fit the path, or the spacing is unknown.
    """
    if not 1 <= n <= steps:
        raise ConfigError(f"number of sampling steps: expected 1 to {steps}, got {n}")
    if spacing == "leading":
        times = torch.arange(n).flip(0) * (steps // n) + offset
    elif spacing == "trailing":
        times = (steps - torch.arange(n, dtype=torch.float64) * (steps / n)).round().long() - 1
    elif spacing == "linspace":
        times = torch.linspace(0, steps - 1, n, dtype=torch.float64).round().long().flip(0)
    elif spacing == "lcm":
        if n > LCM_TIMES:
            raise ConfigError(f"number of sampling steps: the lcm spacing has at most {LCM_TIMES}, got {n}")
        taken = torch.arange(n) * LCM_TIMES // n
        times = (LCM_TIMES - taken) * (steps // LCM_TIMES) - 1
    else:
        raise ConfigError(f"timestep_spacing: {spacing!r} is none of leading, trailing, linspace, lcm")
    if times[0] >= steps:
        raise ConfigError(f"steps_offset: {offset} with {n} steps leads past the last time, {steps - 1}")
    return torch.cat([times, torch.tensor([-1])])


def karras_grid(n: int, sigma_min: float, sigma_max: float, *, rho: float = 7.0) -> Float64[Tensor, " n_plus_1"]:
    """n noise levels from sigma_max down to sigma_min, and 0 (Karras et al. 2022, eq. 5)."""
    _require_steps(n)
    ends = torch.tensor([sigma_max, sigma_min], dtype=torch.float64) ** (1 / rho)
    sigmas = (ends[0] + torch.linspace(0, 1, n, dtype=torch.float64) * (ends[1] - ends[0])) ** rho
    return torch.cat([sigmas, sigmas.new_zeros(1)])


def power_grid(n: int, power: float = 1.0) -> Float64[Tensor, " n_plus_1"]:
    """n + 1 times from 1 to 0, closer together near 0 where power > 1 (SSDD: 2)."""
    _require_steps(n)
    return torch.linspace(1, 0, n + 1, dtype=torch.float64) ** power


def _require_steps(n: int) -> None:
    if n < 1:
        raise ConfigError(f"number of sampling steps: expected at least 1, got {n}")
