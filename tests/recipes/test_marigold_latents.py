"""`salticid encode` for the marigold recipe, and training from what it has written."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from salticid.cli import main
from salticid.engine.log import deterministic_lines
from salticid.world import WorldDepth

TRAIN, VAL = 6, 2
CONFIG = """
recipe: {{class_path: salticid.recipes.MarigoldRecipe, init_args: {{sampler: {{steps: [1]}}, {recipe}}}}}
data: {{class_path: {data}}}
trainer: {{steps: 4, batch: 4, micro_batch: 2, precision: fp32, device: cpu}}
optimizer: {{lr: 1.0e-3}}
ema: null
validation: {{previews: 0, batch: 2}}
checkpoint: {{every: 1000}}
log: {{every: 1}}
"""
RECIPES = {
    "diffusion": "noise: {kind: multi_resolution, divide_by: batch}",
    "one step": "one_step: {start: image}",
}
FOLDER = "salticid.data.readers.DepthFolder, init_args: {root: pictures, val_scenes: [val0, val1]}"
"""With flips, as data sets have them in the presets."""
WORLD = f"salticid.world.WorldDepth, init_args: {{size: [16, 16], train_scenes: {TRAIN}, val_scenes: {VAL}}}"


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with a configuration for every objective and data set, pictures, and a cache for every configuration."""
    folder = tmp_path_factory.mktemp("latents")
    write_pictures(folder / "pictures")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, recipe, data in (
            ("flips", RECIPES["diffusion"], FOLDER),
            ("one-step", RECIPES["one step"], FOLDER),
            ("world", RECIPES["diffusion"], WORLD),
        ):
            Path(f"{name}.yaml").write_text(CONFIG.format(recipe=recipe, data=data))
            # Batches as large as the micro-batch, none cut short: then the VAE rounds as it does in training.
            assert main(["encode", f"{name}.yaml", "--output", f"{name} latents", "--batch", "2", "--shard", "4"]) == 0
    return folder


@pytest.fixture(autouse=True)
def inside(place, monkeypatch) -> None:
    monkeypatch.chdir(place)


def write_pictures(root: Path) -> None:
    """Pictures of the world, with depth in millimetres and a hole in it."""
    data = WorldDepth(size=(16, 16), train_scenes=TRAIN, val_scenes=VAL)
    for side, source in (("train", data.train()), ("val", data.val())):
        for i in range(len(source)):
            sample = source.sample(i, None)
            depth = sample["depth"][0].mul(1000).round().numpy()
            depth[4 + i : 8, 2:5] = 0
            colours = sample["image"].add(1).mul(127.5).round().permute(1, 2, 0).numpy()
            for kind, values in (("rgb", colours.astype(np.uint8)), ("depth", depth.astype(np.uint16))):
                (root / kind).mkdir(parents=True, exist_ok=True)
                Image.fromarray(values).save(root / kind / f"{side}{i}.png")


@pytest.mark.parametrize("name", ["flips", "one-step", "world"])
def test_training_from_latents_is_training_without_them(name):
    """Bit for bit: weights, and all of the log that does not tell the time. Over more than two epochs."""
    assert main(["train", f"{name}.yaml", "--run-dir", f"{name} without"]) == 0
    assert main(["train", f"{name}.yaml", "--run-dir", f"{name} with", "--latents", f"{name} latents"]) == 0
    runs = Path(f"{name} without"), Path(f"{name} with")
    one, other = ((run / "checkpoints/step-00000004/model.safetensors").read_bytes() for run in runs)
    assert one == other
    lines = deterministic_lines(runs[0])
    assert lines == deterministic_lines(runs[1])
    assert len({json.loads(line)["loss"] for line in lines if '"step"' in line and "loss" in line}) == 4


def test_a_cache_holds_both_outcomes_of_a_flip_and_what_the_objective_wants(place):
    from safetensors import safe_open

    def held(name):
        with safe_open(place / f"{name} latents/shard-00000.safetensors", "pt") as file:
            return {key.partition("/")[2]: tuple(file.get_tensor(key).shape) for key in file.keys() if key[0] == "0"}  # noqa: SIM118

    assert held("world") == {"0/image_latent": (4, 4, 4), "0/depth_latent": (4, 4, 4), "0/valid_latent": (1, 4, 4)}
    assert held("one-step") == {
        f"{flip}/{name}": shape
        for flip in (0, 1)
        for name, shape in (("image_latent", (4, 4, 4)), ("depth", (1, 16, 16)), ("valid", (1, 16, 16)))
    }


@pytest.mark.parametrize(
    ("latents", "options", "difference"),
    [
        ("flips", ["--recipe.coding.space", "log"], 'encoding.coding.space: "depth" there, "log" here'),
        ("flips", ["--recipe.coding.high", "1.0"], "encoding.coding.high: 0.98 there, 1.0 here"),
        ("flips", ["--data.flip", "false"], "data.init_args.flip: true there, false here"),
        ("one-step", [], "encoding.coding: null there, nothing here"),
    ],
    ids=["space", "quantile", "flip", "objective"],
)
def test_a_cache_of_another_coding_is_refused_in_one_line(latents, options, difference, capsys):
    capsys.readouterr()
    assert main(["train", "flips.yaml", "--run-dir", "refused", "--latents", f"{latents} latents", *options]) == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert error.startswith("salticid: error: ")
    assert error.count("\n") == 1
    assert f"{latents} latents is of something else ({difference})" in error
    assert not Path("refused").exists()
