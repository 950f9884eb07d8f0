"""From files to files of depth, with a small stand-in for the model."""

import logging
import struct
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from salticid.data.readers.video import Video
from salticid.diffusion.noise import keyed_normal, stable_key
from salticid.diffusion.path import VP, beta_table
from salticid.diffusion.solve import Denoiser
from salticid.diffusion.target import X0
from salticid.diffusion.times import spaced_grid
from salticid.errors import UserError
from salticid.recipes.marigold.coding import DepthCoding
from salticid.recipes.marigold.estimator import Estimator, Frames, aligned
from salticid.recipes.marigold.fitting import Fitting
from salticid.recipes.marigold.model import MarigoldModel
from salticid.recipes.marigold.predict import predict_depth
from salticid.recipes.marigold.results import distances

HEIGHT, WIDTH = 24, 37


class StandIn(nn.Module):
    """A model whose latents are pooled brightness and whose depth is that of the picture, a little noise added."""

    factor = 8

    def __init__(self, *, noisy: float = 0.1):
        super().__init__()
        self.noisy = noisy
        self.weight = nn.Parameter(torch.zeros(1))
        self.path = VP(beta_table("scaled_linear", 1000), zero_terminal_snr=True)
        self.starts: list[torch.Tensor] = []
        self.asked: list[int] = []

    def encode(self, pictures):
        return F.avg_pool2d(pictures.mean(1, keepdim=True), 8).expand(-1, 4, -1, -1)

    def decode(self, latents):
        return F.interpolate(latents.mean(1, keepdim=True), scale_factor=8)

    def noise(self, image_latents, keys, *, seed, stream="sample"):
        return keyed_normal(keys, image_latents.shape[1:], seed=seed, stream=stream)

    start = "gaussian"

    def grid(self, steps, spacing=None):
        return spaced_grid(1000, steps, spacing or "trailing")

    def denoiser(self, image_latents):
        def network(x, t):
            self.asked.append(int(t[0]))
            self.starts.append(x)
            return image_latents + self.noisy * x

        return Denoiser(network, self.path, X0())

    sample = MarigoldModel.sample


@pytest.fixture
def recipe():
    return SimpleNamespace(model=StandIn(), coding=DepthCoding())


def read_points(path: Path) -> np.ndarray:
    body = path.read_bytes().split(b"end_header\n", 1)[1]
    cloud = np.frombuffer(body, np.dtype([("at", "<f4", 3), ("colour", "u1", 3)]))
    return cloud["at"]


def estimator(recipe, **options) -> Estimator:
    return Estimator(recipe.model, recipe.coding, **({"steps": 4} | options))


def predict(recipe, inputs, output, *, outputs=("png16", "npy", "colour"), intrinsics=None, temporal="none", **options):
    make = estimator(recipe, **({"steps": 2} | options))
    return predict_depth(make, inputs, output, outputs=outputs, intrinsics=intrinsics, temporal=temporal)


def pixels(seed: int = 0, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (3, 5, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def tensor(**size: int) -> torch.Tensor:
    return torch.from_numpy(pixels(**size).transpose(2, 0, 1).copy())


def picture(path: Path, seed: int = 0) -> Path:
    Image.fromarray(pixels(seed)).save(path)
    return path


def film(path: Path, frames: list[np.ndarray], codec: str = "libx264", rate: int = 12) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "rgb8" if codec == "gif" else "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    return path


# --- temporal consistency


def test_noise_is_a_function_of_the_name_and_seed(recipe):
    image = tensor()
    make = lambda name, **options: estimator(recipe, **options)(image, name).depth  # noqa: E731
    assert make("a.png").shape == (1, 1, HEIGHT, WIDTH)
    assert torch.equal(make("a.png"), make("a.png"))
    assert not torch.equal(make("a.png"), make("b.png"))
    assert not torch.equal(make("a.png"), make("a.png", seed=1))


def test_shared_noise_makes_equal_frames_equal(recipe):
    image = tensor()
    for temporal, equal in (("none", False), ("shared", True)):
        frames = Frames(estimator(recipe), "a.mp4", temporal)
        assert torch.equal(frames(image), frames(image)) == equal


def test_a_frame_starts_from_the_one_before_in_the_middle_of_the_grid(recipe):
    image = tensor(height=24, width=40)
    frames = Frames(estimator(recipe), "a.mp4", "sequential")
    model = recipe.model
    frames(image)
    assert model.asked == [999, 749, 499, 249]
    before = frames.latents
    frames(image)
    assert model.asked[4:] == [499, 249]
    noise = keyed_normal(torch.tensor([stable_key("a.mp4")]), (4, 3, 5), seed=0, stream="sample")
    beta = np.linspace(0.0001**0.5, 0.02**0.5, 1000) ** 2
    alpha = np.sqrt(np.cumprod(1 - beta))
    alpha = (alpha - alpha[-1]) * alpha[0] / (alpha[0] - alpha[-1])
    expected = alpha[499] * before + (1 - alpha[499] ** 2) ** 0.5 * noise
    torch.testing.assert_close(model.starts[4], expected.float(), atol=1e-6, rtol=0)


def test_one_step_keeps_its_start(recipe):
    image = tensor()
    frames = Frames(estimator(recipe, steps=1), "a.mp4", "sequential")
    first = frames(image)
    torch.testing.assert_close(frames(image), first, atol=1e-6, rtol=0)
    assert recipe.model.asked == [999, 999]


def test_alignment_undoes_scale_and_shift():
    depth = torch.rand(20, 30, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(aligned(0.4 * depth + 0.3, depth), depth, atol=1e-6, rtol=0)


def test_alignment_is_between_the_least_squares_lines_of_both_directions():
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(40, 50, generator=generator)
    y = 0.7 * x + 0.1 + 0.05 * torch.randn(40, 50, generator=generator)
    there = np.polyfit(x.flatten(), y.flatten(), 1)[0]
    back = np.polyfit(y.flatten(), x.flatten(), 1)[0]
    expected = (x - x.mean()) * (there / back) ** 0.5 + y.mean()
    torch.testing.assert_close(aligned(x, y), expected.float(), atol=1e-6, rtol=0)


def test_alignment_does_not_flatten_long_videos():
    """Ordinary least squares would leave 0.93^100 < 0.1 % of the contrast."""
    generator = torch.Generator().manual_seed(0)
    scene = torch.rand(60, 80, generator=generator)
    depth = scene
    for _ in range(100):
        depth = aligned(scene + 0.08 * torch.randn(scene.shape, generator=generator), depth)
    assert depth.std().item() == pytest.approx(scene.std().item(), rel=1e-4)


def test_a_cut_is_not_aligned():
    a, b = torch.rand(2, 20, 30, generator=torch.Generator().manual_seed(0))
    assert torch.equal(aligned(a, b), a)
    assert torch.equal(aligned(torch.full((4, 4), 0.5), torch.rand(4, 4)), torch.full((4, 4), 0.5))


# --- memory


def test_predictions_at_a_time_are_halved_until_they_fit(recipe):
    sizes = []

    def sample(image_latents, noise, steps, start, spacing):
        sizes.append(len(noise))
        if len(noise) > 3:
            raise torch.OutOfMemoryError("out of memory")
        return MarigoldModel.sample(recipe.model, image_latents, noise, steps, start, spacing)

    recipe.model.sample = sample
    make = estimator(recipe, ensemble=10)
    make.fitting = Fitting()  # as on a GPU
    image = tensor()
    found = make(image, "a")
    assert sizes == [10, 5, 3, 3, 3, 1]
    make(image, "b")
    assert sizes[6:] == [3, 3, 3, 1]
    alone = estimator(recipe, ensemble=10, batch=1)(image, "a")
    torch.testing.assert_close(found.depth, alone.depth, atol=1e-6, rtol=0)
    with pytest.raises(UserError, match=r"a: does not fit .* \(24×37, 5 predictions at a time\)"):
        estimator(recipe, ensemble=10, batch=5)(image, "a")


# --- files


def test_pictures_become_files(recipe, tmp_path):
    source = picture(tmp_path / "room.jpg")
    options = {"outputs": ("png16", "npy", "colour", "uncertainty", "ply"), "ensemble": 4}
    made = predict(recipe, [source], tmp_path / "out", intrinsics=(30.0, 31.0, 18.0, 11.5), **options)
    names = ["room-depth.png", "room-depth.npy", "room-colour.png", "room-uncertainty.npy", "room.ply"]
    assert [path.name for path in made] == names
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(names)
    depth = np.load(tmp_path / "out/room-depth.npy")
    assert (depth.dtype, depth.shape) == (np.float32, (HEIGHT, WIDTH))
    assert depth.min() >= 0
    assert depth.max() <= 1
    sixteen = np.asarray(Image.open(tmp_path / "out/room-depth.png"))
    assert np.abs(sixteen - depth.astype(np.float64) * 65535).max() <= 0.51
    assert np.load(tmp_path / "out/room-uncertainty.npy").shape == (HEIGHT, WIDTH)
    assert Image.open(tmp_path / "out/room-colour.png").size == (WIDTH, HEIGHT)
    points = read_points(tmp_path / "out/room.ply")
    rows, columns = np.mgrid[:HEIGHT, :WIDTH].astype(np.float64)
    z = 0.1 + 0.9 * depth.astype(np.float64)
    expected = np.stack([(columns - 18) / 30 * z, (rows - 11.5) / 31 * z, z], axis=-1).reshape(-1, 3)
    np.testing.assert_allclose(points, expected, atol=1e-5)
    assert set(recipe.model.asked) == {999, 499}


def test_metres_become_millimetres(recipe, tmp_path):
    recipe.coding = DepthCoding(space="metric", near=0.5, far=150.0)
    predict(recipe, [picture(tmp_path / "a.png")], tmp_path / "out", outputs=("png16", "npy"))
    depth = np.load(tmp_path / "out/a-depth.npy").astype(np.float64)
    assert depth.min() < 60
    assert depth.max() > 70
    expected = np.where(depth < 65.5355, depth * 1000, 0)
    assert np.abs(np.asarray(Image.open(tmp_path / "out/a-depth.png")) - expected).max() <= 0.51


@pytest.mark.parametrize("ending", ["png", "npy", "ply"])
def test_one_picture_into_one_file(recipe, tmp_path, ending):
    target = tmp_path / f"new/x.{ending}"
    made = predict(recipe, [picture(tmp_path / "a.png")], target, intrinsics=(30.0, 30.0, 18.0, 12.0))
    assert made == [target]
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("space", ["depth", "log", "disparity"])
def test_points_of_relative_depth_lie_between_a_tenth_and_one(space):
    ends = distances(torch.tensor([0.0, 1.0]), DepthCoding(space=space))
    torch.testing.assert_close(ends.sort().values, torch.tensor([0.1, 1.0]))
    assert (ends[0] > ends[1]) == (space == "disparity")


def test_a_folder_with_damage(recipe, tmp_path, caplog):
    folder = tmp_path / "in"
    folder.mkdir()
    for i in range(3):
        picture(folder / f"{i}.png", seed=i)
    whole = (folder / "1.png").read_bytes()
    (folder / "1.png").write_bytes(whole[: len(whole) // 2])
    (folder / "notes.txt").write_text("no picture")
    with caplog.at_level(logging.WARNING):
        made = predict(recipe, [folder], tmp_path / "out", outputs=("npy",))
    assert [path.name for path in made] == ["0-depth.npy", "2-depth.npy"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0-depth.npy", "2-depth.npy"]
    said = [record.getMessage() for record in caplog.records]
    assert any("1.png" in line for line in said)
    assert any("notes.txt" in line for line in said)
    assert said[-1] == "1 of 3 inputs could not be read and were skipped"


def test_refusals(recipe, tmp_path):
    a, b = picture(tmp_path / "a.png"), picture(tmp_path / "a.jpg")
    (tmp_path / "bad.png").write_bytes(b"no picture")
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    (tmp_path / "worse.png").write_bytes(b"")
    (tmp_path / "empty").mkdir()
    out = tmp_path / "out"
    cases = [
        ([tmp_path / "bad.png"], out, {}, r"bad\.png: not a readable picture"),
        ([tmp_path / "bad.mp4"], out, {}, r"bad\.mp4: not a readable video"),
        ([tmp_path / "bad.png", tmp_path / "worse.png"], out, {}, "nothing could be read"),
        ([tmp_path / "empty"], out, {}, "has no pictures"),
        ([a, b], out, {}, r"a-depth\.png: the result of .*a\.jpg would take its place"),
        ([a, b], tmp_path / "x.npy", {}, "is one file, for 2 inputs"),
        ([a], tmp_path / "x.mp4", {}, r"expected|written as \.png"),
        ([a], a, {}, "would take its place"),
        ([a], b, {}, r"a\.jpg: results end in"),
        ([a], out, {"outputs": ("uncertainty",)}, "ensemble 2 or more"),
        ([a], out, {"outputs": ("ply",)}, "intrinsics"),
        ([a], out, {"intrinsics": (0.0, 1.0, 1.0, 1.0)}, "focal lengths above 0"),
        ([a], out, {"ensemble": 0}, "--ensemble is 0"),
        ([a], out, {"steps": 2000}, "expected 1 to 1000"),
        ([tmp_path], tmp_path, {}, "results would be inputs too"),
    ]
    for inputs, output, options, message in cases:
        with pytest.raises(UserError, match=message):
            predict(recipe, inputs, output, **options)
    assert not out.exists()


# --- video


@pytest.mark.parametrize("temporal", ["none", "shared", "sequential"])
def test_a_video_becomes_a_video(recipe, tmp_path, temporal):
    still = pixels(height=26, width=38)
    source = film(tmp_path / "walk.mp4", [np.roll(still, i, axis=1) for i in range(6)])
    made = predict(recipe, [source], tmp_path / "out", outputs=("npy",), temporal=temporal)
    assert [path.name for path in made] == ["walk-depth.mp4", "walk-depth.npy"]
    assert sorted(tmp_path.glob("out/*")) == sorted(made)
    assert sorted(tmp_path.glob("out/.*")) == []
    depth = np.load(made[1])
    assert (depth.dtype, depth.shape) == (np.float32, (6, 26, 38))
    with Video.opened(made[0]) as video:
        assert video.rate == Fraction(12)
        assert video.stream.codec_context.name == "h264"
        assert [tuple(frame.shape) for frame in video.frames()] == [(3, 26, 38)] * 6


def test_odd_sizes_of_a_gif(recipe, tmp_path):
    source = film(tmp_path / "odd.gif", [pixels(seed, 25, 37) for seed in range(3)], codec="gif", rate=10)
    made = predict(recipe, [source], tmp_path / "x.mp4", outputs=())
    assert made == [tmp_path / "x.mp4"]
    with Video.opened(made[0]) as video:
        assert [tuple(frame.shape) for frame in video.frames()] == [(3, 26, 38)] * 3


def test_frames_are_turned_upright(tmp_path):
    corner = np.zeros((48, 64, 3), np.uint8)
    corner[:24, :32] = 255
    content = bytearray(film(tmp_path / "a.mp4", [corner] * 3).read_bytes())
    matrix = content.index(b"tkhd") + 44  # of the track's header: (a b u c d v x y w), here clockwise by 90°
    content[matrix : matrix + 36] = struct.pack(">9i", 0, 65536, 0, -65536, 0, 0, 48 * 65536, 0, 1 << 30)
    (tmp_path / "a.mp4").write_bytes(content)
    with Video.opened(tmp_path / "a.mp4") as video:
        frame = next(video.frames())[0].float()
    assert frame.shape == (64, 48)
    assert frame[8:24, 32:40].mean() > 250
    assert frame[40:, :].mean() < 5


def test_a_video_that_breaks_off_leaves_nothing(recipe, tmp_path, monkeypatch):
    source = film(tmp_path / "walk.mp4", [pixels(0, 26, 38)] * 4)
    frames = Video.frames

    def broken(self):
        from salticid.errors import UnreadableSample

        yield from list(frames(self))[:2]
        raise UnreadableSample(f"{self.path}: the video is damaged")

    monkeypatch.setattr(Video, "frames", broken)
    with pytest.raises(UserError, match="damaged"):
        predict(recipe, [source], tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
