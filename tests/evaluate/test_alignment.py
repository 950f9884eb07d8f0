"""Alignment to the truth: NumPy's least squares and medians, closed forms, and what must not matter."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from salticid.errors import ConfigError
from salticid.evaluate.alignment import FARTHEST, Alignment, thinned
from salticid.evaluate.consensus import Ransac


@pytest.fixture
def truth():
    generator = torch.Generator().manual_seed(1)
    return 0.7 + 9 * torch.rand(3, 1, 24, 31, generator=generator, dtype=torch.float64)


@pytest.fixture
def mask(truth):
    return torch.rand(truth.shape, generator=torch.Generator().manual_seed(2)) < 0.6


def noisy(values, scale=0.05):
    return values + scale * torch.randn(values.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def lstsq(x, y):
    design = np.stack((x, np.ones_like(x)), axis=1)
    return np.linalg.lstsq(design, y, rcond=None)[0]


@pytest.mark.parametrize("shift", [0.0, 1e4])
def test_least_squares_in_depth_is_that_of_numpy(truth, mask, shift):
    """With the shift, plain normal equations would keep eight digits."""
    prediction = noisy(truth / 10) + shift
    found = Alignment("depth")(torch.where(mask, prediction, 7.0), torch.where(mask, truth, torch.nan), mask)
    for i in range(3):
        a, b = lstsq((prediction[i][mask[i]] - shift).numpy(), truth[i][mask[i]].numpy())
        expected = a * (prediction[i][mask[i]] - shift) + b
        torch.testing.assert_close(found[i][mask[i]], expected, rtol=1e-9 if not shift else 1e-8, atol=0)


def test_least_squares_in_disparity_is_that_of_numpy(truth, mask):
    prediction = noisy(0.3 / truth, 0.002)
    found = Alignment("disparity", predicts="disparity")(prediction, truth, mask)
    for i in range(3):
        a, b = lstsq(prediction[i][mask[i]].numpy(), 1 / truth[i][mask[i]].numpy())
        expected = 1 / (a * prediction[i] + b).clamp(min=1e-3)
        torch.testing.assert_close(found[i], expected, rtol=1e-9, atol=0)


def test_disparity_behind_infinity_is_the_farthest_depth():
    truth = torch.tensor([[[[1.0, 2.0, 4.0, 8.0]]]])
    prediction = 1 / truth
    prediction[..., -1] = -5
    mask = torch.tensor([[[[True, True, True, False]]]])
    found = Alignment("disparity", predicts="disparity")(prediction, truth, mask)
    torch.testing.assert_close(found.flatten(), torch.tensor([1, 2, 4, FARTHEST]).double())


@settings(deadline=None, max_examples=30)
@given(st.floats(0.01, 100), st.floats(-50, 50), st.sampled_from(["depth", "disparity", "ransac"]))
def test_a_changed_copy_of_the_truth_in_the_own_space_is_the_truth_again(scale, shift, method):
    truth = torch.linspace(0.5, 12, 60, dtype=torch.float64).view(1, 1, 6, 10)
    spaces = {"depth": truth, "disparity": 1 / truth, "ransac": truth.log()}
    space = "log" if method == "ransac" else method
    changed = spaces[method] * scale + shift
    align = Alignment(method, predicts=space, ransac=Ransac(iterations=50, points=100))
    torch.testing.assert_close(align(changed, truth, truth > 0), truth, rtol=1e-7, atol=0)


@pytest.mark.parametrize("method", ["depth", "disparity", "ransac"])
@pytest.mark.parametrize("space", ["depth", "disparity", "log"])
def test_a_changed_copy_in_any_space_is_the_truth_by_any_fit(truth, mask, method, space):
    values = {"depth": truth, "disparity": 1 / truth, "log": truth.log()}[space]
    found = Alignment(method, predicts=space)(0.1 * values - 3, truth, mask)
    inside = found[mask]  # elsewhere the nearest of the mask may bound it
    torch.testing.assert_close(inside, truth[mask], rtol=1e-7, atol=0)


def test_a_fit_in_another_space_is_a_second_fit_of_what_the_own_space_gives(truth, mask):
    prediction = noisy(truth / 10)
    found = Alignment("disparity", predicts="depth")(prediction, truth, mask)
    for i in range(3):
        z = truth[i][mask[i]].numpy()
        a, b = lstsq(prediction[i][mask[i]].numpy(), z)
        disparity = 1 / np.maximum(a * prediction[i].numpy() + b, z.min())
        c, d = lstsq(disparity[mask[i].numpy()], 1 / z)
        np.testing.assert_allclose(found[i], 1 / np.maximum(c * disparity + d, 1e-3), rtol=1e-9)


def test_the_median_is_that_of_numpy(truth, mask):
    mask[1].view(-1)[:] = False
    mask[1].view(-1)[:4] = True  # an even number
    prediction = noisy(truth / 7)
    found = Alignment("median")(prediction, truth, mask)
    for i in range(3):
        factor = np.median(truth[i][mask[i]]) / np.median(prediction[i][mask[i]])
        torch.testing.assert_close(found[i], prediction[i] * factor, rtol=1e-12, atol=0)


def test_without_alignment_values_are_taken_as_they_are(truth, mask):
    torch.testing.assert_close(Alignment("none")(truth, truth, mask), truth)
    torch.testing.assert_close(Alignment("none", predicts="log")(truth.log(), truth, mask), truth)
    torch.testing.assert_close(Alignment("none", predicts="disparity")(1 / truth, truth, mask), truth)


def test_every_sample_is_clipped_to_its_own_limits(truth, mask):
    limits = torch.tensor([[0.001, 4.0], [2.0, 80.0], [3.0, 5.0]])
    found = Alignment("none")(truth, truth, mask, limits=limits)
    for i, (near, far) in enumerate(limits.tolist()):
        torch.testing.assert_close(found[i], truth[i].clamp(near, far))


@pytest.mark.parametrize("method", ["depth", "disparity", "ransac", "median"])
def test_an_empty_mask_gives_no_number_and_a_constant_prediction_its_best_constant(truth, mask, method):
    mask[0] = False
    prediction = noisy(truth)
    prediction[1] = 0.1
    found = Alignment(method)(prediction, truth, mask)
    assert found[0].isnan().all()
    assert found[1:].isfinite().all()
    space = {"disparity": np.reciprocal, "ransac": np.log}.get(method, lambda z: z)
    middle = np.median if method == "median" else np.mean
    if method != "ransac":
        expected = middle(space(truth[1][mask[1]].numpy()))
        np.testing.assert_allclose(space(found[1].numpy()), expected, rtol=1e-9)


@pytest.mark.parametrize("method", ["depth", "disparity", "ransac", "median", "none"])
def test_samples_do_not_see_each_other(truth, mask, method):
    prediction, keys = noisy(truth), torch.tensor([5, 6, 7])
    align = Alignment(method, ransac=Ransac(iterations=40, points=64))
    together = align(prediction, truth, mask, keys=keys)
    alone = [align(prediction[i : i + 1], truth[i : i + 1], mask[i : i + 1], keys=keys[i : i + 1]) for i in range(3)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-12, atol=0)


@pytest.mark.parametrize(("size", "longest", "expected"), [((30, 50), 25, (15, 25)), ((7, 5), 3, (3, 2))])
def test_large_maps_are_thinned_out_to_their_nearest_pixels(size, longest, expected):
    maps = torch.arange(size[0] * size[1], dtype=torch.float64).view(1, 1, *size)
    kept = thinned(maps, longest)
    rows, columns = (((np.arange(n) + 0.5) * m / n).astype(int) for n, m in zip(expected, size, strict=True))
    np.testing.assert_array_equal(kept[0, 0], maps[0, 0].numpy()[np.ix_(rows, columns)])
    assert torch.equal(thinned(maps % 2 == 0, longest), kept % 2 == 0)
    assert thinned(maps, 50) is maps
    assert thinned(maps, None) is maps


def test_the_fit_looks_at_the_thinned_map_and_moves_all_of_it(truth, mask):
    prediction = noisy(truth / 10)
    found = Alignment("depth", max_resolution=16)(prediction, truth, mask)
    small = [thinned(m, 16) for m in (prediction, truth, mask)]
    for i in range(3):
        x, y = (m[i][small[2][i]].numpy() for m in small[:2])
        a, b = lstsq(x, y)
        torch.testing.assert_close(found[i], a * prediction[i] + b, rtol=1e-9, atol=0)


def test_settings_without_sense_are_refused():
    with pytest.raises(ConfigError, match=r"alignment.max_resolution is 0; expected"):
        Alignment(max_resolution=0)
    for name, value in (("iterations", 0), ("threshold", 0.0), ("points", 0), ("offset", -1.0)):
        with pytest.raises(ConfigError, match=rf"alignment.ransac.{name} is {value}; expected"):
            Ransac(**{name: value})
