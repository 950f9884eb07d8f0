import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from salticid.errors import UserError
from salticid.geometry import se3
from salticid.geometry.cameras import UCM, DoubleSphere, Equirectangular, KannalaBrandt, Pinhole
from salticid.geometry.rig import Rig, load_rig, save_rig, ucm_intrinsics

OWN = """
format: salticid-rig
cameras:
  - name: front
    model: ucm
    size: [64, 96]
    parameters: {fx: 22.0, fy: 23.0, cx: 47.5, cy: 31.5, xi: 0.85}
    max_angle: 95.0
    pose:
      rotation: {yaw: 90.0, pitch: 10.0}
      translation: [0.1, 0.0, -0.2]
  - name: back
    model: pinhole
    size: [48, 48]
    parameters: {fx: 3e1, fy: 30, cx: 23.5, cy: 23.5}
    pose: {rotation: [0.0, 3.0, 0.0]}
"""

KALIBR = """
cam0:
  camera_model: pinhole
  intrinsics: [461.6, 460.3, 363.0, 248.1]
  distortion_model: equidistant
  distortion_coeffs: [-0.27, 0.06, 0.001, 0.0005]
  resolution: [752, 480]
  rostopic: /cam0/image_raw
cam1:
  T_cn_cnm1:
  - [0.0, 0.0, -1.0, 0.1]
  - [0.0, 1.0, 0.0, 0.0]
  - [1.0, 0.0, 0.0, 0.3]
  - [0.0, 0.0, 0.0, 1.0]
  camera_model: omni
  intrinsics: [1.2, 460.0, 461.0, 376.0, 240.0]
  distortion_model: none
  distortion_coeffs: []
  resolution: [752, 480]
cam2:
  T_cn_cnm1:
  - [1.0, 0.0, 0.0, -0.5]
  - [0.0, 1.0, 0.0, 0.0]
  - [0.0, 0.0, 1.0, 0.0]
  - [0.0, 0.0, 0.0, 1.0]
  camera_model: ds
  intrinsics: [-0.2, 0.6, 350.0, 351.0, 376.0, 240.0]
  distortion_model: none
  resolution: [752, 480]
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "rig.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_ring_looks_round_to_the_right_and_outwards() -> None:
    rig = Rig.ring(4, UCM.centred(8, 8, 4.0, xi=0.9), radius=0.5)
    axes = rig.poses[:, :3, 2]
    expected = torch.tensor([[0.0, 0, 1], [1, 0, 0], [0, 0, -1], [-1, 0, 0]])
    torch.testing.assert_close(axes, expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(rig.poses[:, :3, 3], expected * 0.5, atol=1e-6, rtol=0)
    assert (rig.poses[:, 1, 1] == 1).all()  # all upright
    assert rig.resized(16, 16).cameras[0].fx == 8.0


@pytest.mark.parametrize("inverse_distance", [0.0, 0.4, 2.0])
def test_points_along_the_rigs_rays_are_where_the_inverse_pose_moves_them(inverse_distance: float) -> None:
    """Against a linear solver, one rig for each sample; the same under autocast."""
    ring = Rig.ring(3, UCM.centred(8, 8, 4.0, xi=0.9), radius=0.15)
    rotations = se3.axis_angle_to_matrix(0.3 * torch.randn(2, 3, 3, generator=torch.Generator().manual_seed(0)))
    rig = Rig(ring.cameras, se3.compose(ring.poses, se3.pose(rotations)), ring.names)
    rays, _ = Equirectangular(4, 8).rays()
    # (ray, q) is the point ray / q in homogeneous coordinates.
    points = torch.cat((rays, torch.full((4, 8, 1), inverse_distance)), dim=-1).double()
    for index in range(3):
        with torch.autocast("cpu", torch.bfloat16):
            made = rig.points(index, rays, inverse_distance)
        assert made.dtype == torch.float32
        for i in range(2):
            moved = torch.linalg.solve(rig.poses[i, index].double(), points.reshape(-1, 4).T).T.reshape(4, 8, 4)
            torch.testing.assert_close(made[i].double(), moved[..., :3], atol=2e-6, rtol=0)
    assert ring.points(0, rays).shape == (1, 4, 8, 3)


def test_intrinsics_of_ucm_cameras() -> None:
    cameras = UCM(8, 10, 4.0, 5.0, 4.5, 3.5, 0.9), UCM(8, 10, 4.1, 5.1, 4.6, 3.6, torch.tensor(1.2), max_angle=1.0)
    rig = Rig(cameras, torch.eye(4).expand(2, 4, 4), ("left", "right"))
    expected = torch.tensor([[4.0, 5.0, 4.5, 3.5, 0.9], [4.1, 5.1, 4.6, 3.6, 1.2]])
    assert torch.equal(ucm_intrinsics(rig), expected)
    for camera in (
        DoubleSphere.centred(8, 10, 4.0, xi=0.1, alpha=0.5),
        UCM.centred(8, 10, 4.0, xi=torch.tensor([0.9, 0.8])),
    ):
        with pytest.raises(ValueError, match=r"'yaw0' is .*; expected a UCM with plain numbers"):
            ucm_intrinsics(Rig.ring(1, camera))


def test_our_own_format(tmp_path: Path) -> None:
    rig = load_rig(write(tmp_path, OWN))
    assert rig.names == ("front", "back")
    front, back = rig.cameras
    assert front == UCM(64, 96, 22.0, 23.0, 47.5, 31.5, 0.85, max_angle=math.radians(95))
    assert back == Pinhole(48, 48, 30.0, 30.0, 23.5, 23.5)
    torch.testing.assert_close(rig.poses[0, :3, :3], se3.yaw_pitch_roll(math.pi / 2, math.radians(10)))
    assert rig.poses[0, :3, 3].tolist() == pytest.approx([0.1, 0, -0.2])
    torch.testing.assert_close(rig.poses[1, :3, :3], se3.axis_angle_to_matrix(torch.tensor([0.0, 3.0, 0.0])))


def test_saved_rigs_come_back(tmp_path: Path) -> None:
    cameras = (
        UCM.centred(8, 10, 4.0, xi=0.9, max_angle=1.0),
        DoubleSphere.centred(8, 10, 4.0, xi=-0.1, alpha=0.5),
        KannalaBrandt.centred(8, 10, 4.0, k1=0.1),
        Pinhole.centred(8, 10, 4.0),
        Equirectangular(8, 16),
    )
    rotations = se3.axis_angle_to_matrix(torch.randn(5, 3, generator=torch.Generator().manual_seed(0)))
    rig = Rig(cameras, se3.pose(rotations, torch.ones(5, 3)), tuple("äbcde"))
    save_rig(rig, tmp_path / "rig.yaml")
    back = load_rig(tmp_path / "rig.yaml")
    assert back.names == rig.names
    assert torch.equal(back.poses, rig.poses)
    for a, b in zip(rig.cameras, back.cameras, strict=True):
        assert type(a) is type(b)
        assert (a.height, a.width) == (b.height, b.width)
        assert b.parameters == pytest.approx(a.parameters)


def test_kalibr_chains(tmp_path: Path) -> None:
    rig = load_rig(write(tmp_path, KALIBR))
    assert rig.names == ("cam0", "cam1", "cam2")
    assert rig.cameras == (
        KannalaBrandt(480, 752, 461.6, 460.3, 363.0, 248.1, -0.27, 0.06, 0.001, 0.0005),
        UCM(480, 752, 460.0, 461.0, 376.0, 240.0, 1.2),
        DoubleSphere(480, 752, 350.0, 351.0, 376.0, 240.0, -0.2, 0.6),
    )
    first = torch.tensor([[0.0, 0, -1, 0.1], [0, 1, 0, 0], [1, 0, 0, 0.3], [0, 0, 0, 1]])
    second = torch.eye(4)
    second[0, 3] = -0.5
    torch.testing.assert_close(rig.poses[1], torch.linalg.inv(first))
    torch.testing.assert_close(rig.poses[2], torch.linalg.inv(second @ first))


@pytest.mark.parametrize("names", [("camera_matrix", "dist_coeffs"), ("K", "D")])
def test_files_that_opencv_writes(tmp_path: Path, names: tuple[str, str]) -> None:
    path = tmp_path / "left.yml"
    storage = cv2.FileStorage(str(path), cv2.FILE_STORAGE_WRITE)
    storage.write(names[0], np.array([[302.5, 0, 496.6], [0, 320.7, 331.2], [0, 0, 1]]))
    storage.write(names[1], np.array([-0.04, 0.02, -0.03, 0.008]))
    storage.write("resolution", np.array([960, 640], dtype=np.int32))
    storage.release()
    assert path.read_text().startswith("%YAML")  # :1.0 from OpenCV 4, 1.2 from OpenCV 5
    rig = load_rig(path)
    assert rig.names == ("left",)
    assert rig.cameras[0] == KannalaBrandt(640, 960, 302.5, 320.7, 496.6, 331.2, -0.04, 0.02, -0.03, 0.008)
    assert torch.equal(rig.poses, torch.eye(4)[None])


def test_real_surround_view_calibrations(sample_data: Path) -> None:
    paths = sorted((sample_data / "fisheye/surround_view_4cam/yaml").glob("*.yaml"))
    if not paths:
        pytest.skip("real calibrations: SALTICID_TEST_DATA has no fisheye/surround_view_4cam")
    for path in paths:
        storage = cv2.FileStorage(str(path), cv2.FILE_STORAGE_READ)
        matrix = storage.getNode("camera_matrix").mat()
        (camera,) = load_rig(path).cameras
        assert (camera.height, camera.width) == (640, 960)
        values = [camera.fx, camera.fy, camera.cx, camera.cy]
        assert values == [matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2]]
        assert [camera.k1, camera.k2, camera.k3, camera.k4] == storage.getNode("dist_coeffs").mat().ravel().tolist()


@pytest.mark.parametrize(
    ("text", "old", "new", "message"),
    [
        (OWN, "model: ucm", "model: mei", r"cameras\[0\]\.model: expected one of pinhole.*not 'mei'"),
        (OWN, ", xi: 0.85", "", r"cameras\[0\]\.parameters\.xi: missing"),
        (OWN, "xi: 0.85", "xi: .nan", r"parameters\.xi: expected a finite number"),
        (OWN, "xi: 0.85", "xi: -1", r"parameters\.xi: expected a number ≥ 0"),
        (OWN, "xi: 0.85", "xi: wide", r"parameters\.xi: expected a finite number, not 'wide'"),
        (OWN, "fx: 22.0", "fx: -22.0", r"parameters\.fx: expected a positive number"),
        (OWN, "cy: 31.5", "cy: 31.5, k9: 1", r"parameters: unknown key 'k9'"),
        (OWN, "size: [64, 96]", "size: [64.5, 96]", r"size: expected two whole numbers"),
        (OWN, "size: [64, 96]", "size: [64]", r"size: expected 2 numbers"),
        (OWN, "max_angle: 95.0", "max_angle: 195.0", r"max_angle: expected at most 180"),
        (OWN, "name: back", "name: front", r"cameras\[1\]\.name: expected a name of its own"),
        (OWN, "yaw: 90.0", "jaw: 90.0", r"rotation: unknown key 'jaw'"),
        (OWN, "{yaw: 90.0, pitch: 10.0}", "[[1,0,0],[0,1,0],[0,0,-1]]", r"rotation: expected a rotation"),
        (OWN, "salticid-rig", "other-rig", r"format: expected 'salticid-rig'"),
        (KALIBR, "camera_model: ds", "camera_model: eucm", r"cam2\.camera_model: expected one of pinhole, omni, ds"),
        (KALIBR, "equidistant", "radtan", r"cam0\.distortion_model: expected equidistant"),
        (KALIBR, "T_cn_cnm1", "T_cam_imu", r"cam1\.T_cn_cnm1: missing"),
        (KALIBR, "[461.6, 460.3, 363.0, 248.1]", "[461.6, 460.3, 363.0]", r"cam0\.intrinsics: expected 4 numbers"),
        (OWN, "cameras:", "views:", "not a rig: it has none of cameras"),
        (OWN, OWN, "cameras: []", "cameras: expected a list that is not empty"),
        (OWN, OWN, "cameras: [1]", r"cameras\[0\]: expected a mapping"),
        (OWN, OWN, "- 1", "expected a mapping at the top"),
        (OWN, OWN, "a: [1, 2", "not valid YAML in line"),
        (OWN, OWN, "a: !!python/object/apply:os.system ['true']", "not valid YAML"),
        (OWN, OWN, "K: 3\nD: 4\nresolution: [3, 4]", "K: expected 9 numbers"),
        (OWN, OWN, "[" * 3000, "not valid YAML"),
    ],
)
def test_malformed_files_are_refused_by_file_and_key(
    tmp_path: Path, text: str, old: str, new: str, message: str
) -> None:
    assert old in text
    path = write(tmp_path, text.replace(old, new, 1))
    with pytest.raises(UserError, match=message) as caught:
        load_rig(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_nested_aliases_do_not_blow_up(tmp_path: Path) -> None:
    lines = ["a0: &a0 [1, 1]"] + [f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 60)]
    with pytest.raises(UserError, match="K: expected 9 numbers"):
        load_rig(write(tmp_path, "\n".join([*lines, "K: *a59"])))


def test_missing_and_binary_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        load_rig(tmp_path / "nothing.yaml")
    (tmp_path / "picture.yaml").write_bytes(b"\xff\xd8\xff\xe0\x00\x10JFIF")
    with pytest.raises(UserError, match="cannot be read"):
        load_rig(tmp_path / "picture.yaml")


def test_images_of_another_size_are_refused() -> None:
    rig = Rig.ring(2, UCM.centred(8, 10, 4.0, xi=0.9))
    rig.check_images([(8, 10), (8, 10)])
    with pytest.raises(UserError, match=r"'yaw180' is 10×8 .* rig says 8×10"):
        rig.check_images([(8, 10), (10, 8)])
    with pytest.raises(UserError, match="1 images for the 2 cameras yaw0, yaw180"):
        rig.check_images([(8, 10)])
