"""From metres to [−1, 1] and back."""

import math

import numpy as np
import pytest
import torch

from salticid.errors import ConfigError
from salticid.recipes.marigold.coding import DepthCoding


@pytest.fixture
def depth():
    generator = torch.Generator().manual_seed(0)
    return 0.5 + 9.5 * torch.rand(2, 1, 12, 16, generator=generator)


@pytest.fixture
def valid(depth):
    return torch.rand(depth.shape, generator=torch.Generator().manual_seed(1)) < 0.8


@pytest.mark.parametrize("space", ["depth", "log", "disparity"])
def test_quantiles_of_valid_pixels_are_the_ends(space, depth, valid):
    forward = {"depth": lambda d: d, "log": np.log, "disparity": lambda d: 1 / d}[space]
    coded = DepthCoding(space=space)(depth, valid)
    for i in range(2):
        value = forward(depth[i].double().numpy())
        low, high = np.quantile(value[valid[i].numpy()], [0.02, 0.98])
        expected = np.clip((value - low) / (high - low) * 2 - 1, -1, 1)
        np.testing.assert_allclose(coded[i][valid[i]], expected[valid[i].numpy()], atol=2e-5)


def test_metric_range_is_the_same_for_all_and_decodes_to_metres(depth, valid):
    coding = DepthCoding(space="metric", near=0.5, far=10.5)
    torch.testing.assert_close(coding.decode(coding(depth, valid))[valid], depth[valid])


@pytest.mark.parametrize(
    ("space", "invalid", "value"),
    [("depth", "near", -1), ("depth", "far", 1), ("disparity", "near", 1), ("log", "far", 1)],
)
def test_what_has_no_depth_is_near_or_far(space, invalid, value, depth, valid):
    coded = DepthCoding(space=space, invalid=invalid)(depth.where(valid, 0.0), valid)
    assert (coded[~valid] == value).all()


def test_a_sample_without_depth_or_with_one_depth_is_finite():
    coding, depth = DepthCoding(), torch.full((2, 1, 4, 4), 3.0)
    valid = torch.ones_like(depth, dtype=torch.bool)
    valid[0] = False
    coded = coding(depth, valid)
    assert coded.isfinite().all()
    assert (coded == -1).all()


def test_far_is_plus_one(depth, valid):
    coded = DepthCoding()(depth, torch.ones_like(valid))
    assert coded.flatten()[depth[0].argmax()] == 1
    assert math.isclose(DepthCoding().decode(torch.tensor(1.0)), 1.0)


@pytest.mark.parametrize("values", [{"low": 0.9, "high": 0.1}, {"near": 0.0}, {"near": 5.0, "far": 1.0}])
def test_ranges_that_are_none_are_refused(values):
    with pytest.raises(ConfigError, match=r"recipe\.coding"):
        DepthCoding(**values)
