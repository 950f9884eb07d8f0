"""The marigold recipe: its losses against diffusers, what it refuses, and that it trains, resumes and is judged."""

import pytest
import torch
import torch.nn.functional as F

from salticid.data.mixture import Mixture, Part
from salticid.data.source import collate
from salticid.diffusion.noise import keyed_normal
from salticid.engine.checkpoint import CheckpointConfig, newest
from salticid.engine.log import LogConfig, RunLog
from salticid.engine.optim import OptimizerConfig
from salticid.engine.recipe import Clock
from salticid.engine.settings import Settings, TrainerConfig, ValidationConfig
from salticid.engine.trainer import Trainer
from salticid.errors import ConfigError
from salticid.nets.lora import Lora
from salticid.recipes import MarigoldRecipe
from salticid.recipes.marigold.objective import training_noise
from salticid.recipes.marigold.settings import Noise, OneStep, Protocol, Sampler
from salticid.world import WorldDepth

DATA = WorldDepth(size=(32, 32), train_scenes=6, val_scenes=2)
CLOCK = Clock(0, 10, 3)


def made(**values) -> MarigoldRecipe:
    torch.manual_seed(0)
    recipe = MarigoldRecipe(**({"sampler": Sampler(steps=(1,))} | values))
    recipe.check(DATA)
    recipe.start(fresh=True)
    return recipe


@pytest.fixture(scope="module")
def batch():
    return collate([DATA.train().sample(i, None) for i in range(3)]) | {"id": ["a", "b", "c"], "key": torch.arange(3)}


@pytest.mark.parametrize(("target", "theirs"), [("epsilon", "epsilon"), ("x0", "sample"), ("v", "v_prediction")])
@pytest.mark.parametrize("distance", ["l2", "l1"])
def test_the_loss_is_that_of_a_loop_on_diffusers(target, theirs, distance, batch):
    from diffusers import DDPMScheduler

    recipe = made(target=target, zero_terminal_snr=False, loss=distance)
    model, encoded = recipe.model, recipe.encode(batch)
    scheduler = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type=theirs)
    image, x0, cells = encoded["image_latent"], encoded["depth_latent"], encoded["valid_latent"]
    times = recipe.objective.times(batch["key"], seed=3)
    noise = keyed_normal(batch["key"], x0.shape[1:], seed=3)
    with torch.no_grad():
        noisy = scheduler.add_noise(x0, noise, times)
        output = model.unet(torch.cat([image, noisy], 1), times, model.prompt.expand(3, -1, -1)).sample
        wanted = {"epsilon": noise, "x0": x0, "v": scheduler.get_velocity(x0, noise, times)}[target]
        mask = cells.expand_as(x0)
        expected = {"l2": F.mse_loss, "l1": F.l1_loss}[distance](output[mask], wanted[mask])
        found = recipe.loss("unet", batch, CLOCK)
    torch.testing.assert_close(found.total, expected, rtol=1e-4, atol=1e-6)
    assert found.weight == mask.sum()


def test_the_latent_is_the_scaled_mean_of_the_posterior_and_the_depth_a_grey_picture(batch):
    recipe = made()
    encoded, vae = recipe.encode(batch), recipe.model.vae.network
    grey = recipe.coding(batch["depth"], batch["valid"]).expand(-1, 3, -1, -1)
    for name, picture in (("image_latent", batch["image"]), ("depth_latent", grey)):
        expected = vae.encode(picture).latent_dist.mode() * vae.config["scaling_factor"]
        torch.testing.assert_close(encoded[name], expected, atol=1e-5, rtol=1e-5)
        assert not encoded[name].requires_grad


def test_one_invalid_pixel_makes_its_cell_invalid():
    recipe, valid = made(), torch.ones(1, 1, 8, 12, dtype=torch.bool)
    valid[0, 0, 5, 2] = False
    cells = recipe.model.valid_cells(valid)
    assert cells.shape == (1, 1, 2, 3)
    assert cells.sum() == 5
    assert not cells[0, 0, 1, 0]


def test_multi_resolution_noise_is_annealed_with_time():
    like, keys, settings = torch.zeros(2, 4, 16, 16), torch.arange(2), Noise("multi_resolution")

    def smooth(time):
        noise = training_noise(settings, keys, torch.full((2,), time), like, 1000, seed=0)
        return F.avg_pool2d(noise, 8).square().mean() / noise.square().mean()

    assert smooth(999) > 3 * smooth(0)


@pytest.mark.parametrize("one_step", [None, OneStep(), OneStep("image"), OneStep("gaussian")])
def test_nothing_valid_is_no_loss_and_no_gradient(one_step, batch):
    recipe = made(one_step=one_step)
    nothing = batch | {"valid": torch.zeros_like(batch["valid"])}
    found = recipe.loss("unet", nothing, CLOCK)
    found.total.backward()
    assert found.total == 0
    assert found.weight == 0
    assert found.terms["empty"] == 1
    assert all(p.grad is None or (p.grad == 0).all() for p in recipe.parameters())


@pytest.mark.parametrize("one_step", [None, OneStep()])
def test_micro_batches_weighted_by_what_is_valid_are_the_whole_batch(one_step, batch):
    recipe = made(one_step=one_step)
    partly = batch | {"valid": batch["valid"].clone()}
    partly["valid"][0, :, :20] = False
    with torch.no_grad():
        whole = recipe.loss("unet", partly, CLOCK)
        parts = [recipe.loss("unet", {n: v[i : i + 1] for n, v in partly.items()}, CLOCK) for i in range(3)]
    mean = sum(part.total * part.weight for part in parts) / sum(part.weight for part in parts)
    torch.testing.assert_close(whole.total, mean, rtol=1e-4, atol=1e-6)


def test_the_one_step_loss_forgives_scale_and_shift(batch):
    recipe = made(one_step=OneStep())
    truth = recipe.objective.truth(batch["depth"], batch["valid"])
    recipe.model.decode = lambda latents: 0.2 * truth - 3 + 0 * latents.mean()
    assert recipe.loss("unet", batch, CLOCK).total < 1e-5


def test_encoded_batches_train_as_pictures_do(batch):
    recipe = made()
    encoded = recipe.encode(batch) | {"key": batch["key"], "id": batch["id"]}
    assert torch.equal(recipe.loss("unet", batch, CLOCK).total, recipe.loss("unet", encoded, CLOCK).total)


def test_adapters_alone_and_the_first_convolution_are_trained_and_saved(batch):
    recipe = made(lora=Lora(rank=2))
    trained = {name for name, p in recipe.named_parameters() if p.requires_grad}
    assert trained
    assert all(".lora_" in name or "conv_in" in name for name in trained)
    recipe.loss("unet", batch, CLOCK).total.backward()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"target": "epsilon"}, r"recipe\.target is epsilon; expected x0 or v"),
        ({"base": ""}, r"recipe\.base"),
        ({"spacing": "leading", "sampler": Sampler(steps=(1,)), "one_step": OneStep()}, r"recipe\.spacing"),
        ({"loss": "l1", "sampler": Sampler(steps=(1,)), "one_step": OneStep()}, r"recipe\.loss"),
        ({"base": "nowhere"}, r"recipe\.base"),
        ({"sampler": Sampler(steps=(4,)), "one_step": OneStep()}, r"recipe\.sampler\.steps"),
        ({"vae_batch": -1}, r"recipe\.vae_batch"),
    ],
)
def test_what_cannot_work_is_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        MarigoldRecipe(**values)


def test_training_pictures_are_multiples_of_the_vaes_factor_those_that_are_judged_need_not_be():
    recipe = made()
    recipe.check(WorldDepth(size=(30, 32)))
    with pytest.raises(ConfigError, match="multiples of 4"):
        recipe.start(fresh=False)


def test_metrics_and_pictures(batch):
    recipe = made(sampler=Sampler(steps=(1, 2), ensemble=2), protocol=Protocol(("depth", "disparity"))).eval()
    given = batch | {"key": torch.tensor([5, 6, 7])}
    with torch.no_grad():
        found = recipe.evaluate(given, seed=0)
        alone = recipe.evaluate({n: v[1:2] for n, v in given.items()}, seed=0)
        picture = recipe.preview(given, seed=0)
    names = {name.partition("/")[2] for name in found}
    assert names >= {"1-stepx2", "2-stepx2", "mean-map", "constant", "1-stepx2-disparity"}
    assert all(values.shape == (3,) and values.isfinite().all() for values in found.values())
    assert alone["absrel/mean-map"] == found["absrel/mean-map"][1]
    assert picture.shape == (3, 3 * 34 - 2, 4 * 34 - 2)
    assert picture.dtype == torch.uint8


def mixture() -> Mixture:
    return Mixture(
        {
            "rooms": Part(WorldDepth(size=(16, 16), train_scenes=5, val_scenes=1, kind="room"), weight=0.7),
            "streets": Part(WorldDepth(size=(16, 16), train_scenes=3, val_scenes=1, kind="outdoors"), weight=0.3),
        },
        group=2,
    )


def train(directory, steps_now=None, resume=False):
    """Ten steps of four: five epochs of the eight samples."""
    torch.manual_seed(0)
    recipe = MarigoldRecipe(sampler=Sampler(steps=(1,)), noise=Noise("multi_resolution", divide_by="batch"))
    settings = Settings(
        trainer=TrainerConfig(steps=6, batch=4, micro_batch=2, seed=1),
        optimizer=OptimizerConfig(lr=1e-3),
        validation=ValidationConfig(samples=2, previews=0),
        checkpoint=CheckpointConfig(every=1, keep_last=9),
    )
    log = RunLog(directory, LogConfig(every=1), steps=6, batch=4, quiet=True)
    return Trainer(recipe, mixture(), directory, settings).fit(log, resume=resume)


@pytest.mark.slow
def test_a_mixture_resumed_in_its_second_epoch_is_bit_identical(tmp_path):
    import shutil

    from safetensors.torch import load_file

    assert train(tmp_path / "whole") == "finished"
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    for step in (4, 5, 6):
        shutil.rmtree(tmp_path / "cut" / "checkpoints" / f"step-{step:08d}")
    assert train(tmp_path / "cut", resume=True) == "finished"
    one, other = (
        load_file(newest(tmp_path / run / "checkpoints")[0] / "model.safetensors") for run in ("whole", "cut")
    )
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
