"""Paths: closed forms, and tables against those of diffusers and of the paper."""

import math

import pytest
import torch
from diffusers import DDIMScheduler

from salticid.diffusion import VE, VP, Flow, beta_table, per_row
from salticid.errors import ConfigError

SCALED = beta_table("scaled_linear", 1000, 0.00085, 0.012)


def test_flow_interpolates_from_data_to_noise():
    t = torch.tensor([0.0, 0.25, 1.0])
    assert Flow().alpha(t).tolist() == [1, 0.75, 0]
    assert Flow().sigma(t).tolist() == [0, 0.25, 1]
    torch.testing.assert_close(Flow(0.1).sigma(t), torch.tensor([0.1, 0.325, 1.0]))


def test_ve_is_its_own_noise_level():
    t = torch.tensor([0.0, 0.5, 80.0])
    assert VE().alpha(t).tolist() == [1, 1, 1]
    assert VE().sigma(t).tolist() == t.tolist()


@pytest.mark.parametrize("schedule", ["linear", "scaled_linear", "squaredcos_cap_v2"])
@pytest.mark.parametrize("zero", [False, True])
def test_vp_tables_match_diffusers(schedule, zero):
    """Tolerance: the tables of diffusers are running products in float32."""
    config = {"beta_schedule": schedule, "rescale_betas_zero_snr": zero, "beta_start": 0.00085, "beta_end": 0.012}
    scheduler, path = DDIMScheduler(**config), VP.from_scheduler(config)
    expected = scheduler.alphas_cumprod.double()
    torch.testing.assert_close(path.alpha(path.times).square(), expected, rtol=2e-4, atol=1e-6)


def test_vp_is_variance_preserving_in_float64():
    path = VP(SCALED)
    assert path.alpha(path.times).dtype == torch.float64
    total = path.alpha(path.times).square() + path.sigma(path.times).square()
    torch.testing.assert_close(total, torch.ones(1000, dtype=torch.float64), rtol=0, atol=1e-15)
    expected = math.sqrt(math.prod(1 - b for b in SCALED.tolist()))
    assert path.alpha(torch.tensor(999)).item() == pytest.approx(expected, rel=1e-12)
    assert path.alpha(torch.tensor(999)).square().item() == pytest.approx(0.00466, abs=1e-5)  # Stable Diffusion


def test_zero_terminal_snr_keeps_the_first_level_and_empties_the_last():
    plain, rescaled = VP(SCALED), VP(SCALED, zero_terminal_snr=True)
    assert rescaled.alpha(torch.tensor(999)) == 0
    assert rescaled.sigma(torch.tensor(999)) == 1
    first = torch.tensor(0)
    assert rescaled.alpha(first).item() == pytest.approx(plain.alpha(first).item(), rel=1e-14)


def test_end_of_sampling():
    end = torch.tensor(-1)
    assert VP(SCALED).alpha(end) == 1
    assert VP(SCALED).sigma(end) == 0
    assert VP(SCALED, clean_end=False).alpha(end) == VP(SCALED).alpha(torch.tensor(0))


def test_time_past_the_table_is_an_error():
    with pytest.raises(IndexError):
        VP(SCALED).alpha(torch.tensor([1000]))


def test_trained_betas_of_a_scheduler_configuration():
    path = VP.from_scheduler({"trained_betas": [0.1, 0.2], "set_alpha_to_one": False})
    torch.testing.assert_close(path.alpha(path.times).square(), torch.tensor([0.9, 0.72], dtype=torch.float64))


@pytest.mark.parametrize("betas", [[], [0.1, -0.1], [0.1, 1.5], [[0.1]], [math.nan]])
def test_bad_betas_are_refused(betas):
    with pytest.raises(ConfigError, match="betas"):
        VP(torch.tensor(betas, dtype=torch.float64))


def test_unknown_schedule_is_refused_by_name():
    with pytest.raises(ConfigError, match=r"'cosine'.*squaredcos_cap_v2"):
        beta_table("cosine")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_mix_is_in_the_precision_of_computation(dtype):
    x0, eps = torch.ones(2, 3, 4, dtype=dtype), torch.full((2, 3, 4), 2.0, dtype=dtype)
    for path, t in ((Flow(), torch.tensor([0.25, 1.0])), (VP(SCALED), torch.tensor([3, 999]))):
        x = path.mix(x0, eps, t)
        assert x.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        for b in range(2):
            expected = (path.alpha(t[b]) + 2 * path.sigma(t[b])).item()
            torch.testing.assert_close(x[b], torch.full((3, 4), expected, dtype=x.dtype))


def test_times_of_rows_of_clips_and_one_for_all():
    x = torch.zeros(6, 4)
    assert per_row(torch.tensor(2.0), x).tolist() == [2] * 6
    assert per_row(torch.arange(6), x).tolist() == [0, 1, 2, 3, 4, 5]
    assert per_row(torch.tensor([1.0, 5.0]), x).tolist() == [1, 1, 1, 5, 5, 5]
    assert per_row(torch.tensor([3.0]), x).tolist() == [3] * 6


@pytest.mark.parametrize("times", [0, 4, 12])
def test_times_that_fit_neither_rows_nor_clips_are_refused(times):
    with pytest.raises(ConfigError, match=f"{times} of them for 6 rows"):
        VE().mix(torch.zeros(6, 2), torch.ones(6, 2), torch.ones(times))


@pytest.mark.parametrize(("path", "t"), [(VE(), torch.tensor([0.5, 80.0])), (VP(SCALED), torch.tensor([3, 999]))])
def test_a_clip_shares_its_noise_level_in_both_layouts(path, t):
    x0, eps = torch.randn(2, 2, 5, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    by_clip = path.mix(x0, eps, t)
    assert torch.equal(path.mix(x0.flatten(0, 1), eps.flatten(0, 1), t), by_clip.flatten(0, 1))
    for b in range(2):
        assert torch.equal(by_clip[b], path.mix(x0[b], eps[b], t[b]))
