"""Resizing, cropping and jittering of a pair."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from salticid.data.readers.depth.augment import ColourJitter, corner, grey, jittered, resized
from salticid.errors import ConfigError


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40))
@settings(deadline=None)
def test_nearest_takes_the_pixel_under_the_new_ones_centre(old, new, other):
    values = torch.randint(0, 256, (3, old, other), dtype=torch.uint8)
    rows = [min((2 * i + 1) * old // (2 * new), old - 1) for i in range(new)]
    # Exact in integers; torch rounds the ratio to float32, and may step over a tie.
    ties = [(2 * i + 1) * old % (2 * new) == 0 for i in range(new)]
    made = resized(values, (new, other), "nearest")
    assert made.dtype == torch.uint8
    for i, (row, tie) in enumerate(zip(rows, ties, strict=True)):
        assert torch.equal(made[:, i], values[:, row]) or tie


def test_area_is_the_mean_of_what_a_new_pixel_covers():
    values = torch.randint(0, 256, (3, 6, 8), dtype=torch.uint8)
    expected = values.float().reshape(3, 3, 2, 4, 2).mean(dim=(2, 4))
    torch.testing.assert_close(resized(values, (3, 4), "area"), expected, atol=1e-4, rtol=0)


def test_crops_reach_every_corner_and_no_further():
    image = torch.zeros(3, 6, 9, dtype=torch.uint8)
    generator = torch.Generator().manual_seed(0)
    corners = {corner(image, (4, 8), generator) for _ in range(300)}
    assert corners == {(top, left) for top in range(3) for left in range(2)}
    assert corner(image, (4, 8), None) == (1, 0)
    assert corner(image, (6, 9), generator) == (0, 0)


@pytest.mark.parametrize(
    ("jitter", "name"),
    [
        (ColourJitter(brightness=0.4), "Brightness"),
        (ColourJitter(contrast=0.4), "Contrast"),
        (ColourJitter(saturation=0.4), "Color"),
    ],
)
def test_jitter_is_pillows_enhancement_by_one_factor(jitter, name):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    strengths = (jitter.brightness, jitter.contrast, jitter.saturation)
    for seed in range(4):
        draws = torch.Generator().manual_seed(seed)
        factors = [1 + s * (2 * float(torch.rand((), generator=draws)) - 1) for s in strengths]
        factor = next(f for f, s in zip(factors, strengths, strict=True) if s)
        expected = np.array(getattr(ImageEnhance, name)(Image.fromarray(pixels)).enhance(factor))
        image = torch.from_numpy(pixels).permute(2, 0, 1) / 127.5 - 1
        made = (jittered(image, jitter, torch.Generator().manual_seed(seed)) + 1) * 127.5
        # Pillow rounds the grey and what it makes of it to eight bits.
        assert np.abs(made.permute(1, 2, 0).numpy() - expected).max() < 1.6


def test_jitter_of_strength_nothing_changes_nothing_and_stays_in_range():
    image = 2 * torch.rand(3, 8, 8) - 1
    torch.testing.assert_close(jittered(image, ColourJitter(), torch.Generator()), image, atol=1e-6, rtol=0)
    strong = jittered(image, ColourJitter(1.0, 1.0, 1.0), torch.Generator().manual_seed(1))
    assert strong.abs().max() <= 1
    assert not ColourJitter()
    assert ColourJitter(saturation=0.1)


def test_grey_of_white_is_white():
    assert float(grey(torch.ones(3, 1, 1))) == pytest.approx(1.0)


@pytest.mark.parametrize("strength", [-0.1, 1.1, np.nan])
def test_strengths_out_of_range_are_refused(strength):
    with pytest.raises(ConfigError, match=r"data\.jitter\.contrast is .*; expected 0 to 1"):
        ColourJitter(contrast=strength)
