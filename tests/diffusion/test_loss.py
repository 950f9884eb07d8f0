"""The loss: closed forms of weights, masks and means; float32 under autocast."""

import math

import pytest
import torch

from salticid.diffusion import (
    EDM,
    VE,
    VP,
    X0,
    DiffusionLoss,
    EDMWeighting,
    Epsilon,
    Flow,
    MinSNR,
    V,
    Velocity,
    beta_table,
    recover,
)
from salticid.errors import ConfigError

BETAS = beta_table("scaled_linear", 1000, 0.00085, 0.012)
SIGMA = torch.logspace(-2, 2, 6, dtype=torch.float64)


def draw(*shape, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=dtype) for _ in range(3)]


@pytest.mark.parametrize(
    ("path", "target", "t"),
    [
        (VP(BETAS), Epsilon(), torch.tensor([0, 400, 999])),
        (VP(BETAS, zero_terminal_snr=True), V(), torch.tensor([0, 400, 999])),
        (VP(BETAS, zero_terminal_snr=True), X0(), torch.tensor([0, 400, 999])),
        (VE(), V(), torch.tensor([0.01, 1.0, 80.0])),
        (VE(), EDM(), torch.tensor([0.01, 1.0, 80.0])),
        (Flow(), Velocity(), torch.tensor([0.0, 0.5, 1.0])),
        (Flow(0.1), Velocity(0.1), torch.tensor([0.0, 0.5, 1.0])),
    ],
    ids=str,
)
def test_plain_loss_and_its_x0(path, target, t):
    output, x0, eps = draw(3, 2, 4, 5)
    scored = DiffusionLoss(path, target)(output, x0, eps, t)
    alpha, sigma = path.at(t, x0)
    wanted = target.of(x0, eps, alpha, sigma)
    torch.testing.assert_close(scored.loss, torch.nn.functional.mse_loss(output, wanted))
    torch.testing.assert_close(scored.per_sample, (output - wanted).square().mean((1, 2, 3)))
    assert scored.valid == 120
    expected_x0, _ = recover(path.mix(x0, eps, t), output, alpha, sigma, target)
    torch.testing.assert_close(scored.x0, expected_x0)

    perfect = DiffusionLoss(path, target)(wanted, x0, eps, t)
    assert perfect.loss == 0
    assert torch.equal(perfect.x0, x0)


@pytest.mark.parametrize("target", [V(), EDM(1.0), EDM(0.5), X0(), Epsilon()], ids=str)
@pytest.mark.parametrize("sigma_data", [0.5, 1.0])
def test_edm_weighting_is_on_the_error_of_x0(target, sigma_data):
    """λ(σ) |D − x0|² with λ = (σ² + σ_d²) / (σ σ_d)², whatever the network predicts (Karras et al. 2022, eq. 2)."""
    output, x0, eps = draw(6, 1, 3, 3)
    scored = DiffusionLoss(VE(), target, EDMWeighting(sigma_data))(output, x0, eps, SIGMA)
    denoised, _ = recover(VE().mix(x0, eps, SIGMA), output, *VE().at(SIGMA, x0), target)
    weight = (SIGMA**2 + sigma_data**2) / (SIGMA * sigma_data) ** 2
    torch.testing.assert_close(scored.per_sample, weight * (denoised - x0).square().mean((1, 2, 3)), rtol=1e-6, atol=0)


@pytest.mark.parametrize(("target", "sigma_data"), [(V(), 1.0), (EDM(1.0), 1.0), (EDM(0.5), 0.5)], ids=str)
def test_edm_weighting_cancels_its_own_preconditioning(target, sigma_data):
    """The v-weighting of Stable Video Diffusion is unit weight on v; EDM's is unit weight on F."""
    output, x0, eps = draw(6, 1, 3, 3)
    plain = DiffusionLoss(VE(), target)(output, x0, eps, SIGMA)
    weighted = DiffusionLoss(VE(), target, EDMWeighting(sigma_data))(output, x0, eps, SIGMA)
    torch.testing.assert_close(weighted.loss, plain.loss)


def test_v_weighting_is_unit_on_the_vp_path_too():
    output, x0, eps = draw(3, 1, 3, 3)
    t, path = torch.tensor([0, 500, 999]), VP(BETAS)
    plain, weighted = DiffusionLoss(path, V()), DiffusionLoss(path, V(), EDMWeighting(1.0))
    torch.testing.assert_close(weighted(output, x0, eps, t).loss, plain(output, x0, eps, t).loss)


@pytest.mark.parametrize("target", [Epsilon(), X0(), V()], ids=str)
def test_min_snr_weights(target):
    """min(SNR, γ)/SNR on ε, min(SNR, γ) on x0, min(SNR, γ)/(SNR + 1) on v (Hang et al. 2023)."""
    output, x0, eps = draw(5, 1, 3, 3)
    t, path = torch.tensor([0, 100, 300, 600, 999]), VP(BETAS)
    snr = (path.alpha(t) / path.sigma(t)).square()
    weight = {Epsilon(): 1 / snr, X0(): torch.ones_like(snr), V(): 1 / (snr + 1)}[target] * snr.clamp(max=5)
    scored = DiffusionLoss(path, target, MinSNR(5.0))(output, x0, eps, t)
    plain = DiffusionLoss(path, target)(output, x0, eps, t)
    torch.testing.assert_close(scored.per_sample, weight * plain.per_sample)


def test_l1():
    output, x0, eps = draw(6, 1, 3, 3)
    plain = DiffusionLoss(VE(), EDM(), distance="l1")(output, x0, eps, SIGMA)
    wanted = EDM().of(x0, eps, *VE().at(SIGMA, x0))
    torch.testing.assert_close(plain.loss, torch.nn.functional.l1_loss(output, wanted))
    weighted = DiffusionLoss(VE(), EDM(), EDMWeighting(0.5), distance="l1")(output, x0, eps, SIGMA)
    weight = (SIGMA**2 + 0.25) / (SIGMA * 0.5) ** 2
    torch.testing.assert_close(weighted.per_sample, weight * (weighted.x0 - x0).abs().mean((1, 2, 3)))


def test_mask_closed_form():
    """Outputs of 3, 1 valid cell of 4 in the first sample and 2 of 4 in the second, 2 channels each."""
    zeros = torch.zeros(2, 2, 2, 2)
    output = torch.stack([zeros[0] + 3, zeros[1] + 1])
    mask = torch.tensor([[[[True, False], [False, False]]], [[[True, True], [False, False]]]])
    scored = DiffusionLoss(Flow(), Velocity())(output, zeros, zeros, torch.tensor([0.5, 0.5]), mask)
    assert scored.valid == 6
    assert scored.loss.item() == pytest.approx((2 * 9 + 4 * 1) / 6)
    assert scored.per_sample.tolist() == [9, 1]


def test_micro_batches_by_valid_count_are_the_whole_batch():
    output, x0, eps = draw(8, 3, 4, 4)
    t = torch.linspace(0.1, 0.9, 8)
    mask = torch.rand(8, 1, 4, 4, generator=torch.Generator().manual_seed(1)) < 0.3
    loss = DiffusionLoss(Flow(), Velocity())
    whole = loss(output, x0, eps, t, mask)
    parts = [loss(output[i], x0[i], eps[i], t[i], mask[i]) for i in (slice(0, 3), slice(3, 4), slice(4, 8))]
    torch.testing.assert_close(sum(p.loss * p.valid for p in parts) / sum(p.valid for p in parts), whole.loss)


@pytest.mark.parametrize("broken", [0.0, math.nan, math.inf])
def test_nothing_valid_gives_zero_with_zero_gradient(broken):
    output, x0, eps = draw(2, 1, 3, 3, dtype=torch.float32)
    output.requires_grad_()
    mask = torch.zeros(2, 1, 3, 3, dtype=torch.bool)
    scored = DiffusionLoss(Flow(), Velocity())(output, x0 + broken, eps, torch.tensor([0.2, 0.7]), mask)
    assert scored.loss == 0
    assert scored.valid == 0
    assert scored.per_sample.tolist() == [0, 0]
    scored.loss.backward()
    assert torch.equal(output.grad, torch.zeros_like(output))


def test_gradient_flows_through_x0():
    output, x0, eps = draw(1, 1, 2, 2)
    output.requires_grad_()
    scored = DiffusionLoss(Flow(), Velocity())(output, x0, eps, torch.tensor([0.25]))
    scored.x0.sum().backward()
    torch.testing.assert_close(output.grad, torch.full_like(output, 0.25))  # x0 = x + t F
    assert not scored.per_sample.requires_grad


def test_float32_under_autocast():
    """1 + 2⁻¹² and 1 are one number in bf16."""
    output = torch.full((1, 1, 8, 8), 1 + 2**-12)
    x0, eps = torch.ones(1, 1, 8, 8), torch.zeros(1, 1, 8, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scored = DiffusionLoss(Flow(), Velocity())(output, x0, eps, torch.tensor([0.5]))
        from_bf16 = DiffusionLoss(Flow(), Velocity())(output.bfloat16(), x0.bfloat16(), eps, torch.tensor([0.5]))
    assert scored.loss.dtype == scored.x0.dtype == from_bf16.loss.dtype == torch.float32
    assert scored.loss.item() == pytest.approx(2**-24, rel=1e-6)


def test_what_cannot_be_trained_is_refused_when_built():
    with pytest.raises(ConfigError, match=r"Epsilon.*VP.*t = 999"):
        DiffusionLoss(VP(BETAS, zero_terminal_snr=True), Epsilon())
    with pytest.raises(ConfigError, match="'mse'"):
        DiffusionLoss(Flow(), Velocity(), distance="mse")
