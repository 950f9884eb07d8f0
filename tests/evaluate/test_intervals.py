"""Intervals of means, by samples and by folders."""

import pytest
import torch
from scipy import stats

from salticid.evaluate.intervals import intervals


def test_samples_without_folders_are_drawn_one_by_one():
    values = torch.randn(200, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = intervals([f"s{i}" for i in range(200)], {"a": values, "gap": values.where(values < 2, torch.nan)})
    assert found.keys() == {"a"}
    expected = stats.t.interval(0.95, 199, values.mean(), stats.sem(values))
    assert found["a"] == pytest.approx(expected, abs=0.02)


def test_folders_are_drawn_whole():
    """Twenty equal samples in each of ten folders tell no more than ten samples."""
    values = torch.randn(10, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    ten = intervals([f"{i}" for i in range(10)], {"a": values})["a"]
    many = intervals([f"{i}/{j}" for i in range(10) for j in range(20)], {"a": values.repeat_interleave(20)})["a"]
    assert many == pytest.approx(ten, abs=0.05)


def test_one_sample_has_no_interval():
    assert intervals(["a"], {"m": torch.ones(1, dtype=torch.float64)}) == {}
