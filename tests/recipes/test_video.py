"""The video recipes from end to end, by the command line: train, resume, evaluate, predict, encode, and refusals."""

import json
import shutil
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tests.recipes.video_toys import base_with_weights

from salticid.cli import main
from salticid.engine.log import deterministic_lines

NETWORK = "network: {widths: [32], attention: [true], heads: [2], blocks: 1}, scoring: {levels: 2}"
CONFIG = """
recipe: {{class_path: salticid.recipes.{recipe}}}
data: {{class_path: {data}}}
trainer: {{steps: {steps}, batch: 4, micro_batch: 2, precision: fp32, device: cpu}}
optimizer: {{lr: 1.0e-3}}
ema: {{decay: 0.9}}
validation: {{previews: 1, batch: 2}}
checkpoint: {{every: {every}, keep_last: 5}}
log: {{every: 1}}
"""
SVD = f"SvdRecipe, init_args: {{{NETWORK}, sampler: {{steps: 2}}}}"
SV3D = (
    f"Sv4dRecipe, init_args: {{{NETWORK}, frames_apart: false, "
    "sampler: {steps: 2, guider: {kind: triangle, low: 1.0, high: 2.0}}}"
)
SV4D = f"Sv4dRecipe, init_args: {{{NETWORK}, sampler: {{steps: 2, guider: {{kind: spatiotemporal}}}}}}"
CLIPS = (
    "salticid.world.WorldVideos, init_args: "
    "{frames: 3, size: [16, 16], kind: room, train_scenes: 6, val_scenes: 2, flip: 0.5, keep: 9}"
)
ORBITS = (
    "salticid.world.WorldOrbits, init_args: "
    "{{frames: {frames}, views: 3, size: [16, 16], train_scenes: 6, val_scenes: 2, keep: 9}}"
)
OWN = '''
import torch
from torch import Tensor, nn

from salticid.data.source import Data, Sample, Source
from salticid.nets.conditioner import Embedder


class MotionEmbedder(Embedder):
    """Learns what motion buckets mean."""

    content = False

    def __init__(self, dim: int = 8, ucg_rate: float = 0.2):
        super().__init__("motion_bucket", "vector", ucg_rate, trainable=True)
        self.layer = nn.Linear(1, dim)

    @property
    def width(self) -> int:
        return self.layer.out_features

    def embed(self, value: Tensor, step: int) -> Tensor:
        return self.layer(value[:, None] / 255)


class Noise(Data):
    def __init__(self, frames: int | None = 2, classes: int = 4):
        self.frames, self.classes = frames, classes

    def train(self) -> Source:
        return _Noise(0, 6, self)

    def val(self) -> Source:
        return _Noise(6, 2, self)


class _Noise(Source):
    def __init__(self, start: int, count: int, data: Noise):
        self.start, self.count, self.data = start, count, data

    def __len__(self) -> int:
        return self.count

    def id(self, index: int) -> str:
        return f"noise-{self.start + index}"

    def sample(self, index: int, augment: torch.Generator | None) -> Sample:
        shape = (3, 16, 16) if self.data.frames is None else (3, self.data.frames, 16, 16)
        generator = torch.Generator().manual_seed(self.start + index)
        video = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
        label = torch.tensor(index % self.data.classes)
        return {"video": video, "label": label, "caption": "a toy" if index % 2 else "a small room"}
'''
TRAINED = "conditioner: [{class_path: own_video.MotionEmbedder}, {class_path: salticid.nets.embedders.LatentEmbedder}]"
TOLD = (
    "conditioner: [{class_path: salticid.nets.embedders.TextEmbedder, init_args: {base: tiny}}, "
    "{class_path: salticid.nets.embedders.ClassEmbedder, init_args: {classes: 4, dim: 8}}]"
)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with a configuration and a run of each recipe, a picture, and a short film."""
    folder = tmp_path_factory.mktemp("video")
    (folder / "own_video.py").write_text(OWN)
    configs = {
        "svd": (SVD, CLIPS, 4),
        "sv4d": (SV4D, ORBITS.format(frames=2), 4),
        "sv3d": (SV3D, ORBITS.format(frames=1), 2),
        "own": (SVD.replace("{network", f"{{{TRAINED}, network"), CLIPS, 4),
        "told": (SVD.replace("{network", f"{{{TOLD}, network"), "own_video.Noise", 2),
        "pictures": (SVD, "own_video.Noise, init_args: {frames: null}", 2),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(str(folder))
        patch.setenv("SALTICID_ALLOW", "own_video")
        for name, (recipe, data, steps) in configs.items():
            every = 2 if name in ("svd", "sv4d") else 1000
            Path(f"{name}.yaml").write_text(CONFIG.format(recipe=recipe, data=data, steps=steps, every=every))
            assert main(["train", f"{name}.yaml", "--run-dir", name]) == 0
        Path("labels.yaml").write_text(CONFIG.format(recipe=configs["told"][0], data=CLIPS, steps=2, every=2))
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((40, 30)).save(folder / "picture.png")
    with av.open(str(folder / "film.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for t in range(5):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 40 * t, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return folder


@pytest.fixture(autouse=True)
def inside(place, monkeypatch) -> None:
    monkeypatch.chdir(place)
    monkeypatch.syspath_prepend(str(place))
    monkeypatch.setenv("SALTICID_ALLOW", "own_video")


def weights(run: str, step: int, kind: str = "model") -> bytes:
    return Path(run, f"checkpoints/step-{step:08d}/{kind}.safetensors").read_bytes()


def film(path: Path) -> tuple[np.ndarray, float]:
    """Frames (T, H, W, 3) and frames per second."""
    with av.open(str(path)) as container:
        rate = float(container.streams.video[0].average_rate)
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]), rate


def validation(run: str) -> dict[str, float]:
    lines = [json.loads(line) for line in Path(run, "log.jsonl").read_text().splitlines()]
    return [line["metrics"] for line in lines if line["kind"] == "validation"][-1]


# training ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("run", ["svd", "sv4d", "sv3d"])
def test_runs_learn_and_are_judged(run):
    metrics = validation(run)
    assert {"loss", "loss/blank", "psnr/2-step", "ssim/2-step"} <= metrics.keys()
    assert metrics.keys() & {"psnr/repeat", "psnr/context"}
    assert {"svd": "flicker", "sv4d": "view_consistency", "sv3d": "view_consistency"}[run] in metrics
    assert all(np.isfinite(value) for value in metrics.values())
    first, last = (2, 4) if run != "sv3d" else (0, 2)
    if first:
        assert weights(run, first) != weights(run, last)
    assert weights(run, last) != weights(run, last, "ema")
    assert list(Path(run, "samples").iterdir())
    assert Path(run, "report.html").is_file()


@pytest.mark.parametrize("run", ["svd", "sv4d"])
def test_a_resumed_run_ends_as_if_it_had_not_stopped(run):
    """Bit for bit: weights, their average, and all of the log that does not tell the time."""
    shutil.copytree(run, f"{run}-cut")
    shutil.rmtree(f"{run}-cut/checkpoints/step-00000004")
    assert main(["train", "--resume", f"{run}-cut"]) == 0
    assert "resumed" in Path(f"{run}-cut", "log.jsonl").read_text()
    for kind in ("model", "ema"):
        assert weights(f"{run}-cut", 4, kind) == weights(run, 4, kind)
    assert deterministic_lines(Path(f"{run}-cut")) == deterministic_lines(Path(run))


@pytest.mark.parametrize("run", ["svd", "sv4d", "own"])
def test_training_from_latents_is_training_without_them(run):
    """Bit for bit, with flips and over more than two epochs. Batches are as large as the micro-batch."""
    assert main(["encode", f"{run}.yaml", "--output", f"{run} latents", "--batch", "2", "--shard", "4"]) == 0
    options = ["--latents", f"{run} latents", "--checkpoint.every", "1000"]
    assert main(["train", f"{run}.yaml", "--run-dir", f"{run} from latents", *options]) == 0
    for kind in ("model", "ema"):
        assert weights(f"{run} from latents", 4, kind) == weights(run, 4, kind)
    assert deterministic_lines(Path(f"{run} from latents")) == deterministic_lines(Path(run))


def test_latents_of_something_else_are_refused(refused):
    assert main(["encode", "svd.yaml", "--output", "other latents", "--batch", "2"]) == 0
    line = refused("train", "svd.yaml", "--run-dir", "no", "--latents", "other latents", "--data.frames", "2")
    assert "data.init_args.frames: 3 there, 2 here" in line
    line = refused("train", "sv4d.yaml", "--run-dir", "no", "--latents", "other latents")
    assert 'recipe: "SvdRecipe" there, "Sv4dRecipe" here' in line
    assert not Path("no").exists()


def test_an_embedder_of_the_user_s_own_learns_with_the_unet(refused, monkeypatch):
    last, average = (load_file(f"own/checkpoints/step-00000004/{kind}.safetensors") for kind in ("model", "ema"))
    for name in ("weight", "bias"):
        key = f"model.conditioner.embedders.0.layer.{name}"
        assert not torch.equal(average[key], last[key]), "the average is on its way from where it began"
    assert last["model.unet.label_emb.0.0.weight"].shape[1] == 8
    monkeypatch.delenv("SALTICID_ALLOW")
    assert "own_video.MotionEmbedder is outside" in refused("train", "own.yaml", "--run-dir", "no")
    assert not Path("no").exists()
    assert main(["train", "own.yaml", "--allow", "own_video", "--dry-run"]) == 0


def test_pictures_alone_are_trained_on():
    metrics = validation("pictures")
    assert np.isfinite(metrics["loss"])
    assert "flicker" not in metrics
    assert main(["evaluate", "pictures"]) == 0


# adapters ----------------------------------------------------------------------------------------------------------


def test_adapters_stand_beside_the_base_in_training_and_prediction():
    base_with_weights(Path("base"))
    lora = ["--recipe.base", "base", "--recipe.network", "null", "--recipe.lora", "{rank: 2}"]
    options = [*lora, "--trainer.steps", "2", "--checkpoint.every", "1000"]
    assert main(["train", "svd.yaml", "--run-dir", "lora", *options]) == 0
    for name in ("one", "two"):
        assert main(["predict", "lora", "--input", "picture.png", "--output", f"{name}.mp4", "--noise", "0"]) == 0
    assert np.array_equal(film(Path("one.mp4"))[0], film(Path("two.mp4"))[0])
    checkpoint = Path("lora/checkpoints/step-00000002")
    kept = load_file(checkpoint / "model.safetensors")
    assert all(".lora_" in name or name == "usual" for name in kept)
    assert any(value.any() for name, value in kept.items() if ".lora_B" in name), "they have learned"
    assert len(load_file(checkpoint / "ema.safetensors")) == len(kept) - 1


# evaluation and prediction -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("run", ["svd", "sv4d"])
def test_an_evaluation_finds_what_the_validation_found(run):
    """Whatever the batch; a VAE's rounding depends on it, and samples of two steps from σ = 700 enlarge that."""
    assert main(["evaluate", run, "--validation.batch", "1"]) == 0
    (file,) = Path(run, "evaluation").glob("step-00000004-ema*.json")
    found, expected = json.loads(file.read_text())["metrics"], validation(run)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=2e-3, abs=2e-3), name


def test_a_picture_becomes_a_film(capsys):
    assert main(["predict", "svd", "--input", "picture.png", "film.mp4", "--output", "films"]) == 0
    assert capsys.readouterr().out.splitlines()[-2:] == ["films/picture.mp4", "films/film.mp4"]
    usual = load_file("svd/checkpoints/step-00000004/model.safetensors")["usual"].tolist()
    for name in ("picture", "film"):
        frames, rate = film(Path(f"films/{name}.mp4"))
        assert frames.shape == (3, 16, 16, 3)
        assert rate == pytest.approx(usual[3], rel=1e-3)
        assert frames.std() > 1

    chosen = ["--frames", "5", "--size", "[24, 16]", "--fps", "12.5", "--motion-bucket", "200", "--steps", "1"]
    assert main(["predict", "svd", "--input", "picture.png", "--output", "own.mp4", *chosen]) == 0
    frames, rate = film(Path("own.mp4"))
    assert frames.shape == (5, 24, 16, 3)
    assert rate == 12.5


def test_the_seed_chooses_the_film():
    films = []
    for seed, name in (("0", "a"), ("0", "b"), ("1", "c")):
        assert main(["predict", "svd", "--input", "picture.png", "--output", f"seed-{name}.mp4", "--seed", seed]) == 0
        films.append(film(Path(f"seed-{name}.mp4"))[0])
    assert np.array_equal(films[0], films[1])
    assert not np.array_equal(films[0], films[2])


def test_a_picture_becomes_an_orbit_and_a_video_with_it_other_videos(capsys):
    """The first model's views are what the second one looks at; its matrix has 5 frames, more than its window of 2."""
    assert main(["predict", "sv3d", "--input", "picture.png", "--output", "orbit"]) == 0
    frames, rate = film(Path("orbit/picture-orbit.mp4"))
    assert (frames.shape, rate) == ((3, 16, 16, 3), 8.0)
    views = sorted(Path("orbit/picture-views").iterdir())
    assert [path.name for path in views] == ["view-00.png", "view-01.png", "view-02.png"]
    with Image.open(views[0]) as picture:
        assert picture.size == (16, 16)

    capsys.readouterr()
    options = ["--reference", "orbit/picture-views", "--output", "around"]
    assert main(["predict", "sv4d", "--input", "film.mp4", *options]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said == ["around/film-orbit.mp4", *(f"around/film-views/view-0{v}.mp4" for v in range(3))]
    frames, rate = film(Path("around/film-orbit.mp4"))
    assert (frames.shape, rate) == ((5, 32, 32, 3), 10.0), "views in two rows of two"
    for view in range(3):
        frames, rate = film(Path(f"around/film-views/view-0{view}.mp4"))
        assert (frames.shape, rate) == ((5, 16, 16, 3), 10.0)

    chosen = ["--frames", "2", "--azimuths", "[10, 20, 30]", "--elevation", "5"]
    assert main(["predict", "sv4d", "--input", "film.mp4", *options[:2], "--output", "few.mp4", *chosen]) == 0
    assert film(Path("few.mp4"))[0].shape == (2, 32, 32, 3)


def test_a_model_of_captions_and_classes_is_told_both(refused):
    options = ["--input", "picture.png", "--output", "told.mp4"]
    assert main(["predict", "told", *options, "--label", "3", "--caption", "a toy"]) == 0
    assert film(Path("told.mp4"))[0].shape == (2, 16, 16, 3)
    assert "--label is None; expected a label: the model reads it" in refused("predict", "told", *options)
    line = refused("predict", "told", *options, "--label", "4", "--caption", "a toy")
    assert "--label is 4; expected 0 to 3" in line
    assert "--caption is x; expected none" in refused("predict", "svd", *options, "--caption", "x")


# refusals ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def refused(capsys):
    """Run a command that must fail with status 2 and one line; returns the line."""

    def refused(*arguments: str) -> str:
        capsys.readouterr()
        assert main(list(arguments)) == 2
        *skipped, error = capsys.readouterr().err.splitlines()
        assert all(line.startswith("skipped: ") for line in skipped)
        assert error.startswith("salticid: error: ")
        return error

    return refused


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("svd.yaml --data.size [18,16]", "data: pictures of 18×16; expected multiples of 4"),
        ("svd.yaml --recipe.input_key film", "data: samples have film of shape None; expected (3, T, H, W)"),
        ("sv4d.yaml --recipe.keys.camera film", "data: samples have film of shape None; expected (3, 3)"),
        (
            "sv4d.yaml --recipe.frames_apart false --recipe.keys.image context",
            "samples have context of shape (2, 3, 16",
        ),
        ("told.yaml --data.classes 4 --recipe.input_key label", "data: samples have label of shape (); expected"),
        ("labels.yaml", "recipe.conditioner: samples have no caption, which TextEmbedder reads"),
        ("svd.yaml --recipe.base nowhere-at-all", "recipe.base: nowhere-at-all"),
        ("svd.yaml --recipe.sampler.guider.kind round", "recipe.init_args.sampler.guider.kind"),
        ("svd.yaml --recipe.sampler.guider.unconditional [fps]", "recipe.sampler.guider.unconditional is ['fps']; exp"),
        ("svd.yaml --recipe.conditioner [{class_path:os.system}]", "os.system"),
        ("svd.yaml --recipe.network {widths:[30],heads:[4],attention:[true]}", "recipe.network.heads is [4]; expected"),
        ("svd.yaml --recipe.train temporal --recipe.lora {rank:2}", "expected null, or recipe.train all"),
        ("svd.yaml --recipe.lora {targets:[nothing]}", "recipe.lora.targets: the UNet has no layer nothing"),
    ],
)
def test_training_that_cannot_be_is_refused(refused, line, message):
    words = [word.replace(":", ": ") if word[0] in "{[" else word for word in line.split()]
    assert message in refused("train", *words, "--run-dir", "never")
    assert not Path("never").exists()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("svd --input picture.png --size [15,16]", "--size is [15, 16]; expected multiples of 4"),
        ("svd --input picture.png --fps 0", "--fps is 0.0; expected a number above 0"),
        ("svd --input picture.png --label 1", "--label is 1; expected none: the model reads no such thing"),
        ("svd --input picture.png --steps -1", "--steps is -1; expected at least 1"),
        ("svd --input broken.png", "broken.png"),
        ("svd --input broken.mp4", "broken.mp4: not a readable video"),
        ("svd --input own_video.py", "own_video.py: expected a folder, a picture or a video"),
        ("svd --input nowhere.png", "--input nowhere.png: there is no such file"),
        ("sv4d --input film.mp4", "--reference is None; expected a folder with the first frame's views"),
        ("sv4d --input film.mp4 --reference nowhere", "--reference nowhere: no such folder"),
        ("sv4d --input film.mp4 --reference two", "two: has no pictures"),
        ("sv4d --input film.mp4 --reference one --views 3", "--reference has 1 views; expected 3"),
        ("sv4d --input film.mp4 --reference one --azimuths [1,2]", "--reference has 1 views; expected 2"),
        ("sv3d --input picture.png --reference one", "--reference is one; expected none: the model makes them"),
        ("sv3d --input picture.png --size [6,16]", "--size is [6, 16]; expected multiples of 4"),
    ],
)
def test_predictions_that_cannot_be_are_refused(refused, line, message):
    for name in ("broken.png", "broken.mp4"):
        Path(name).write_bytes(b"no picture")
    for name in ("one", "two"):
        Path(name).mkdir(exist_ok=True)
    shutil.copy("picture.png", "one/a.png")
    assert message in refused("predict", *line.split(), "--output", "refused.mp4")
    assert not Path("refused.mp4").exists()
    assert not list(Path().glob(".*.tmp"))


def test_what_cannot_be_read_is_passed_over(capsys):
    """Also where it comes first, and the rate of a film would be asked of it."""
    Path("broken.mp4").write_bytes(b"no video")
    Path("first").mkdir(exist_ok=True)
    for number in range(3):
        shutil.copy("picture.png", f"first/{number}.png")
    options = ["--reference", "first", "--output", "passed", "--frames", "2", "--steps", "1"]
    assert main(["predict", "sv4d", "--input", "broken.mp4", "film.mp4", *options]) == 0
    assert film(Path("passed/film-orbit.mp4"))[1] == 10.0
    assert not Path("passed/broken-orbit.mp4").exists()
