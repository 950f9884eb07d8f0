"""Solvers of the probability-flow ODE, as plain functions over `denoise(x, t) -> (x0, eps)`.

Every step ends in x_u = alpha(u) x0 + sigma(u) eps; the solvers differ in the x0 and eps that they take to be
constant between t and u. A grid of times is 1-D and ends with the time of the result, at which no network is asked.
It belongs on the CPU, in float64 or int64: its entries are read one by one, and a GPU would be waited for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from salticid.diffusion.path import Path, per_row, precision
from salticid.diffusion.target import Target, check, recover

if TYPE_CHECKING:
    from jaxtyping import Float

Denoise = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""(x of shape (B, ...), a time of shape ()) -> (x0, eps), each in the shape of x."""


def first_order(denoise: Denoise, x: Float[Tensor, "b ..."], path: Path, times: Tensor) -> Float[Tensor, "b ..."]:
    """DDIM (Song et al. 2021, eq. 12, without fresh noise) on VP; Euler's method in sigma on VE, in t on Flow.

    Args:
        x: the noisy start, at `times[0]`.
        times: (n + 1,) for n steps; the result is at `times[-1]`.
    """
    for t, u, _ in _steps(times):
        x0, eps = denoise(x, t)
        x = path.mix(x0, eps, u)
    return x


def heun(denoise: Denoise, x: Float[Tensor, "b ..."], path: Path, times: Tensor) -> Float[Tensor, "b ..."]:
    """Heun's method on x/alpha in sigma/alpha (Karras et al. 2022, algorithm 1). Arguments as in `first_order`.

    The slope there is eps; its mean over both ends of a step replaces it. First-order where alpha = 0, since
    sigma/alpha is infinite, and in the last step. Asks the network twice in the others.
    """
    for t, u, last in _steps(times):
        x0, eps = denoise(x, t)
        alpha, sigma = path.at(t, x)
        if path.alpha(t) > 0 and not last:
            _, eps_ahead = denoise(path.mix(x0, eps, u), u)
            eps = (eps + eps_ahead) / 2
            x0 = (x - sigma * eps) / alpha
        x = path.mix(x0, eps, u)
    return x


def dpmpp_2m(denoise: Denoise, x: Float[Tensor, "b ..."], path: Path, times: Tensor) -> Float[Tensor, "b ..."]:
    """DPM-Solver++ (2M) (Lu et al. 2022, algorithm 2); arguments as in `first_order`.

    x0 is extrapolated from the step before, linearly in log(alpha/sigma). First-order in the first and last step;
    and after a start at alpha = 0, which in that logarithm is infinitely far back.
    """
    x0_before, gap_before = None, None
    for t, u, last in _steps(times):
        x0, eps = denoise(x, t)
        alpha, sigma = path.at(t, x)
        gap = _log_ratio(path, u) - _log_ratio(path, t)
        ahead = x0
        if x0_before is not None and gap_before is not None and not last:
            ahead = x0 + float(gap / (2 * gap_before)) * (x0 - x0_before)
            eps = (x - alpha * ahead) / sigma
        x = path.mix(ahead, eps, u)
        x0_before, gap_before = x0, gap
    return x


def _steps(times: Tensor) -> Iterator[tuple[Tensor, Tensor, bool]]:
    """(from, to, whether it is the last) of every step."""
    n = len(times) - 1
    for i in range(n):
        yield times[i], times[i + 1], i == n - 1


def _log_ratio(path: Path, t: Tensor) -> Tensor:
    """log(alpha/sigma), from −inf for noise to inf for data."""
    return path.alpha(t).log() - path.sigma(t).log()


def identity(t: Tensor) -> Tensor:
    """The time as the network sees it: t itself (VP)."""
    return t


def thousandfold(t: Tensor) -> Tensor:
    """The time as the network sees it: 1000 t (Flow)."""
    return 1000 * t


def quarter_log(t: Tensor) -> Tensor:
    """The time as the network sees it: ¼ ln sigma (VE; c_noise of Karras et al. 2022, table 1)."""
    return t.log() / 4


@dataclass(frozen=True)
class Denoiser:
    """`denoise` from a network that predicts `target` on `path`; training asks for `output` alone.

    Raises:
        ConfigError: at a time where the target cannot tell x0 from noise.
    """

    network: Callable[[Tensor, Tensor], Tensor]
    """(x as scaled, the time as told by `clock`, one for each row of x) -> F in the shape of x. Conditions are bound
    to it."""
    path: Path
    target: Target
    clock: Callable[[Tensor], Tensor] = identity
    sigma_data: float | None = None
    """Standard deviation of data for which the network's input is scaled to unit variance (EDM, Stable Video
    Diffusion: c_in = 1 / √(sigma² + sigma_data²)); None: the network sees x itself."""

    def output(self, x: Float[Tensor, "b ..."], t: Tensor) -> Float[Tensor, "b ..."]:
        """The network's F for a noisy x at times as in `per_row`: for each row, for each clip or one for all."""
        if self.sigma_data is not None:
            alpha, sigma = self.path.at(t, x)
            x = x / torch.hypot(alpha * self.sigma_data, sigma)
        time = self.clock(t).to(x.device)
        if time.is_floating_point():
            time = time.to(precision(x))
        return self.network(x, per_row(time, x))

    def __call__(self, x: Float[Tensor, "b ..."], t: Tensor) -> tuple[Tensor, Tensor]:
        check(self.path, self.target, t)
        return recover(x, self.output(x, t), *self.path.at(t, x), self.target)
