"""Solvers: whole loops beside diffusers in float64, exact recovery of x0, orders of convergence."""

import itertools
import math
from types import ModuleType

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    EDMDPMSolverMultistepScheduler,
    EDMEulerScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    HeunDiscreteScheduler,
)

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
SD = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
TARGETS = {"epsilon": Epsilon(), "sample": X0(), "v_prediction": V()}


def network(x, t):
    """A toy network that depends on every input and on the time."""
    return torch.tanh(x @ MIXING + torch.sin(t.double())[:, None])


class InDouble:
    """A module whose float32 is float64: the tables and casts of diffusers are written with it."""

    def __init__(self, module: ModuleType) -> None:
        self.module, self.float32 = module, module.float64

    def __getattr__(self, name):
        return getattr(self.module, name)


@pytest.fixture
def in_double(monkeypatch):
    """Make a scheduler class of diffusers compute in float64, so that only the formulas are compared."""

    def patch(scheduler):
        module = __import__(scheduler.__module__, fromlist=["torch"])
        monkeypatch.setattr(module, "torch", InDouble(torch))
        monkeypatch.setattr(module, "np", InDouble(np), raising=False)
        return scheduler

    return patch


def diffusers_loop(scheduler, x, model):
    """What every pipeline does, with `model(scaled x, time of (B,)) -> output`."""
    for t in scheduler.timesteps:
        seen = scheduler.scale_model_input(x, t) if hasattr(scheduler, "scale_model_input") else x
        output = model(seen, t.expand(len(x)))
        x = scheduler.step(output, t, x).prev_sample
        assert x.dtype == torch.float64
    return x


GRIDS = [("leading", 10, 0), ("leading", 10, 1), ("leading", 7, 1), ("trailing", 10, 0), ("trailing", 4, 0)]
DDIM_CASES = [
    (prediction, *grid, clean_end, zero)
    for prediction, grid, clean_end, zero in itertools.product(TARGETS, GRIDS, [True, False], [True, False])
    if not (zero and prediction == "epsilon" and grid[0] == "trailing")  # singular
]


@pytest.mark.parametrize(("prediction", "spacing", "n", "offset", "clean_end", "zero"), DDIM_CASES)
def test_ddim(in_double, prediction, spacing, n, offset, clean_end, zero):
    config = SD | {"rescale_betas_zero_snr": zero, "set_alpha_to_one": clean_end, "num_train_timesteps": 1000}
    scheduler = in_double(DDIMScheduler)(
        **config, prediction_type=prediction, timestep_spacing=spacing, steps_offset=offset, clip_sample=False
    )
    scheduler.final_alpha_cumprod = scheduler.final_alpha_cumprod.double()
    scheduler.set_timesteps(n)
    path, times = VP.from_scheduler(config), spaced_grid(1000, n, spacing, offset=offset)
    found = first_order(Denoiser(network, path, TARGETS[prediction]), NOISE, path, times)
    torch.testing.assert_close(found, diffusers_loop(scheduler, NOISE, network), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("schedule", ["linear", "squaredcos_cap_v2"])
def test_ddim_linspace_and_other_tables(in_double, schedule):
    """All times, as only then diffusers' DDIM steps along its own linspace grid (see `spaced_grid`)."""
    config = {"beta_schedule": schedule, "num_train_timesteps": 40}
    scheduler = in_double(DDIMScheduler)(
        **config, prediction_type="v_prediction", timestep_spacing="linspace", clip_sample=False
    )
    scheduler.set_timesteps(40)
    path = VP.from_scheduler(config)
    found = first_order(Denoiser(network, path, V()), NOISE, path, spaced_grid(40, 40, "linspace"))
    torch.testing.assert_close(found, diffusers_loop(scheduler, NOISE, network), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("prediction", TARGETS)
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
def test_euler_discrete(in_double, prediction, spacing):
    """Euler on sigma over Stable Diffusion's table; its network sees x/√(σ²+1) and the (fractional) time."""
    scheduler = in_double(EulerDiscreteScheduler)(**SD, prediction_type=prediction, timestep_spacing=spacing)
    scheduler.set_timesteps(9)
    sigmas = scheduler.sigmas
    assert sigmas.dtype == torch.float64

    def clock(sigma):
        return scheduler.timesteps[sigmas[:-1] == sigma].squeeze(0)

    denoise = Denoiser(network, VE(), TARGETS[prediction], clock, sigma_data=1.0)
    expected = diffusers_loop(scheduler, NOISE * sigmas[0], network)
    torch.testing.assert_close(first_order(denoise, NOISE * sigmas[0], VE(), sigmas), expected, rtol=1e-10, atol=1e-10)


def test_euler_of_stable_video_diffusion(in_double):
    """Karras levels .002 to 700, v on the VE path, time ¼ ln σ. diffusers has those times in float32: ours go in."""
    scheduler = in_double(EulerDiscreteScheduler)(
        **SD,
        prediction_type="v_prediction",
        timestep_type="continuous",
        use_karras_sigmas=True,
        sigma_min=0.002,
        sigma_max=700.0,
    )
    scheduler.set_timesteps(25)
    times = karras_grid(25, 0.002, 700.0)
    torch.testing.assert_close(scheduler.sigmas, times, rtol=1e-12, atol=0)
    torch.testing.assert_close(scheduler.timesteps, quarter_log(times[:-1]).float())
    scheduler.timesteps = quarter_log(times[:-1])

    denoise = Denoiser(network, VE(), V(), quarter_log, sigma_data=1.0)
    expected = diffusers_loop(scheduler, NOISE * 700, network)
    torch.testing.assert_close(first_order(denoise, NOISE * 700, VE(), times), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("scheduler_class", "solver"), [(EDMEulerScheduler, first_order), (EDMDPMSolverMultistepScheduler, dpmpp_2m)]
)
@pytest.mark.parametrize("sigma_data", [0.5, 1.0])
def test_edm_schedulers(in_double, scheduler_class, solver, sigma_data):
    scheduler = in_double(scheduler_class)(sigma_data=sigma_data)
    scheduler.set_timesteps(12)
    times = karras_grid(12, 0.002, 80.0)
    # The multistep scheduler makes its ramp in float32, whatever is asked: our levels go in.
    torch.testing.assert_close(scheduler.sigmas.double(), times, rtol=2e-6, atol=0)
    scheduler.sigmas, scheduler.timesteps = times, quarter_log(times[:-1])
    denoise = Denoiser(network, VE(), EDM(sigma_data), quarter_log, sigma_data=sigma_data)
    expected = diffusers_loop(scheduler, NOISE * 80, network)
    torch.testing.assert_close(solver(denoise, NOISE * 80, VE(), times), expected, rtol=1e-10, atol=1e-10)


def test_heun_discrete(in_double):
    """Every level but the first stands twice in the grid of diffusers, which asks once for each entry."""
    scheduler = in_double(HeunDiscreteScheduler)(**SD, prediction_type="v_prediction", use_karras_sigmas=True)
    scheduler.set_timesteps(9)
    times = torch.cat([scheduler.sigmas[:1], scheduler.sigmas[1::2]]).double()
    # It interpolates the network's times between the entries of its table: they are taken as they come.
    told = iter(scheduler.timesteps)
    denoise = Denoiser(network, VE(), V(), lambda _: next(told), sigma_data=1.0)
    expected = diffusers_loop(scheduler, NOISE * times[0], network)
    torch.testing.assert_close(heun(denoise, NOISE * times[0], VE(), times), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_flow_match_euler(in_double, shift):
    """The flow output of diffusers is the negative of our velocity."""
    scheduler = in_double(FlowMatchEulerDiscreteScheduler)(shift=shift)
    scheduler.set_timesteps(12)
    assert scheduler.sigmas.dtype == torch.float64
    denoise = Denoiser(lambda x, t: -network(x, t), Flow(), Velocity(), thousandfold)
    found = first_order(denoise, NOISE, Flow(), scheduler.sigmas)
    torch.testing.assert_close(found, diffusers_loop(scheduler, NOISE, network), rtol=1e-10, atol=1e-10)


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


@pytest.mark.parametrize(("solver", "order"), [(first_order, 1), (heun, 2), (dpmpp_2m, 2)])
@pytest.mark.parametrize("name", ORDERS)
def test_order_of_convergence(name, solver, order):
    """Gaussian data N(m, c²) have a closed form: (x − αm) / √(α²c² + σ²) is constant along the ODE."""
    path, grid = ORDERS[name]
    m, c = 0.7, 0.6

    def spread(t):
        alpha, sigma = path.alpha(t).double(), path.sigma(t).double()
        return alpha, sigma, (alpha**2 * c**2 + sigma**2).sqrt()

    def denoise(x, t):
        alpha, sigma, s = spread(t)
        x0 = m + alpha * c**2 / s**2 * (x - alpha * m)
        return x0, (x - alpha * x0) / sigma

    def error(n):
        times = grid(n)
        (a, _, s), (a_end, _, s_end) = spread(times[0]), spread(times[-1])
        x = a * m + s * NOISE
        return (solver(denoise, x, path, times) - (a_end * m + s_end * NOISE)).abs().max().item()

    rates = [math.log2(error(n) / error(2 * n)) for n in (40, 80, 160)]
    assert rates[-1] == pytest.approx(order, abs=0.15), rates


def test_singular_pair_is_refused_while_sampling():
    with pytest.raises(ConfigError, match=r"Epsilon.*VP.*t = 999"):
        first_order(Denoiser(network, ZERO_SNR, Epsilon()), NOISE, ZERO_SNR, spaced_grid(1000, 4, "trailing"))


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
