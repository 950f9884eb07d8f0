from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from salticid.data.order import Order, mix


@given(n=st.integers(1, 300), epoch=st.integers(0, 10**6), seed=st.integers(0, 2**63))
def test_every_epoch_holds_every_sample_once(n, epoch, seed):
    order = Order(n, 4, seed)
    assert sorted(order.index(epoch * n + i) for i in range(n)) == list(range(n))


def test_all_permutations_of_four_are_equally_likely():
    order, epochs = Order(4, 1, 3), 12_000
    seen = Counter(tuple(order.index(4 * e + i) for i in range(4)) for e in range(epochs))
    expected = epochs / 24
    chi_square = sum((count - expected) ** 2 / expected for count in seen.values())
    assert len(seen) == 24
    assert chi_square < 49.7  # 0.999 quantile of χ² with 23 degrees of freedom


def test_epochs_and_seeds_differ():
    def epoch(seed, e):
        order = Order(1000, 8, seed)
        return [order.index(1000 * e + i) for i in range(1000)]

    fixed_points = [sum(a == b for a, b in zip(epoch(0, 0), epoch(*other), strict=True)) for other in ((0, 1), (1, 0))]
    assert max(fixed_points) < 10  # Poisson(1)


def test_batches_follow_the_stream_across_epochs():
    order = Order(5, 4, 0)
    stream = [place for step in range(5) for place in order.batch_at(step)]
    assert [position for position, _ in stream] == list(range(20))
    assert [index for _, index in stream] == [order.index(p) for p in range(20)]
    assert [order.epochs_after(s) for s in range(6)] == [0, 0, 1, 2, 3, 4]


@pytest.mark.parametrize(("world", "micro_batch"), [(1, 8), (1, 3), (2, 2), (4, 1), (2, 100)])
def test_shares_of_all_ranks_are_the_batch(world, micro_batch):
    order = Order(11, 8, 0)
    shares = [share for rank in range(world) for share in order.shares(3, rank, world, micro_batch)]
    assert [place for share in shares for place in share] == order.batch_at(3)
    assert max(map(len, shares)) <= micro_batch


def test_a_huge_source_costs_nothing():
    order = Order(10**12, 64, 0)
    indices = [index for _, index in order.batch_at(10**9)]
    assert len(set(indices)) == 64
    assert 0 <= min(indices) < max(indices) < 10**12


def test_mix_separates_its_parts():
    assert mix("a", "bc") != mix("ab", "c")
    assert mix(1, 2) == mix(1, 2)
    assert 0 <= mix(0, "augment", 5) < 2**63
