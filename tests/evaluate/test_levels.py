"""Levels against scipy's log-normal distribution."""

import pytest
import scipy.special
import scipy.stats
import torch

from salticid.errors import ConfigError
from salticid.evaluate.levels import by_level, quantile_levels


def test_levels_are_midpoint_quantiles_of_a_log_normal():
    levels = quantile_levels(1.0, 1.6, 8)
    expected = scipy.stats.lognorm(s=1.6, scale=torch.e).ppf([(2 * i + 1) / 16 for i in range(8)])
    torch.testing.assert_close(levels.double(), torch.tensor(expected), rtol=1e-6, atol=0)
    assert quantile_levels(-1.2, 1.2, 1).tolist() == pytest.approx([0.3011942])  # the median, e^−1.2


def test_their_mean_is_the_mean_over_the_distribution():
    loss = 1 / (1 + quantile_levels(0.0, 1.0, 64).double() ** 2)
    expected = scipy.stats.norm.expect(lambda x: scipy.special.expit(-2 * x))
    assert loss.mean() == pytest.approx(expected, abs=1e-3)


def test_records_are_named_by_level():
    records = by_level(torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), torch.tensor([0.0498, 0.25, 123.4]))
    assert {name: values.tolist() for name, values in records.items()} == {
        "loss/σ=0.0498": [1, 4],
        "loss/σ=0.25": [2, 5],
        "loss/σ=123": [3, 6],
    }


def test_no_levels_and_levels_of_one_name_are_refused():
    with pytest.raises(ConfigError, match="levels is 0; expected at least 1"):
        quantile_levels(0.0, 1.0, 0)
    with pytest.raises(ConfigError, match="levels: 2 of them have 1 names"):
        by_level(torch.zeros(3, 2), torch.tensor([1.0, 1.0001]))
