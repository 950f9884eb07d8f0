"""KITTI and Virtual KITTI 2: lists, archives, the benchmark's crop and the judged regions."""

import numpy as np
import pytest
import torch

from salticid.data.readers import Kitti, VirtualKitti
from salticid.errors import UnreadableSample

RECORDED = "2011_09_26/2011_09_26_drive_0002_sync/image_02/data/0000000069.png"
ANNOTATED = "2011_09_26_drive_0002_sync/proj_depth/groundtruth/image_02/0000000069.png"


def kitti(write, prefix="", height=375, width=1242):
    """One frame, with a depth of its own at every pixel (as far as sixteen bits go)."""
    pixels = write.picture(RECORDED, height, width)
    values = 1 + np.arange(height * width).reshape(height, width) % 20_479  # below 80 m
    write.png16(f"{prefix}{ANNOTATED}", values)
    return pixels, values


def read(write, **options):
    listing = write.text("list.txt", f"{RECORDED} {ANNOTATED} 721.5377")
    return Kitti(write.root, val_list=listing, **options)


def test_the_benchmarks_crop_is_the_bottom_and_the_middle(write):
    pixels, values = kitti(write, "val/")
    sample = read(write, mask="none").val().sample(0, None)
    rows, columns = slice(23, 375), slice(13, 1229)
    assert sample["valid"].all()
    assert np.array_equal(sample["depth"][0], (values[rows, columns] / 256).astype(np.float32))
    expected = torch.from_numpy(pixels[rows, columns]).permute(2, 0, 1) / 127.5 - 1
    torch.testing.assert_close(sample["image"], expected, atol=1e-6, rtol=0)
    whole = read(write, mask="none", benchmark_crop=False).val().sample(0, None)
    assert whole["depth"].shape == (1, 375, 1242)


@pytest.mark.parametrize(
    ("mask", "rows", "columns"),
    # 352 · 0.3324324 = 117.02, 352 · 0.91351351 = 321.56, 1216 · 0.0359477 = 43.71, 1216 · 0.96405229 = 1172.29,
    # 352 · 0.40810811 = 143.65, 352 · 0.99189189 = 349.15
    [("eigen", slice(117, 321), slice(43, 1172)), ("garg", slice(143, 349), slice(43, 1172))],
)
def test_the_judged_region_is_a_share_of_the_crop_and_of_validation_alone(write, mask, rows, columns):
    kitti(write)
    data = read(write, mask=mask)
    expected = torch.zeros(1, 352, 1216, dtype=torch.bool)
    expected[:, rows, columns] = True
    sample = data.val().sample(0, None)
    assert torch.equal(sample["valid"], expected)
    assert not sample["depth"][~expected].any()
    data = Kitti(write.root, train_list=write.root / "list.txt", mask=mask)
    assert data.train().sample(0, None)["valid"].all()


def test_depth_is_sparse_and_ends_at_eighty_metres(write):
    kitti(write)
    values = np.zeros((375, 1242), int)
    values[200, 600], values[201, 600], values[202, 600] = 2560, 80 * 256, 65535
    write.png16(ANNOTATED, values)
    sample = read(write).val().sample(0, None)
    assert sample["valid"].nonzero().tolist() == [[0, 177, 587]]
    assert float(sample["depth"].sum()) == 10.0


def test_a_picture_smaller_than_the_crop_is_refused(write):
    kitti(write, height=351)
    with pytest.raises(UnreadableSample, match=r"351×1242 is smaller than the benchmark's crop, 352×1216"):
        read(write).val().sample(0, None)


def test_lines_without_ground_truth_are_counted(write):
    kitti(write)
    lines = [f"{RECORDED} {ANNOTATED} 721.5377", f"{RECORDED.replace('69', '75')} None 721.5377"]
    data = Kitti(write.root, val_list=write.text("list.txt", *lines))
    assert len(data.val()) == 1
    assert list(data.skipped.values()) == ["no depth (None in the list)"]


@pytest.mark.parametrize(("raw", "annotated"), [("", ""), ("raw_data/", "data_depth_annotated/")])
def test_the_archives_own_layout(write, raw, annotated):
    drives = {"train": "2011_09_26_drive_0001_sync", "val": "2011_10_03_drive_0047_sync"}
    for side, drive in drives.items():
        for camera in ("image_02", "image_03"):
            for number in (5, 6):
                depth = f"{annotated}{side}/{drive}/proj_depth/groundtruth/{camera}/{number:010d}.png"
                recorded = f"{raw}{drive[:10]}/{drive}/{camera}/data/{number:010d}.png"
                write.touch(depth, *([recorded] if number == 5 else []))
    data = Kitti(write.root)
    for side, pairs in (("train", data.train_pairs), ("val", data.val_pairs)):
        expected = [f"{raw}{drives[side][:10]}/{drives[side]}/image_0{i}/data/0000000005.png" for i in (2, 3)]
        assert [pair.id for pair in pairs] == expected
    assert len(data.skipped) == 4
    assert len(Kitti(write.root, cameras=["image_02"]).train_pairs) == 1


FRAME = "Scene01/clone/frames/{}/Camera_0/{}_00000.{}"


def virtual(write, prefix):
    write.picture(prefix.format("rgb") + FRAME.format("rgb", "rgb", "jpg"), 375, 1242)
    values = np.full((375, 1242), 1234)
    values[:100] = 65535  # the sky
    values[100] = 8000
    write.png16(prefix.format("depth") + FRAME.format("depth", "depth", "png"), values)


@pytest.mark.parametrize("prefix", ["", "{}/", "vkitti_2.0.3_{}/"])
def test_virtual_kitti_by_marigolds_list_and_by_its_own_layout(write, prefix):
    virtual(write, prefix)
    line = f"rgb/{FRAME.format('rgb', 'rgb', 'jpg')} depth/{FRAME.format('depth', 'depth', 'png')}"
    by_list = VirtualKitti(write.root, train_list=write.text("list.txt", line))
    by_layout = VirtualKitti(write.root)
    assert by_layout.train_pairs == []
    samples = by_list.train().sample(0, None), by_layout.val().sample(0, None)
    for sample in samples:
        assert sample["image"].shape == (3, 352, 1216)
        assert not sample["valid"][0, : 101 - 23].any()  # 80 m is too far
        assert (sample["depth"][0, 101 - 23 :] == torch.tensor(12.34)).all()


def test_virtual_kitti_is_divided_by_scenes_and_keeps_marigolds_variations(write):
    for scene in ("Scene01", "Scene02", "Scene20"):
        for variation in ("clone", "fog", "15-deg-left", "30-deg-left"):
            for kind, ending in (("rgb", "jpg"), ("depth", "png")):
                write.touch(f"{scene}/{variation}/frames/{kind}/Camera_1/{kind}_00007.{ending}")
    data = VirtualKitti(write.root)
    assert [pair.id.split("/")[:2] for pair in data.train_pairs] == [
        [scene, variation] for scene in ("Scene02", "Scene20") for variation in ("15-deg-left", "clone")
    ]
    assert {pair.id.split("/")[0] for pair in data.val_pairs} == {"Scene01"}
    other = VirtualKitti(write.root, val_scenes=["Scene20"], variations=["fog"])
    assert [pair.id.split("/")[0] for pair in other.train_pairs] == ["Scene01", "Scene02"]
