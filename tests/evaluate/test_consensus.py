"""RANSAC against scikit-image and closed forms on contaminated data."""

import warnings

import numpy as np
import pytest
import torch
from skimage.measure import ransac

from salticid.evaluate.alignment import Alignment
from salticid.evaluate.consensus import Ransac, masked_median

SLOPE, LEVEL = 0.8, -0.3


class Line:
    """y = a x + b with vertical residuals, as scikit-image's `ransac` wants a model."""

    @classmethod
    def from_estimate(cls, data):
        line = cls()
        line.estimate(data)
        return line

    def estimate(self, data):
        design = np.stack((data[:, 0], np.ones(len(data))), axis=1)
        self.params = np.linalg.lstsq(design, data[:, 1], rcond=None)[0]
        return True

    def residuals(self, data):
        return np.abs(self.params[0] * data[:, 0] + self.params[1] - data[:, 1])


def contaminated(n=4000, outliers=0.35, noise=0.02, seed=0):
    """x, y and which of them are no outliers; those lie to one side."""
    generator = torch.Generator().manual_seed(seed)
    x = 3 * torch.rand(1, n, generator=generator, dtype=torch.float64)
    y = SLOPE * x + LEVEL + noise * torch.randn(x.shape, generator=generator, dtype=torch.float64)
    bad = torch.rand(x.shape, generator=generator) < outliers
    return x, torch.where(bad, y + 0.5 + 2 * torch.rand(x.shape, generator=generator), y), ~bad


def everywhere(x):
    return torch.ones_like(x, dtype=torch.bool)


@pytest.mark.parametrize("outliers", [0.1, 0.35, 0.6])
def test_outliers_do_not_sway_it_and_scikit_image_agrees(outliers):
    x, y, good = contaminated(outliers=outliers)
    a, b = (v.item() for v in Ransac(threshold=0.08).fit_line(x, y, everywhere(x), torch.tensor([3])))
    data = torch.cat((x, y)).T.numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model, inliers = ransac(data, Line, 2, 0.08, max_trials=1000, rng=0)
    # Both fit the same inliers but for a few at the edge of the threshold.
    assert (a, b) == pytest.approx(tuple(model.params), abs=3e-4)
    assert (a, b) == pytest.approx((SLOPE, LEVEL), abs=6e-3)
    found = (a * x + b - y).abs()[0].numpy() <= 0.08
    assert (found != inliers).mean() < 2e-3
    assert (found != good[0].numpy()).mean() < 0.01


def test_the_result_is_the_least_squares_of_its_own_inliers():
    x, y, _ = contaminated()
    a, b = Ransac(threshold=0.05, iterations=200).fit_line(x, y, everywhere(x), torch.tensor([0]))
    near = ((a * x + b - y).abs() <= 0.05)[0].numpy()  # a step of refinement hardly changes the inliers
    again = np.polyfit(x[0].numpy()[near], y[0].numpy()[near], 1)
    np.testing.assert_allclose((a.item(), b.item()), again, atol=2e-3)


def test_the_default_threshold_is_the_median_absolute_deviation():
    x, y, _ = contaminated()
    known = y.numpy()
    deviation = np.median(np.abs(known - np.median(known)))
    keys = torch.tensor([1])
    given, default = (Ransac(threshold=t).fit_line(x, y, everywhere(x), keys) for t in (float(deviation), None))
    assert given == default


def test_it_follows_from_seed_and_key_alone():
    x, y, _ = contaminated(n=300, noise=0.1)
    x, y = x.expand(3, -1), y.expand(3, -1)
    few = Ransac(iterations=5, threshold=0.05)
    a, _ = few.fit_line(x, y, everywhere(x), torch.tensor([1, 2, 1]))
    again, _ = few.fit_line(x, y, everywhere(x), torch.tensor([1, 2, 1]))
    assert torch.equal(a, again)
    assert a[0] == a[2] != a[1]
    other, _ = Ransac(iterations=5, threshold=0.05, seed=1).fit_line(x, y, everywhere(x), torch.tensor([1, 2, 1]))
    assert not torch.equal(a, other)


def test_what_lies_outside_the_mask_does_not_matter():
    x, y, good = contaminated()
    options = Ransac(threshold=0.05)
    keys = torch.tensor([4])
    found = options.fit_line(x, torch.where(good, y, torch.nan), good, keys)
    expected = np.polyfit(x[good].numpy(), y[good].numpy(), 1)
    np.testing.assert_allclose([v.item() for v in found], expected, atol=1e-3)
    moved = options.fit_line(torch.where(good, x, 1e6), torch.where(good, y, -7.0), good, keys)
    assert found == moved


def test_a_scale_alone_is_the_mean_of_the_inliers_in_the_logarithm():
    generator = torch.Generator().manual_seed(0)
    truth = 1 + 8 * torch.rand(1, 1, 30, 40, generator=generator, dtype=torch.float64)
    prediction = truth / 3
    bad = torch.rand(truth.shape, generator=generator) < 0.4
    spoilt = torch.where(bad, prediction * 5, prediction)
    align = Alignment("ransac", predicts="log", ransac=Ransac(model="scale", threshold=0.05))
    found = align(spoilt.log(), truth, everywhere(truth))
    torch.testing.assert_close(found, 3 * spoilt, rtol=1e-9, atol=0)


def test_an_offset_moves_the_logarithm():
    truth = torch.linspace(0.1, 9, 200, dtype=torch.float64).view(1, 1, 10, 20)
    align = Alignment("ransac", predicts="log", ransac=Ransac(offset=1.0, iterations=20))
    found = align(0.2 * (truth + 1).log() + 4, truth, everywhere(truth))
    torch.testing.assert_close(found, truth, rtol=1e-7, atol=0)


def test_masked_median():
    values = torch.tensor([[3.0, 1, 2, 9], [5, 8, 1, 1], [4, 4, 4, 4]])
    mask = torch.tensor([[True, True, True, False], [True, True, False, False], [False] * 4])
    found = masked_median(values, mask)
    assert found[:2].tolist() == [2, 6.5]
    assert found[2].isnan()
