"""The marigold recipe on a GPU does what it does on the CPU."""

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from PIL import Image

from salticid.engine import microbatch
from salticid.engine.checkpoint import CheckpointConfig
from salticid.engine.log import LogConfig, RunLog
from salticid.engine.optim import OptimizerConfig
from salticid.engine.settings import Settings, TrainerConfig, ValidationConfig
from salticid.engine.trainer import Trainer
from salticid.recipes import MarigoldRecipe
from salticid.recipes.marigold.ensemble import Ensemble
from salticid.recipes.marigold.estimator import Estimator
from salticid.recipes.marigold.settings import OneStep, Sampler
from salticid.world import WorldDepth

pytestmark = pytest.mark.gpu

DATA = WorldDepth(size=(32, 32), train_scenes=8, val_scenes=2, kind="room")
STEPS, BATCH = 3, 4
Device = Literal["cpu", "cuda"]
ALL = {"compile": True, "channels_last": True, "checkpoint_activations": True}


def recipe(device: Device, one_step: OneStep | None = None) -> MarigoldRecipe:
    torch.manual_seed(0)
    made = MarigoldRecipe(one_step=one_step, sampler=Sampler(steps=(1,)))
    made.start(fresh=True)
    return made.to(device).eval()


def losses(directory: Path, device: Device, one_step: OneStep | None = None, **options: Any) -> list[float]:
    """The loss of every step of a short training."""
    torch.manual_seed(0)
    made = MarigoldRecipe(one_step=one_step, sampler=Sampler(steps=(1,)))
    settings = Settings(
        TrainerConfig(STEPS, BATCH, device=device, **options),
        optimizer=OptimizerConfig(lr=1e-4),
        ema=None,
        validation=ValidationConfig(samples=0),
        checkpoint=CheckpointConfig(every=1000),
    )
    log = RunLog(directory, LogConfig(every=1), steps=STEPS, batch=BATCH)
    assert Trainer(made, DATA, directory, settings).fit(log) == "finished"
    lines = [json.loads(line) for line in (directory / "log.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if line["kind"] == "step"]


def picture(path: Path, height: int, width: int) -> Path:
    """A smooth picture."""
    coarse = np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).save(path)
    return path


@pytest.mark.parametrize(
    ("one_step", "options"),
    [
        (None, {}),
        (None, {"compile": True}),
        (None, {"channels_last": True}),
        (None, {"checkpoint_activations": True}),
        (None, ALL),
        (OneStep(), ALL),
    ],
    ids=["plain", "compile", "channels-last", "checkpoint", "all", "all, one step"],
)
def test_bf16_training_follows_float32_on_the_cpu(tmp_path, one_step, options):
    """bf16 rounds to 2⁻⁸, so the loss of a step, a mean over hundreds of cells, is within 3 % of that of float32;
    in the steps after the first the weights have gone their own ways, by less than the learning rate times that."""
    expected = losses(tmp_path / "cpu", "cpu", one_step)
    found = losses(tmp_path / "gpu", "cuda", one_step, precision="bf16", **options)
    assert len(found) == STEPS
    assert found == pytest.approx(expected, rel=0.03)


@pytest.mark.usefixtures("exact")
def test_float32_training_follows_the_cpu(tmp_path):
    """What differs is the order of sums."""
    expected = losses(tmp_path / "cpu", "cpu")
    assert losses(tmp_path / "gpu", "cuda", tf32=False) == pytest.approx(expected, rel=1e-3)


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize(("one_step", "steps"), [(None, 4), (OneStep(), 1)])
def test_prediction_is_that_of_the_cpu(tmp_path, one_step, steps):
    """Depth in [0, 1] of a picture whose sides the VAE does not divide, to 1e-3."""
    inputs = [picture(tmp_path / "a.png", 45, 62)]
    found = []
    devices: tuple[Device, Device] = "cpu", "cuda"
    for device in devices:
        (file,) = recipe(device, one_step).predict(inputs, tmp_path / device, steps=steps, outputs=("npy",))
        found.append(np.load(file))
    assert found[0].shape == (45, 62)
    assert found[0].std() > 0.01
    np.testing.assert_allclose(found[1], found[0], atol=1e-3, rtol=0)


def test_ensembling_is_that_of_the_cpu():
    """Median and spread of aligned maps, to 1e-4."""
    generator = torch.Generator().manual_seed(0)
    scene = torch.linspace(0, 1, 48)[:, None] * torch.linspace(0.2, 1, 64)
    maps = scene + 0.03 * torch.randn(2, 10, 48, 64, generator=generator)
    scale, shift = (torch.rand(2, 10, 1, 1, generator=generator) for _ in range(2))
    maps = (0.5 + 0.5 * scale) * (maps + 0.1) + 0.2 * shift
    for here, there in zip(Ensemble()(maps.clamp_min(0)), Ensemble()(maps.clamp_min(0).cuda()), strict=True):
        assert there.device.type == "cuda"
        torch.testing.assert_close(there.cpu(), here, atol=1e-4, rtol=0)


def test_the_micro_batch_is_found_by_trial(tmp_path):
    assert len(losses(tmp_path, "cuda", micro_batch="auto")) == STEPS
    assert microbatch.recall(tmp_path) == BATCH, "all of a small model's batch fits"


@pytest.mark.usefixtures("exact")
def test_as_many_predictions_at_a_time_as_fit():
    """64 predictions of 256×256 want about 3 GB in the decoder; where there is 1 GB, a part of them is made at a time,
    with the same latents."""
    made, image = recipe("cuda"), torch.zeros(3, 256, 256, dtype=torch.uint8)
    given, found = (Estimator(made.model, made.coding, steps=1, ensemble=64, batch=batch) for batch in (4, 0))
    expected = given(image, "a").latents
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(2**30 / torch.cuda.get_device_properties(0).total_memory)
    try:
        latents = found(image, "a").latents
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert 1 <= found.fitting.most < 64
    torch.testing.assert_close(latents, expected, atol=1e-3, rtol=1e-3)
