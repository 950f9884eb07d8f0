"""ETH3D and DIODE."""

import numpy as np
import pytest

from salticid.data.readers import Diode, Eth3d
from salticid.errors import ConfigError, UnreadableSample

LISTED = (
    "rgb/office/images/dslr_images/{n}.JPG",
    "depth/office_dslr_depth/office/ground_truth_depth/dslr_images/{n}.JPG",
)
ARCHIVES = "office/images/dslr_images/{n}.JPG", "office/ground_truth_depth/dslr_images/{n}.JPG"


def eth3d(write, places, name="DSC_0219", shape=(40, 60)):
    image, depth = (place.format(n=name) for place in places)
    write.picture(image, *shape)
    values = np.random.default_rng(0).uniform(1, 200, shape).astype("<f4")
    values[3, 4], values[5, 6], values[7, 8] = np.inf, 0, np.nan
    write.path(depth).write_bytes(values.tobytes())
    return values


@pytest.mark.parametrize("places", [LISTED, ARCHIVES])
def test_eth3d_reads_headerless_floats_in_either_layout(write, places):
    values = eth3d(write, places)
    listing = write.text("list.txt", " ".join(place.format(n="DSC_0219") for place in LISTED))
    for data in (Eth3d(write.root, val_list=listing), Eth3d(write.root)):
        assert data.train_pairs == []
        sample = data.val().sample(0, None)
        known = np.isfinite(values) & (values > 0)
        assert int(known.sum()) == 40 * 60 - 3
        assert np.array_equal(sample["valid"][0], known)
        assert np.array_equal(sample["depth"][0], np.where(known, values, 0))
        assert sample["limits"].tolist() == pytest.approx([1e-5, np.inf])


def test_eth3d_depth_has_to_fill_its_picture(write):
    values = eth3d(write, ARCHIVES)
    path = write.path(ARCHIVES[1].format(n="DSC_0219"))
    path.write_bytes(values.tobytes()[:-8])
    with pytest.raises(UnreadableSample, match=r"DSC_0219\.JPG: 2398 numbers do not fill 40×60 pixels"):
        Eth3d(write.root).val().sample(0, None)


def test_eth3d_pictures_are_taken_as_they_are_stored(write):
    from PIL import Image

    eth3d(write, ARCHIVES)
    path = write.path(ARCHIVES[0].format(n="DSC_0219"))
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(path).save(path, exif=exif)
    assert Eth3d(write.root).val().sample(0, None)["image"].shape == (3, 40, 60)


def diode(write, stem, shape=(12, 16)):
    write.picture(f"{stem}.png", *shape)
    depth = np.random.default_rng(1).uniform(1, 20, (*shape, 1)).astype(np.float32)
    mask = np.ones(shape)
    mask[2] = 0
    depth[3, 4], depth[3, 5], depth[3, 6] = 400, np.nan, 0
    write.npy(f"{stem}_depth.npy", depth)
    write.npy(f"{stem}_depth_mask.npy", mask)
    return depth[..., 0], mask


SCAN = "indoors/scene_00021/scan_00189/00021_00189_indoors_200_010"


def test_diodes_mask_decides_what_is_valid(write):
    depth, mask = diode(write, f"val/{SCAN}")
    listing = write.text("list.txt", f"{SCAN}.png {SCAN}_depth.npy {SCAN}_depth_mask.npy")
    for data in (Diode(write.root, val_list=listing), Diode(write.root)):
        sample = data.val().sample(0, None)
        expected = mask.astype(bool)
        expected[3, 5:7] = False
        assert np.array_equal(sample["valid"][0], expected)  # 400 m too: the limits are for predictions
        assert np.array_equal(sample["depth"][0], np.where(expected, depth, 0))
        assert sample["limits"].tolist() == pytest.approx([0.6, 350])


def test_diode_in_its_own_layout(write):
    for side in ("train", "val"):
        for number in (10, 20):
            diode(write, f"{side}/outdoor/scene_00022/scan_00193/00022_00193_outdoor_000_0{number}")
    write.path("val/outdoor/scene_00022/scan_00193/00022_00193_outdoor_000_020_depth_mask.npy").unlink()
    data = Diode(write.root)
    assert len(data.train_pairs) == 2
    assert [pair.id for pair in data.val_pairs] == [
        "val/outdoor/scene_00022/scan_00193/00022_00193_outdoor_000_010.png"
    ]
    assert [reason.rsplit("/", 1)[1] for reason in data.skipped.values()] == [
        "00022_00193_outdoor_000_020_depth_mask.npy: no such file"
    ]
    with pytest.raises(ConfigError, match=r"line 1 of .* is short; expected picture, depth and mask"):
        Diode(write.root, val_list=write.text("list.txt", "a.png a_depth.npy"))
