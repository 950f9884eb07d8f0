"""Against SSIM written down pixel by pixel, finite differences, and what half precision does to it."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from salticid.losses.photometric import C1, C2, Target, minimum_reprojection, photometric


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def windows(image: Tensor) -> Tensor:
    """All 3×3 windows of (B, C, H, W), mirrored at the border: float64 (B, C, 9, H, W)."""
    batch, channels, height, width = image.shape
    padded = F.pad(image.double(), (1, 1, 1, 1), mode="reflect")
    return F.unfold(padded, 3).reshape(batch, channels, 9, height, width)


def textbook(x: Tensor, y: Tensor, weight: float = 0.85) -> Tensor:
    """SSIM of two-pass statistics of unfolded windows, and L1: (B, 1, H, W)."""
    a, b = windows(x), windows(y)
    mean_a, mean_b = a.mean(2), b.mean(2)
    away_a, away_b = a - mean_a[:, :, None], b - mean_b[:, :, None]
    covariance = (away_a * away_b).mean(2)
    ssim = (2 * mean_a * mean_b + C1) * (2 * covariance + C2)
    ssim = ssim / ((mean_a**2 + mean_b**2 + C1) * (away_a.square().mean(2) + away_b.square().mean(2) + C2))
    loss = weight * ((1 - ssim) / 2).clamp(0, 1) + (1 - weight) * (x.double() - y.double()).abs()
    return loss.mean(dim=1, keepdim=True)


@pytest.mark.parametrize("size", [(17, 23), (2, 2), (3, 5)])
@pytest.mark.parametrize("weight", [0.85, 1.0, 0.0])
def test_the_loss_is_that_of_the_definition(size, weight):
    x, y = noise(2, 3, *size), noise(2, 3, *size, seed=1)
    expected = textbook(x, y, weight)
    torch.testing.assert_close(photometric(x.double(), y.double(), ssim_weight=weight), expected, atol=1e-12, rtol=0)
    single = photometric(x, y, ssim_weight=weight)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), expected, atol=1e-5, rtol=0)


def test_one_target_serves_many_predictions():
    x, y = noise(6, 3, 9, 11), noise(2, 3, 9, 11, seed=1)
    together = Target(y)(x)
    assert together.shape == (2, 3, 9, 11)
    for sample in range(2):
        for k in range(3):
            alone = photometric(x[3 * sample + k][None], y[sample][None])
            torch.testing.assert_close(together[sample, k][None, None], alone, atol=1e-7, rtol=0)


def test_a_batch_may_be_worked_through_in_parts(monkeypatch):
    x, y = noise(6, 3, 9, 11).requires_grad_(), noise(3, 3, 9, 11, seed=1).requires_grad_()
    whole = Target(y)(x)
    gradients = torch.autograd.grad(whole.square().sum(), (x, y))
    monkeypatch.setattr("salticid.losses.photometric._CACHED_VALUES", 1)
    parts = Target(y)(x)
    assert torch.equal(parts, whole)
    for ours, theirs in zip(torch.autograd.grad(parts.square().sum(), (x, y)), gradients, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("size", [(4, 5), (2, 3)])
def test_derivatives_by_both_pictures_are_those_of_finite_differences(size):
    x = noise(4, 1, *size, dtype=torch.float64).requires_grad_()
    y = noise(2, 1, *size, seed=1, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(photometric, (x, y), eps=1e-7, atol=1e-5)


def test_a_picture_alone_gets_the_derivative_that_it_gets_with_the_other():
    x, y = noise(4, 2, 6, 7).requires_grad_(), noise(2, 2, 6, 7, seed=1).requires_grad_()
    by_x, by_y = torch.autograd.grad(photometric(x, y).square().sum(), (x, y))
    assert torch.equal(torch.autograd.grad(photometric(x, y.detach()).square().sum(), x)[0], by_x)
    assert torch.equal(torch.autograd.grad(photometric(x.detach(), y).square().sum(), y)[0], by_y)
    (of_l1,) = torch.autograd.grad(photometric(x[::2], y.detach(), ssim_weight=0.0).sum(), x)
    torch.testing.assert_close(of_l1[::2], (x[::2] - y).sign().detach() / 2)


def test_derivatives_in_single_precision_are_those_of_double():
    x, y = noise(2, 3, 20, 24).requires_grad_(), noise(2, 3, 20, 24, seed=1)
    weights = noise(2, 1, 20, 24, seed=2)
    (gradient,) = torch.autograd.grad((photometric(x, y) * weights).sum(), x)
    exact = x.detach().double().requires_grad_()
    (expected,) = torch.autograd.grad((textbook(exact, y) * weights).sum(), exact)
    assert (gradient - expected).abs().max() < 1e-4 * expected.abs().max()


def test_equal_pictures_have_no_loss_and_no_gradient_of_ssim():
    y = noise(2, 3, 12, 14)
    x = y.clone().requires_grad_()
    loss = photometric(x, y)
    assert loss.max() < 1e-6
    (gradient,) = torch.autograd.grad(loss.sum(), x)
    assert gradient.abs().max() < 1e-4


def test_alike_pictures_are_as_alike_in_half_precision_networks():
    """In bf16, the mean SSIM loss of nearly equal pictures grows sevenfold (measured on the original's code)."""
    y = F.interpolate(noise(1, 3, 8, 12), size=(64, 96), mode="bicubic", antialias=False).clamp(0, 1)
    x = (y + 0.01 * (noise(1, 3, 64, 96, seed=1) - 0.5)).clamp(0, 1)
    expected = textbook(x, y, 1.0).mean().item()
    assert expected < 0.01
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = photometric(x, y, ssim_weight=1.0)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, photometric(x, y, ssim_weight=1.0))
    assert loss.mean().item() == pytest.approx(expected, rel=1e-3)
    # Half-precision pictures lose what they lost in rounding, and no more.
    rounded = photometric(x.bfloat16(), y.bfloat16(), ssim_weight=1.0)
    assert rounded.dtype == torch.float32
    assert rounded.mean().item() == pytest.approx(textbook(x.bfloat16(), y.bfloat16(), 1.0).mean().item(), rel=1e-3)
    half = x.bfloat16().requires_grad_()
    photometric(half, y).sum().backward()
    assert half.grad.dtype == torch.bfloat16
    assert bool(half.grad.isfinite().all())


@pytest.mark.parametrize(("x", "y"), [(0.0, 1.0), (1.0, 1.0), (0.0, 0.0)])
def test_bright_and_dark_extremes_stay_within_bounds(x, y):
    x, y = torch.full((1, 3, 6, 6), x), torch.full((1, 3, 6, 6), y)
    loss = photometric(x, y)
    assert loss.min() >= 0
    assert loss.max() <= 1
    torch.testing.assert_close(loss.double(), textbook(x, y), atol=1e-6, rtol=0)


@pytest.mark.parametrize("shape", [(3, 3, 8, 8), (2, 1, 8, 8), (2, 3, 8, 9)])
def test_predictions_that_do_not_fit_are_named(shape):
    with pytest.raises(ValueError, match=r"expected a multiple of 2 × 3 × 8 × 8"):
        photometric(noise(*shape), noise(2, 3, 8, 8))


def test_second_derivatives_are_refused():
    x, y = noise(1, 3, 6, 6).requires_grad_(), noise(1, 3, 6, 6, seed=1)
    (gradient,) = torch.autograd.grad(photometric(x, y).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="does not require grad"):
        gradient.sum().backward()


@pytest.mark.slow
def test_the_loss_compiles_in_one_graph():
    x, y = noise(4, 3, 12, 14).requires_grad_(), noise(2, 3, 12, 14, seed=1).requires_grad_()
    expected = photometric(x, y)
    compiled = torch.compile(photometric, fullgraph=True, backend="aot_eager")(x, y)
    torch.testing.assert_close(compiled, expected, atol=1e-5, rtol=0)
    weights = noise(*expected.shape, seed=2)
    gradients = torch.autograd.grad((compiled * weights).sum(), (x, y))
    for ours, theirs in zip(gradients, torch.autograd.grad((expected * weights).sum(), (x, y)), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


@pytest.mark.gpu
def test_a_gpu_gives_what_a_cpu_does():
    x, y = noise(4, 3, 20, 24).requires_grad_(), noise(2, 3, 20, 24, seed=1).requires_grad_()
    loss = photometric(x, y)
    on_gpu = photometric(x.cuda(), y.cuda())
    torch.testing.assert_close(on_gpu.cpu(), loss, atol=1e-5, rtol=0)
    gradients = torch.autograd.grad(on_gpu.square().sum(), (x, y))
    for ours, theirs in zip(gradients, torch.autograd.grad(loss.square().sum(), (x, y)), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def by_loops(reprojected, identity, valid, identity_valid):
    """Mean loss of one sample, and its auto-mask, pixel by pixel."""
    height, width = reprojected.shape[-2:]
    losses, automask = [], torch.zeros(height, width, dtype=torch.bool)
    for row in range(height):
        for column in range(width):
            here = (slice(None), row, column)
            moved = [v for v, ok in zip(reprojected[here].tolist(), valid[here].tolist(), strict=True) if ok]
            still = [v for v, ok in zip(identity[here].tolist(), identity_valid[here].tolist(), strict=True) if ok]
            if moved or still:
                losses.append(min(moved + still))
                automask[row, column] = bool(moved) and min(moved) < min([*still, float("inf")])
    return sum(losses) / len(losses), automask


@pytest.mark.parametrize("masked", [False, True])
def test_the_minimum_is_that_of_loops(masked):
    reprojected, identity, normal = (noise(2, 3, 7, 9, seed=s, dtype=torch.float64) for s in range(3))
    everything = torch.ones(2, 3, 7, 9, dtype=torch.bool)
    valid, identity_valid = (noise(2, 3, 7, 9, seed=s) > 0.6 for s in (3, 4)) if masked else (everything, everything)
    masks = {"valid": valid, "identity_valid": identity_valid} if masked else {}
    loss, automask = minimum_reprojection(reprojected, identity, normal, **masks)
    assert automask.shape == (2, 1, 7, 9)
    for sample in range(2):
        still = identity[sample] + 1e-5 * normal[sample]
        expected, mask = by_loops(reprojected[sample], still, valid[sample], identity_valid[sample])
        assert loss[sample].item() == pytest.approx(expected, rel=1e-12)
        assert torch.equal(automask[sample, 0], mask)
    if masked:
        assert not bool((valid | identity_valid).any(dim=1).all())


def test_masks_that_hide_nothing_change_nothing():
    reprojected, identity = noise(2, 2, 7, 9), noise(2, 2, 7, 9, seed=1)
    everything = torch.ones(2, 1, 7, 9, dtype=torch.bool)
    plain = minimum_reprojection(reprojected, identity)
    masked = minimum_reprojection(reprojected, identity, valid=everything, identity_valid=everything)
    torch.testing.assert_close(plain.loss, masked.loss)
    assert torch.equal(plain.automask, masked.automask)


def test_standing_still_wins_ties_and_noise_breaks_them():
    same = noise(1, 2, 40, 40)
    assert not bool(minimum_reprojection(same, same).automask.any())
    normal = torch.randn(1, 2, 40, 40, generator=torch.Generator().manual_seed(1))
    share = minimum_reprojection(same, same, normal).automask.float().mean()
    assert 0.3 < share < 0.7


def test_only_pixels_where_a_reprojection_wins_teach():
    reprojected = noise(1, 2, 5, 6).requires_grad_()
    loss, automask = minimum_reprojection(reprojected, noise(1, 1, 5, 6, seed=1))
    (gradient,) = torch.autograd.grad(loss.sum(), reprojected)
    best = F.one_hot(reprojected.argmin(dim=1), 2).movedim(-1, 1)
    torch.testing.assert_close(gradient, best * automask / 30)
    assert 0 < automask.sum() < 30


def test_without_identity_all_valid_pixels_teach_and_a_blind_sample_has_no_loss():
    reprojected = noise(2, 2, 5, 6).requires_grad_()
    valid = noise(2, 2, 5, 6, seed=1) > 0.5
    valid[1] = False
    loss, automask = minimum_reprojection(reprojected, valid=valid)
    assert torch.equal(automask, valid.any(dim=1, keepdim=True))
    assert loss[1] == 0
    loss.sum().backward()
    assert bool((reprojected.grad[~valid] == 0).all())
    assert bool(reprojected.grad.isfinite().all())


@pytest.mark.parametrize("masks", [{}, {"valid": torch.ones(1, 1, 5, 6, dtype=torch.bool)}])
@pytest.mark.parametrize("identity", [None, torch.zeros(1, 1, 5, 6)])
def test_a_broken_reprojection_is_not_hidden(masks, identity):
    reprojected = noise(1, 2, 5, 6)
    reprojected[0, 1, 2, 3] = torch.nan
    assert bool(minimum_reprojection(reprojected, identity, **masks).loss.isnan())
