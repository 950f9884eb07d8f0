import pytest
import torch
from torch import Tensor

from salticid.losses.appearance import constancy, refine


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_refinement_is_clamped_and_leaves_hidden_pixels():
    target, appearance = noise(2, 3, 5, 6), 2 * noise(2, 3, 5, 6, seed=1) - 1
    visible = noise(2, 1, 5, 6, seed=2) > 0.5
    refined = refine(target, appearance, visible)
    seen = visible.expand_as(target)
    assert torch.equal(refined[~seen], target[~seen])
    torch.testing.assert_close(refined[seen], (target + appearance)[seen].clamp(0, 1))
    assert refined.min() == 0
    assert refined.max() == 1


def test_constancy_is_the_mean_difference_of_visible_pixels():
    refined, warped = noise(2, 3, 5, 6), noise(2, 3, 5, 6, seed=1)
    visible = noise(2, 1, 5, 6, seed=2) > 0.5
    out = constancy(refined, warped, visible)
    for i in range(2):
        expected = [abs(refined[i, c, r, k] - warped[i, c, r, k]).item()
                    for c in range(3) for r in range(5) for k in range(6) if visible[i, 0, r, k]]  # fmt: skip
        assert out[i].item() == pytest.approx(sum(expected) / len(expected), rel=1e-12)
    torch.testing.assert_close(constancy(refined, warped), (refined - warped).abs().mean(dim=(1, 2, 3)))


def test_the_refined_target_teaches_the_appearance_flow():
    appearance = (noise(1, 3, 4, 5) - 0.5).requires_grad_()
    visible = noise(1, 1, 4, 5, seed=1) > 0.5
    target, warped = noise(1, 3, 4, 5, seed=2), noise(1, 3, 4, 5, seed=3)
    assert torch.autograd.gradcheck(lambda a: constancy(refine(target, a, visible), warped, visible), (appearance,))
