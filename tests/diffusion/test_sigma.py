"""Networks over noise levels: coefficients and losses against the formulas of the papers, per clip in both layouts."""

import math

import pytest
import torch
from diffusers import EulerDiscreteScheduler

from salticid.diffusion import (
    VE,
    VP,
    DiffusionLoss,
    EDMWeighting,
    LevelIndex,
    NoiseWeighting,
    beta_table,
    edm_scaling,
    epsilon_scaling,
    identity,
    noise_levels,
    v_scaling,
)
from salticid.errors import ConfigError

SIGMA = torch.logspace(-3, 3, 25, dtype=torch.float64)
STABLE_DIFFUSION = VP(beta_table("scaled_linear", 1000, 0.00085, 0.012))
TABLE = {  # name: scaling, (c_skip, c_out, c_in, c_noise) as printed
    "VScalingWithEDMcNoise": (
        v_scaling(),
        lambda s: (1 / (s**2 + 1), -s / (s**2 + 1).sqrt(), 1 / (s**2 + 1).sqrt(), s.log() / 4),
    ),
    "VScaling": (
        v_scaling(identity),
        lambda s: (1 / (s**2 + 1), -s / (s**2 + 1).sqrt(), 1 / (s**2 + 1).sqrt(), s),
    ),
    "EDMScaling": (
        edm_scaling(),
        lambda s: (0.25 / (s**2 + 0.25), s / 2 / (s**2 + 0.25).sqrt(), 1 / (s**2 + 0.25).sqrt(), s.log() / 4),
    ),
    "EpsScaling": (
        epsilon_scaling(),
        lambda s: (torch.ones_like(s), -s, 1 / (s**2 + 1).sqrt(), s),
    ),
}
CASES = pytest.mark.parametrize(("scaling", "table"), TABLE.values(), ids=list(TABLE))
MIXING = torch.randn(3, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def network(x, c_noise):
    """A toy that depends on every input; x (rows, ..., c, h, w) or (rows, ..., c), c_noise (rows,)."""
    assert c_noise.shape == (len(x),)
    return torch.tanh(x.movedim(-3, -1) @ MIXING.to(x.dtype)).movedim(-1, -3) * (1 + c_noise.cos()).reshape(
        -1, *[1] * (x.ndim - 1)
    )


@CASES
def test_coefficients(scaling, table):
    for found, expected in zip(scaling.coefficients(SIGMA), table(SIGMA), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)


@CASES
def test_denoised_with_a_level_for_each_clip(scaling, table):
    """D = c_skip x + c_out F(c_in x; c_noise) on 2 clips of 5 frames, clip by clip, in both layouts."""
    x, sigma = 3 * draw(2, 5, 3, 4, 4), torch.tensor([0.3, 40.0], dtype=torch.float64)
    expected = torch.stack(
        [
            skip * clip + out * network(scale * clip, noise.expand(5))
            for clip, skip, out, scale, noise in zip(x, *table(sigma), strict=True)
        ]
    )
    by_clip, eps = scaling.denoiser(network)(x, sigma)
    by_frame, _ = scaling.denoiser(network)(x.flatten(0, 1), sigma)
    torch.testing.assert_close(by_clip, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(by_frame, expected.flatten(0, 1), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(by_clip + sigma.reshape(2, 1, 1, 1, 1) * eps, x, rtol=1e-12, atol=1e-12)


@CASES
def test_float32_denoises_like_float64(scaling, table):
    """Relative to the size of the terms: |c_out| is σ for Eps, at most 1 for the others."""
    sigma = torch.tensor([0.002, 1.0, 700.0], dtype=torch.float64)
    x = draw(3, 3, 8, 8) * (1 + sigma.reshape(3, 1, 1, 1))
    exact, _ = scaling.denoiser(network)(x, sigma)
    found, _ = scaling.denoiser(network)(x.float(), sigma.float())
    assert found.dtype == torch.float32
    size = 1 + table(sigma)[1].abs().reshape(3, 1, 1, 1)
    assert ((found - exact) / size).abs().max() < 5e-5


@pytest.mark.parametrize("frames_as_rows", [True, False])
def test_loss_of_stable_video_diffusion_is_that_of_k_diffusion(frames_as_rows):
    """Its loss for a preconditioned network with σ_data 1: MSE of F against (x0 − c_skip x)/c_out, c_out = σ/√(σ²+1).

    Our F is the negative. One σ for each of 4 clips of 3 frames.
    """
    x0, eps, output = (draw(4, 3, 2, 4, 4, seed=seed) for seed in range(3))
    sigma = torch.tensor([0.01, 0.8, 15.0, 700.0], dtype=torch.float64)
    s = sigma.reshape(4, 1, 1, 1, 1)
    skip, out = 1 / (s**2 + 1), s / (s**2 + 1).sqrt()
    expected = (output - (x0 - skip * (x0 + s * eps)) / out).square().mean()

    shaped = [z.flatten(0, 1) if frames_as_rows else z for z in (-output, x0, eps)]
    for weighting in (EDMWeighting(1.0), None):  # v-weighting, and unit weight on v: the same
        loss = DiffusionLoss(VE(), v_scaling().target, *([weighting] if weighting else []))
        scored = loss(*shaped, sigma)
        torch.testing.assert_close(scored.loss, expected, rtol=1e-6, atol=0)
        assert scored.per_sample.shape == ((12,) if frames_as_rows else (4,))


@CASES
@pytest.mark.parametrize(
    ("weighting", "formula"),
    [
        (EDMWeighting(0.5), lambda s: (s**2 + 0.25) / (s * 0.5) ** 2),
        (EDMWeighting(1.0), lambda s: (s**2 + 1) / s**2),
        (NoiseWeighting(), lambda s: s**-2),
    ],
    ids=["edm", "v", "eps"],
)
def test_weightings_are_on_the_error_of_the_denoised(scaling, table, weighting, formula):
    """λ(σ) |D − x0|² for every pair of scaling and weighting, as generative-models computes it."""
    x0, eps, output = (draw(6, 2, 4, 4, seed=seed) for seed in range(3))
    sigma = torch.logspace(-2, 2, 6, dtype=torch.float64)
    skip, out, _, _ = (c.reshape(6, 1, 1, 1) for c in table(sigma))
    denoised = skip * (x0 + sigma.reshape(6, 1, 1, 1) * eps) + out * output
    expected = formula(sigma) * (denoised - x0).square().mean((1, 2, 3))
    scored = DiffusionLoss(VE(), scaling.target, weighting)(output, x0, eps, sigma)
    torch.testing.assert_close(scored.per_sample, expected, rtol=1e-9, atol=0)


def test_weight_of_eps_is_unit_weight_on_eps():
    x0, eps, output = (draw(3, 2, 4, 4, seed=seed) for seed in range(3))
    sigma = torch.tensor([0.1, 1.0, 10.0], dtype=torch.float64)
    weighted = DiffusionLoss(VE(), epsilon_scaling().target, NoiseWeighting())(output, x0, eps, sigma)
    torch.testing.assert_close(weighted.per_sample, (output - eps).square().mean((1, 2, 3)), rtol=1e-12, atol=0)


def test_start_has_the_spread_of_noisy_data_and_leaves_the_noise_alone():
    noise = torch.ones(2, 3)
    assert v_scaling().start(noise, 700.0)[0, 0].item() == pytest.approx(math.sqrt(700**2 + 1), rel=1e-7)
    assert edm_scaling().start(noise, 0.5)[0, 0].item() == pytest.approx(math.sqrt(0.5), rel=1e-7)
    assert torch.equal(noise, torch.ones(2, 3))


def test_levels_of_stable_diffusion():
    """Against diffusers, whose table is a running product in float32; ends as they are known."""
    scheduler = EulerDiscreteScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
    levels = noise_levels(STABLE_DIFFUSION)
    torch.testing.assert_close(levels.flip(0), scheduler.sigmas[:-1].double(), rtol=2e-4, atol=0)
    assert levels[0].item() == pytest.approx(0.02917, abs=1e-5)
    assert levels[-1].item() == pytest.approx(14.6146, abs=1e-4)
    assert (levels.diff() > 0).all()


def test_levels_without_end_are_refused():
    with pytest.raises(ConfigError, match=r"VP.*without signal"):
        noise_levels(VP(beta_table("linear"), zero_terminal_snr=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_index_of_the_nearest_level(dtype):
    levels = noise_levels(STABLE_DIFFUSION)
    index = LevelIndex(levels)
    assert torch.equal(index(levels.to(dtype)), torch.arange(1000))
    sigma = torch.logspace(-3, 2, 300, dtype=dtype).reshape(3, 100)
    assert torch.equal(index(sigma), (sigma[..., None].double() - levels).abs().argmin(-1))
    assert index(torch.tensor(700.0)) == 999
