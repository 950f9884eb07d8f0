"""Pictures as clips of pictures of their own."""

import logging

import pytest
import torch
from tests.data.clips.conftest import is_mirrored, numbers_of

from salticid.data.mixture import Mixture, Part
from salticid.data.readers.clips import ClipFolder, Stills
from salticid.errors import ConfigError


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_rows_are_different_pictures_and_a_pure_function_of_the_generator(studio):
    studio.folder("a", range(10))
    source = Stills(studio.root, frames=4, size=(16, 24)).train()
    sample, again = source.sample(3, generator(5)), source.sample(3, generator(5))
    assert all(torch.equal(sample[name], again[name]) for name in sample)
    kinds = {name: (tuple(value.shape), value.dtype) for name, value in sample.items()}
    assert kinds == {
        "video": ((3, 4, 16, 24), torch.uint8),
        "fps": ((), torch.float32),
        "motion_bucket": ((), torch.float32),
        "image_only": ((4,), torch.bool),
    }
    assert sample["image_only"].all()
    drawn = [numbers_of(source.sample(3, generator(seed))["video"]) for seed in range(40)]
    assert all(numbers[0] == 3 and len(set(numbers)) == 4 for numbers in drawn)
    assert {number for numbers in drawn for number in numbers} == set(range(10))
    flips = [is_mirrored(source.sample(3, generator(seed))["video"]) for seed in range(40)]
    assert 10 < sum(flips) < 30
    assert numbers_of(source.sample(8, None)["video"]) == [8, 9, 0, 1]
    assert source.outcomes is None


def test_they_mix_with_films(studio):
    studio.folder("pictures/a", range(4))
    for name in ("a", "b"):
        studio.film(f"films/{name}.mp4")
    stills = Stills(studio.root / "pictures", frames=4, size=(16, 24))
    films = ClipFolder(studio.root / "films", frames=4, size=(16, 24), val_share=0.0)
    source = Mixture({"films": Part(films), "stills": Part(stills)}).train()
    samples = {source.id(i).split("/")[0]: source.sample(i, generator()) for i in range(len(source))}
    assert samples["films"].keys() == samples["stills"].keys()
    assert [samples[name]["image_only"].all().item() for name in ("films", "stills")] == [False, True]


def test_pictures_that_are_no_good_are_left_out(studio, caplog):
    studio.folder("a", range(4))
    studio.text("a/broken.png", "no picture")
    with caplog.at_level(logging.WARNING):
        data = Stills(studio.root, frames=1, size=(16, 24), val_share=0.5)
    assert list(data.skipped) == ["a/broken.png"]
    assert caplog.messages[-1] == "data: 1 of 5 pictures are left out"
    assert {len(data.train()), len(data.val())} <= {1, 2, 3}
    assert data.val().outcomes == 1
    assert data.val().sample(0, generator())["image_only"].all()


def test_too_few_pictures_are_refused(studio):
    studio.folder("a", range(4))
    with pytest.raises(ConfigError, match=r"data\.frames is 5"):
        Stills(studio.root, frames=5, size=(16, 24))
    with pytest.raises(ConfigError, match="is not a folder"):
        Stills(studio.root / "b", size=(16, 24))
