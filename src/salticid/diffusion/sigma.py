"""Networks over noise levels, in the terms of generative-models: D(x; σ) = c_skip x + c_out F(c_in x; c_noise).

Nothing here is new arithmetic. On the VE path a target gives c_skip and c_out (`solve`), `sigma_data` gives c_in and a
clock gives c_noise; a `Scaling` is the three that belong together. Their loss is that of `DiffusionLoss` on the same
path and target, their solvers are the core's on `karras_grid`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from salticid.diffusion.path import VE, VP
from salticid.diffusion.solve import Denoiser, identity, quarter_log
from salticid.diffusion.target import EDM, Epsilon, Target, V, solve
from salticid.errors import ConfigError

if TYPE_CHECKING:
    from jaxtyping import Float, Float64, Int64


class Coefficients(NamedTuple):
    """The scalings of Karras et al. 2022, table 1, each in the shape of sigma."""

    skip: Tensor
    out: Tensor
    input: Tensor
    noise: Tensor


@dataclass(frozen=True)
class Scaling:
    """What a network over noise levels sees and predicts."""

    target: Target
    clock: Callable[[Tensor], Tensor]
    """sigma -> c_noise, what the network is told."""
    sigma_data: float
    """Standard deviation of the data for which the network's input has unit variance."""

    def denoiser(self, network: Callable[[Tensor, Tensor], Tensor]) -> Denoiser:
        """The network as one that denoises on the VE path; its conditions are bound to it."""
        return Denoiser(network, VE(), self.target, self.clock, self.sigma_data)

    def coefficients(self, sigma: Float[Tensor, ...]) -> Coefficients:
        """c_skip, c_out, c_in, c_noise at levels above 0."""
        solution = solve(torch.ones_like(sigma), sigma, self.target)
        scale = 1 / torch.hypot(torch.full_like(sigma, self.sigma_data), sigma)
        return Coefficients(solution.x0_x, solution.x0_f, scale, self.clock(sigma))

    def start(self, noise: Float[Tensor, "b ..."], sigma: float) -> Float[Tensor, "b ..."]:
        """The noisy start of sampling at level sigma, from unit noise: √(sigma² + sigma_data²) of it, which is the
        spread there of data around 0. A new tensor."""
        return noise * (sigma**2 + self.sigma_data**2) ** 0.5


def v_scaling(clock: Callable[[Tensor], Tensor] = quarter_log) -> Scaling:
    """Stable Video Diffusion, SV3D and SV4D (`VScalingWithEDMcNoise`): c_skip 1/(σ²+1), c_out −σ/√(σ²+1), ¼ ln σ.

    With `identity` as the clock it is `VScaling`, with `LevelIndex` that of Stable Diffusion 2.1.
    """
    return Scaling(V(), clock, 1.0)


def edm_scaling(sigma_data: float = 0.5) -> Scaling:
    """Karras et al. 2022, table 1, last column. With sigma_data 1, its F is the negative of that of `v_scaling`."""
    return Scaling(EDM(sigma_data), quarter_log, sigma_data)


def epsilon_scaling(clock: Callable[[Tensor], Tensor] = identity) -> Scaling:
    """`EpsScaling`: c_skip 1, c_out −σ. With `LevelIndex` as the clock, Stable Diffusion 1 and XL."""
    return Scaling(Epsilon(), clock, 1.0)


def noise_levels(path: VP) -> Float64[Tensor, " steps"]:
    """The levels sigma/alpha of a discrete path's times, ascending: where it is on the VE path.

    Raises:
        ConfigError: a time holds no signal, and so has no finite level.
    """
    levels = path.sigma(path.times) / path.alpha(path.times)
    if not levels.isfinite().all():
        raise ConfigError(f"noise levels: {path} has a time without signal, whose level is infinite")
    return levels


@dataclass(frozen=True, eq=False)
class LevelIndex:
    """What a network of a discrete path is told of a level: the index of the nearest one in the path's table."""

    levels: Float64[Tensor, " steps"]
    """Ascending, as from `noise_levels`."""

    def __call__(self, sigma: Float[Tensor, ...]) -> Int64[Tensor, ...]:
        """Indices in the shape of sigma."""
        levels = self.levels.to(sigma.device)
        return torch.bucketize(sigma.to(levels.dtype), (levels[1:] + levels[:-1]) / 2)
