"""Against loops over neighbouring pixels, and what the terms do not see."""

import math

import pytest
import torch
from torch import Tensor

from salticid.losses.smoothness import disparity_smoothness, edge_aware, total_variation


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def by_loops(field: Tensor, guide: Tensor | None = None, visible: Tensor | None = None) -> float:
    """Of one sample (C, H, W)."""
    channels, height, width = field.shape
    total = 0.0
    for down, right in ((0, 1), (1, 0)):
        steps = []
        for row in range(height - down):
            for column in range(width - right):
                here, there = (slice(None), row, column), (slice(None), row + down, column + right)
                if visible is not None and not (visible[here].item() and visible[there].item()):
                    continue
                edge = 0.0 if guide is None else (guide[here] - guide[there]).abs().mean().item()
                steps += [(field[here] - field[there])[c].abs().item() * math.exp(-edge) for c in range(channels)]
        total += sum(steps) / len(steps)
    return total


@pytest.mark.parametrize("masked", [False, True])
def test_all_terms_are_those_of_loops(masked):
    flow, image = noise(2, 2, 6, 7), noise(2, 3, 6, 7, seed=1)
    visible = noise(2, 1, 6, 7, seed=2) > 0.3 if masked else None
    plain, guided = total_variation(flow, visible), edge_aware(flow, image, visible)
    for i in range(2):
        seen = None if visible is None else visible[i]
        assert plain[i].item() == pytest.approx(by_loops(flow[i], None, seen), rel=1e-12)
        assert guided[i].item() == pytest.approx(by_loops(flow[i], image[i], seen), rel=1e-12)


def test_disparity_is_taken_over_its_mean():
    disparity, image = noise(2, 1, 6, 7), noise(2, 3, 6, 7, seed=1)
    out = disparity_smoothness(disparity, image)
    for i in range(2):
        expected = by_loops(disparity[i] / (disparity[i].mean() + 1e-7), image[i])
        assert out[i].item() == pytest.approx(expected, rel=1e-12)
    torch.testing.assert_close(disparity_smoothness(0.01 * disparity, image), out, rtol=1e-4, atol=0)


def test_what_is_flat_is_smooth_and_edges_of_the_guide_are_cheap():
    step = torch.zeros(1, 1, 4, 8)
    step[..., 4:] = 1
    assert total_variation(torch.ones(1, 2, 4, 8)).item() == 0
    assert total_variation(step).item() == pytest.approx(1 / 7)
    assert edge_aware(step, step.expand(1, 3, 4, 8)).item() == pytest.approx(math.exp(-1) / 7)
    assert edge_aware(step, step.roll(2, dims=-1)).item() == pytest.approx(1 / 7)


def test_derivatives_are_those_of_finite_differences():
    field, guide = noise(1, 2, 4, 5).requires_grad_(), noise(1, 3, 4, 5, seed=1).requires_grad_()
    visible = noise(1, 1, 4, 5, seed=2) > 0.3
    assert torch.autograd.gradcheck(lambda f, g: edge_aware(f, g, visible), (field, guide))
    assert torch.autograd.gradcheck(disparity_smoothness, (noise(1, 1, 4, 5).requires_grad_(), guide))


def test_half_precision_is_lifted_before_differences():
    ramp = torch.linspace(0.5, 0.6, 64, dtype=torch.float64).expand(1, 1, 8, 64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = disparity_smoothness(ramp.bfloat16(), ramp.float())
    assert out.dtype == torch.float32
    assert out.item() == pytest.approx(disparity_smoothness(ramp, ramp).item(), rel=0.05)
