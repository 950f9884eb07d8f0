"""What a network predicts: a row (p, q) with F = p x0 + q eps, and the solve that finds x0 and eps from F."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from salticid.diffusion.path import Path, precision
from salticid.errors import ConfigError

if TYPE_CHECKING:
    from jaxtyping import Float


class Target(ABC):
    """A prediction target. Its row depends on the noise level alone."""

    @abstractmethod
    def row(self, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """(p, q) in the shape of alpha and sigma."""

    def of(self, x0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """F = p x0 + q eps: what a perfect network answers."""
        p, q = self.row(alpha, sigma)
        return p * x0 + q * eps


@dataclass(frozen=True)
class Epsilon(Target):
    """The noise (Ho et al. 2020)."""

    def row(self, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        return torch.zeros_like(alpha), torch.ones_like(sigma)


@dataclass(frozen=True)
class X0(Target):
    """The clean data."""

    def row(self, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        return torch.ones_like(alpha), torch.zeros_like(sigma)


@dataclass(frozen=True)
class V(Target):
    """v of Salimans & Ho 2022, on (alpha, sigma) made unit length, so that any path may have it.

    On the VE path this is the scaling of Stable Video Diffusion.
    """

    def row(self, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        length = torch.hypot(alpha, sigma)
        return -sigma / length, alpha / length


@dataclass(frozen=True)
class Velocity(Target):
    """x0 − (1 − sigma_min) eps, which is −dx/dt on `Flow` of that sigma_min (Lipman et al. 2023, eq. 23)."""

    sigma_min: float = 0.0

    def row(self, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        return torch.ones_like(alpha), torch.full_like(sigma, self.sigma_min - 1)


@dataclass(frozen=True)
class EDM(Target):
    """The raw network of EDM: x0 = c_skip x + c_out F (Karras et al. 2022, table 1), here for any alpha.

    With data of standard deviation sigma_data, F has unit variance at every noise level.
    """

    sigma_data: float = 0.5

    def row(self, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        length = torch.hypot(alpha * self.sigma_data, sigma)
        return sigma / (self.sigma_data * length), -alpha * self.sigma_data / length


class Solution(NamedTuple):
    """x0 = x0_x x + x0_f F and eps = eps_x x + eps_f F: the inverse of the rows (alpha, sigma) and (p, q)."""

    x0_x: Tensor
    x0_f: Tensor
    eps_x: Tensor
    eps_f: Tensor


def solve(alpha: Tensor, sigma: Tensor, target: Target) -> Solution:
    """Invert the 2×2 system of path and target, for every noise level.

    An output that is x0 itself (q = 0) is taken as it is; if there is no noise either (sigma = 0), no eps can be
    found, and it is 0. Other singular systems give infinities: `check` refuses them beforehand.
    """
    p, q = target.row(alpha, sigma)
    det = q * alpha - p * sigma
    direct = q == 0
    lost = direct & (det == 0)
    return Solution(
        x0_x=torch.where(direct, 0, q / det),
        x0_f=torch.where(direct, 1 / p, -sigma / det),
        eps_x=torch.where(lost, 0, -p / det),
        eps_f=torch.where(lost, 0, alpha / det),
    )


def recover(
    x: Float[Tensor, "b ..."], output: Float[Tensor, "b ..."], alpha: Tensor, sigma: Tensor, target: Target
) -> tuple[Float[Tensor, "b ..."], Float[Tensor, "b ..."]]:
    """(x0, eps) from a noisy x and a network's output; in float32 also under autocast, or in float64."""
    dtype = precision(x, output)
    x, output, alpha, sigma = (tensor.to(dtype) for tensor in (x, output, alpha, sigma))
    x0_x, x0_f, eps_x, eps_f = solve(alpha, sigma, target)
    return x0_x * x + x0_f * output, eps_x * x + eps_f * output


def check(path: Path, target: Target, times: Tensor, tolerance: float = 1e-6) -> None:
    """Refuse times at which the target cannot tell x0 from eps, such as Epsilon where no signal is left.

    Args:
        times: any shape, where the network is going to be evaluated.
        tolerance: of |q alpha − p sigma| beside the lengths of both rows; below it, float32 has no digit left.

    Raises:
        ConfigError: names path, target and the first such time.
    """
    times = times.reshape(-1)
    alpha, sigma = path.alpha(times), path.sigma(times)
    p, q = target.row(alpha, sigma)
    det = q * alpha - p * sigma
    singular = (det.abs() <= tolerance * torch.hypot(p, q) * torch.hypot(alpha, sigma)) & (q != 0)
    if singular.any():
        raise ConfigError(
            f"target {target} on path {path} cannot tell x0 from noise at t = {times[singular][0].item():g}: "
            "predict v or x0, or avoid that time"
        )
