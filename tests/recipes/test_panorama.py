"""The panorama recipe: its maths in closed form, its independence of batches, its refusals, its predictions."""

import math
from dataclasses import replace

import pytest
import torch
from PIL import Image

from salticid.data.source import Source, collate
from salticid.diffusion.noise import stable_key
from salticid.engine.recipe import Clock
from salticid.errors import ConfigError, UnreadableSample, UserError
from salticid.geometry.cameras import UCM
from salticid.geometry.rig import Rig, save_rig
from salticid.nets.panorama_unet import Drawn
from salticid.recipes.panorama import LossWeights, PanoramaRecipe, Sampler
from salticid.recipes.panorama.model import Condition
from salticid.recipes.panorama.rigs import batch_rig, same_rig, views_for
from salticid.recipes.panorama.score import summarise
from salticid.world import WorldPanoramas

SMALL = {"height": 32, "view_size": 32, "encoder_widths": (8, 8, 8), "decoder_widths": (8, 8, 8)}


@pytest.fixture(scope="module")
def data():
    return WorldPanoramas(height=32, view_size=32, focal=17.0, val_scenes=4)


@pytest.fixture(scope="module")
def batch(data):
    source = data.val()
    samples = [source.sample(i, None) for i in range(4)]
    keys = torch.tensor([stable_key(source.id(i)) for i in range(4)])
    return collate(samples) | {"key": keys, "id": [source.id(i) for i in range(4)]}


def recipe(data=None, **options):
    torch.manual_seed(0)
    made = PanoramaRecipe(**{**SMALL, **options})
    if data is not None:
        made.check(data)
    return made.eval()


def part(batch, rows):
    return {name: value[rows] for name, value in batch.items()}


@pytest.mark.parametrize("fusion", ["concat_conv", "average", "attention", "rays"])
@pytest.mark.parametrize("distances", [(), (2.0, math.inf)])
def test_the_loss_of_a_batch_is_the_mean_over_its_parts(batch, fusion, distances):
    """So accumulation and ranks may cut a batch anywhere: noise and times belong to the samples."""
    made, clock = recipe(fusion=fusion, stitch_distances=distances), Clock(step=3, steps=10, seed=1)
    whole = made("flow", batch, clock)
    parts = [made("flow", part(batch, slice(i, i + 2)), clock) for i in (0, 2)]
    torch.testing.assert_close(whole.total, (parts[0].total + parts[1].total) / 2, rtol=1e-5, atol=1e-6)
    for name, value in whole.terms.items():
        torch.testing.assert_close(value, (parts[0].terms[name] + parts[1].terms[name]) / 2, rtol=1e-4, atol=1e-6)


def test_every_parameter_learns(batch):
    made = recipe(stitch_distances=(2.0, math.inf)).train()
    for parameter in made.parameters():  # layers that start at zero would hide others behind them
        torch.nn.init.normal_(parameter, std=0.1)
    made("flow", batch, Clock(0, 10, 0)).total.backward()
    without = [name for name, p in made.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    # A softmax over views does not care about a constant added to all their scores.
    assert without in ([], ["model.fusion.read.2.bias"])


def test_gradient_checkpointing_changes_no_gradient_and_keeps_less(batch):
    kept, gradients = [], []
    for recompute in (False, True):
        made = recipe(stitch_distances=(2.0, math.inf)).train()
        if recompute:
            made.checkpoint_activations()
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, s=sizes: s.append(t.numel()) or t, lambda t: t):
            total = made("flow", batch, Clock(0, 10, 0)).total
        kept.append(sum(sizes))
        total.backward()
        gradients.append({name: p.grad for name, p in made.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient)
    assert kept[1] < 0.6 * kept[0]


@pytest.mark.parametrize("t", [0.05, 0.5, 0.95, 1.0])
def test_the_flow_is_preconditioned_around_the_estimate(t):
    """For x₀ = estimate + N(0, s²), what the network has to add is uncorrelated with its input and of unit scale."""
    made = recipe(residual=0.3).model
    generator = torch.Generator().manual_seed(0)
    estimate, noise = torch.randn(2, 4, 3, 128, 128, generator=generator)
    truth = estimate + 0.3 * torch.randn(estimate.shape, generator=generator)
    seen = []

    class Silent(torch.nn.Module):
        def forward(self, x, time, *condition):
            seen.append((x, time))
            return torch.zeros_like(x), x

    made.decoder = Silent()
    times = torch.full((4,), t)
    condition = Condition(estimate, Drawn((estimate,) * 3, estimate), None, None)
    guess, _ = made.velocity((1 - t) * truth + t * noise, times, condition)
    scale = 0.3 / math.sqrt((1 - t) ** 2 * 0.09 + t**2)
    left = (truth - noise - guess) / scale
    ((given, time),) = seen
    assert left.std().item() == pytest.approx(1, abs=0.01)
    assert given.std().item() == pytest.approx(1, abs=0.01)
    assert abs((left * given).mean().item()) < 0.01
    torch.testing.assert_close(time, 1000 * times)


def test_one_step_from_pure_noise_gives_the_estimate_plus_what_the_network_adds(batch):
    """A new decoder adds its last layer's bias alone: residual times that, whatever the noise."""
    made = recipe(residual=0.2)
    condition = made.model.condition(batch["views"], made.rig(batch))
    panorama = made.model.generate(condition, torch.randn(4, 3, 32, 64), steps=1)
    bias = made.model.decoder.leave[2].bias.reshape(1, 12, 1, 1).expand(4, 12, 16, 32)
    added = 0.2 * torch.nn.functional.pixel_shuffle(bias, 2)
    torch.testing.assert_close(panorama, condition.estimate + added, atol=1e-5, rtol=1e-5)


def test_samples_do_not_depend_on_their_batch(data, batch):
    made = recipe(data, stitch_distances=(2.0,), baseline_distances=(2.0,))
    with torch.no_grad():
        whole = made.evaluate(batch, seed=0)
        alone = made.evaluate(part(batch, slice(2, 3)), seed=0)
    for name, values in whole.items():
        torch.testing.assert_close(values[2:3], alone[name], rtol=1e-4, atol=1e-4, equal_nan=True)


def test_scores_come_for_every_variant(data, batch):
    made = recipe(data, baseline_distances=(1.5, math.inf))
    with torch.no_grad():
        summary = made.summarise(made.evaluate(batch, seed=0))
    for variant in ("1-step", "12-step", "image-head", "stitch", "mean-colour"):
        for metric in ("psnr", "ws_psnr", "ssim", "mae", "seam"):
            assert math.isfinite(summary[f"{metric}/{variant}"])
    assert summary["stitch_distance"] in (1.5, math.inf)


def test_the_baseline_is_the_best_single_distance():
    records = {
        "ws_psnr/stitch@2": torch.tensor([20.0, 22.0]),
        "ws_psnr/stitch@inf": torch.tensor([25.0, 15.0]),
        "psnr/stitch@2": torch.tensor([1.0, 3.0]),
        "psnr/stitch@inf": torch.tensor([9.0, 9.0]),
        "ws_psnr_unseen/1-step": torch.tensor([10.0, math.nan]),
        "ws_psnr_unseen/12-step": torch.tensor([math.nan, math.nan]),
        "ssim/1-step": torch.tensor([0.5, math.nan]),
    }
    summary = summarise(records, (2.0, math.inf))
    assert math.isnan(summary.pop("ssim/1-step"))  # a broken picture is not passed over
    assert summary == {
        "ws_psnr/stitch": 21.0,
        "psnr/stitch": 2.0,
        "ws_psnr_unseen/1-step": 10.0,
        "stitch_distance": 2.0,
    }


def test_data_of_another_shape_is_refused():
    with pytest.raises(ConfigError, match=r"views of shape \(4, 3, 40, 40\), the recipe expects \(4, 3, 32, 32\)"):
        recipe(WorldPanoramas(height=32, view_size=40, focal=17.0))


NAN = math.nan


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"view_size": 30}, "recipe.view_size is 30; expected a multiple of 8"),
        ({"height": 36}, "recipe.height is 36"),
        ({"height": 0}, "recipe.height is 0"),
        ({"views": -1}, "recipe.views is -1"),
        ({"latent": 0}, "recipe.latent is 0"),
        ({"encoder_widths": (8, 8)}, "recipe.encoder_widths"),
        ({"decoder_widths": (8, 0, 8)}, "recipe.decoder_widths"),
        ({"fusion_distances": ()}, "recipe.fusion_distances"),
        ({"fusion_distances": (0.0,)}, "recipe.fusion_distances"),
        ({"stitch_distances": (NAN,)}, "recipe.stitch_distances"),
        ({"baseline_distances": (-1.0,)}, "recipe.baseline_distances"),
        ({"residual": 0.0}, "recipe.residual is 0.0"),
        ({"residual": NAN}, "recipe.residual is nan"),
        ({"noisy_share": 2.0}, "noisy_share"),
    ],
)
def test_values_that_make_no_model_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        PanoramaRecipe(**options)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Sampler(steps=0), "recipe.sampler.steps is 0"),
        (lambda: Sampler(power=0.0), "recipe.sampler.power is 0.0"),
        (lambda: LossWeights(kl=NAN), "recipe.weights.kl is nan"),
        (lambda: LossWeights(flow=-1.0), "recipe.weights.flow is -1.0"),
    ],
)
def test_samplers_and_weights_that_make_no_sense_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


class Broken(Source):
    """Unreadable but for the last."""

    def __init__(self, source):
        self.source = source

    def __len__(self):
        return 4

    def id(self, index):
        return self.source.id(index)

    def sample(self, index, augment):
        if index < 3:
            raise UnreadableSample(f"{index} is broken")
        return self.source.sample(index, augment)


def test_a_broken_first_sample_does_not_refuse_the_data(data, monkeypatch):
    monkeypatch.setattr(type(data), "train", lambda self: Broken(data.val()))
    assert recipe(data).rig_intrinsics.any()


def test_without_baselines_there_is_still_a_preview(data, batch):
    with torch.no_grad():
        assert recipe(data, baseline_distances=()).preview(batch, seed=0).dtype == torch.uint8


def test_preview_is_a_sheet_of_bytes(data, batch):
    with torch.no_grad():
        sheet = recipe(data).preview(batch, seed=0)
    assert sheet.dtype == torch.uint8
    assert sheet.shape == (3, 4 * 34 - 2, 5 * 66 - 2)


def test_equal_rigs_are_collapsed_and_different_ones_are_not(batch):
    intrinsics, poses = batch["intrinsics"], batch["poses"]
    assert batch_rig(intrinsics, poses, 32).poses.shape[0] == 1
    jittered = intrinsics.clone()
    jittered[1, :, 4] += 0.1
    rig = batch_rig(jittered, poses, 32)
    assert rig.poses.shape[0] == 4
    assert rig.cameras[0].batch_shape == (4,)


# --- prediction from files


@pytest.fixture
def pictures(data, tmp_path):
    views = ((data.val().sample(0, None)["views"] + 1) * 127.5).round().byte()
    paths = []
    for i, view in enumerate(views):
        paths.append(tmp_path / f"view{i}.png")
        Image.fromarray(view.permute(1, 2, 0).numpy()).save(paths[-1])
    save_rig(data.rig, tmp_path / "rig.yaml")
    return paths


def test_prediction_writes_a_panorama_and_is_repeatable(data, pictures, tmp_path):
    made = recipe(data)
    first, second = tmp_path / "a" / "pano.png", tmp_path / "again.png"
    assert made.predict(pictures, first, rig=tmp_path / "rig.yaml", steps=2) == [first]
    made.predict(pictures, second, rig=tmp_path / "rig.yaml", steps=2)
    with Image.open(first) as picture:
        assert picture.size == (64, 32)
    assert first.read_bytes() == second.read_bytes()


def test_prediction_refuses_pictures_that_are_not_the_rigs(data, pictures, tmp_path):
    made, output = recipe(data), tmp_path / "pano.png"
    with pytest.raises(UserError, match=r"rig.yaml.*3 images for the 4 cameras"):
        made.predict(pictures[:3], output, rig=tmp_path / "rig.yaml")
    Image.new("RGB", (20, 20)).save(pictures[1])
    with pytest.raises(UserError, match="20×20"):
        made.predict(pictures, output, rig=tmp_path / "rig.yaml")
    assert not output.exists()


def test_prediction_writes_png_alone(data, pictures, tmp_path):
    with pytest.raises(UserError, match=r"pano\.jpg"):
        recipe(data).predict(pictures, tmp_path / "pano.jpg", rig=tmp_path / "rig.yaml")
    with pytest.raises(UserError, match=tmp_path.name):
        recipe(data).predict(pictures, tmp_path, rig=tmp_path / "rig.yaml")


def test_prediction_needs_weights_that_know_their_rig(pictures, tmp_path):
    with pytest.raises(UserError, match="does not know the rig"):
        recipe().predict(pictures, tmp_path / "pano.png", rig=tmp_path / "rig.yaml")


def circled(rig, max_angle):
    """The rig's cameras with an image circle that ends at `max_angle`."""
    return tuple(replace(camera, max_angle=max_angle) for camera in rig.cameras)


def test_the_trained_rigs_pictures_are_used_as_they_are(data):
    sample = data.val().sample(0, None)
    rig, numbers = data.rig, (sample["intrinsics"], sample["poses"])
    assert same_rig(rig, *numbers, 32)
    assert same_rig(rig.resized(64, 64), *numbers, 32)
    torch.testing.assert_close(views_for(list(sample["views"]), rig, *numbers, 32, math.inf), sample["views"])
    assert not same_rig(Rig.ring(4, UCM.centred(32, 32, f=12.0, xi=0.9)), *numbers, 32)
    assert not same_rig(Rig.ring(3, rig.cameras[0]), *numbers, 32)
    assert same_rig(Rig(circled(rig, math.radians(175)), rig.poses, rig.names), *numbers, 32)
    assert not same_rig(Rig(circled(rig, math.radians(90)), rig.poses, rig.names), *numbers, 32)


def test_views_of_another_rig_are_rendered_through_a_stitch(data):
    """Six cameras at one place see what four do: re-rendering loses little but resolution."""
    trained = Rig.ring(4, UCM.centred(32, 32, f=16.0, xi=0.9))
    numbers = torch.tensor([[16.0, 16.0, 15.5, 15.5, 0.9]] * 4), trained.poses
    other = Rig.ring(6, UCM.centred(128, 128, f=60.0, xi=0.8))

    def look(rig):  # a smooth world at infinity
        rays = [camera.rays()[0] @ pose[:3, :3].mT for camera, pose in zip(rig.cameras, rig.poses, strict=True)]
        return [torch.sin(2 * ray + 0.5).permute(2, 0, 1) * 0.8 for ray in rays]

    made, expected = views_for(look(other), other, *numbers, 32, math.inf), torch.stack(look(trained))
    inside = (slice(None), slice(None), slice(8, -8), slice(8, -8))
    assert (made - expected)[inside].abs().mean() < 0.02


def test_predictions_open_as_panoramas_and_show_what_is_made_up(data, pictures, tmp_path):
    made, output, marked = recipe(data), tmp_path / "pano.png", tmp_path / "coverage.png"
    assert made.predict(pictures, output, rig=tmp_path / "rig.yaml", coverage=marked) == [output, marked]
    with Image.open(output) as picture:
        assert "equirectangular" in picture.info["XML:com.adobe.xmp"]
    with Image.open(marked) as picture:
        assert picture.size == (1024, 512)
    with pytest.raises(UserError, match=r"coverage\.jpg"):
        made.predict(pictures, tmp_path / "other.png", rig=tmp_path / "rig.yaml", coverage=tmp_path / "coverage.jpg")
    assert not (tmp_path / "other.png").exists()


def test_spheres_are_the_previews_panoramas(data, batch):
    with torch.no_grad():
        spheres = recipe(data).spheres(batch, seed=0)
    assert list(spheres) == ["warp-and-blend", "1-step", "12-step", "truth"]
    assert all(value.dtype == torch.uint8 and value.shape == (4, 3, 32, 64) for value in spheres.values())


@pytest.mark.gpu
def test_a_gpu_computes_the_same_loss_and_scores(data, batch):
    """float32 with TF32 off: what differs is the order of sums."""
    made, clock = recipe(data, stitch_distances=(2.0, math.inf)), Clock(step=3, steps=10, seed=1)
    here, scores = made("flow", batch, clock).total, made.evaluate(batch, seed=0)
    made, there = made.cuda(), {n: v.cuda() if isinstance(v, torch.Tensor) else v for n, v in batch.items()}
    torch.testing.assert_close(made("flow", there, clock).total.cpu(), here, rtol=1e-3, atol=1e-4)
    for name, values in made.evaluate(there, seed=0).items():
        torch.testing.assert_close(values.cpu(), scores[name], rtol=1e-2, atol=1e-2, equal_nan=True)
