"""The sfm recipe on a GPU does what it does on the CPU."""

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from salticid.data.source import Source, collate
from salticid.engine.checkpoint import CheckpointConfig
from salticid.engine.log import LogConfig, RunLog
from salticid.engine.optim import OptimizerConfig
from salticid.engine.recipe import Clock
from salticid.engine.settings import Settings, TrainerConfig, ValidationConfig
from salticid.engine.trainer import Trainer
from salticid.geometry.trajectory_files import read_kitti
from salticid.recipes import SfmRecipe
from salticid.recipes.sfm.settings import Networks
from salticid.world import WorldMotion

pytestmark = pytest.mark.gpu

DATA = WorldMotion(size=(64, 80), train_scenes=8, val_scenes=2, kind="room", keep=8)
STEPS, BATCH = 3, 4
Device = Literal["cpu", "cuda"]
ALL = {"compile": True, "channels_last": True, "checkpoint_activations": True}
COST_VOLUME = {"networks": Networks(norm="group", pose="cost_volume")}
PAIR = {"networks": Networks(norm="group")}
ALTERNATING = {"stage": "alternating", "networks": Networks(norm="group")}


def made(device: Device, values: dict[str, Any]) -> SfmRecipe:
    torch.manual_seed(0)
    return SfmRecipe(**values).to(device)


def batch(device: Device, source: Source | None = None) -> dict[str, Any]:
    """Two samples; of training, with jitter, where no source is named."""
    generator = torch.Generator().manual_seed(0) if source is None else None
    samples = collate([(source or DATA.train()).sample(i, generator) for i in range(2)])
    tensors = samples | {"key": torch.arange(2)}
    return {name: value.to(device) for name, value in tensors.items()} | {"id": ["0", "1"]}


def learn(recipe: SfmRecipe, device: Device, dtype: torch.dtype | None = None) -> tuple[list[Tensor], Tensor]:
    """The losses of all phases, and all gradients in one vector, on the CPU."""
    losses, samples = [], batch(device)
    for phase in recipe.phases():
        with torch.autocast(device, dtype or torch.bfloat16, enabled=dtype is not None):
            loss = recipe.loss(phase.name, samples, Clock(0, 10, 0))
        loss.total.backward()
        losses.append(loss.total.detach().cpu())
    grads = [p.grad.flatten() for p in recipe.parameters() if p.grad is not None]
    return losses, torch.cat(grads).cpu()


def losses(directory: Path, device: Device, values: dict[str, Any], **options: Any) -> list[float]:
    """The loss of every step of a short training."""
    torch.manual_seed(0)
    settings = Settings(
        TrainerConfig(STEPS, BATCH, device=device, **options),
        optimizer=OptimizerConfig(lr=1e-4),
        ema=None,
        validation=ValidationConfig(samples=0),
        checkpoint=CheckpointConfig(every=1000),
    )
    log = RunLog(directory, LogConfig(every=1), steps=STEPS, batch=BATCH)
    assert Trainer(SfmRecipe(**values), DATA, directory, settings).fit(log) == "finished"
    lines = [json.loads(line) for line in (directory / "log.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if line["kind"] == "step"]


def cosine(a: Tensor, b: Tensor) -> float:
    return torch.nn.functional.cosine_similarity(a.double(), b.double(), dim=0).item()


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize("values", [COST_VOLUME, PAIR, ALTERNATING], ids=["cost volume", "pair", "alternating"])
def test_losses_and_gradients_are_those_of_the_cpu(values):
    """What differs is the order of sums. A pixel on the edge between two of a minimum's candidates may change sides,
    so single gradients may; all of them together point the same way."""
    (expected, way), (found, ours) = (learn(made(device, values), device) for device in ("cpu", "cuda"))
    for here, there in zip(expected, found, strict=True):
        assert there.item() == pytest.approx(here.item(), rel=1e-3)
    assert cosine(ours, way) > 0.999


@pytest.mark.parametrize("values", [COST_VOLUME, ALTERNATING], ids=["depth", "alternating"])
def test_losses_are_float32_in_bf16_networks(values):
    """Warping and SSIM are computed in float32 (in bf16, SSIM of alike pictures grows sevenfold), so that rounding in
    the networks alone is seen: the disparity, hence the place of a pixel, is off by 2⁻⁸ of itself."""
    (expected, _), (found, ours) = (
        learn(made("cuda", values), "cuda"),
        learn(made("cuda", values), "cuda", torch.bfloat16),
    )
    for full, half in zip(expected, found, strict=True):
        assert half.dtype == torch.float32
        assert half.item() == pytest.approx(full.item(), rel=0.03)
    assert ours.dtype == torch.float32
    assert ours.isfinite().all()


@pytest.mark.usefixtures("exact")
def test_standing_still_matches_exactly_in_bf16():
    """Three times the same picture has a photometric loss of next to nothing: in bf16 its SSIM alone would be 1e-2."""
    samples = batch("cuda")
    samples["frames"] = samples["frames"][:, :1].expand(-1, 3, -1, -1, -1).contiguous()
    recipe = made("cuda", {"networks": Networks(norm="group", pose_scale=1e-9)})
    with torch.autocast("cuda", torch.bfloat16):
        loss = recipe.loss("motion", samples, Clock(0, 10, 0))
    assert loss.terms["photometric"].item() < 1e-4


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize("values", [COST_VOLUME, ALTERNATING], ids=["depth", "alternating"])
def test_recomputed_activations_give_the_same_gradients(values):
    """To the rounding of kernels that add in any order."""
    plain, again = made("cuda", values), made("cuda", values)
    again.checkpoint_activations()
    (expected, way), (found, ours) = learn(plain, "cuda"), learn(again, "cuda")
    for here, there in zip(expected, found, strict=True):
        assert there.item() == pytest.approx(here.item(), rel=1e-5)
    torch.testing.assert_close(ours, way, rtol=0, atol=1e-3 * float(way.abs().max()))


@pytest.mark.parametrize(
    ("values", "options"),
    [
        (PAIR, {}),
        (PAIR, {"compile": True}),
        (PAIR, {"channels_last": True}),
        (PAIR, {"checkpoint_activations": True}),
        (COST_VOLUME, ALL),
        (ALTERNATING, ALL),
    ],
    ids=["plain", "compile", "channels-last", "checkpoint", "all", "all, alternating"],
)
def test_bf16_training_follows_float32_on_the_cpu(tmp_path, values, options):
    """The loss of a step is a mean over thousands of pixels; in the steps after the first, the weights have gone their
    own ways by less than the learning rate."""
    expected = losses(tmp_path / "cpu", "cpu", values)
    found = losses(tmp_path / "gpu", "cuda", values, precision="bf16", **options)
    assert len(found) == STEPS
    assert found == pytest.approx(expected, rel=0.05)


@pytest.mark.usefixtures("exact")
def test_float32_training_follows_the_cpu(tmp_path):
    expected = losses(tmp_path / "cpu", "cpu", COST_VOLUME)
    assert losses(tmp_path / "gpu", "cuda", COST_VOLUME, tf32=False) == pytest.approx(expected, rel=5e-3)


@pytest.mark.usefixtures("exact")
def test_evaluation_is_that_of_the_cpu():
    """Metrics of depth, motion, flow and of the way, to 1e-3."""
    found = []
    devices: tuple[Device, Device] = "cpu", "cuda"
    for device in devices:
        with torch.no_grad():
            found.append(made(device, ALTERNATING).eval().evaluate(batch(device, DATA.val()), seed=0))
    assert found[0].keys() == found[1].keys() >= {"absrel/model", "direction/model", "epe/flow", "epe/rigid", "chain"}
    for name, here in found[0].items():
        torch.testing.assert_close(found[1][name].cpu().double(), here.double(), atol=1e-3, rtol=1e-3)


@pytest.mark.usefixtures("exact")
def test_prediction_is_that_of_the_cpu(tmp_path):
    """Depth, and the way of the camera, of a film whose size is not that of training."""
    generator = np.random.default_rng(0)
    (tmp_path / "film").mkdir()
    for i in range(3):
        coarse = Image.fromarray(generator.integers(0, 256, (4, 5, 3), dtype=np.uint8))
        coarse.resize((96, 60), Image.Resampling.BICUBIC).save(tmp_path / f"film/{i}.png")
    depths, ways = [], []
    devices: tuple[Device, Device] = "cpu", "cuda"
    for device in devices:
        recipe = made(device, {"networks": Networks(norm="group", pose="cost_volume", pose_scale=0.1)}).eval()
        recipe.size.copy_(torch.tensor((64, 80)))
        recipe.lens[:4] = torch.tensor([60.0, 60.0, 39.5, 31.5], device=device)
        files = {path.name: path for path in recipe.predict([tmp_path / "film"], tmp_path / device)}
        depths.append(np.load(files["film-depth.npy"]))
        ways.append(read_kitti(files["film-kitti.txt"])[1])
    assert depths[0].shape == (3, 60, 96)
    assert depths[0].std() > 0
    np.testing.assert_allclose(depths[1], depths[0], rtol=1e-3)
    assert ways[0][-1, :3, 3].norm() > 0
    torch.testing.assert_close(ways[1], ways[0], atol=1e-4, rtol=0)


def test_fisheyes_partners_and_learnt_lenses_stay_on_the_device():
    """Nothing is left behind on the CPU."""
    data = WorldMotion(size=(64, 80), camera="ucm", kind="room", measure="distance", baseline=0.1)
    recipe = made("cuda", {"networks": Networks(norm="group", pose="shared", intrinsics="learnt")})
    loss = recipe.loss("motion", batch("cuda", data.train()), Clock(0, 10, 0))
    loss.total.backward()
    assert loss.total.device.type == "cuda"
    assert loss.total.isfinite()
    assert recipe.model.lens_head.last.weight.grad.abs().sum() > 0
