"""Clips of several sizes: nearest in aspect ratio, in groups of one size, each once an epoch."""

from collections import Counter

import pytest
import torch

from salticid.data.loader import train_batches
from salticid.data.mixture import BLOCK, MixtureOrder
from salticid.data.readers.clips import ClipFolder
from salticid.data.readers.clips.buckets import mixed, nearest
from salticid.data.source import Source
from salticid.errors import ConfigError

SIZES = ((16, 24), (16, 16), (24, 16))


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((720, 1280), (16, 24)),
        ((480, 854), (16, 24)),
        ((100, 100), (16, 16)),
        ((100, 122), (16, 16)),  # 1.22 < √1.5 < 1.23
        ((100, 123), (16, 24)),
        ((123, 100), (24, 16)),
        ((1920, 1080), (24, 16)),
    ],
)
def test_the_size_nearest_in_aspect_ratio(shape, size):
    assert nearest(shape, SIZES) == size


def test_of_two_sizes_of_one_ratio_the_nearest_in_area():
    assert nearest((32, 48), ((64, 96), (32, 48), (16, 24))) == (32, 48)
    assert nearest((640, 960), ((16, 24), (64, 96))) == (64, 96)


@pytest.fixture
def data(studio) -> ClipFolder:
    for count, shape in ((4, (32, 48)), (6, (32, 32)), (2, (48, 32))):
        for number in range(count):
            studio.film(f"{shape[0]}x{shape[1]}/{number}.mp4", count=4, shape=shape)
    return ClipFolder(studio.root, frames=3, sizes=SIZES, group=2, val_share=0.0)


def test_micro_batches_are_of_one_size_and_an_epoch_has_every_clip_once(data):
    source = data.train()
    for seed in range(3):
        order = source.order(4, seed)
        batches = train_batches(source, order, range(6), micro_batch=2, seed=seed)
        ids = []
        for batch in batches:
            sizes = {tuple(id.split("/")[0].split("x")) for id in batch["id"]}
            assert {tuple(map(int, size)) for size in sizes} == {tuple(batch["video"].shape[-2:])}
            ids += batch["id"]
        assert len(ids) == 24
        assert Counter(ids[:12]) == Counter(ids[12:]) == Counter(source.id(i) for i in range(12))
        assert ids[:12] != ids[12:]
    assert source.id(0) == "16x24/32x48/0.mp4"


def test_one_size_needs_no_groups_and_validation_has_every_clip(studio, data):
    one = ClipFolder(studio.root, frames=3, sizes=((16, 16),), group=2, val_share=0.0)
    assert one.train().id(0) == "32x32/0.mp4"
    some = ClipFolder(studio.root, frames=3, sizes=SIZES, scene="folder", val_scenes=("32x48", "48x32"))
    val = some.val()
    assert [val.sample(i, None)["video"].shape[-2:] for i in range(len(val))] == [(16, 24)] * 4 + [(24, 16)] * 2
    assert [val.outcomes_of(i) for i in range(len(val))] == [1] * 6


def test_outcomes_of_several_sizes(studio):
    studio.film("a.mp4", shape=(32, 48))
    studio.film("b.mp4", shape=(48, 32))
    source = ClipFolder(studio.root, frames=3, sizes=SIZES, windows=3, val_share=0.0).train()
    assert (source.outcomes, source.outcomes_of(1)) == (6, 6)
    generator = torch.Generator().manual_seed(4)
    which = source.draw_of(1, generator)
    expected = source.sample(1, torch.Generator().manual_seed(4))
    assert torch.equal(source.outcome(1, which)["video"], expected["video"])


class Numbers(Source):
    def __init__(self, n: int):
        self.n = n

    def __len__(self):
        return self.n

    def id(self, index):
        return str(index)

    def sample(self, index, augment):
        return {}


def test_shares_of_many_clips_are_rounded_and_none_is_left_out():
    source = mixed({(16, 16): Numbers(100_000), (16, 24): Numbers(3)}, group=4)
    order = source.order(4, 0)
    assert isinstance(order, MixtureOrder)
    assert sum(order.shares_of_block) <= BLOCK + 1
    seen = {order.index(position) for position in range(4 * (BLOCK + 1))}
    assert {100_000, 100_001, 100_002} <= seen


def test_a_group_that_does_not_divide_begins_the_next_round():
    source = mixed({(16, 16): Numbers(5), (16, 24): Numbers(2)}, group=2)
    order = source.order(2, 0)
    first = Counter(order.index(position) for position in range(8))
    assert set(first) == set(range(7))
    assert sum(first.values()) == 8


def test_no_clip_is_for_no_size(studio, data):
    with pytest.raises(ConfigError, match=r"data\.sizes"):
        ClipFolder(studio.root, sizes=((16, 24), (2, 2)))
