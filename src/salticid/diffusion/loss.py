"""The diffusion loss: weight(t) · distance(F, p x0 + q eps), averaged over what is valid."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from salticid.diffusion.path import Path, precision
from salticid.diffusion.target import Target, check, solve
from salticid.errors import ConfigError

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Shaped


class Weighting(ABC):
    """How much an error counts at a noise level."""

    of_output: bool = False
    """Whether the error meant is that of the network's output; otherwise, that of x0."""

    @abstractmethod
    def __call__(self, snr: Tensor) -> Tensor:
        """The weight by signal-to-noise ratio alpha² / sigma²."""


@dataclass(frozen=True)
class Uniform(Weighting):
    """The error of the output as it is."""

    of_output = True

    def __call__(self, snr: Tensor) -> Tensor:
        return torch.ones_like(snr)


@dataclass(frozen=True)
class EDMWeighting(Weighting):
    """(sigma² + sigma_data²) / (sigma sigma_data)² for alpha = 1 (Karras et al. 2022, table 1).

    With sigma_data = 1 it is the v-weighting of Stable Video Diffusion: unit weight on the error of v.
    """

    sigma_data: float = 0.5

    def __call__(self, snr: Tensor) -> Tensor:
        return snr + 1 / self.sigma_data**2


@dataclass(frozen=True)
class NoiseWeighting(Weighting):
    """alpha² / sigma²: unit weight on the error of eps, whatever the network predicts.

    For alpha = 1 it is the sigma⁻² that generative-models calls the weighting of eps.
    """

    def __call__(self, snr: Tensor) -> Tensor:
        return snr


@dataclass(frozen=True)
class MinSNR(Weighting):
    """min(SNR, gamma) (Hang et al. 2023, "Efficient diffusion training via Min-SNR weighting")."""

    gamma: float = 5.0

    def __call__(self, snr: Tensor) -> Tensor:
        return snr.clamp(max=self.gamma)


@dataclass(frozen=True)
class Scored:
    """The loss of one batch."""

    loss: Float[Tensor, ""]
    """Mean over the valid elements; 0, with zero gradient, where there are none."""
    x0: Float[Tensor, "b ..."]
    """The clean data that the output implies, with gradient: for losses on top."""
    valid: Float[Tensor, ""]
    """Number of valid elements: what this batch weighs beside others in a mean over all valid elements."""
    per_sample: Float[Tensor, " b"]
    """The mean of each sample, without gradient; 0 for a sample without valid elements."""


_DISTANCES = {"l2": torch.square, "l1": torch.abs}


@dataclass(frozen=True)
class DiffusionLoss:
    """The loss of a network that predicts `target` on `path`. Noise and times are arguments of the call.

    Raises:
        ConfigError: the distance is unknown, or `target` cannot tell x0 from noise at a time of a discrete path.
    """

    path: Path
    target: Target
    weighting: Weighting = field(default_factory=Uniform)
    distance: Literal["l2", "l1"] = "l2"

    def __post_init__(self) -> None:
        if self.distance not in _DISTANCES:
            raise ConfigError(f"distance: {self.distance!r} is none of {', '.join(_DISTANCES)}")
        check(self.path, self.target, self.path.times)

    def __call__(
        self,
        output: Float[Tensor, "b ..."],
        x0: Float[Tensor, "b ..."],
        eps: Float[Tensor, "b ..."],
        t: Shaped[Tensor, " clips"],
        mask: Bool[Tensor, "#b ..."] | None = None,
    ) -> Scored:
        """Score the output of a network that has seen `path.mix(x0, eps, t)`, in float32 also under autocast.

        Args:
            t: as in `per_row`: (b,), or (clips,) where the rows of x0 are the frames of clips.
            mask: True where x0 is valid, broadcastable to it; None: everywhere.
        """
        output, x0, eps = (tensor.to(precision(output, x0, eps)) for tensor in (output, x0, eps))
        alpha, sigma = self.path.at(t, x0)
        residual = output - self.target.of(x0, eps, alpha, sigma)
        mask = torch.ones_like(residual, dtype=torch.bool) if mask is None else mask.expand_as(residual)
        gain = solve(alpha, sigma, self.target).x0_f
        weight = self.weighting((alpha / sigma).square())
        # Masked before it is squared: whatever stands at an invalid element, its gradient is 0.
        error = torch.where(mask, residual if self.weighting.of_output else gain * residual, 0)
        distance = weight * _DISTANCES[self.distance](error)

        total, count = distance.flatten(1).sum(1), mask.flatten(1).sum(1).to(distance.dtype)
        return Scored(
            loss=total.sum() / count.sum().clamp(min=1),
            x0=x0 + gain * residual,
            valid=count.sum(),
            per_sample=(total / count.clamp(min=1)).detach(),
        )
