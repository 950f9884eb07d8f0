"""Marigold's lists and real pictures with depth, where SALTICID_TEST_DATA has them."""

import numpy as np
import pytest
from PIL import Image

from salticid.data.readers import DepthFolder, Diode, Eth3d, Hypersim, Kitti, Nyu, ScanNet, VirtualKitti
from salticid.data.readers.depth import Stereo


def within(real_data, name):
    path = real_data / name
    if not path.exists():
        pytest.skip(f"SALTICID_TEST_DATA has no {name}")
    return path


@pytest.mark.parametrize(
    ("reader", "name", "count", "without"),
    [
        (Nyu, "nyu_depth/labeled/filename_list_test.txt", 654, 0),
        (Nyu, "nyu_depth/labeled/filename_list_train.txt", 795, 0),
        (Kitti, "kitti_depth/eigen_test_files_with_gt.txt", 652, 45),
        (Kitti, "kitti_depth/eigen_val_from_train_800.txt", 800, 0),
        (Eth3d, "eth3d_depth/eth3d_filename_list.txt", 454, 0),
        (ScanNet, "scannet_depth/scannet_val_sampled_list_800_1.txt", 800, 0),
        (Diode, "diode_depth/diode_val_all_filename_list.txt", 771, 0),
        (Hypersim, "hypersim_depth/filename_list_val_filtered_small_80.txt", 80, 0),
        (VirtualKitti, "vkitti_depth/vkitti_val.txt", 5364, 0),
    ],
)
def test_every_line_of_marigolds_lists_is_a_pair(real_data, write, reader, name, count, without):
    listing = within(real_data, f"references/marigold_lists/{name}")
    lines = [line.split() for line in listing.read_text().splitlines()]
    columns = 3 if reader is Diode else 2
    write.touch(*{name for line in lines for name in line[:columns] if name != "None"})
    data = reader(write.root, val_list=listing)
    assert len(lines) == count + without
    assert len(data.val()) == count
    assert len(data.skipped) == without
    assert [pair.id for pair in data.val_pairs] == [line[0] for line in lines if line[1] != "None"]


@pytest.mark.parametrize(
    ("name", "options", "count", "scale", "share", "depths"),
    [
        ("metric3d_nyu", {"image": "rgb/rgb_{n}", "depth": "depth/sync_depth_{n}"}, 3, 1000, (0.67, 0.76), (0.7, 8.3)),
        ("slambook2_tum2", {"image": "{n}", "depth": "{n}_depth", "scale": 5000.0}, 2, 5000, (0.6, 0.7), (0.9, 10.5)),
        ("slambook2_rgbd5", {"image": "color/{name}"}, 2, 1000, (0.6, 0.8), (0.7, 10)),
        ("open3d_rgbd5", {"image": "color/{name}"}, 5, 1000, (0.86, 0.88), (0.9, 2.8)),
    ],
)
def test_depth_of_sensors(real_data, name, options, count, scale, share, depths):
    root = within(real_data, f"rgbd/{name}")
    data = DepthFolder(root, **options, val_share=1.0)
    assert len(data.val()) == count
    assert data.skipped == {}
    for index, pair in enumerate(data.val_pairs):
        sample = data.val().sample(index, None)
        values = np.asarray(Image.open(root / pair.depth)).astype(np.float64)
        assert np.array_equal(sample["valid"][0], values > 0)
        assert np.allclose(sample["depth"][0], values / scale, atol=1e-6, rtol=0)
        assert share[0] < float(sample["valid"].float().mean()) < share[1]
        assert depths[0] <= float(sample["depth"][sample["valid"]].min())
        assert float(sample["depth"].max()) <= depths[1]
        assert sample["image"].shape[1:] == sample["depth"].shape[1:]


def test_depth_of_a_calibrated_pair(real_data):
    root = within(real_data, "rgbd/middlebury_motorcycle")
    stereo = Stereo(focal=994.978, baseline=0.193001, doffs=31.086)
    options = {"image": "{name}_left", "depth": "{name}_disp", "stereo": stereo, "val_share": 1.0}
    sample = DepthFolder(root, **options).val().sample(0, None)
    disparity = np.load(root / "motorcycle_disp.npz")["arr_0"].astype(np.float64)
    known = np.isfinite(disparity)
    assert sample["image"].shape == (3, 500, 741)
    assert np.array_equal(sample["valid"][0], known)
    expected = 994.978 * 0.193001 / (disparity[known] + 31.086)
    assert np.allclose(sample["depth"][0][sample["valid"][0]], expected, atol=0, rtol=1e-6)
    assert 2 < expected.min() < expected.max() < 6
