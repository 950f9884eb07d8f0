"""NYU Depth v2 and ScanNet."""

import numpy as np
import pytest
import torch

from salticid.data.readers import Nyu, ScanNet
from salticid.errors import ConfigError, UnreadableSample


def nyu(write, number, raw=1234, filled=2345):
    stem = f"test/kitchen_0004/{{}}_{number:04d}.png"
    write.picture(stem.format("rgb"), 480, 640)
    values = np.full((480, 640), raw)
    values[200, :100] = 0
    write.png16(stem.format("depth"), values)
    write.png16(stem.format("filled"), np.full((480, 640), filled))
    return " ".join(stem.format(kind) for kind in ("rgb", "depth", "filled"))


def test_nyu_by_marigolds_list_is_judged_in_eigens_region(write):
    listing = write.text("list.txt", nyu(write, 1))
    sample = Nyu(write.root, val_list=listing).val().sample(0, None)
    expected = torch.zeros(1, 480, 640, dtype=torch.bool)
    expected[:, 45:471, 41:601] = True
    expected[:, 200, :100] = False
    assert torch.equal(sample["valid"], expected)
    assert torch.equal(sample["depth"], torch.tensor(1.234).where(expected, 0))
    assert sample["limits"].tolist() == pytest.approx([0.001, 10])
    everything = Nyu(write.root, val_list=listing, mask="none").val().sample(0, None)
    assert int(everything["valid"].sum()) == 480 * 640 - 100
    filled = Nyu(write.root, val_list=listing, filled=True).val().sample(0, None)
    assert int(filled["valid"].sum()) == 426 * 560
    assert float(filled["depth"].max()) == pytest.approx(2.345)
    trained = Nyu(write.root, train_list=listing).train().sample(0, None)
    assert int(trained["valid"].sum()) == 480 * 640 - 100


@pytest.fixture
def labelled(write):
    """The published file in MATLAB's order of axes, with four pictures; 1 and 4 are for the test."""
    h5py = pytest.importorskip("h5py")
    io = pytest.importorskip("scipy.io")
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (4, 480, 640, 3), dtype=np.uint8)
    raw, filled = rng.uniform(0.5, 9, (2, 4, 480, 640)).astype(np.float32)
    raw[:, 100:110] = 0
    with h5py.File(write.path("nyu_depth_v2_labeled.mat"), "w") as file:
        file["images"] = images.transpose(0, 3, 2, 1)
        file["rawDepths"], file["depths"] = raw.transpose(0, 2, 1), filled.transpose(0, 2, 1)
    io.savemat(write.path("splits.mat"), {"trainNdxs": [[2], [3]], "testNdxs": [[1], [4]]})
    return images, raw, filled


def test_nyu_in_its_own_layout(write, labelled):
    images, raw, filled = labelled
    data = Nyu(write.root, mask="none")
    assert [pair.id for pair in data.train_pairs] == [f"nyu_depth_v2_labeled.mat/{n:04d}" for n in (2, 3)]
    assert [pair.id for pair in data.val_pairs] == [f"nyu_depth_v2_labeled.mat/{n:04d}" for n in (1, 4)]
    sample = data.val().sample(1, None)
    assert np.array_equal(sample["depth"][0], raw[3])
    expected = torch.from_numpy(images[3]).permute(2, 0, 1) / 127.5 - 1
    torch.testing.assert_close(sample["image"], expected, atol=1e-6, rtol=0)
    sample = Nyu(write.root, filled=True).train().sample(0, None)
    assert np.array_equal(sample["depth"][0], filled[1])
    judged = Nyu(write.root).val().sample(0, None)["valid"]
    assert int(judged.sum()) == (426 - 10) * 560


def test_nyu_without_its_split_or_with_a_damaged_file(write, labelled):
    path = write.path("nyu_depth_v2_labeled.mat")
    data = Nyu(write.root)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UnreadableSample, match=r"nyu_depth_v2_labeled\.mat: cannot be read"):
        data.val().sample(0, None)
    write.text("splits.mat", "no table")
    with pytest.raises(ConfigError, match=r"splits\.mat is not NYU's table of the split"):
        Nyu(write.root)
    write.path("splits.mat").unlink()
    with pytest.raises(ConfigError, match=r"nyu_depth_v2_labeled\.mat lacks the splits\.mat"):
        Nyu(write.root)
    path.unlink()
    with pytest.raises(ConfigError, match=r"expected nyu_depth_v2_labeled\.mat and splits\.mat, or data\.train_list"):
        Nyu(write.root)


def scannet(write, scene, name, colour=(480, 640)):
    pixels = write.picture(f"{scene}/color/{name}.jpg", *colour)
    values = np.full((480, 640), 2500)
    values[0], values[1] = 0, 10_000
    write.png16(f"{scene}/depth/{name}.png", values)
    return pixels


@pytest.mark.parametrize(
    ("scene", "name"), [("scene0406_02", "000300"), ("scene0406_02", "300"), ("scans/scene0406_02", "300")]
)
def test_scannet_by_marigolds_list_in_either_naming(write, scene, name):
    scannet(write, scene, name)
    listing = write.text("list.txt", "scene0406_02/color/000300.jpg scene0406_02/depth/000300.png")
    sample = ScanNet(write.root, val_list=listing).val().sample(0, None)
    assert not sample["valid"][0, :2].any()  # 10 m is too far
    assert (sample["depth"][0, 2:] == 2.5).all()


def test_the_first_frame_of_scannet_is_zero(write):
    scannet(write, "scene0406_02", "0")
    listing = write.text("list.txt", "scene0406_02/color/000000.jpg scene0406_02/depth/000000.png")
    assert [pair.id for pair in ScanNet(write.root, val_list=listing).val_pairs] == ["scene0406_02/color/0.jpg"]


def test_scannet_in_its_own_layout(write):
    for scene in ("scene0001_00", "scene0002_00"):
        for number in (10, 9):
            scannet(write, scene, number, colour=(968, 1296))
    data = ScanNet(write.root)
    assert data.train_pairs == []
    assert [pair.id for pair in data.val_pairs[:2]] == [f"scene0001_00/color/{number}.jpg" for number in (9, 10)]
    sample = data.val().sample(0, None)
    assert sample["image"].shape == (3, 480, 640)
    assert sample["image"].std() < 0.6 * 2 / np.sqrt(12)  # noise is averaged, not picked
    write.text("scannetv2_val.txt", "scene0002_00")
    data = ScanNet(write.root)
    assert {pair.id[:12] for pair in data.train_pairs} == {"scene0001_00"}
    assert {pair.id[:12] for pair in data.val_pairs} == {"scene0002_00"}
