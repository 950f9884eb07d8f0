"""The held-out loss by noise level: at fixed levels, the same for every clip, instead of drawn ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from salticid.diffusion.times import LogNormal
from salticid.errors import ConfigError, require

if TYPE_CHECKING:
    from jaxtyping import Float, Float32


def quantile_levels(mean: float, std: float, k: int) -> Float32[Tensor, " k"]:
    """Levels σ in the middle of k equally likely bins of training's exp(N(mean, std²)): the quantiles (i + ½)/k.
    The mean loss at them is a midpoint rule for the expected loss.

    Raises:
        ConfigError: no level is asked for.
    """
    require("levels", k, k >= 1, "at least 1")
    return LogNormal(mean=mean, std=std).usual((torch.arange(k, dtype=torch.float64) + 0.5) / k)


def by_level(losses: Float[Tensor, "b k"], levels: Float[Tensor, " k"]) -> dict[str, Float[Tensor, " b"]]:
    """Records `loss/σ=0.25` of the losses of each sample at each level.

    Raises:
        ConfigError: two levels have one name: they agree in three digits.
    """
    names = [f"loss/σ={level:.3g}" for level in levels.tolist()]
    if len(set(names)) < len(names):
        raise ConfigError(f"levels: {len(names)} of them have {len(set(names))} names; expected them farther apart")
    return dict(zip(names, losses.unbind(dim=1), strict=True))
