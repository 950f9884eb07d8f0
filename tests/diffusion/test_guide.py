"""Guidance: arithmetic of the scales, one call for both predictions."""

import pytest
import torch

from salticid.diffusion import (
    VE,
    Denoiser,
    V,
    classifier_free,
    linear_scale,
    spatiotemporal_scale,
    triangle_scale,
)
from salticid.errors import ConfigError


def conditional(x, t):
    """A `denoise` on a doubled batch: x0 of 1 without condition, of 3 with; eps of 10 and 20."""
    half = torch.ones(len(x) // 2, *x.shape[1:], dtype=x.dtype)
    return torch.cat([half, 3 * half]), torch.cat([10 * half, 20 * half])


T = torch.tensor(1.0)


@pytest.mark.parametrize(("scale", "x0", "eps"), [(0.0, 1, 10), (1.0, 3, 20), (2.5, 6, 35)])
def test_scale(scale, x0, eps):
    found = classifier_free(conditional, scale)(torch.zeros(2, 3), T)
    assert found[0].tolist() == [[x0] * 3] * 2
    assert found[1].tolist() == [[eps] * 3] * 2


def test_scale_per_frame():
    found, _ = classifier_free(conditional, torch.tensor([0.0, 1.0, 2.0]))(torch.zeros(6, 2), T)
    assert found[:, 0].tolist() == [1, 3, 5, 1, 3, 5]


def test_partial_clips_are_refused():
    with pytest.raises(ConfigError, match=r"5 frames.*clips of 3"):
        classifier_free(conditional, torch.ones(3))(torch.zeros(5, 2), T)


def test_scale_per_frame_where_a_clip_is_a_row():
    """As many clips as frames: only the axis tells which is which."""
    found, _ = classifier_free(conditional, torch.tensor([0.0, 1.0, 2.0]), frame_axis=1)(torch.zeros(3, 3, 2, 2), T)
    assert found[:, :, 0, 0].tolist() == [[1, 3, 5]] * 3
    with pytest.raises(ConfigError, match="clips of 4 frames, and scales for 3"):
        classifier_free(conditional, torch.ones(3), frame_axis=1)(torch.zeros(3, 4, 2), T)


def test_layouts_agree():
    free, wanted, x = torch.randn(3, 2, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def of(shape):
        pair = torch.cat([free.reshape(shape), wanted.reshape(shape)])
        return Denoiser(lambda x, t: pair, VE(), V(), sigma_data=1.0)

    scale, sigma = linear_scale(4, 1.0, 3.0), torch.tensor([0.5, 20.0], dtype=torch.float64)
    by_row, eps = classifier_free(of((8, 3)), scale)(x.reshape(8, 3), sigma)
    by_clip, _ = classifier_free(of((2, 4, 3)), scale, frame_axis=1)(x, sigma)
    torch.testing.assert_close(by_row, by_clip.reshape(8, 3), rtol=1e-12, atol=1e-12)
    # A level for each clip: every half of the doubled batch has them all.
    levels = sigma.repeat_interleave(4)[:, None]
    torch.testing.assert_close(by_row + levels * eps, x.reshape(8, 3), rtol=1e-12, atol=1e-12)


def test_spatiotemporal_scale():
    """By hand, views innermost; then SV4D's 5 × 8 against ½ t + ½ · 2 |v − ⌊v + ½⌋|, to float32's rounding."""
    assert spatiotemporal_scale(2, 3, 1.0, 3.0).tolist() == [1, 2, 1, 2, 3, 2]
    t, v = torch.linspace(0, 1, 5)[:, None], torch.linspace(0, 1, 8)
    expected = 1 + 1.5 * (0.5 * t + 0.5 * 2 * (v - (v + 0.5).floor()).abs()).flatten()
    torch.testing.assert_close(spatiotemporal_scale(5, 8, 1.0, 2.5), expected, rtol=1e-6, atol=0)


def test_a_lone_orbit_or_video_has_half_of_the_spatiotemporal_rise():
    torch.testing.assert_close(spatiotemporal_scale(1, 9, 1.0, 3.0), triangle_scale(9, 1.0, 2.0))
    torch.testing.assert_close(spatiotemporal_scale(9, 1, 1.0, 3.0), linear_scale(9, 1.0, 2.0))


def test_scales_over_frames():
    assert linear_scale(4, 1.0, 2.5).tolist() == [1, 1.5, 2, 2.5]
    assert triangle_scale(5, 1.0, 2.5).tolist() == [1, 1.75, 2.5, 1.75, 1]
    t = torch.linspace(0, 1, 21)  # SV3D: 2 |t − ⌊t + ½⌋| over its 21 views
    torch.testing.assert_close(triangle_scale(21, 1.0, 2.5), 1 + 1.5 * 2 * (t - (t + 0.5).floor()).abs())


def test_guided_x0_and_eps_still_make_up_x():
    """Guiding both is guiding the output: they add up to x, and equal the solve of the guided output."""
    torch.manual_seed(0)
    free, wanted, x = torch.randn(3, 2, 4, dtype=torch.float64)
    calls = []

    def network(x, t):
        calls.append(len(x))
        return torch.cat([free, wanted])

    x0, eps = classifier_free(Denoiser(network, VE(), V()), 3.0)(x, torch.tensor(2.0, dtype=torch.float64))
    torch.testing.assert_close(x0 + 2 * eps, x)
    guided = Denoiser(lambda x, t: free + 3 * (wanted - free), VE(), V())
    torch.testing.assert_close(x0, guided(x, torch.tensor(2.0, dtype=torch.float64))[0])
    assert calls == [4]
