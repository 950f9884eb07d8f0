import pytest
import torch

from salticid.data.loader import ATTEMPTS, FILLER, eval_batches, train_batches
from salticid.data.order import Order
from salticid.data.source import Source
from salticid.diffusion.noise import stable_key
from salticid.errors import UnreadableSample, UserError


class Numbers(Source):
    """Sample i is i and a random number of its augmentation; those in `broken` cannot be read."""

    def __init__(self, n=10, broken=()):
        self.n, self.broken = n, broken

    def __len__(self):
        return self.n

    def id(self, index):
        return f"number-{index}"

    def sample(self, index, augment):
        if index in self.broken:
            raise UnreadableSample("cut short")
        drawn = torch.rand((), generator=augment) if augment else torch.zeros(())
        return {"value": torch.tensor(float(index)), "drawn": drawn, "note": str(index)}


def load(source, steps, seed=0, batch=4, **options):
    order = Order(len(source), batch, seed)
    return list(train_batches(source, order, steps, seed=seed, **({"micro_batch": batch} | options)))


def join(batches):
    tensors = {name: torch.cat([b[name] for b in batches]) for name in ("value", "drawn", "key")}
    return tensors | {name: [x for b in batches for x in b[name]] for name in ("id", "note", "replaced")}


def same(a, b):
    return all(torch.equal(v, b[k]) if isinstance(v, torch.Tensor) else v == b[k] for k, v in a.items())


def test_a_batch_is_what_the_order_says():
    batch = load(Numbers(), range(5, 6))[0]
    places = Order(10, 4, 0).batch_at(5)
    assert batch["key"].tolist() == [20, 21, 22, 23]
    assert batch["value"].tolist() == [float(index) for _, index in places]
    assert batch["id"] == [f"number-{index}" for _, index in places]
    assert batch["replaced"] == []


def test_augmentation_is_drawn_anew_at_every_position():
    drawn = join(load(Numbers(), range(10)))["drawn"]
    assert drawn.unique().numel() == 40
    assert not torch.equal(drawn, join(load(Numbers(), range(10), seed=1))["drawn"])


@pytest.mark.parametrize("options", [{"workers": 2}, {"micro_batch": 3}, {"workers": 2, "micro_batch": 1}])
def test_workers_and_micro_batches_change_nothing(options):
    source = Numbers(broken=(3, 7))
    assert same(join(load(source, range(2, 9))), join(load(source, range(2, 9), **options)))


def test_ranks_share_the_batches_of_one():
    source = Numbers(broken=(3,))
    whole = load(source, range(6))
    ranks = [load(source, range(6), rank=r, world=2, micro_batch=2) for r in range(2)]
    assert all(same(join([first, second]), join([one])) for one, first, second in zip(whole, *ranks, strict=True))


def test_unreadable_samples_are_replaced_and_named():
    clean, patched = join(load(Numbers(), range(10))), join(load(Numbers(broken=(3,)), range(10)))
    hit = clean["value"] == 3
    assert patched["replaced"] == ["number-3: cut short"] * int(hit.sum())
    assert (patched["value"][hit] != 3).all()
    assert torch.equal(patched["value"][~hit], clean["value"][~hit])
    assert torch.equal(patched["drawn"][~hit], clean["drawn"][~hit])


@pytest.mark.parametrize("workers", [0, 1])
def test_too_many_unreadable_samples_end_the_run(workers):
    with pytest.raises(UserError, match=rf"^{ATTEMPTS} samples in a row.*cut short$"):
        load(Numbers(broken=range(10)), range(1), workers=workers)


def test_evaluation_sees_every_readable_sample_once():
    source = Numbers(broken=(4,))
    batches = list(eval_batches(source, 3))
    assert [i for b in batches for i in b["id"]] == [f"number-{i}" for i in range(10) if i != 4]
    assert [p for b in batches for p in b["row"]] == [i for i in range(10) if i != 4]
    assert [s for b in batches for s in b["skipped"]] == ["number-4: cut short"]
    assert batches[0]["key"].tolist() == [stable_key(f"number-{i}") for i in range(3)]
    assert not any(b["drawn"].any() for b in batches)


@pytest.mark.parametrize("n", [1, 3, 7, 10])
def test_evaluation_keeps_ranks_in_step(n):
    ranks = [list(eval_batches(Numbers(n), 2, rank=r, world=3)) for r in range(3)]
    assert len({len(batches) for batches in ranks}) == 1
    places = [p for batches in ranks for b in batches for p in b["row"] if p != FILLER]
    assert sorted(places) == list(range(n))


def test_a_batch_without_a_readable_sample_is_filled():
    batches = list(eval_batches(Numbers(broken=(2, 3)), 2))
    assert batches[1]["row"] == [FILLER]
    assert len(batches[1]["skipped"]) == 2


def test_a_limit_is_spread_over_the_source():
    assert [i for b in eval_batches(Numbers(100), 4, limit=5) for i in b["note"]] == ["0", "20", "40", "60", "80"]


def test_waiting_is_measured():
    batches = train_batches(Numbers(), Order(10, 4, 0), range(3), micro_batch=4, seed=0)
    next(batches)
    assert 0 < batches.waited < 1
