"""Targets: there and back for every pair of path and target; what cannot be solved is refused."""

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from salticid.diffusion import EDM, VE, VP, X0, Epsilon, Flow, V, Velocity, beta_table, check, recover
from salticid.diffusion.target import solve
from salticid.errors import ConfigError

TARGETS = [Epsilon(), X0(), V(), Velocity(), Velocity(0.1), EDM(0.5), EDM(1.0), EDM(3.0)]
BETAS = beta_table("scaled_linear", 1000, 0.00085, 0.012)
numbers = st.floats(-3, 3, width=64)


def tensor(value, dtype=torch.float64):
    return torch.tensor([value], dtype=dtype)


@settings(deadline=None)
@given(st.sampled_from(TARGETS), st.floats(0, 1), st.floats(0, 100), numbers, numbers)
def test_there_and_back(target, alpha, sigma, x0, eps):
    assume(alpha > 1e-3 or not isinstance(target, Epsilon))
    assume(sigma > 1e-3 or not isinstance(target, X0))
    assume(alpha + sigma > 1e-3)
    alpha, sigma, x0, eps = (tensor(v) for v in (alpha, sigma, x0, eps))
    x0_back, eps_back = recover(alpha * x0 + sigma * eps, target.of(x0, eps, alpha, sigma), alpha, sigma, target)
    # The scale of the arithmetic: det may be as small as 1e-3 beside terms as large as sigma.
    torch.testing.assert_close(x0_back, x0, rtol=0, atol=1e-9)
    torch.testing.assert_close(eps_back, eps, rtol=0, atol=1e-9)


@pytest.mark.parametrize("target", TARGETS, ids=str)
@pytest.mark.parametrize(
    ("path", "times"),
    [
        (VP(BETAS), torch.tensor([0, 1, 500, 999])),
        (VE(), torch.tensor([0.002, 1.0, 80.0, 700.0])),
        (Flow(), torch.tensor([0.01, 0.5, 0.99])),
        (Flow(0.05), torch.tensor([0.0, 0.5, 0.99])),
    ],
    ids=str,
)
def test_float32_is_enough(path, times, target):
    """Relative to the size of x, over which the solve cannot see: 1e-5 of it."""
    x0, eps = torch.randn(2, len(times), 64, generator=torch.Generator().manual_seed(0))
    alpha, sigma = path.at(times, x0)
    x0_back, eps_back = recover(path.mix(x0, eps, times), target.of(x0, eps, alpha, sigma), alpha, sigma, target)
    assert ((x0_back - x0).abs() < 1e-5 * (1 + sigma / alpha)).all()
    assert ((eps_back - eps).abs() < 1e-5 * (1 + alpha / sigma)).all()


def test_v_is_the_scaling_of_stable_video_diffusion():
    """c_skip = 1/(σ²+1), c_out = −σ/√(σ²+1) on the VE path; and EDM with sigma_data = 1 is its negative."""
    sigma = torch.logspace(-3, 3, 20, dtype=torch.float64)
    alpha = torch.ones_like(sigma)
    v, edm = solve(alpha, sigma, V()), solve(alpha, sigma, EDM(1.0))
    torch.testing.assert_close(v.x0_x, 1 / (sigma**2 + 1), rtol=1e-12, atol=0)
    torch.testing.assert_close(v.x0_f, -sigma / (sigma**2 + 1).sqrt(), rtol=1e-12, atol=0)
    torch.testing.assert_close(edm.x0_x, v.x0_x, rtol=1e-12, atol=0)
    torch.testing.assert_close(edm.x0_f, -v.x0_f, rtol=1e-12, atol=0)


@pytest.mark.parametrize("sigma_data", [0.5, 2.0])
def test_edm_preconditioning(sigma_data):
    """c_skip and c_out of Karras et al. 2022, table 1; the target has unit variance."""
    sigma = torch.logspace(-3, 3, 20, dtype=torch.float64)
    alpha = torch.ones_like(sigma)
    solution = solve(alpha, sigma, EDM(sigma_data))
    total = sigma**2 + sigma_data**2
    torch.testing.assert_close(solution.x0_x, sigma_data**2 / total, rtol=1e-12, atol=0)
    torch.testing.assert_close(solution.x0_f, sigma * sigma_data / total.sqrt(), rtol=1e-12, atol=0)
    for a in (1.0, 0.3):
        p, q = EDM(sigma_data).row(a * alpha, sigma)
        torch.testing.assert_close(p**2 * sigma_data**2 + q**2, torch.ones_like(sigma))


def test_velocity_is_minus_the_slope_of_the_path():
    t = torch.linspace(0, 1, 5, dtype=torch.float64).requires_grad_()
    path = Flow(0.1)
    x0, eps = torch.tensor(0.3, dtype=torch.float64), torch.tensor(-1.2, dtype=torch.float64)
    (slope,) = torch.autograd.grad((path.alpha(t) * x0 + path.sigma(t) * eps).sum(), t)
    torch.testing.assert_close(Velocity(0.1).of(x0, eps, path.alpha(t), path.sigma(t)), -slope)


ONE = torch.tensor([1.0])


@pytest.mark.parametrize(
    ("path", "target", "times", "words"),
    [
        (VP(BETAS, zero_terminal_snr=True), Epsilon(), torch.tensor([10, 999]), r"Epsilon.*VP\(1000 steps.*t = 999"),
        (Flow(), Epsilon(), torch.tensor([0.5, 1.0]), r"Epsilon.*Flow.*t = 1"),
    ],
)
def test_singular_pairs_are_refused_by_name(path, target, times, words):
    with pytest.raises(ConfigError, match=words):
        check(path, target, times)


@pytest.mark.parametrize("target", [t for t in TARGETS if not isinstance(t, Epsilon)], ids=str)
def test_other_targets_start_from_pure_noise(target):
    check(VP(BETAS, zero_terminal_snr=True), target, torch.arange(1000))
    check(Flow(), target, torch.tensor([0.0, 1.0]))
    check(VE(), target, torch.tensor([0.0, 700.0]))


def test_epsilon_with_some_signal_left_is_accepted():
    check(VP(BETAS), Epsilon(), torch.arange(1000))
    check(VP(beta_table("squaredcos_cap_v2")), Epsilon(), torch.arange(1000))
    check(VE(), Epsilon(), torch.tensor([700.0]))


def test_x0_without_noise_is_the_output_itself():
    x, output = torch.tensor([1.0, 2.0]), torch.tensor([1.5, 2.5], requires_grad=True)
    x0, eps = recover(x, output, ONE, torch.zeros(1), X0())
    assert torch.equal(x0, output)
    assert torch.equal(eps, torch.zeros(2))
    (gradient,) = torch.autograd.grad(x0.sum() + eps.sum(), output)
    assert gradient.tolist() == [1, 1]


def test_unchecked_singular_pairs_are_not_silently_wrong():
    x0, _ = recover(torch.ones(1), torch.ones(1) / 2, torch.zeros(1), ONE, Epsilon())
    assert not x0.isfinite().any()


@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_solve_is_in_float32_under_autocast(target):
    """bf16 has 8 bits: at σ = 80 its rounding would be off by whole units of x0."""
    x0, eps = torch.randn(2, 1, 1000, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([80.0])
    alpha, sigma = VE().at(t, x0)
    expected = recover(VE().mix(x0, eps, t), target.of(x0, eps, alpha, sigma), alpha, sigma, target)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        alpha, sigma = VE().at(t, x0)
        found = recover(VE().mix(x0, eps, t), target.of(x0, eps, alpha, sigma), alpha, sigma, target)
        output = target.of(x0, eps, alpha, sigma).bfloat16()
        assert recover(x0.bfloat16(), output, alpha, sigma, target)[0].dtype == torch.float32
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])
