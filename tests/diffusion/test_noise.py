"""Keyed noise: invariance to how samples are batched, and its statistics."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from salticid.diffusion import keyed_normal, keyed_uniform, multi_resolution_noise, offset_noise, stable_key
from salticid.diffusion.noise import _STRIDE, _layer_sizes, _mix_
from salticid.errors import ConfigError

KEYS = torch.tensor([0, 1, 2, 3, 41, 2**40, 2**62 + 5])


def test_splitmix_reference_values():
    """The first outputs of SplitMix64 from state 0, as published with its reference implementation."""
    words = _mix_(torch.arange(1, 4) * _STRIDE).tolist()
    assert [w % 2**64 for w in words] == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]


def test_stable_key_is_stable_and_fits_int64():
    assert stable_key("scene_0001.png") == 0xDF24447B342F6962 >> 1  # as `b2sum -l 64` prints it
    keys = torch.tensor([stable_key(f"img{i}") for i in range(1000)])
    assert keys.min() >= 0
    assert len(keys.unique()) == 1000


@settings(max_examples=30, deadline=None)
@given(st.permutations(range(7)), st.integers(1, 7), st.integers(0, 2**63))
def test_noise_does_not_depend_on_the_batch(order, split, seed):
    whole = keyed_normal(KEYS, (3, 5), seed=seed)
    parts = torch.cat([keyed_normal(k, (3, 5), seed=seed) for k in KEYS[order].split(split)])
    assert torch.equal(parts, whole[order])


@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 3, 4)])
def test_shapes_and_types(shape):
    assert keyed_normal(KEYS, shape, seed=0).shape == (7, *shape)
    assert keyed_normal(KEYS, shape, seed=0, dtype=torch.bfloat16).dtype == torch.bfloat16
    assert keyed_uniform(KEYS, shape, seed=0).shape == (7, *shape)
    assert keyed_uniform(KEYS, shape, seed=0).dtype == torch.float64


def test_keys_are_left_alone():
    keys = KEYS.clone()
    keyed_normal(keys, (4,), seed=3)
    assert torch.equal(keys, KEYS)


def test_seed_stream_and_key_each_give_other_noise():
    draws = [
        keyed_normal(torch.tensor([key]), (1000,), seed=seed, stream=stream)[0]
        for key in (5, 6, 5 + 2**32)
        for seed in (0, 1, 2**32)
        for stream in ("noise", "time")
    ]
    correlation = torch.corrcoef(torch.stack(draws))
    correlation.fill_diagonal_(0)
    assert correlation.abs().max() < 0.15  # 4.7 standard errors of 1/√1000


def test_normal_is_normal():
    z = keyed_normal(torch.arange(200), (2000,), seed=11, dtype=torch.float64)
    assert stats.kstest(z.flatten().numpy(), "norm").pvalue > 1e-3
    # Neighbours in a sample, the two halves of a Box–Muller pair, and neighbouring keys are uncorrelated.
    for a, b in ((z[:, 1:], z[:, :-1]), (z[:, :1000], z[:, 1000:]), (z[1:], z[:-1])):
        assert abs((a * b).mean()) < 4.5 / math.sqrt(a.numel())
    assert abs(z.mean()) < 4.5 / math.sqrt(z.numel())
    assert abs((z**4).mean() - 3) < 4.5 * math.sqrt(96 / z.numel())


def test_uniform_is_uniform_and_open():
    u = keyed_uniform(torch.arange(1000), (100,), seed=0)
    assert stats.kstest(u.flatten().numpy(), "uniform").pvalue > 1e-3
    assert 0 < u.min() < u.max() < 1


def test_offset_noise_moves_the_mean_of_a_clip_channel_by_channel():
    """White noise of the same stream plus a number that the frames share; normal, of the level's spread."""
    keys, shape = torch.arange(3000), (3, 2, 4, 4)
    noise = offset_noise(keys, shape, 0.1, seed=0, dtype=torch.float64)
    offset = noise - keyed_normal(keys, shape, seed=0, dtype=torch.float64)
    number = offset[:, 0, :, 0, 0]
    torch.testing.assert_close(offset, number[:, None, :, None, None].expand_as(offset), rtol=0, atol=1e-14)
    assert stats.kstest(number.flatten().numpy() / 0.1, "norm").pvalue > 1e-3
    assert abs(torch.corrcoef(number.T)[0, 1]) < 4.5 / math.sqrt(3000)
    assert noise.var().item() == pytest.approx(1.01, abs=4.5 * 1.01 * math.sqrt(2 / noise.numel()))


def test_offset_noise_without_level_is_white():
    assert torch.equal(offset_noise(KEYS, (2, 4, 5), 0.0, seed=3), keyed_normal(KEYS, (2, 4, 5), seed=3))


@pytest.mark.parametrize("shape", [(2, 3, 4), (5, 2, 3, 4), (2, 5, 2, 3, 4)])
def test_offset_noise_does_not_depend_on_the_batch(shape):
    whole = offset_noise(KEYS, shape, 0.1, seed=4)
    assert whole.shape == (7, *shape)
    assert torch.equal(torch.cat([offset_noise(k, shape, 0.1, seed=4) for k in KEYS.split(3)]), whole)


@pytest.mark.parametrize(("shape", "level"), [((2, 3, 4), -0.1), ((3, 4), 0.1)])
def test_offset_noise_refuses(shape, level):
    with pytest.raises(ConfigError, match="offset noise"):
        offset_noise(KEYS, shape, level, seed=0)


@pytest.mark.parametrize("strength", [0.0, 0.5, 0.9])
def test_multi_resolution_noise_has_unit_variance(strength):
    noise = multi_resolution_noise(torch.arange(400), (2, 24, 32), strength, seed=0)
    # Low frequencies make single samples vary: the standard error is that of the samples' mean squares.
    power = noise.square().flatten(1).mean(1)
    assert abs(power.mean() - 1) < 4.5 * power.std() / math.sqrt(len(power))
    assert abs(noise.mean()) < 0.05


def test_multi_resolution_noise_without_strength_is_white():
    noise = multi_resolution_noise(torch.arange(100), (1, 16, 16), 0.0, seed=0)
    torch.testing.assert_close(noise, keyed_normal(torch.arange(100), (1, 16, 16), seed=0))


def test_multi_resolution_noise_grows_coarser_with_strength():
    def coarse_power(strength):
        noise = multi_resolution_noise(torch.arange(200), (1, 32, 32), strength, seed=0)
        return torch.nn.functional.avg_pool2d(noise, 16).square().mean()

    white, weak, strong = coarse_power(0.0), coarse_power(0.4), coarse_power(0.9)
    assert white == pytest.approx(1 / 256, rel=0.2)
    assert strong > 2 * weak > 4 * white


def test_multi_resolution_noise_matches_a_plain_reading_of_the_recipe():
    """Spectrum against a direct loop with torch's own generator: base, then ten layers, then the batch's std."""
    generator = torch.Generator().manual_seed(0)

    def reference(shape, strength):
        noise = torch.randn(shape, generator=generator)
        h, w = shape[-2:]
        for i in range(10):
            r = 2 + 2 * torch.rand((), generator=generator).item()
            h, w = max(1, int(h / r**i)), max(1, int(w / r**i))
            layer = torch.randn(*shape[:2], h, w, generator=generator)
            noise += strength**i * torch.nn.functional.interpolate(layer, shape[-2:], mode="bilinear")
            if h == 1 or w == 1:
                break
        return noise / noise.std()

    def spectrum(noise):
        power = torch.fft.fft2(noise).abs().square().mean((0, 1)) / noise[0, 0].numel()
        return torch.stack([power[0, 0], power[0, 1], power[2, 0], power[4, 4], power[8:12, 8:12].mean()])

    expected = spectrum(torch.cat([reference((2, 2, 24, 24), 0.8) for _ in range(1000)]))
    ours = spectrum(multi_resolution_noise(torch.arange(2000), (2, 24, 24), 0.8, seed=1))
    batch = spectrum(multi_resolution_noise(torch.arange(2000), (2, 24, 24), 0.8, seed=1, divide_by="batch"))
    torch.testing.assert_close(ours, expected, rtol=0.12, atol=0)
    torch.testing.assert_close(batch, expected, rtol=0.12, atol=0)


def test_annealed_noise_does_not_depend_on_the_batch():
    strength = 0.9 * torch.tensor([0, 100, 300, 500, 700, 900, 999]) / 1000
    whole = multi_resolution_noise(KEYS, (2, 12, 20), strength, seed=4)
    for b in range(7):
        alone = multi_resolution_noise(KEYS[b : b + 1], (2, 12, 20), strength[b : b + 1], seed=4)
        torch.testing.assert_close(alone[0], whole[b], rtol=0, atol=0)


def test_layers_shrink_compoundingly_until_a_side_is_one():
    assert _layer_sizes((60, 80), [2.0] * 9) == [(30, 40), (7, 10), (1, 1)]
    assert _layer_sizes((4, 80), [2.0] * 9) == [(2, 40), (1, 10)]
    assert _layer_sizes((1, 80), [2.0] * 9) == []


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_devices_agree():
    cpu = keyed_normal(KEYS, (4, 64, 64), seed=5)
    gpu = keyed_normal(KEYS, (4, 64, 64), seed=5, device="cuda")
    torch.testing.assert_close(gpu.cpu(), cpu, rtol=2e-7, atol=1e-9)
    assert torch.equal(keyed_uniform(KEYS, (9,), seed=5, device="cuda").cpu(), keyed_uniform(KEYS, (9,), seed=5))
