"""The video recipes on a GPU do what they do on the CPU."""

import json
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from tests.recipes.video_toys import clips, grids, sv4d, svd

from salticid.engine.checkpoint import CheckpointConfig
from salticid.engine.evaluation import to_device
from salticid.engine.log import LogConfig, RunLog
from salticid.engine.optim import OptimizerConfig
from salticid.engine.settings import Settings, TrainerConfig, ValidationConfig
from salticid.engine.trainer import Trainer
from salticid.recipes.video.settings import Guider, Sampler
from salticid.world import WorldOrbits, WorldVideos

pytestmark = pytest.mark.gpu

STEPS, BATCH = 3, 4
Device = Literal["cpu", "cuda"]
ALL = {"compile": True, "channels_last": True, "checkpoint_activations": True}
MADE = {
    svd: WorldVideos(frames=3, size=(32, 32), kind="room", train_scenes=8, val_scenes=2, keep=10),
    sv4d: WorldOrbits(frames=2, views=3, size=(32, 32), train_scenes=8, val_scenes=2, keep=10),
}


def losses(directory: Path, made: Any, device: Device, **options: Any) -> list[float]:
    """The loss of every step of a short training."""
    settings = Settings(
        TrainerConfig(STEPS, BATCH, device=device, **options),
        optimizer=OptimizerConfig(lr=1e-4),
        ema=None,
        validation=ValidationConfig(samples=0),
        checkpoint=CheckpointConfig(every=1000),
    )
    log = RunLog(directory, LogConfig(every=1), steps=STEPS, batch=BATCH)
    assert Trainer(made(), MADE[made], directory, settings).fit(log) == "finished"
    lines = [json.loads(line) for line in (directory / "log.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if line["kind"] == "step"]


@pytest.mark.parametrize("made", MADE)
@pytest.mark.parametrize("options", [{}, ALL], ids=["plain", "all"])
def test_bf16_training_follows_float32_on_the_cpu(tmp_path, made, options):
    """bf16 rounds to 2⁻⁸, so the loss of a step, a mean over hundreds of cells, is within 3 % of that of float32."""
    expected = losses(tmp_path / "cpu", made, "cpu")
    found = losses(tmp_path / "gpu", made, "cuda", precision="bf16", **options)
    assert len(found) == STEPS
    assert found == pytest.approx(expected, rel=0.03)


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize("made", MADE)
def test_float32_training_follows_the_cpu(tmp_path, made):
    """What differs is the order of sums."""
    expected = losses(tmp_path / "cpu", made, "cpu")
    assert losses(tmp_path / "gpu", made, "cuda", tf32=False) == pytest.approx(expected, rel=1e-3)


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize("made", MADE)
@torch.no_grad()
def test_latents_and_embeddings_are_those_of_the_cpu(made):
    batch = clips() if made is svd else grids()
    expected = made().encode(batch)
    found = made().to("cuda").encode(to_device(batch, torch.device("cuda")))
    assert found.keys() == expected.keys()
    for name, value in found.items():
        assert value.device.type == "cuda"
        torch.testing.assert_close(value.cpu(), expected[name], atol=1e-3, rtol=1e-3, msg=name)


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize("made", MADE)
@torch.no_grad()
def test_samples_are_those_of_the_cpu(made):
    """Pixels in [−1, 1], to 1e-2: the first of three steps goes from σ = 700 to tens, and enlarges what sums round."""
    sampler = Sampler(steps=3, guider=Guider("linear", 1.0, 2.0))
    batch = clips() if made is svd else grids()
    samples = []
    for device in ("cpu", "cuda"):
        recipe, there = made(sampler=sampler).to(device), to_device(batch, torch.device(device))
        samples.append(recipe.sampled(there | recipe.encode(there), seed=0).cpu())
    assert samples[0].std() > 0.05
    torch.testing.assert_close(samples[1], samples[0], atol=1e-2, rtol=0)


@pytest.mark.usefixtures("exact")
@torch.no_grad()
def test_a_matrix_is_that_of_the_cpu():
    """Five frames of two views with windows of three."""
    from tests.recipes.video_toys import floats

    from salticid.recipes.video.matrix import Matrix

    found = []
    for device in ("cpu", "cuda"):
        recipe = sv4d(sampler=Sampler(steps=3, guider=Guider("spatiotemporal", 1.0, 2.0))).to(device)
        batch = to_device(grids((5,), frames=5), torch.device(device))
        embedded = recipe.sampling_embeddings(batch | recipe.encode(batch), seed=0)
        first = recipe.model.first_stage.encode(floats(batch["reference"])[0])
        found.append(Matrix(recipe.model, recipe.sampler, embedded, (3, 2), first, 5, seed=0)().cpu())
    torch.testing.assert_close(found[1], found[0], atol=1e-2, rtol=1e-2)


def test_adapters_are_trained_and_activations_computed_anew(tmp_path):
    from salticid.nets.lora import Lora

    recipe = svd(lora=Lora(rank=2))
    settings = Settings(
        TrainerConfig(2, 2, device="cuda", precision="bf16", checkpoint_activations=True),
        ema=None,
        validation=ValidationConfig(samples=0),
        checkpoint=CheckpointConfig(every=1000),
    )
    log = RunLog(tmp_path, LogConfig(every=1), steps=2, batch=2)
    assert Trainer(recipe, MADE[svd], tmp_path, settings).fit(log) == "finished"
