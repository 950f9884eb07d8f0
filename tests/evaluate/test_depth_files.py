"""Depth files, read back by other means: OpenCV, NumPy, a PLY reader of a few lines."""

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from salticid.errors import UserError
from salticid.evaluate.colour import coloured
from salticid.evaluate.depth_files import save_depth_npy, save_depth_picture, save_depth_png, save_point_cloud
from salticid.geometry.cameras import Pinhole

DEPTH = torch.tensor([[0.0, 0.25, 1.0], [0.5, torch.nan, 0.9999]])


def test_relative_depth_fills_sixteen_bits(tmp_path: Path):
    save_depth_png(DEPTH, tmp_path / "a/depth.png")
    levels = cv2.imread(str(tmp_path / "a/depth.png"), cv2.IMREAD_UNCHANGED)
    assert levels.dtype == np.uint16
    np.testing.assert_array_equal(levels, [[0, 16384, 65535], [32768, 0, 65528]])
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["depth.png"]


def test_metric_depth_has_the_scale_that_is_asked_for(tmp_path: Path):
    metres = torch.rand(20, 30, generator=torch.Generator().manual_seed(0)) * 60
    metres[0, 0] = torch.inf
    save_depth_png(metres, tmp_path / "d.png", scale=1000)
    levels = cv2.imread(str(tmp_path / "d.png"), cv2.IMREAD_UNCHANGED)
    assert levels[0, 0] == 0
    np.testing.assert_allclose(levels.ravel()[1:] / 1000, metres.flatten()[1:], atol=0.0005001)


@pytest.mark.parametrize("bad", [-0.1, 1.1])
def test_depth_that_does_not_fit_is_refused_and_nothing_is_written(tmp_path: Path, bad: float):
    with pytest.raises(
        UserError, match=r"d.png: depth from .* does not fit into 16 bits .* expected values in \[0, 1\]"
    ):
        save_depth_png(torch.tensor([[0.5, bad]]), tmp_path / "d.png")
    assert list(tmp_path.iterdir()) == []


def test_numpy_arrays_keep_every_bit(tmp_path: Path):
    save_depth_npy(DEPTH, tmp_path / "depth.npy")
    found = np.load(tmp_path / "depth.npy", allow_pickle=False)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, DEPTH.numpy())
    save_depth_npy(DEPTH.half(), tmp_path / "depth.npy")
    assert np.load(tmp_path / "depth.npy").dtype == np.float32


def test_pictures_are_in_the_colours_of_depth(tmp_path: Path):
    save_depth_picture(DEPTH, tmp_path / "d.png", limits=(0, 2))
    found = cv2.imread(str(tmp_path / "d.png"))[..., ::-1]
    np.testing.assert_array_equal(found, coloured(DEPTH[None, None], torch.tensor([[0, 2]]))[0].permute(1, 2, 0))
    assert found[1, 1].tolist() == [0, 0, 0]
    save_depth_picture(DEPTH, tmp_path / "d.png")
    assert cv2.imread(str(tmp_path / "d.png"))[0, 0, ::-1].tolist() == [158, 1, 66]


def read_ply(path: Path) -> tuple[np.ndarray, np.ndarray]:
    head, _, body = path.read_bytes().partition(b"end_header\n")
    lines = head.decode().splitlines()
    assert lines[:2] == ["ply", "format binary_little_endian 1.0"]
    assert lines[3:] == [
        *(f"property float {n}" for n in "xyz"),
        *(f"property uchar {n}" for n in ("red", "green", "blue")),
    ]
    count = int(lines[2].removeprefix("element vertex "))
    rows = list(struct.iter_unpack("<fffBBB", body))
    assert len(rows) == count
    table = np.array(rows).reshape(-1, 6)
    return table[:, :3], table[:, 3:]


def test_points_are_where_the_pixels_look_with_their_colours(tmp_path: Path):
    g = torch.Generator().manual_seed(0)
    height, width, fx, fy, cx, cy = 12, 17, 20.0, 22.0, 7.5, 6.25
    depth = 1 + 5 * torch.rand(height, width, generator=g)
    image = torch.randint(0, 256, (3, height, width), generator=g, dtype=torch.uint8)
    depth[0, :3] = torch.tensor([0.0, -1.0, torch.nan])
    mask = torch.ones(height, width, dtype=torch.bool)
    mask[5] = False
    save_point_cloud(depth, image, Pinhole(height, width, fx, fy, cx, cy), tmp_path / "cloud.ply", mask=mask)
    points, colours = read_ply(tmp_path / "cloud.ply")
    v, u = np.nonzero((mask & (depth > 0)).numpy())
    z = depth.numpy()[v, u]
    np.testing.assert_allclose(
        points, np.stack(((u - cx) / fx * z, (v - cy) / fy * z, z), axis=1), rtol=1e-5, atol=1e-6
    )
    np.testing.assert_array_equal(colours, image.numpy()[:, v, u].T)


def test_intrinsics_of_another_size_are_brought_to_that_of_the_depth(tmp_path: Path):
    depth, image = torch.full((10, 20), 2.0), torch.zeros(3, 10, 20, dtype=torch.uint8)
    small, large = Pinhole.centred(10, 20, 15.0), Pinhole.centred(40, 80, 60.0)
    for camera, name in ((small, "a.ply"), (large, "b.ply")):
        save_point_cloud(depth, image, camera, tmp_path / name)
    np.testing.assert_allclose(*(read_ply(tmp_path / name)[0] for name in ("a.ply", "b.ply")), atol=1e-6)


def test_a_cloud_without_points_is_still_a_file(tmp_path: Path):
    save_point_cloud(torch.zeros(4, 5), torch.zeros(3, 4, 5).byte(), Pinhole.centred(4, 5, 3.0), tmp_path / "c.ply")
    assert read_ply(tmp_path / "c.ply")[0].shape == (0, 3)


@pytest.mark.parametrize("save", [save_depth_png, save_depth_npy, save_depth_picture])
def test_files_that_cannot_be_written_are_refused_and_leave_nothing(tmp_path: Path, save):
    target = tmp_path / "depth"
    target.mkdir()
    with pytest.raises(UserError, match="depth: cannot be written"):
        save(DEPTH, target)
    assert list(tmp_path.iterdir()) == [target]
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        save(DEPTH, tmp_path / "file/depth.png")
