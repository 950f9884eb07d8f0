"""The autoencoder recipe, from training to a folder that diffusers reads."""

import pytest
import torch

from salticid.engine.log import LogConfig, RunLog
from salticid.engine.optim import OptimizerConfig
from salticid.engine.recipe import Clock
from salticid.engine.settings import Settings, TrainerConfig, ValidationConfig
from salticid.engine.trainer import Trainer
from salticid.errors import ConfigError
from salticid.recipes import AutoencoderRecipe
from salticid.world import WorldDepth

DATA = WorldDepth(size=(16, 16), train_scenes=8, val_scenes=2)


def small() -> AutoencoderRecipe:
    torch.manual_seed(0)
    return AutoencoderRecipe(widths=(8, 8, 16), groups=4)


def batch():
    from salticid.data.source import collate

    samples = [DATA.train().sample(i, None) for i in range(4)]
    return collate(samples) | {"id": ["a", "b", "c", "d"], "key": torch.arange(4), "replaced": []}


def test_training_lowers_the_error(tmp_path):
    recipe = small()
    settings = Settings(
        trainer=TrainerConfig(steps=30, batch=4),
        optimizer=OptimizerConfig(lr=3e-3),
        validation=ValidationConfig(samples=2, previews=2),
    )
    first = float(recipe.loss("vae", batch(), Clock(0, 30, 0)).total.detach())
    log = RunLog(tmp_path, LogConfig(), steps=30, batch=4, quiet=True)
    assert Trainer(recipe, DATA, tmp_path, settings).fit(log) == "finished"
    assert float(recipe.loss("vae", batch(), Clock(0, 30, 0)).total.detach()) < 0.7 * first
    assert 0 < float(recipe.power) != 1


def test_the_noise_of_a_latent_does_not_depend_on_the_batch():
    recipe, whole = small(), batch()
    with torch.no_grad():
        together = recipe.loss("vae", whole, Clock(0, 1, 0)).total
        halves = []
        for part in (slice(0, 2), slice(2, 4)):
            halves.append(recipe.loss("vae", {k: v[part] for k, v in whole.items() if k != "replaced"}, Clock(0, 1, 0)))
    torch.testing.assert_close(together, (halves[0].total + halves[1].total) / 2)


def test_metrics_and_pictures():
    recipe, given = small().eval(), batch()
    with torch.no_grad():
        metrics = recipe.evaluate(given, seed=0)
        picture = recipe.preview(given, seed=0)
    assert {name: tuple(value.shape) for name, value in metrics.items()} == {"psnr/picture": (4,), "mae/depth": (4,)}
    assert picture.dtype == torch.uint8
    assert picture.shape == (3, 4 * 18 - 2, 4 * 18 - 2)


def test_diffusers_reads_what_is_exported(tmp_path):
    from diffusers import AutoencoderKL

    recipe = small().eval()
    recipe.power.fill_(4.0)
    recipe.export(tmp_path / "vae")
    read = AutoencoderKL.from_pretrained(tmp_path / "vae", torch_dtype=torch.float32)
    assert read.config["scaling_factor"] == 0.5
    picture = batch()["image"]
    with torch.no_grad():
        torch.testing.assert_close(
            read.encode(picture).latent_dist.mean, recipe.vae.encode(picture).latent_dist.mean, atol=0.02, rtol=0.02
        )


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ConfigError, match=r"recipe\.widths"):
        AutoencoderRecipe(widths=(10, 20), groups=8)
    with pytest.raises(ConfigError, match="multiples of 4"):
        small().check(WorldDepth(size=(18, 16)))
