"""Whole sampling loops beside the schedulers of diffusers, in float64 to 1e-10."""

import itertools
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
    LevelIndex,
    V,
    Velocity,
    dpmpp_2m,
    epsilon_scaling,
    first_order,
    heun,
    karras_grid,
    noise_levels,
    quarter_log,
    spaced_grid,
    thousandfold,
    v_scaling,
)

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

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


@pytest.mark.parametrize(
    ("scheduler_class", "solver"), [(EDMEulerScheduler, first_order), (EDMDPMSolverMultistepScheduler, dpmpp_2m)]
)
@pytest.mark.parametrize("n", [14, 25])
def test_v_of_stable_video_diffusion_in_edm_schedulers(in_double, scheduler_class, solver, n):
    """Their v-prediction with σ_data 1 is `v_scaling`; levels .002 to 700, where ρ = 7 multiplies their float32 ramp's
    rounding: ours go in."""
    scheduler = in_double(scheduler_class)(sigma_max=700.0, sigma_data=1.0, prediction_type="v_prediction")
    scheduler.set_timesteps(n)
    times = karras_grid(n, 0.002, 700.0)
    torch.testing.assert_close(scheduler.sigmas.double(), times, rtol=1e-5, atol=0)
    scheduler.sigmas, scheduler.timesteps = times, quarter_log(times[:-1])
    expected = diffusers_loop(scheduler, NOISE * 700, network)
    found = solver(v_scaling().denoiser(network), NOISE * 700, VE(), times)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def test_heun_on_the_levels_of_stable_video_diffusion(in_double):
    """Its scheduler knows no levels outside of its table: ours go in, each but the first twice."""
    scheduler = in_double(HeunDiscreteScheduler)(**SD, prediction_type="v_prediction")
    scheduler.set_timesteps(12)
    times = karras_grid(12, 0.002, 700.0)
    scheduler.sigmas = torch.cat([times[:1], times[1:-1].repeat_interleave(2), times[-1:]])
    scheduler.timesteps = quarter_log(scheduler.sigmas[:-1])
    expected = diffusers_loop(scheduler, NOISE * 700, network)
    found = heun(v_scaling().denoiser(network), NOISE * 700, VE(), times)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("prediction", "make"), [("epsilon", epsilon_scaling), ("v_prediction", v_scaling)])
def test_stable_diffusion_over_levels(in_double, prediction, make):
    """A discrete network on the VE path: told the index of the level, started like the scheduler's latents."""
    scheduler = in_double(EulerDiscreteScheduler)(**SD, prediction_type=prediction, timestep_spacing="leading")
    scheduler.set_timesteps(10)
    levels = noise_levels(VP.from_scheduler(SD))
    times = torch.cat([levels[spaced_grid(1000, 10, "leading")[:-1]], torch.zeros(1, dtype=torch.float64)])
    torch.testing.assert_close(scheduler.sigmas, times, rtol=1e-10, atol=0)
    scaling = make(LevelIndex(levels))
    start = scaling.start(NOISE, times[0].item())
    torch.testing.assert_close(start, NOISE * scheduler.init_noise_sigma, rtol=1e-10, atol=0)
    expected = diffusers_loop(scheduler, start, network)
    found = first_order(scaling.denoiser(network), start, VE(), times)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
