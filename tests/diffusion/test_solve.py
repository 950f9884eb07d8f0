"""Solvers: exact recovery of x0, orders of convergence, and what the network is told."""

import itertools
import math

import pytest
import torch

from salticid.diffusion import (
    EDM,
    VE,
    VP,
    X0,
    Denoiser,
    Epsilon,
    Flow,
    V,
    Velocity,
    beta_table,
    dpmpp_2m,
    first_order,
    heun,
    identity,
    karras_grid,
    power_grid,
    quarter_log,
    spaced_grid,
    thousandfold,
)
from salticid.errors import ConfigError

MIXING = torch.randn(8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64) / 3
NOISE = torch.randn(2, 8, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
ZERO_SNR = VP(beta_table("scaled_linear", 1000, 0.00085, 0.012), zero_terminal_snr=True)
PATHS = {
    "vp": (VP(beta_table("scaled_linear", 1000, 0.00085, 0.012)), lambda n: spaced_grid(1000, n, "leading", offset=1)),
    "vp-zero-snr": (ZERO_SNR, lambda n: spaced_grid(1000, n, "trailing")),
    "ve": (VE(), lambda n: karras_grid(n, 0.002, 80)),
    "flow": (Flow(), lambda n: power_grid(n, 2)),
}
CASES = [
    (path, target)
    for path, target in itertools.product(PATHS, [Epsilon(), X0(), V(), Velocity(), EDM()])
    if not (target == Epsilon() and path in ("vp-zero-snr", "flow"))
]


@pytest.mark.parametrize(("name", "target"), CASES, ids=str)
@pytest.mark.parametrize("solver", [first_order, heun, dpmpp_2m])
@pytest.mark.parametrize("n", [1, 2, 12])
def test_perfect_denoiser_recovers_x0(name, target, solver, n):
    path, grid = PATHS[name]
    x0 = torch.randn(2, 8, generator=torch.Generator().manual_seed(3), dtype=torch.float64)

    def perfect(x, t):
        alpha, sigma = path.at(t, x)
        return target.of(x0, (x - alpha * x0) / sigma, alpha, sigma)

    times = grid(n)
    found = solver(Denoiser(perfect, path, target), path.mix(x0, NOISE, times[0]), path, times)
    torch.testing.assert_close(found, x0, rtol=0, atol=1e-10)


def test_sampling_may_end_on_the_first_noise_level():
    path = VP(beta_table("scaled_linear", 1000, 0.00085, 0.012), clean_end=False)
    x0, times = torch.ones(2, 8, dtype=torch.float64), spaced_grid(1000, 4, "trailing")
    for solver in (first_order, heun, dpmpp_2m):
        found = solver(lambda x, t: (x0, NOISE), path.mix(x0, NOISE, times[0]), path, times)
        torch.testing.assert_close(found, path.mix(x0, NOISE, torch.tensor(0)), rtol=0, atol=1e-12)


FINE = VP(beta_table("linear", 20_000, 0.0001 / 20, 0.02 / 20))
ORDERS = {
    "vp": (FINE, lambda n: torch.linspace(14_400, 1_600, n + 1).round().long()),
    "ve": (VE(), lambda n: torch.logspace(1, -1, n + 1, dtype=torch.float64)),
    "flow": (Flow(0.01), lambda n: torch.linspace(0.8, 0.3, n + 1, dtype=torch.float64)),
}


def gaussian_error(solver, path, times, m=0.7, c=0.6):
    """Largest error on data N(m, c²), where (x − αm) / √(α²c² + σ²) is constant along the ODE."""

    def spread(t):
        alpha, sigma = path.alpha(t), path.sigma(t)
        return alpha, sigma, (alpha**2 * c**2 + sigma**2).sqrt()

    def denoise(x, t):
        alpha, sigma, s = spread(t)
        x0 = m + alpha * c**2 / s**2 * (x - alpha * m)
        return x0, (x - alpha * x0) / sigma

    (a, _, s), (a_end, _, s_end) = spread(times[0]), spread(times[-1])
    found = solver(denoise, a * m + s * NOISE, path, times)
    return (found - (a_end * m + s_end * NOISE)).abs().max().item()


@pytest.mark.parametrize(("solver", "order"), [(first_order, 1), (heun, 2), (dpmpp_2m, 2)])
@pytest.mark.parametrize("name", ORDERS)
def test_order_of_convergence(name, solver, order):
    path, grid = ORDERS[name]
    coarse, fine = (gaussian_error(solver, path, grid(n)) for n in (160, 320))
    assert math.log2(coarse / fine) == pytest.approx(order, abs=0.15)


@pytest.mark.parametrize("solver", [heun, dpmpp_2m])
def test_second_order_from_pure_noise(solver):
    """The first step, from alpha = 0, is of first order: the rest must not lose by it."""
    coarse, fine = (gaussian_error(solver, Flow(), power_grid(n)) for n in (128, 256))
    assert math.log2(coarse / fine) > 1.7
    assert fine < gaussian_error(first_order, Flow(), power_grid(256)) / 20


def test_singular_pair_is_refused_while_sampling():
    with pytest.raises(ConfigError, match=r"Epsilon.*VP.*t = 999"):
        first_order(Denoiser(lambda x, t: x, ZERO_SNR, Epsilon()), NOISE, ZERO_SNR, spaced_grid(1000, 4, "trailing"))


@pytest.mark.parametrize(
    ("path", "clock", "t", "dtype"),
    [(ZERO_SNR, identity, torch.tensor(7), torch.int64), (Flow(), thousandfold, torch.tensor(0.5), torch.float32)],
)
def test_what_the_network_is_told(path, clock, t, dtype):
    seen = []

    def spy(x, time):
        seen.append((x, time))
        return x

    x = torch.ones(3, 2)
    denoiser = Denoiser(spy, path, V(), clock)
    denoiser(x, t)
    denoiser.output(x, t.expand(3))
    for x_seen, time in seen:
        assert torch.equal(x_seen, x)
        assert time.dtype == dtype
        assert time.tolist() == [clock(t).item()] * 3


def test_network_input_has_unit_variance():
    """c_in of Karras et al. 2022, table 1, for a level per sample."""
    seen = []
    denoiser = Denoiser(lambda x, t: seen.append((x, t)) or x, VE(), EDM(), quarter_log, sigma_data=0.5)
    sigma = torch.tensor([0.5, 2.0])
    denoiser.output(torch.ones(2, 3), sigma)
    torch.testing.assert_close(seen[0][0], (1 / (sigma**2 + 0.25).sqrt())[:, None].expand(2, 3))
    torch.testing.assert_close(seen[0][1], sigma.log() / 4)


def test_sampling_stays_in_float32_under_autocast():
    """A network in bf16 does not drag the state down."""
    weight = MIXING.float()
    denoise = Denoiser(lambda x, t: torch.tanh(x @ weight), Flow(), Velocity(), thousandfold)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert denoise.output(NOISE.float(), torch.tensor(0.5)).dtype == torch.bfloat16
        for solver in (first_order, heun, dpmpp_2m):
            assert solver(denoise, NOISE.float(), Flow(), power_grid(3)).dtype == torch.float32


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("solver", [first_order, heun, dpmpp_2m])
def test_cpu_grid_drives_a_gpu_model(solver):
    weight = MIXING.float()

    def on(device):
        denoise = Denoiser(lambda x, t: torch.tanh(x @ weight.to(device)), ZERO_SNR, V())
        return solver(denoise, NOISE.float().to(device), ZERO_SNR, spaced_grid(1000, 5, "trailing")).cpu()

    torch.testing.assert_close(on("cuda"), on("cpu"), rtol=1e-4, atol=1e-4)


def growth_by_hand(solver, sigmas, c):
    """x_end / x_start on data N(0, c²), where D = c²/(c²+σ²) x: the papers' steps as recurrences of plain numbers."""
    x, before = 1.0, None
    for s, u in itertools.pairwise(sigmas):
        slope, h = s / (c**2 + s**2), u - s
        denoised = x * c**2 / (c**2 + s**2)
        if u == 0 or solver is first_order:
            x, before = x + h * slope * x, (denoised, s)
        elif solver is heun:
            ahead = x + h * slope * x
            x = x + h / 2 * (slope * x + u / (c**2 + u**2) * ahead)
        else:
            step, mixed = math.log(s / u), denoised
            if before is not None:
                r = math.log(before[1] / s) / step
                mixed = (1 + 1 / (2 * r)) * denoised - before[0] / (2 * r)
            x, before = u / s * x - math.expm1(-step) * mixed, (denoised, s)
    return x


@pytest.mark.parametrize("solver", [first_order, heun, dpmpp_2m])
@pytest.mark.parametrize(("n", "c"), [(1, 0.6), (2, 1.0), (25, 1.0), (30, 0.6)])
def test_steps_by_hand_on_the_levels_of_stable_video_diffusion(solver, n, c):
    """EDM's Euler, Heun (Karras et al. 2022, algorithm 1) and DPM++2M (Lu et al. 2022), σ 700 to 0.002 to 0, ρ 7."""
    sigmas, noise = karras_grid(n, 0.002, 700), NOISE.clone()

    def denoise(x, t):
        x0 = c**2 / (c**2 + t**2) * x
        return x0, (x - x0) / t

    found = solver(denoise, noise, VE(), sigmas)
    # The result is about 1/700 of the start, over which arithmetic rounds.
    torch.testing.assert_close(found, growth_by_hand(solver, sigmas.tolist(), c) * NOISE, rtol=1e-10, atol=1e-14)
    assert torch.equal(noise, NOISE)


@pytest.mark.parametrize(("solver", "order"), [(first_order, 1), (heun, 2), (dpmpp_2m, 2)])
def test_order_on_the_levels_of_stable_video_diffusion(solver, order):
    """Without the step to 0, which is Euler's for all and has an error of its own."""
    coarse, fine = (gaussian_error(solver, VE(), karras_grid(n, 0.002, 700)[:-1]) for n in (200, 400))
    assert math.log2(coarse / fine) == pytest.approx(order, abs=0.15)


@pytest.mark.parametrize("solver", [first_order, heun, dpmpp_2m])
def test_float32_is_enough_from_700(solver):
    """25 steps of a network of v: 1e-4 of data of unit size."""
    denoise = Denoiser(lambda x, t: torch.tanh(x @ MIXING.to(x.dtype)), VE(), V(), quarter_log, sigma_data=1.0)
    times = karras_grid(25, 0.002, 700)
    exact = solver(denoise, 700 * NOISE, VE(), times)
    torch.testing.assert_close(solver(denoise, 700 * NOISE.float(), VE(), times).double(), exact, rtol=0, atol=1e-4)
