"""Mixtures of data sets: exact shares, nothing twice before all have been seen, a pure function of the position."""

from collections import Counter
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator

from salticid.config.run import build_config, load_config
from salticid.data.loader import eval_batches, train_batches
from salticid.data.mixture import Mixture, MixtureOrder, Part, apportion
from salticid.data.order import Order
from salticid.data.source import Data, Sample, Source
from salticid.errors import ConfigError, UnreadableSample, UserError


class Tiles(Source):
    """Samples of `size` numbers, mirrored or not; every fifth is broken where `broken`."""

    def __init__(self, n: int, size: int, outcomes: int | None, broken: bool):
        self.n, self.size, self.count, self.broken = n, size, outcomes, broken

    def __len__(self):
        return self.n

    def id(self, index):
        return f"{self.size}-{index}"

    @property
    def outcomes(self):
        return self.count

    def outcome(self, index, which):
        if self.broken and index % 5 == 0:
            raise UnreadableSample("made to fail")
        return {"x": torch.full((self.size,), float(index)), "which": torch.tensor(which)}

    def sample(self, index: int, augment: Generator | None) -> Sample:
        return self.outcome(index, self.draw(augment))


@dataclass
class Tiled(Data):
    n: int
    size: int = 2
    outcomes: int | None = 1
    broken: bool = False
    held_out: int = 3

    def train(self):
        return Tiles(self.n, self.size, self.outcomes, self.broken)

    def val(self):
        return Tiles(self.held_out, self.size, self.outcomes, self.broken)


def mixture(weights=(9, 1), sizes=(50, 7), group=1, **options) -> Mixture:
    parts = {name: Part(Tiled(n, **options), w) for name, n, w in zip("ab", sizes, weights, strict=True)}
    return Mixture(parts, group)


def stream(source: Source, count: int, seed=0, batch=1) -> list[tuple[str, int]]:
    """(name of the part, index in it) of the first positions."""
    order = source.order(batch, seed)
    found = [source.locate(order.index(p)) for p in range(count)]
    return [(source.names[part], index) for part, index in found]


@settings(max_examples=30, deadline=None)
@given(
    n=st.tuples(st.integers(1, 90), st.integers(1, 90), st.integers(1, 90)),
    weights=st.lists(st.integers(1, 40), min_size=3, max_size=3),
    group=st.integers(1, 4),
    seed=st.integers(0, 2**63),
)
def test_shares_are_exact_and_parts_are_drawn_without_replacement(n, weights, group, seed):
    parts = {name: Part(Tiled(count), float(w)) for name, count, w in zip("abc", n, weights, strict=True)}
    source = Mixture(parts, group).train()
    size = sum(source.shares) * group
    seen = stream(source, 2 * size, seed)
    for block in (seen[:size], seen[size:]):
        counts = Counter(name for name, _ in block)
        assert all(Fraction(counts[x], size) == Fraction(w, sum(weights)) for x, w in zip("abc", weights, strict=True))
    for at in range(0, 2 * size, group):  # one part a group
        assert len({name for name, _ in seen[at : at + group]}) == 1
    for name, count in zip("abc", n, strict=True):
        own = [index for part, index in seen if part == name]
        for at in range(0, len(own) - count, count):
            assert sorted(own[at : at + count]) == list(range(count))


def test_blocks_and_epochs_of_a_part_differ():
    seen = stream(mixture().train(), 3000)
    blocks = [[name for name, _ in seen[at : at + 1000]] for at in (0, 1000, 2000)]
    assert blocks[0] != blocks[1] != blocks[2]
    own = [index for name, index in seen if name == "b"]
    assert own[:7] != own[7:14]
    assert stream(mixture().train(), 100, seed=1) != seen[:100]


def test_parts_in_a_block_are_spread_as_if_drawn():
    """Gaps between the groups of a part with a share of a tenth are geometric, up to 900 / 999 of drawing without
    replacement: their mean is 10, and as many as 0.9⁹ ≈ 39 % are longer than nine."""
    seen = [name for name, _ in stream(mixture().train(), 100_000)]
    places = torch.tensor([i for i, name in enumerate(seen) if name == "b"])
    gaps = places.diff().float()
    assert abs(float(gaps.mean()) - 10) < 0.02
    assert abs(float((gaps > 9).float().mean()) - 0.387) < 0.015  # three standard deviations


def test_an_order_is_a_function_of_the_position_alone():
    source = mixture(group=2).train()
    forwards = [source.order(8, 5).batch_at(step) for step in range(300)]
    fresh = mixture(group=2).train().order(8, 5)
    assert [fresh.batch_at(step) for step in reversed(range(300))] == forwards[::-1]
    assert forwards[17] == [(p, fresh.index(p)) for p in range(136, 144)]
    assert source.order(8, 5).epochs_after(8) == 64 // 57
    shares = [share for rank in range(2) for share in fresh.shares(3, rank, 2, micro_batch=2)]
    assert [place for share in shares for place in share] == forwards[3]
    assert all(len({source.locate(index)[0] for _, index in share}) == 1 for share in shares)


def test_one_part_is_its_own_order():
    source = Mixture({"only": Part(Tiled(13))}).train()
    order = source.order(4, 7)
    assert isinstance(order, MixtureOrder)
    assert [order.index(p) for p in range(39)] == [order.orders[0].index(p) for p in range(39)]
    assert type(order.orders[0]) is Order


def test_the_order_of_the_mapping_does_not_matter():
    a, b = Part(Tiled(5), 2.0), Part(Tiled(7), 1.0)
    assert stream(Mixture({"a": a, "b": b}).train(), 99) == stream(Mixture({"b": b, "a": a}).train(), 99)


def test_mixtures_can_be_nested():
    inner = mixture(weights=(1, 1), sizes=(4, 6))
    source = Mixture({"inner": Part(inner, 1.0), "c": Part(Tiled(5), 1.0)}).train()
    order = source.order(1, 0)
    ids = [source.id(order.index(p)) for p in range(2000)]
    counts = Counter(name.rpartition("/")[0] for name in ids)
    assert counts == {"inner/a": 500, "inner/b": 500, "c": 1000}


def test_weights_become_shares_of_a_block():
    assert apportion({"a": 0.9, "b": 0.1}) == (900, 100)
    assert apportion({"a": 1, "b": 1, "c": 1}) == (333, 333, 333)  # 999 groups: exact
    assert apportion({"hypersim": 53_885, "vkitti": 20_148}) == (728, 272)  # 727.85 and 272.15 of 1000
    assert apportion({"a": 2.0**60, "b": 2.0**60}) == (500, 500)
    assert apportion({"a": 999, "b": 1}) == (999, 1)
    with pytest.raises(ConfigError, match=r"data.parts.b.weight is 0.0001, less than one in 1000 of all"):
        apportion({"a": 1, "b": 0.0001})


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), float("inf")])
def test_weights_that_are_no_shares_are_refused(weight):
    with pytest.raises(ConfigError, match=r"^data.parts.b.weight is .*; expected a finite number above 0$"):
        mixture(weights=(1, weight))


def test_what_is_no_mixture_is_refused():
    part = Part(Tiled(3))
    with pytest.raises(ConfigError, match=r"^data.parts is empty"):
        Mixture({})
    with pytest.raises(ConfigError, match=r"^data.parts: the name 'a/b' has more than letters"):
        Mixture({"a/b": part})
    with pytest.raises(ConfigError, match=r"^data.group is 0; expected at least 1"):
        Mixture({"a": part}, group=0)
    with pytest.raises(ConfigError, match=r"^data.val_part is c; there are a, b$"):
        Mixture({"b": part, "a": part}, val_part="c")
    with pytest.raises(ConfigError, match=r"^data.parts.b: its training source is empty$"):
        mixture(sizes=(3, 0)).train()


def test_samples_are_those_of_their_part_and_so_are_their_substitutes():
    source = mixture(sizes=(20, 10), weights=(1, 1), broken=True).train()
    assert len(source) == 30
    assert source.id(0) == "a/2-0"
    assert source.id(29) == "b/2-9"
    assert source.sample(23, None)["x"][0] == 3
    assert all(source.locate(source.substitute(i, n))[0] == source.locate(i)[0] for i in range(30) for n in range(40))
    batches = list(train_batches(source, source.order(4, 0), range(25), micro_batch=4, seed=0))
    replaced = [name for batch in batches for name in batch["replaced"]]
    assert all(name.endswith("made to fail") for name in replaced)
    assert len(replaced) >= 20  # a fifth of a hundred, and some of those in their places
    order, names = source.order(4, 0), [name for batch in batches for name in batch["id"]]
    assert [name[0] for name in names] == [source.id(order.index(p))[0] for p in range(100)]


def test_parts_may_differ_in_their_outcomes():
    source = Mixture({"a": Part(Tiled(4, outcomes=2)), "b": Part(Tiled(4, outcomes=3))}).train()
    assert source.outcomes == 3
    assert [source.outcomes_of(i) for i in (0, 3, 4, 7)] == [2, 2, 3, 3]
    assert source.outcome(5, 2)["which"] == 2
    for index in (1, 6):
        drawn = [source.draw_of(index, Generator().manual_seed(s)) for s in range(300)]
        read = [int(source.sample(index, Generator().manual_seed(s))["which"]) for s in range(300)]
        assert drawn == read
        assert set(drawn) == set(range(source.outcomes_of(index)))
        assert source.draw_of(index, None) == 0
    with pytest.raises(NotImplementedError):
        source.draw(None)
    endless = Mixture({"a": Part(Tiled(4)), "b": Part(Tiled(4, outcomes=None))}).train()
    assert endless.outcomes is None


def test_sizes_may_differ_where_a_group_is_a_micro_batch():
    parts = {"a": Part(Tiled(9, size=2), 2.0), "b": Part(Tiled(5, size=3), 1.0)}
    source = Mixture(parts, group=4).train()
    batches = train_batches(source, source.order(8, 0), range(40), micro_batch=4, seed=0)
    shapes = Counter(tuple(batch["x"].shape) for batch in batches)
    assert shapes.keys() == {(4, 2), (4, 3)}
    assert shapes.total() == 80
    source = Mixture(parts).train()
    with pytest.raises(UserError, match=r"a batch has samples whose x is \(2,\) and \(3,\)|\(3,\) and \(2,\)"):
        list(train_batches(source, source.order(8, 0), range(9), micro_batch=4, seed=0))


def test_validation_is_on_all_parts_or_on_one():
    parts = {"a": Part(Tiled(9, size=2)), "b": Part(Tiled(5, size=3, held_out=2))}
    ids = [name for batch in eval_batches(Mixture(parts).val(), 1) for name in batch["id"]]
    assert ids == ["a/2-0", "a/2-1", "a/2-2", "b/3-0", "b/3-1"]
    assert len(Mixture(parts, val_part="b").val()) == 2


CONFIG = """
recipe: {class_path: toy_recipes.ToyRecipe}
data:
  class_path: salticid.data.mixture.Mixture
  init_args:
    parts:
      near: {data: {class_path: toy_recipes.ToyData, init_args: {count: 20}}, weight: 9}
      far: {data: {class_path: toy_recipes.ToyData}}
    group: 2
"""


def test_a_configuration_builds_a_mixture(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))
    allowed, path = ("salticid", "toy_recipes"), tmp_path / "mixture.yaml"
    path.write_text(CONFIG)
    config = load_config(path, [("data.parts.near.data.count", "11"), ("data.parts.far.weight", "3")], allowed)
    data = build_config(config, allowed).data
    assert isinstance(data, Mixture)
    assert data.shares == (250, 750)
    assert len(data.train()) == 11 + 32
    assert data.train().id(0) == "far/point-0"
    path.write_text(CONFIG.replace("weight: 9", "weight: -9"))
    with pytest.raises(ConfigError, match=r"data.parts.near.weight is -9.0"):
        build_config(load_config(path, [], allowed), allowed)
    path.write_text(CONFIG.replace("weight: 9", "wieght: 9"))
    with pytest.raises(ConfigError, match=r"did you mean data.init_args.parts.near.weight\?"):
        load_config(path, [], allowed)
