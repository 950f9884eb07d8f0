"""Training times: distribution and independence of the batch. Grids: against diffusers and closed forms."""

import math

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, LCMScheduler
from scipy import stats

from salticid.diffusion import (
    LogitNormal,
    LogNormal,
    UniformIntegers,
    UniformLevels,
    karras_grid,
    power_grid,
    spaced_grid,
)
from salticid.errors import ConfigError

KEYS = torch.arange(20_000)
LEVELS = torch.logspace(-1, 1, 50, dtype=torch.float64)
SAMPLERS = [
    UniformIntegers(),
    UniformIntegers(steps=50, noisy_share=0.3),
    LogitNormal(),
    LogitNormal(mean=0.5, std=0.7, noisy_share=0.1),
    LogNormal(),
    LogNormal(mean=1.0, std=1.6, sigma_max=700, noisy_share=0.2),
    UniformLevels(levels=LEVELS, noisy_share=0.1),
]


@pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
def test_times_do_not_depend_on_the_batch(sampler):
    keys = KEYS[:60]
    whole = sampler(keys, seed=7)
    assert torch.equal(torch.cat([sampler(k, seed=7) for k in keys.split(7)]), whole)
    assert torch.equal(sampler(keys.flip(0), seed=7).flip(0), whole)
    assert not torch.equal(sampler(keys, seed=8), whole)


def test_distributions():
    assert stats.kstest(LogitNormal(mean=0.5, std=0.7)(KEYS, seed=0).logit(), "norm", (0.5, 0.7)).pvalue > 1e-3
    assert stats.kstest(LogNormal(mean=1.0, std=1.6)(KEYS, seed=0).log(), "norm", (1.0, 1.6)).pvalue > 1e-3
    integers = UniformIntegers(steps=10)(KEYS, seed=0)
    assert integers.dtype == torch.int64
    assert stats.chisquare(integers.bincount(minlength=10)).pvalue > 1e-3


def test_noisy_share():
    flow = LogitNormal(mean=-5.0, std=0.1, noisy_share=0.25, noisy_width=0.1)(KEYS, seed=0)
    near = flow[flow > 0.5]
    assert len(near) / len(KEYS) == pytest.approx(0.25, abs=0.015)
    assert stats.kstest(near, "uniform", (0.9, 0.1)).pvalue > 1e-3

    levels = LogNormal(mean=-5.0, std=0.1, sigma_max=700, noisy_share=0.5, noisy_width=2.0)(KEYS, seed=0)
    near = levels[levels > 1].log()
    assert stats.kstest(near, "uniform", (math.log(700) - 2, 2)).pvalue > 1e-3

    assert UniformIntegers(noisy_share=1.0)(KEYS, seed=0).unique().tolist() == list(range(900, 1000))


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_uniform_levels_are_those_of_uniform_integers(share):
    index = UniformIntegers(steps=50, noisy_share=share)(KEYS[:500], seed=3)
    levels = UniformLevels(levels=LEVELS, noisy_share=share)(KEYS[:500], seed=3)
    assert torch.equal(levels, LEVELS[index].float())


def test_streams_are_independent():
    """The levels of a clip and of its conditioning frame: their correlation within 4.5 standard errors of 0."""
    sigma = LogNormal(mean=1.0, std=1.6)(KEYS, seed=0).log()
    frame = LogNormal(mean=-3.0, std=0.5)(KEYS, seed=0, stream="conditioning").log()
    assert stats.kstest(frame, "norm", (-3.0, 0.5)).pvalue > 1e-3
    assert torch.corrcoef(torch.stack([sigma, frame]))[0, 1].abs() < 4.5 / math.sqrt(len(KEYS))
    assert torch.equal(LogNormal(mean=1.0, std=1.6)(KEYS, seed=0, stream="time").log(), sigma)


@pytest.mark.parametrize("share", [-0.1, 1.5])
def test_share_outside_of_a_fraction_is_refused(share):
    with pytest.raises(ConfigError, match="noisy_share"):
        LogitNormal(noisy_share=share)


def test_width_beyond_the_clean_end_is_refused():
    with pytest.raises(ConfigError, match="noisy_width"):
        UniformIntegers(noisy_width=1.5)
    LogNormal(noisy_width=1.5)


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("n", [1, 2, 3, 4, 7, 10, 25, 30, 50, 333, 1000])
def test_spaced_grid_matches_diffusers(spacing, n):
    offset = 1 if spacing == "leading" and n < 1000 else 0
    scheduler = DDIMScheduler(timestep_spacing=spacing, steps_offset=offset)
    scheduler.set_timesteps(n)
    grid = spaced_grid(1000, n, spacing, offset=offset)
    assert grid[:-1].tolist() == scheduler.timesteps[:n].tolist()
    assert grid[-1] == -1
    assert grid.dtype == torch.int64


def test_grids_of_marigold():
    assert spaced_grid(1000, 1, "leading", offset=1).tolist() == [1, -1]
    assert spaced_grid(1000, 1, "trailing").tolist() == [999, -1]
    assert spaced_grid(1000, 4, "trailing").tolist() == [999, 749, 499, 249, -1]


def test_grid_of_ssdd():
    torch.testing.assert_close(power_grid(12, 2), torch.from_numpy(np.linspace(1, 0, 13) ** 2))
    assert power_grid(1, 2).tolist() == [1, 0]


def test_karras_grid():
    grid = karras_grid(18, 0.002, 80)
    assert grid[0].item() == pytest.approx(80, rel=1e-12)
    assert grid[-2].item() == pytest.approx(0.002, rel=1e-12)
    assert grid[-1] == 0
    steps = (grid[:-1] ** (1 / 7)).diff()
    torch.testing.assert_close(steps, steps.mean().expand_as(steps))
    assert karras_grid(1, 0.002, 80).tolist() == [pytest.approx(80), 0]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: spaced_grid(1000, 0), "1 to 1000, got 0"),
        (lambda: spaced_grid(1000, 1001), "1 to 1000, got 1001"),
        (lambda: spaced_grid(1000, 1000, "leading", offset=1), "steps_offset"),
        (lambda: spaced_grid(1000, 10, "even"), "'even'"),  # pyrefly: ignore
        (lambda: power_grid(0), "at least 1"),
        (lambda: karras_grid(0, 0.002, 80), "at least 1"),
    ],
)
def test_bad_grids_are_refused(make, words):
    with pytest.raises(ConfigError, match=words):
        make()


@pytest.mark.parametrize("n", [1, 2, 4, 7, 50])
def test_lcm_grid_matches_diffusers(n):
    theirs = LCMScheduler(num_train_timesteps=1000, original_inference_steps=50)
    theirs.set_timesteps(n)
    assert spaced_grid(1000, n, "lcm").tolist() == [*theirs.timesteps.tolist(), -1]
    with pytest.raises(ConfigError, match="at most 50"):
        spaced_grid(1000, 51, "lcm")
