"""What samples of pairs hold, how they are augmented, and which are refused."""

import math
import pickle

import numpy as np
import pytest
import torch

from salticid.data.loader import train_batches
from salticid.data.readers.depth import ColourJitter, DepthFolder
from salticid.errors import ConfigError, UnreadableSample


@pytest.fixture
def folder(write, depth_values):
    """Three pairs of 12 × 16 pixels, depth 1, 2, 3 … m, in a list of training."""
    for i in range(3):
        write.picture(f"rgb/{i}.png", 12, 16, seed=i)
        write.npy(f"depth/{i}.npy", depth_values(12, 16).astype(np.float64))
    write.text("train.txt", *(f"rgb/{i}.png depth/{i}.npy" for i in range(2)))
    write.text("val.txt", "rgb/2.png depth/2.npy")
    return write


def reader(write, **options):
    lists = {"train_list": write.root / "train.txt", "val_list": write.root / "val.txt"}
    return DepthFolder(write.root, **lists | options)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_a_sample_holds_picture_depth_validity_and_limits(folder, depth_values):
    sample = reader(folder, limits=(5.0, 100.0)).val().sample(0, None)
    pixels = torch.from_numpy(np.random.default_rng(2).integers(0, 256, (12, 16, 3), dtype=np.uint8))
    torch.testing.assert_close(sample["image"], pixels.permute(2, 0, 1) / 127.5 - 1, atol=1e-6, rtol=0)
    depth = torch.from_numpy(depth_values(12, 16))[None]
    between = (depth > 5) & (depth < 100)  # both limits are exclusive
    assert torch.equal(sample["valid"], between)
    assert torch.equal(sample["depth"], depth.where(between, 0).float())
    assert sample["limits"].tolist() == [5.0, 100.0]
    assert {name: value.dtype for name, value in sample.items()} == {
        "image": torch.float32,
        "depth": torch.float32,
        "valid": torch.bool,
        "limits": torch.float32,
    }


def test_with_a_flip_alone_there_are_two_outcomes_and_a_sample_is_one_of_them(folder):
    data = reader(folder)
    source = data.train()
    assert (source.outcomes, data.val().outcomes, reader(folder, flip=False).train().outcomes) == (2, 1, 1)
    plain, mirrored = source.outcome(1, 0), source.outcome(1, 1)
    assert same(plain, source.sample(1, None))
    for name in ("image", "depth", "valid"):
        assert torch.equal(mirrored[name], plain[name].flip(-1))
    drawn = set()
    for seed in range(20):
        which = source.draw(generator(seed))
        drawn.add(which)
        assert same(source.sample(1, generator(seed)), source.outcome(1, which))
    assert drawn == {0, 1}
    still = reader(folder, flip=False).train()
    assert same(still.sample(1, generator()), still.outcome(1, still.draw(generator())))


def test_crops_and_jitter_have_no_end_of_outcomes_and_are_a_function_of_the_generator(folder):
    for options in ({"crop": (8, 10)}, {"jitter": ColourJitter(0.2, 0.2, 0.2)}):
        source = reader(folder, **options).train()
        assert source.outcomes is None
        with pytest.raises(NotImplementedError):
            source.outcome(0, 0)
        assert same(source.sample(0, generator(1)), source.sample(0, generator(1)))
        assert len({float(source.sample(0, generator(seed))["image"].sum()) for seed in range(8)}) > 4
        assert same(source.sample(0, None), source.sample(0, None))
    assert reader(folder, crop=(8, 10)).val().outcomes == 1


def test_a_crop_is_the_same_window_of_picture_and_depth(folder):
    whole = reader(folder, flip=False).train().sample(0, None)
    source = reader(folder, flip=False, crop=(5, 6)).train()
    corners = set()
    for seed in range(40):
        sample = source.sample(0, generator(seed))
        first = int(sample["depth"][0, 0, 0]) - 1
        top, left = divmod(first, 16)
        corners.add((top, left))
        for name in ("image", "depth", "valid"):
            assert torch.equal(sample[name], whole[name][:, top : top + 5, left : left + 6])
    assert len(corners) > 20
    assert int(source.sample(0, None)["depth"][0, 0, 0]) - 1 == 3 * 16 + 5  # the middle


def test_pairs_are_flipped_before_they_are_resized(folder):
    # 16 columns to 10: the centre of column 2 falls between columns 3 and 4, and the right one is taken.
    source = reader(folder, size=(12, 10)).train()
    plain, mirrored = (source.outcome(0, which)["depth"][0, 0] - 1 for which in (0, 1))
    assert plain.tolist() == [0, 2, 4, 5, 7, 8, 10, 12, 13, 15]
    assert mirrored.tolist() == [15 - column for column in plain.tolist()]
    assert int(plain[2]) == 4
    assert plain.flip(-1).tolist() != mirrored.tolist()


def test_sizes_are_of_training_or_of_validation_and_depth_is_never_averaged(folder):
    data = reader(folder, size=(6, 8), val_size=(3, 4), resize="area")
    train, val = data.train().sample(0, None), data.val().sample(0, None)
    assert (train["image"].shape, train["depth"].shape) == ((3, 6, 8), (1, 6, 8))
    assert (val["image"].shape, val["valid"].shape) == ((3, 3, 4), (1, 3, 4))
    whole = reader(folder).train().sample(0, None)
    expected = whole["image"].reshape(3, 6, 2, 8, 2).mean(dim=(2, 4))
    torch.testing.assert_close(train["image"], expected, atol=1e-5, rtol=0)
    assert torch.equal(train["depth"], whole["depth"][:, 1::2, 1::2])


def test_jitter_leaves_depth_alone_and_validation_too(folder):
    plain = reader(folder)
    data = reader(folder, flip=False, jitter=ColourJitter(brightness=0.5))
    sample = data.train().sample(0, generator())
    assert torch.equal(sample["depth"], plain.train().sample(0, None)["depth"])
    assert not torch.equal(sample["image"], plain.train().sample(0, None)["image"])
    assert same(data.val().sample(0, generator()), plain.val().sample(0, None))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, -1.0, 0.0])
def test_what_is_no_depth_is_not_valid(folder, bad, depth_values):
    depth = depth_values(12, 16).astype(np.float32)
    depth[3, 5] = bad
    folder.npy("depth/2.npy", depth)
    sample = reader(folder, limits=(0.0, math.inf)).val().sample(0, None)
    assert not sample["valid"][0, 3, 5]
    assert sample["depth"][0, 3, 5] == 0
    assert int(sample["valid"].sum()) == 12 * 16 - 1


def test_depth_without_a_valid_pixel_is_refused(folder):
    folder.npy("depth/2.npy", np.full((12, 16), np.nan))
    with pytest.raises(UnreadableSample, match=r"2\.npy: no valid depth between 0\.001 and inf m"):
        reader(folder).val().sample(0, None)


def test_broken_and_mismatched_files_are_named(folder):
    picture = folder.path("rgb/0.png")
    picture.write_bytes(picture.read_bytes()[:200])
    folder.npy("depth/1.npy", np.ones((12, 15)))
    source = reader(folder).train()
    with pytest.raises(UnreadableSample, match=r"rgb/0\.png: not a readable picture"):
        source.sample(0, None)
    with pytest.raises(UnreadableSample, match=r"rgb/1\.png: picture and depth differ in size, 12×16 and 12×15"):
        source.sample(1, None)


def test_a_picture_smaller_than_the_crop_is_refused(folder):
    with pytest.raises(UnreadableSample, match=r"rgb/0\.png: 12×16 is smaller than data\.crop, 13×16"):
        reader(folder, crop=(13, 16)).train().sample(0, generator())


def test_missing_pairs_are_named_counted_and_left_out(folder, caplog):
    names = [f"rgb/{i}.png depth/{i}.npy" for i in range(9)]
    folder.text("train.txt", *names, "rgb/9.png None", names[0])
    data = reader(folder, val_list=None)
    assert [pair.id for pair in data.train_pairs] == ["rgb/0.png", "rgb/1.png", "rgb/2.png"]
    assert set(data.skipped) == {f"rgb/{i}.png" for i in range(3, 10)}
    assert data.skipped["rgb/9.png"] == "no depth (None in the list)"
    assert data.skipped["rgb/3.png"] == f"{folder.root / 'rgb/3.png'}: no such file"
    assert caplog.text.count("skipped rgb/") == 5
    assert "skipped 7 pairs in all; 3 are left" in caplog.text
    assert "1 of 4 pairs are named more than once" in caplog.text
    assert len(data.val()) == 0


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("rgb/0.png", "line 1 of .* is short; expected picture and depth"),
        ("/etc/passwd depth/0.npy", "line 1 of .* leads out of"),
        ("../../etc/passwd depth/0.npy", "line 1 of .* leads out of"),
        ("# nothing", "names no file"),
        ("rgb/7.png depth/7.npy", "none of its pairs is under .*7.png: no such file"),
    ],
)
def test_lists_that_name_nothing_good_are_refused(folder, line, reason):
    folder.text("train.txt", line)
    with pytest.raises(ConfigError, match=rf"^data\.train_list: .*{reason}"):
        reader(folder)


def test_a_list_may_lie_anywhere_and_use_tabs_for_names_with_spaces(folder):
    folder.picture("far/away/a b.png", 4, 4)
    folder.npy("far/away/a b.npy", np.ones((4, 4)))
    folder.text("far/list.txt", "away/a b.png\taway/a b.npy", "", "# comment", "../rgb/0.png\tdepth/0.npy")
    data = reader(folder, train_list=folder.root / "far/list.txt")
    assert [pair.id for pair in data.train_pairs] == ["far/away/a b.png", "rgb/0.png"]
    with pytest.raises(ConfigError, match=r"data\.train_list: .*none\.txt cannot be read \(No such file"):
        reader(folder, train_list=folder.root / "none.txt")


def test_a_pair_on_both_sides_is_refused(folder):
    with pytest.raises(ConfigError, match=r"rgb/2\.png is to be trained on and to validate, one of 1 pairs"):
        reader(folder, train_list=folder.root / "val.txt")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("limits", (1.0, 1.0)),
        ("limits", (-1.0, 2.0)),
        ("limits", (math.nan, 2.0)),
        ("size", (0, 4)),
        ("val_size", (4, -1)),
        ("crop", (4, 0)),
    ],
)
def test_values_out_of_range_are_refused(folder, key, value):
    with pytest.raises(ConfigError, match=rf"^data\.{key} is .*; expected "):
        reader(folder, **{key: value})


def test_the_root_has_to_be_a_folder(folder):
    with pytest.raises(ConfigError, match=r"data\.root: .*val\.txt is not a folder; unpack it"):
        DepthFolder(folder.root / "val.txt")
    with pytest.raises(ConfigError, match=r"data\.root: .*nowhere is not a folder$"):
        DepthFolder(folder.root / "nowhere")


def test_workers_can_be_handed_a_source(folder):
    source = reader(folder).train()
    assert same(pickle.loads(pickle.dumps(source)).sample(0, None), source.sample(0, None))


def test_in_a_run_another_sample_takes_the_place_of_a_broken_one(folder):
    folder.npy("depth/1.npy", np.full((12, 16), np.nan))
    source = reader(folder).train()
    batches = train_batches(source, source.order(4, seed=3), range(3), micro_batch=4, seed=3)
    batches = list(batches)
    assert {id for batch in batches for id in batch["id"]} == {"rgb/0.png"}
    assert all("no valid depth" in reason for batch in batches for reason in batch["replaced"])
    assert any(batch["replaced"] for batch in batches)
    assert batches[0]["image"].shape == (4, 3, 12, 16)
    assert batches[0]["limits"].shape == (4, 2)
