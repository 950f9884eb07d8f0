"""The terms of the panorama loss, its networks of the paper's sizes, and the metrics of pretrained networks."""

import math

import pytest
import torch
from torch import nn

from salticid.data.source import collate
from salticid.engine.recipe import Clock
from salticid.errors import ConfigError
from salticid.evaluate.fid import frechet_distance
from salticid.losses.frozen import Frozen
from salticid.recipes.panorama import Gan, Judges, LossWeights, PanoramaRecipe, metrics, objective
from salticid.recipes.panorama.metrics import Metrics
from salticid.world import WorldPanoramas

SMALL = {"height": 32, "view_size": 32, "encoder_widths": (8, 8, 8), "decoder_widths": (8, 8, 8)}
CLOCK = Clock(3, 10, 0)


class Distance(nn.Module):
    """Stands for a pretrained network: remembers what it was asked."""

    def __init__(self, weights, net="vgg", *, key):
        super().__init__()
        self.weights, self.net, self.key, self.asked = weights, net, key, []
        self.judge = Frozen(nn.Linear(1, 1))

    def forward(self, a, b):
        self.asked.append((a, b))
        return (a - b).abs().flatten(1).mean(1)


@pytest.fixture(scope="module")
def batch():
    data = WorldPanoramas(height=32, view_size=32, focal=17.0, val_scenes=4)
    samples = [data.val().sample(i, None) for i in range(2)]
    return collate(samples) | {"key": torch.arange(2), "id": ["a", "b"]}


def recipe(**options):
    torch.manual_seed(0)
    return PanoramaRecipe(**{**SMALL, **options})


def randomised(made):
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.1)
    return made


@pytest.mark.parametrize(
    ("term", "judge"), [("lpips", "recipe.judges.vgg is null"), ("repa", "recipe.judges.dinov2 is null")]
)
def test_a_term_without_its_network_is_refused_with_both_ways_out(term, judge):
    with pytest.raises(ConfigError, match=f"recipe.weights.{term} is 0.5, but {judge}.*recipe.weights.{term}: 0"):
        recipe(weights=LossWeights(**{term: 0.5}))


def test_a_network_that_cannot_be_loaded_names_the_way_without():
    made = recipe(weights=LossWeights(lpips=0.5), judges=Judges(vgg="nowhere.pth"))
    with pytest.raises(ConfigError, match=r"recipe.judges.vgg: nowhere.pth: no such file.*recipe.weights.lpips: 0"):
        made.start(fresh=True)


def test_lpips_compares_the_predicted_panorama_with_the_truth(batch, monkeypatch):
    monkeypatch.setattr(objective, "Lpips", Distance)
    made = randomised(recipe(weights=LossWeights(lpips=0.5), judges=Judges(vgg="vgg.pth")))
    made.start(fresh=True)
    judge = made.objective.lpips
    assert (judge.weights, judge.key) == ("vgg.pth", "recipe.judges.vgg")
    loss = made("flow", batch, CLOCK)
    ((x0, truth),) = judge.asked
    assert torch.equal(truth, batch["panorama"])
    assert x0.requires_grad
    # x̂₀ = x_t + t·v: the closed form of the flow path.
    condition, _ = made.look(batch, CLOCK)
    noise, t = made.objective.noise(batch, CLOCK), made.objective.times(batch["key"], seed=0)
    mixed = (1 - t.reshape(-1, 1, 1, 1)) * truth + t.reshape(-1, 1, 1, 1) * noise
    velocity, _ = made.model.velocity(mixed, t, condition)
    torch.testing.assert_close(x0, mixed + t.reshape(-1, 1, 1, 1) * velocity, rtol=1e-4, atol=1e-4)
    weights = {"flow": 1.0, "image": 1.0, "kl": 1e-6, "lpips": 0.5}
    assert loss.terms.keys() == weights.keys()
    torch.testing.assert_close(loss.total.detach(), sum(w * loss.terms[name] for name, w in weights.items()))
    assert not any("lpips" in name for name in made.state_dict())


def test_repa_aligns_the_decoders_features_with_a_real_teacher(batch, tmp_path):
    from transformers import Dinov2Config, Dinov2Model

    size = {"hidden_size": 768, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 28}
    Dinov2Model(Dinov2Config(**size)).save_pretrained(tmp_path)
    made = randomised(recipe(decoder="S", weights=LossWeights(repa=0.25), judges=Judges(dinov2=str(tmp_path))))
    assert made.phases()[0].modules == ("model", "objective.repa")
    made.start(fresh=True)
    loss = made("flow", batch, CLOCK)
    assert 0 < loss.terms["repa"] < 2
    loss.total.backward()
    assert made.objective.repa.projection[0].weight.grad.abs().sum() > 0
    learnt = {name for name in made.state_dict() if "repa" in name}
    assert learnt == {f"objective.repa.projection.{n}.{p}" for n in (0, 2) for p in ("weight", "bias")}


def test_the_discriminator_is_a_second_phase_that_starts_when_told(batch):
    made = randomised(recipe(weights=LossWeights(gan=0.1), gan=Gan(start=4, width=8, lr_scale=2.0)))
    model, judge = made.phases()
    assert (judge.name, judge.modules, judge.start, judge.lr_scale) == (
        "discriminator",
        ("objective.discriminator",),
        4,
        2.0,
    )
    assert "gan" not in made("flow", batch, Clock(3, 10, 0)).terms
    assert "gan" in made("flow", batch, Clock(4, 10, 0)).terms
    loss = made("discriminator", batch, Clock(4, 10, 0))
    loss.total.backward()
    touched = {name.partition(".")[0] for name, p in made.named_parameters() if p.grad is not None}
    assert touched == {"objective"}
    assert model.modules == ("model",)


def test_the_generator_gains_what_the_discriminator_rewards(batch):
    made = randomised(recipe(weights=LossWeights(flow=0, image=0, kl=0, gan=1.0), gan=Gan(width=8)))
    loss = made("flow", batch, CLOCK)
    torch.testing.assert_close(loss.total.detach(), loss.terms["gan"])
    scored, _ = made.objective.predict(made.model, batch, made.look(batch, CLOCK)[0], CLOCK)
    torch.testing.assert_close(loss.terms["gan"], -made.objective.discriminator(scored.x0).mean())


@pytest.mark.parametrize("stitches", [(), (2.0, math.inf)])
@pytest.mark.parametrize("image_head", [False, True])
@pytest.mark.parametrize("decoder", ["small", "S"])
def test_every_decoder_goes_with_every_guide(batch, decoder, image_head, stitches):
    made = recipe(decoder=decoder, image_head=image_head, stitch_distances=stitches).eval()
    loss = made("flow", batch, CLOCK)
    assert loss.terms.keys() == ({"flow", "kl", "image"} if image_head else {"flow", "kl"})
    loss.total.backward()
    with torch.no_grad():
        records = made.evaluate(batch, seed=0)
    assert ("psnr/image-head" in records) == image_head
    assert all(values.shape == (2,) for values in records.values())


def test_without_an_image_head_the_network_predicts_the_flow_itself(batch):
    made = randomised(recipe(image_head=False)).eval()
    condition = made.model.condition(batch["views"], made.rig(batch))
    x, t = torch.randn(2, 3, 32, 64), torch.tensor([0.3, 0.8])
    velocity, _ = made.model.velocity(x, t, condition)
    out, _ = made.model.decoder(x, 1000 * t, condition.drawn, None, None)
    assert torch.equal(velocity, out)
    noise = made.objective.noise(batch, CLOCK)
    with torch.no_grad():
        one = made.model.generate(condition, noise, 1)
        torch.testing.assert_close(one, noise + made.model.velocity(noise, torch.ones(2), condition)[0])


def test_an_encoder_of_the_paper_with_coarser_latents(batch):
    made = recipe(encoder="f16c4", decoder="S", image_head=False).eval()
    with torch.no_grad():
        condition = made.model.condition(batch["views"], made.rig(batch))
        assert condition.latent.shape == (2, 4, 2, 4)
        assert made.model.generate(condition, torch.randn(2, 3, 32, 64), 1).shape == (2, 3, 32, 64)


def test_sizes_that_the_encoder_cannot_shrink_are_refused():
    with pytest.raises(ConfigError, match=r"recipe.height is 40; expected a multiple of 16, at least 16 \(f16c4\)"):
        recipe(height=40, encoder="f16c4")


# --- metrics through pretrained networks


class Features(nn.Module):
    """Stands for Inception: the mean colour, and that squared."""

    def __init__(self, weights, *, key):
        super().__init__()

    def forward(self, images):
        colour = images.mean(dim=(2, 3)).float()
        return torch.cat([colour, colour.square()], dim=1)


def test_lpips_and_fid_are_reported_where_weights_are_given(batch, monkeypatch, caplog):
    monkeypatch.setattr(metrics, "Lpips", Distance)
    monkeypatch.setattr(metrics, "Inception", Features)
    made = recipe(judges=Judges(alex="alex.pth", inception="inception.pth"), baseline_distances=(2.0, math.inf)).eval()
    with torch.no_grad():
        records = made.evaluate(batch, seed=0)
        summary = made.summarise(records)
    assert made.metrics.lpips.net == "alex"
    made_of = {"1-step", "12-step", "image-head", "stitch", "mean-colour"}
    for metric in ("lpips", "fid"):
        assert {name.partition("/")[2] for name in summary if name.startswith(metric)} == made_of
    truth = Features("", key="")(((batch["panorama"].double() + 1) / 2 * 255).round() / 255)
    expected = frechet_distance(records["inception/1-step"], truth)
    assert summary["fid/1-step"] == pytest.approx(expected, rel=1e-4, abs=1e-9)
    assert "FID of 2 images" in caplog.text
    caplog.clear()
    monkeypatch.setattr(metrics, "fid_remark", lambda n: "")  # enough images: nothing to remark on
    assert "fid/1-step" in made.summarise(records)
    assert caplog.records == []
    assert made.metrics.state_dict() == {}


def test_without_weights_there_are_no_such_metrics(batch):
    assert Metrics(Judges())({"1-step": torch.rand(2, 3, 32, 64)}, torch.rand(2, 3, 32, 64)) == {}
    assert Metrics(Judges()).distances({}) == {}
