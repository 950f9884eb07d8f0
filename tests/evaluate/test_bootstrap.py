"""Bootstrap intervals against SciPy's, against closed forms, and over many repetitions."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from salticid.errors import UserError
from salticid.evaluate.bootstrap import bootstrap


def median(samples: torch.Tensor) -> torch.Tensor:
    return samples.median(dim=1).values


@pytest.fixture
def values() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).gamma(2.0, size=120))


@pytest.mark.parametrize("level", [0.5, 0.95])
def test_intervals_are_those_of_scipy(values: torch.Tensor, level: float):
    found = bootstrap(values, level=level, resamples=20_000)
    expected = stats.bootstrap(
        (values.numpy(),), np.mean, method="percentile", confidence_level=level, n_resamples=20_000, rng=1
    )
    low, high = expected.confidence_interval
    # A quantile of 20,000 draws is off by about 1 % of the width.
    assert found.value.item() == pytest.approx(values.mean().item(), rel=1e-15)
    assert found.low.item() == pytest.approx(low, abs=0.03 * (high - low))
    assert found.high.item() == pytest.approx(high, abs=0.03 * (high - low))


def test_the_interval_of_a_mean_is_its_standard_error(values: torch.Tensor):
    found = bootstrap(values, level=0.6827, resamples=20_000)
    error = values.std(correction=0).item() / math.sqrt(len(values))
    assert (found.high - found.low).item() / 2 == pytest.approx(error, rel=0.03)


def test_any_statistic_and_several_metrics(values: torch.Tensor):
    values = values[:119]  # odd: the two definitions of the median agree
    found = bootstrap(values, median, resamples=5000)
    expected = stats.bootstrap((values.numpy(),), np.median, method="percentile", n_resamples=5000, rng=1)
    low, high = expected.confidence_interval
    assert found.value.item() == np.median(values)
    assert found.low.item() == pytest.approx(low, abs=0.1 * (high - low))  # medians come in steps
    assert found.high.item() == pytest.approx(high, abs=0.1 * (high - low))
    both = bootstrap(torch.stack((values, -values, 0 * values + 3), dim=1), resamples=500)
    assert both.low.shape == (3,)
    torch.testing.assert_close(both.low[0], -both.high[1], atol=1e-12, rtol=0)  # rows are drawn whole
    assert both.low[2] == both.high[2] == 3
    alone = bootstrap(values, resamples=500)
    torch.testing.assert_close(both.low[0], alone.low, atol=1e-12, rtol=0)


def test_the_seed_alone_decides(values: torch.Tensor, monkeypatch: pytest.MonkeyPatch):
    first = bootstrap(values, resamples=300, seed=5)
    again = bootstrap(values, resamples=300, seed=5)
    other = bootstrap(values, resamples=300, seed=6)
    assert (first.low, first.high) == (again.low, again.high)
    assert first.low != other.low
    monkeypatch.setattr("salticid.evaluate.bootstrap.CHUNK", 1000)
    blocks = torch.arange(120) // 7  # unequal
    small, (low, high) = bootstrap(values, resamples=300, seed=5), (first.low, first.high)
    torch.testing.assert_close(torch.stack((small.low, small.high)), torch.stack((low, high)), atol=1e-12, rtol=0)
    small = bootstrap(values, resamples=300, blocks=blocks)
    monkeypatch.undo()
    large = bootstrap(values, resamples=300, blocks=blocks)
    torch.testing.assert_close(small.low, large.low, atol=1e-12, rtol=0)


def test_blocks_of_one_are_no_blocks_and_equal_blocks_are_samples(values: torch.Tensor):
    alone = bootstrap(values, resamples=400)
    single = bootstrap(values, resamples=400, blocks=torch.arange(120))
    assert (alone.low, alone.high) == (single.low, single.high)
    # Blocks of equal size: the mean over frames is the mean over the blocks' means, in whatever order frames come.
    shuffle = torch.randperm(120, generator=torch.Generator().manual_seed(0))
    blocks = (torch.arange(120) // 6)[shuffle]
    found = bootstrap(values[shuffle], resamples=400, blocks=blocks)
    expected = bootstrap(values.view(20, 6).mean(dim=1), resamples=400)
    torch.testing.assert_close(found.low, expected.low, atol=1e-12, rtol=0)
    torch.testing.assert_close(found.high, expected.high, atol=1e-12, rtol=0)


@pytest.mark.parametrize("statistic", [median, lambda x: x.mean(dim=1)])
def test_unequal_blocks_are_drawn_whole(statistic):
    # Two blocks: a resample is both, or one of them twice, so that only three values are possible.
    values, blocks = torch.tensor([1.0, 5, 2, 2, 3]), torch.tensor([7, 7, 3, 3, 3])
    seen = []

    def watched(samples: torch.Tensor) -> torch.Tensor:
        seen.extend(tuple(sorted(row)) for row in samples.tolist())
        return statistic(samples)

    bootstrap(values, watched, resamples=200, blocks=blocks)
    assert set(seen) == {(1, 2, 2, 3, 5), (1, 1, 5, 5), (2, 2, 2, 2, 3, 3)}
    shares = [seen[1:].count(row) / 200 for row in ((1, 2, 2, 3, 5), (1, 1, 5, 5), (2, 2, 2, 2, 3, 3))]
    assert len(seen) == 201
    assert shares == pytest.approx([0.5, 0.25, 0.25], abs=0.12)  # 3.4 standard deviations


def test_blocks_cover_where_frames_do_not():
    """Sequences whose frames are alike: intervals by frames miss the truth, those by sequences rarely do."""
    rng = np.random.default_rng(0)
    covered = {"frames": 0, "sequences": 0}
    blocks = torch.arange(30).repeat_interleave(10)
    for seed in range(60):
        frames = torch.from_numpy(np.repeat(rng.normal(size=30), 10) + 0.1 * rng.normal(size=300))
        for name, grouping in (("frames", None), ("sequences", blocks)):
            found = bootstrap(frames, resamples=300, seed=seed, blocks=grouping)
            covered[name] += bool(found.low <= 0 <= found.high)
    assert covered["frames"] < 40  # expected: 28
    assert covered["sequences"] >= 50  # expected: 56


def test_a_single_sample_or_block_tells_no_interval():
    for found in (bootstrap(torch.tensor([2.0])), bootstrap(torch.tensor([1.0, 3]), blocks=torch.tensor([4, 4]))):
        assert found.value == 2
        assert found.low.isnan()
        assert found.high.isnan()


def test_what_makes_no_sense_is_refused():
    two = torch.tensor([1.0, 2.0])
    for message, call in (
        ("there are no samples", lambda: bootstrap(two[:0])),
        ("1 of 2 samples are not finite", lambda: bootstrap(torch.tensor([[1.0, torch.nan], [1, 2]]))),
        (r"2 samples but \(3,\) numbers of blocks", lambda: bootstrap(two, blocks=torch.zeros(3))),
        (r"level is 95; expected a share inside \(0, 1\)", lambda: bootstrap(two, level=95)),
        ("resamples is 0; expected at least 1", lambda: bootstrap(two, resamples=0)),
    ):
        with pytest.raises(UserError, match=f"bootstrap: {message}"):
            call()
