"""Folders of clips: which frames a sample holds, when, and what is left out."""

import json
import logging
import math
from typing import Any

import pytest
import torch
from tests.data.clips.conftest import is_mirrored, numbers_of

from salticid.data.loader import train_batches
from salticid.data.readers.clips import ClipFolder
from salticid.errors import ConfigError, UnreadableSample


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def read(studio, **options):
    values: dict[str, Any] = {"frames": 4, "size": (16, 24), "val_share": 0.0, "flip": 0.0} | options
    return ClipFolder(studio.root, **values)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.mov", "a.webm"])
def test_windows_are_consecutive_frames_of_any_part(studio, name):
    studio.film(name)
    source = read(studio).train()
    firsts = set()
    for seed in range(40):
        sample = source.sample(0, generator(seed))
        numbers = numbers_of(sample["video"])
        assert numbers == list(range(numbers[0], numbers[0] + 4))
        assert sample["fps"].item() == pytest.approx(24, rel=2e-3)  # Matroska counts milliseconds
        firsts.add(numbers[0])
    assert len(firsts) > 12
    assert max(firsts) <= 20
    assert numbers_of(source.sample(0, None)["video"]) == [10, 11, 12, 13]


def test_samples_are_as_the_contract_says(studio):
    studio.film("a.mp4")
    source = read(studio).train()
    sample, again = source.sample(0, generator(1)), read(studio).train().sample(0, generator(1))
    kinds = {name: (tuple(value.shape), value.dtype) for name, value in sample.items()}
    assert kinds == {
        "video": ((3, 4, 16, 24), torch.uint8),
        "fps": ((), torch.float32),
        "motion_bucket": ((), torch.float32),
        "image_only": ((4,), torch.bool),
    }
    assert all(torch.equal(value, again[name]) for name, value in sample.items())
    assert not sample["image_only"].any()
    assert source.outcomes is None
    with pytest.raises(NotImplementedError):
        source.outcome(0, 0)


def test_a_gif_is_a_clip(studio):
    studio.film("a.gif", rate=10)
    assert read(studio).train().sample(0, None)["video"].shape == (3, 4, 16, 24)


@pytest.mark.parametrize("name", ["a.mp4", "folder"])
def test_frames_at_a_drawn_rate_are_those_nearest_in_time(studio, name):
    if name == "folder":
        studio.folder(name, range(24))
    else:
        studio.film(name)
    source, rates = read(studio, fps=(5.0, 15.0), folder_fps=24.0).train(), []
    for seed in range(30):
        sample = source.sample(0, generator(seed))
        numbers, fps = numbers_of(sample["video"]), sample["fps"].item()
        apart = [number - numbers[0] - 24 * i / fps for i, number in enumerate(numbers)]
        assert max(map(abs, apart)) < 0.5 + 1e-3
        assert numbers[-1] <= 23
        rates.append(fps)
    assert 5 <= min(rates) < 7
    assert 13 < max(rates) <= 15
    sample = source.sample(0, None)
    assert sample["fps"].item() == pytest.approx(10)
    assert numbers_of(sample["video"])[0] == pytest.approx((24 - 3 * 2.4) / 2, abs=1)


def test_a_rate_is_not_above_the_clips_own_nor_too_low_for_its_length(studio):
    studio.film("a.mp4", count=12)  # 11/24 s: four frames need 6.55 a second
    source = read(studio, fps=(1.0, 100.0)).train()
    rates = [source.sample(0, generator(seed))["fps"].item() for seed in range(60)]
    assert 3 * 24 / 11 - 1e-3 < min(rates) < 8
    assert 22 < max(rates) < 24 + 1e-3


def test_time_stamps_count_where_frames_do_not_come_evenly(studio):
    stamps = [*range(0, 8), *range(8, 40, 4)]  # 24 a second, then 6
    studio.film("a.mp4", count=16, stamps=stamps)
    source = read(studio, fps=(6.0, 6.0)).train()
    for seed in range(20):
        numbers = numbers_of(source.sample(0, generator(seed))["video"])
        times = [stamps[number] for number in numbers]
        assert times[0] <= 36 - 12
        assert max(abs(time - times[0] - 4 * i) for i, time in enumerate(times)) <= 2


def test_folders_of_frames_count_by_their_numbers_and_pictures_beside_videos_do_not(studio):
    studio.folder("a", [0, 2, 4, 8, 10, 12])
    studio.film("b/b.mp4")
    studio.folder("b", [1, 2, 3, 4])
    data = read(studio, folder_fps=10.0)
    assert [clip.id for clip in data.train_clips] == ["a", "b/b.mp4"]
    assert data.train_clips[0].times.tolist() == pytest.approx([0, 0.2, 0.4, 0.8, 1.0, 1.2])
    assert numbers_of(data.train().sample(0, None)["video"]) == [2, 4, 8, 10]


def test_frames_cover_the_size_and_are_cut_evenly(studio):
    studio.film("a.mp4", shape=(32, 64))
    video = read(studio, size=(32, 32)).train().sample(0, None)["video"]
    assert video[..., :14].float().mean((0, 2, 3)).tolist() == pytest.approx([80, 88, 96, 104], abs=2)
    assert video[..., 18:].float().mean((0, 2, 3)).tolist() == pytest.approx([120, 128, 136, 144], abs=2)


def test_samples_are_mirrored_as_often_as_is_said(studio):
    studio.film("a.mp4")
    source = read(studio, flip=0.5).train()
    flips = [is_mirrored(source.sample(0, generator(seed))["video"]) for seed in range(60)]
    assert 18 < sum(flips) < 42
    assert not is_mirrored(source.sample(0, None)["video"])


@pytest.mark.parametrize("flip", [0.0, 0.25, 1.0])
def test_fixed_windows_are_finitely_many_outcomes(studio, flip):
    studio.film("a.mp4")
    studio.film("b.mp4")
    source = read(studio, windows=5, flip=flip, fps=(4.0, 12.0)).train()
    assert source.outcomes == (10 if flip else 5)
    outcomes = [source.outcome(0, which) for which in range(source.outcomes)]
    assert torch.equal(outcomes[0]["video"], source.sample(0, None)["video"])
    assert len({tuple(numbers_of(outcome["video"])) for outcome in outcomes[:5]}) >= 4
    assert [is_mirrored(outcome["video"]) for outcome in outcomes] == [False] * 5 + [True] * (len(outcomes) - 5)
    drawn = []
    for seed in range(80):
        which = source.draw_of(0, generator(seed))
        sample = source.sample(0, generator(seed))
        assert all(torch.equal(sample[name], value) for name, value in outcomes[which].items())
        drawn.append(which)
    assert {which % 5 for which in drawn} == set(range(5))
    assert sum(which >= 5 for which in drawn) / 80 == pytest.approx(flip, abs=0.15)
    assert not torch.equal(source.outcome(1, 1)["fps"], outcomes[1]["fps"])


def test_clips_that_are_no_good_are_named_and_counted(studio, caplog):
    for name in ("good", "also"):
        studio.film(f"{name}.mp4")
    studio.film("short.mp4", count=3)
    studio.film("slow.mp4", rate=2)
    studio.film("brief.mp4", count=5)
    studio.text("text.mp4", "no video")
    studio.folder("one", [1])
    with caplog.at_level(logging.WARNING):
        data = read(studio, fps=(4.0, 12.0))
    assert [clip.id for clip in data.train_clips] == ["also.mp4", "good.mp4"]
    assert {id: reason.split(":")[0].split("/")[-1] for id, reason in data.skipped.items()} == {
        "short.mp4": "too short",
        "slow.mp4": "too slow",
        "brief.mp4": "too short",
        "text.mp4": "text.mp4",
        "one": "too short",
    }
    assert len(caplog.messages) == 6
    assert caplog.messages[-1] == "data: 5 of 7 clips are left out"
    with pytest.raises(ConfigError, match=r"no usable clip under .*; 5 left out"):
        read(studio, fps=(4.0, 12.0), exclude=("good*", "also*"))
    with pytest.raises(ConfigError, match="no usable clip"):
        read(studio, exclude=("*",))


def test_damage_that_comes_later_is_for_the_loader(studio):
    path = studio.film("a.mp4")
    studio.film("b.mp4")
    source = read(studio).train()
    whole = path.read_bytes()
    start, end = whole.index(b"mdat") + 4, whole.index(b"moov") - 4
    path.write_bytes(whole[:start] + b"\xff" * (end - start) + whole[end:])
    with pytest.raises(UnreadableSample, match=r"a\.mp4: the video is damaged"):
        source.sample(0, None)
    path.unlink()
    with pytest.raises(UnreadableSample, match=r"a\.mp4: not a readable video"):
        source.sample(0, None)
    batch = next(train_batches(source, source.order(2, 0), range(1), micro_batch=2, seed=0))
    assert batch["id"] == ["b.mp4", "b.mp4"]
    assert batch["video"].shape == (2, 3, 4, 16, 24)
    assert len(batch["replaced"]) >= 1


def test_validation_keeps_scenes_out_and_takes_the_middle(studio):
    for name in ("x/one.mp4", "x/two.mp4", "y/three.mp4"):
        studio.film(name)
    data = read(studio, scene="folder", val_scenes=("x",), flip=1.0, windows=3)
    assert [clip.id for clip in data.val_clips] == ["x/one.mp4", "x/two.mp4"]
    assert [clip.id for clip in data.train_clips] == ["y/three.mp4"]
    source = data.val()
    assert source.outcomes == 1
    sample = source.sample(0, generator())
    assert numbers_of(sample["video"]) == [10, 11, 12, 13]
    assert not is_mirrored(sample["video"])
    assert torch.equal(source.outcome(0, 0)["video"], sample["video"])
    shared = read(studio, val_share=0.5)
    assert {len(shared.train_clips), len(shared.val_clips)} == {1, 2}


def test_clips_in_memory_are_the_same(studio):
    studio.film("a.mp4")
    studio.film("b.mp4")
    plain, kept = read(studio).train(), read(studio, keep=1).train()
    for index in (0, 1, 0):
        for seed in range(3):
            assert torch.equal(
                plain.sample(index, generator(seed))["video"], kept.sample(index, generator(seed))["video"]
            )
    assert kept.kept.keys() == {0}


def test_captions_and_labels(studio):
    for name in ("cat/a.mp4", "cat/b.mp4", "ant/c.mp4"):
        studio.film(name)
    studio.text("cat/a.txt", "a cat\n")
    studio.text("ant/c.txt", "an ant")
    data = read(studio, captions="sidecar", labels="folder")
    source = data.train()
    found = {source.id(i): source.sample(i, None) for i in range(len(source))}
    assert {id: (sample["caption"], sample["label"].item()) for id, sample in found.items()} == {
        "cat/a.mp4": ("a cat", 1),
        "ant/c.mp4": ("an ant", 0),
    }
    assert data.classes == ["ant", "cat"]
    assert data.skipped == {"cat/b.mp4": "has no caption (data.captions)"}
    table = studio.text("captions.json", json.dumps({"cat/a": "first", "cat/b.mp4": "second"}))
    numbers = studio.text("labels.csv", 'clip,class\ncat/a.mp4,7\n"cat/b",3\n')
    source = read(studio, captions=table, labels=numbers).train()
    samples = [source.sample(i, None) for i in range(2)]
    assert [(sample["caption"], sample["label"].item()) for sample in samples] == [("first", 7), ("second", 3)]
    assert samples[0]["label"].dtype == torch.int64


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.json", "[1]", "no JSON object"),
        ("a.json", '{"a": [1]}', "no JSON object"),
        ("a.json", "{", "cannot be read"),
        ("a.csv", "a,b,c\n", "line 1 of .* has 3 columns"),
    ],
)
def test_tables_that_say_nothing_are_refused(studio, name, text, message):
    studio.film("a.mp4")
    path = studio.text(name, text)
    with pytest.raises(ConfigError, match=rf"data\.captions: .*{message}"):
        read(studio, captions=path)
    with pytest.raises(ConfigError, match=r"data\.labels: .*none.csv cannot be read"):
        read(studio, labels=studio.root / "none.csv")


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"frames": 1}, "frames"),
        ({"size": None}, "size"),
        ({"sizes": ((16, 16),)}, "size"),
        ({"size": None, "sizes": ((16, 16), (16, 16))}, "sizes"),
        ({"size": (4, 16)}, "size"),
        ({"fps": (0.0, 4.0)}, "fps"),
        ({"fps": (5.0, 4.0)}, "fps"),
        ({"fps": (5.0, math.inf)}, "fps"),
        ({"folder_fps": 0.0}, "folder_fps"),
        ({"windows": 0}, "windows"),
        ({"group": 0}, "group"),
        ({"flip": 1.5}, "flip"),
        ({"keep": -1}, "keep"),
        ({"motion": 256.0}, "motion"),
        ({"val_share": 1.5}, "val_share"),
        ({"val_scenes": ("b",)}, "val_scenes"),
    ],
)
def test_settings_that_make_no_data_are_refused(studio, options, key):
    studio.film("a.mp4")
    with pytest.raises(ConfigError, match=rf"data\.{key}"):
        read(studio, **options)


def test_a_root_that_is_no_folder_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"data\.root: .*nowhere is not a folder"):
        ClipFolder(tmp_path / "nowhere", size=(16, 16))
