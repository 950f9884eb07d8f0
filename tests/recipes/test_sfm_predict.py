"""From files to files of depth and motion; networks that leave the house."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from salticid.errors import UserError
from salticid.evaluate.video_files import VideoWriter
from salticid.geometry import se3
from salticid.geometry.cameras import Pinhole
from salticid.geometry.trajectory_files import read_kitti, read_tum
from salticid.recipes import SfmRecipe
from salticid.recipes.sfm.frames import Frames
from salticid.recipes.sfm.predict import Predictor, Seen
from salticid.recipes.sfm.settings import DepthRange, Networks

SIZE = (40, 48)


@pytest.fixture(scope="module")
def recipe():
    torch.manual_seed(0)
    made = SfmRecipe(networks=Networks(norm="group", pose="cost_volume", pose_scale=0.1)).eval()
    made.size.copy_(torch.tensor(SIZE))
    made.lens[:4] = torch.tensor([40.0, 40.0, 23.5, 19.5])
    return made


def pictures(folder: Path, count: int) -> Path:
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for i in range(count):
        Image.fromarray(generator.integers(0, 255, (60, 96, 3), dtype=np.uint8)).save(folder / f"{i:03d}.png")
    return folder


def test_a_picture_becomes_depth_and_points(recipe, tmp_path):
    folder = pictures(tmp_path / "in", 1)
    made = recipe.predict([folder / "000.png"], tmp_path / "out", outputs=("png16", "npy", "colour", "ply"))
    assert [path.name for path in made] == ["000-depth.png", "000-depth.npy", "000-colour.png", "000.ply"]
    depth = np.load(made[1])
    assert depth.shape == (60, 96)
    assert depth.min() > recipe.model.range.near
    levels = np.asarray(Image.open(made[0])).astype(np.float64)
    assert np.abs(levels / 1000 - depth)[depth < 65].max() < 6e-4
    assert b"element vertex 1920" in made[3].read_bytes()[:200]


@pytest.mark.parametrize("kind", ["folder", "video"])
def test_a_film_becomes_a_way(recipe, tmp_path, kind):
    folder = pictures(tmp_path / "film", 4)
    source = folder
    if kind == "video":
        source = tmp_path / "film.mp4"
        from fractions import Fraction

        with VideoWriter(source, Fraction(10)) as video:
            for path in sorted(folder.iterdir()):
                video.write(torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1))
    made = recipe.predict([source], tmp_path / "out", every=2)
    endings = ["-depth.mp4", "-depth.npy", "-tum.txt", "-kitti.txt", "-way.png", ".ply"]
    assert [path.name for path in made] == [f"film{ending}" for ending in endings]
    assert np.load(made[1]).shape == (4, 60, 96)
    times, poses = read_tum(made[2])
    _, same = read_kitti(made[3])
    assert times.tolist() == pytest.approx([i / (10 if kind == "video" else 25) for i in range(4)])
    torch.testing.assert_close(poses, same, atol=1e-6, rtol=0)
    assert poses[0].equal(torch.eye(4, dtype=torch.float64))
    assert (poses[1:, :3, 3].norm(dim=1) > 0).all()


def test_intrinsics_belong_to_the_input(recipe):
    picture = torch.randint(0, 255, (3, 60, 96), dtype=torch.uint8)
    told = Predictor(recipe, None, [80.0, 60.0, 47.5, 29.5])
    assert told.lens(picture).tolist() == pytest.approx([40, 40, 23.5, 19.5])
    torch.testing.assert_close(told(picture).points, Predictor(recipe, None, None)(picture).points)
    z = told(picture).points[..., 2]
    torch.testing.assert_close(z, recipe.model.to_depth(recipe.model.disparities(told.shown(picture))[0])[0, 0])


def test_a_fisheye_of_training_keeps_its_zeros():
    """k2 to k4 of Kannala–Brandt are often 0."""
    made = SfmRecipe(networks=Networks(norm="group", pose="cost_volume")).eval()
    made.size.copy_(torch.tensor(SIZE))
    own = torch.tensor([20.0, 20.0, 23.5, 19.5, -0.02, 0.0, 0.0, 0.0])
    made.lens[: len(own)] = own
    picture = torch.zeros(3, 60, 96, dtype=torch.uint8)
    torch.testing.assert_close(Predictor(made, None, None).lens(picture), own)


def test_relative_depths_of_a_film_get_a_common_unit(recipe):
    """A wall 2 ahead, then 1.5 ahead, which the second frame calls 0.5: its unit is three of the first one's (nearly:
    distances are read between pixels)."""
    made = SfmRecipe(networks=recipe.model.settings, range=DepthRange(relative=True)).eval()
    made.size.copy_(recipe.size)
    made.lens[:4] = recipe.lens[:4]
    predictor = Predictor(made, None, None)
    picture = torch.zeros(3, 60, 96, dtype=torch.uint8)
    rays = Pinhole(*SIZE, 40.0, 40.0, 23.5, 19.5).rays()[0]
    wall = rays / rays[..., 2:]
    before, after = (Seen(wall[..., 2], depth * wall, wall) for depth in (2.0, 0.5))
    step = se3.pose(torch.eye(3), torch.tensor([0.1, 0.0, 0.5]))
    assert predictor.growth(before, after, step, picture) == pytest.approx(3.0, rel=1e-3)
    assert Predictor(recipe, None, None).growth(before, after, step, picture) == 1.0


def test_refusals(recipe, tmp_path):
    folder = pictures(tmp_path / "in", 1)
    (tmp_path / "bad.png").write_bytes(b"no picture")
    for inputs, output, options, message in (
        ([folder], tmp_path / "out", {}, "1 pictures; expected the frames of a film"),
        ([tmp_path / "bad.png"], tmp_path / "out", {}, r"bad\.png"),
        ([folder / "000.png"], tmp_path / "x.png", {}, "expected the name of a folder"),
        ([folder / "000.png"], tmp_path / "out", {"size": (16, 64)}, "more than 32"),
        ([folder / "000.png"], tmp_path / "out", {"intrinsics": [1.0]}, "intrinsics"),
        ([folder / "000.png"], tmp_path / "out", {"intrinsics": [0.0, 1, 5, 5]}, "expected a positive focal length"),
        ([folder / "000.png"], tmp_path / "out", {"every": 0}, "--every is 0"),
    ):
        with pytest.raises(UserError, match=message):
            recipe.predict(inputs, output, **options)
    with pytest.raises(UserError, match="optical flow alone"):
        SfmRecipe(stage="flow", networks=Networks(norm="group")).predict([folder / "000.png"], tmp_path / "out")


KINDS = {
    "pair": SfmRecipe,
    "shared": lambda: SfmRecipe(networks=Networks("test_resnet", norm="group", pose="shared")),
    "cost volume": lambda: SfmRecipe(
        networks=Networks("test_resnet", norm="group", pose="cost_volume"), range=DepthRange(relative=True)
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_networks_leave_as_programs_and_onnx(kind, tmp_path):
    import onnxruntime

    torch.manual_seed(0)
    recipe = KINDS[kind]().eval()
    recipe.size.copy_(torch.tensor(SIZE))
    made = recipe.export(tmp_path / "out")
    assert [path.name for path in made] == ["depth.pt2", "depth.onnx", "pose.pt2", "pose.onnx"]
    frames = torch.rand(3, 2, 3, *SIZE)
    lens = torch.tensor([40.0, 40.0, 23.5, 19.5]).expand(3, 4)
    rays = Pinhole(*SIZE, 40.0, 40.0, 23.5, 19.5).rays()[0].permute(2, 0, 1).expand(3, 3, *SIZE)
    with torch.no_grad():
        depth = recipe.model.to_depth(recipe.model.disparities(frames[:, 0])[0])
        pose = recipe.model.motions(Frames(frames, frames, lens, (1,))).to_source[:, 0]
    both = torch.cat([frames.flatten(1, 2), rays] if kind == "cost volume" else [frames.flatten(1, 2)], dim=1)
    for name, images, expected in (("depth", frames[:, 0], depth), ("pose", both, pose)):
        session = onnxruntime.InferenceSession(str(tmp_path / f"out/{name}.onnx"), providers=["CPUExecutionProvider"])
        (answer,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
        program = torch.export.load(tmp_path / f"out/{name}.pt2").module()(images)
        for found in (torch.from_numpy(answer), program):
            whole = found if name == "depth" else se3.pose(se3.axis_angle_to_matrix(found[:, :3]), found[:, 3:])
            torch.testing.assert_close(whole, expected, atol=1e-4, rtol=1e-4)
