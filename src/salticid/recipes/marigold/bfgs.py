"""BFGS for many small problems at a time, in plain tensors (Nocedal & Wright 2006, chapter 6).

The line search asks for weak Wolfe conditions by bisection, with which BFGS also gets along with kinks (Lewis &
Overton 2013, "Nonsmooth optimization via quasi-Newton methods").
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable

    from jaxtyping import Float64

    Objective: TypeAlias = Callable[[Tensor], tuple[Tensor, Tensor]]

DECREASE, CURVATURE = 1e-4, 0.9
"""Constants of the Wolfe conditions."""
TRIALS = 30
"""Of a line search."""
FIRST_STEP = 0.1
"""Length of the first step: variables are expected to be of order 1."""


def minimise(objective: Objective, start: Float64[Tensor, "b n"], iterations: int, tolerance: float) -> Tensor:
    """The lowest points (B, n) found, never higher than the start.

    Args:
        objective: x (B, n) → values (B,) and gradients (B, n); problems do not see each other.
        iterations: at most.
        tolerance: a problem is done when an iteration lowers it by less than this share of its value.
    """
    x = start
    value, gradient = objective(x)
    inverse, fresh = _scaled_identity(gradient)
    active = gradient.abs().amax(dim=1) > 0
    for _ in range(iterations):
        if not active.any():
            break
        direction = -(inverse @ gradient[..., None])[..., 0]
        step, new_value, new_gradient, found = _line_search(objective, x, value, gradient, direction, active)
        moved, bent = step[:, None] * direction, new_gradient - gradient
        x = torch.where(found[:, None], x + moved, x)
        inverse = torch.where(found[:, None, None], _updated(inverse, moved, bent, fresh), inverse)
        fresh = fresh & ~found
        active = found & (value - new_value > tolerance * value.abs())
        value = torch.where(found, new_value, value)
        gradient = torch.where(found[:, None], new_gradient, gradient)
    return x


def _scaled_identity(gradient: Tensor) -> tuple[Tensor, Tensor]:
    """A first inverse Hessian, and that it is one for all problems."""
    size = gradient.norm(dim=1).clamp(min=1e-300)
    eye = torch.eye(gradient.shape[1], dtype=gradient.dtype, device=gradient.device)
    return (FIRST_STEP / size)[:, None, None] * eye, torch.ones_like(size, dtype=torch.bool)


def _line_search(
    objective: Objective, x: Tensor, value: Tensor, gradient: Tensor, direction: Tensor, active: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Steps (B,), values and gradients there, and where the value is lower than before."""
    slope = (gradient * direction).sum(dim=1)
    low, high = torch.zeros_like(value), torch.full_like(value, torch.inf)
    step = torch.ones_like(value)
    best = step * 0, value, gradient
    open_ = active & (slope < 0)
    for _ in range(TRIALS):
        if not open_.any():
            break
        new_value, new_gradient = objective(x + step[:, None] * direction)
        lower = new_value <= value + DECREASE * step * slope
        steep = (new_gradient * direction).sum(dim=1) < CURVATURE * slope
        keep = open_ & lower
        best = (
            torch.where(keep, step, best[0]),
            torch.where(keep, new_value, best[1]),
            torch.where(keep[:, None], new_gradient, best[2]),
        )
        low, high = torch.where(lower, step, low), torch.where(lower, high, step)
        open_ = open_ & ~(lower & ~steep)
        step = torch.where(open_, torch.where(high.isinf(), 2 * low, (low + high) / 2), step)
    return *best, best[0] > 0


def _updated(inverse: Tensor, moved: Tensor, bent: Tensor, fresh: Tensor) -> Tensor:
    """The inverse Hessian after a step (equation 6.17; the very first is rescaled before, 6.20)."""
    product = (moved * bent).sum(dim=1)
    sound = product > 1e-14 * moved.norm(dim=1) * bent.norm(dim=1)
    product = torch.where(sound, product, 1.0)
    scale = product / bent.square().sum(dim=1).clamp(min=1e-300)
    eye = torch.eye(moved.shape[1], dtype=moved.dtype, device=moved.device)
    before = torch.where((fresh & sound)[:, None, None], scale[:, None, None] * eye, inverse)
    rho = (1 / product)[:, None, None]
    left = eye - rho * moved[:, :, None] * bent[:, None]
    after = left @ before @ left.mT + rho * moved[:, :, None] * moved[:, None]
    return torch.where(sound[:, None, None], after, inverse)
