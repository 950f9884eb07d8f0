import pytest
import torch
from toys import Denoiser, Toy, Vectors, train

from salticid.engine.ema import EmaConfig
from salticid.engine.evaluation import Stopped, evaluate, load_for_inference, preview, spheres
from salticid.engine.optim import OptimizerConfig, ScheduleConfig
from salticid.engine.settings import ValidationConfig
from salticid.errors import CheckpointError, UserError


def errors(recipe, indices):
    """The oracle: one sample at a time, by hand."""
    recipe.eval()
    with torch.no_grad():
        samples = [Vectors().sample(i, None)["x"][None] for i in indices]
        return torch.cat([(recipe.up(recipe.down(x)) - recipe.frozen(x)).square().mean(1) for x in samples])


@pytest.mark.parametrize(("batch", "workers"), [(1, 0), (4, 0), (100, 0), (4, 2)])
def test_records_are_those_of_single_samples(batch, workers):
    recipe = Denoiser()
    found = evaluate(recipe, Vectors(), batch=batch, workers=workers)
    expected = errors(recipe, range(22))
    assert found.ids == [f"vector-{i:03d}" for i in range(22)]
    torch.testing.assert_close(found.records["error"], expected.double(), rtol=1e-6, atol=0)
    assert found.metrics["error"] == pytest.approx(float(expected.mean()), rel=1e-6)


def test_a_limit_spreads_over_the_source():
    found = evaluate(Denoiser(), Vectors(), batch=2, limit=3)
    assert found.ids == ["vector-000", "vector-007", "vector-014"]


def test_unreadable_samples_are_left_out_and_named():
    found = evaluate(Denoiser(), Vectors(broken=(1, 2, 3)), batch=2)
    assert len(found.ids) == 19
    assert found.skipped == [f"vector-00{i}: made to fail" for i in (1, 2, 3)]
    with pytest.raises(UserError, match="cannot be read"):
        evaluate(Denoiser(), Vectors(4, broken=range(4)), batch=2)


def test_training_does_not_notice():
    recipe = Denoiser()
    recipe.train()
    recipe.frozen.eval()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    evaluate(recipe, Vectors(), batch=4)
    preview(recipe, Vectors(), 3)
    assert torch.equal(torch.rand(3), expected)
    assert (recipe.training, recipe.up.training, recipe.frozen.training) == (True, True, False)
    assert all(p.grad is None for p in recipe.parameters())


def test_it_can_be_stopped():
    with pytest.raises(Stopped):
        evaluate(Denoiser(), Vectors(), batch=4, stop=lambda: True)


class Scalar(Denoiser):
    def evaluate(self, batch, *, seed):
        return {"error": super().evaluate(batch, seed=seed)["error"].mean()}


def test_metrics_are_one_number_a_sample():
    with pytest.raises(UserError, match=r"metric error has shape \(\)"):
        evaluate(Scalar(), Vectors(), batch=4)


def test_preview_shows_the_same_samples():
    picture = preview(Denoiser(), Vectors(), 3)
    assert picture.dtype == torch.uint8
    assert picture.shape == (3, 3, 6)
    assert torch.equal(picture, preview(Denoiser(), Vectors(), 3))


class Round(Denoiser):
    """Shows the keys of its samples; `made` replaces the picture."""

    made = None

    def spheres(self, batch, *, seed):
        assert not self.training
        assert not torch.is_grad_enabled()
        self.seen_ids = batch["id"]
        return {"truth": torch.full((2, 3, 4, 8), seed, dtype=torch.uint8) if self.made is None else self.made}


def test_pictures_to_look_around_in_are_of_the_samples_of_the_preview():
    recipe = Round()
    recipe.train()
    before = torch.get_rng_state()
    found = spheres(recipe, Vectors(), 3, seed=7)
    assert found.ids == recipe.seen_ids == ["vector-000", "vector-007", "vector-014"]
    assert torch.equal(found.pictures["truth"], torch.full((2, 3, 4, 8), 7, dtype=torch.uint8))
    assert recipe.training
    assert torch.equal(torch.get_rng_state(), before)
    assert spheres(Denoiser(), Vectors(), 3).pictures == {}


WRONG = [(3, 4, 8), (2, 3, 4, 7), (4, 3, 4, 8), (0, 3, 4, 8), (2, 1, 4, 8), (2, 3, 0, 0)]


@pytest.mark.parametrize("made", [torch.zeros(2, 3, 4, 8), *(torch.zeros(s, dtype=torch.uint8) for s in WRONG)])
def test_pictures_to_look_around_in_have_a_fixed_form(made):
    recipe = Round()
    recipe.made = made
    with pytest.raises(UserError, match=r"spheres: truth is .* at most 3 samples"):
        spheres(recipe, Vectors(), 3)


def tensors(recipe):
    return {name: value.clone() for name, value in recipe.state_dict().items()}


def test_weights_are_loaded_for_inference(tmp_path):
    _, trained = train(tmp_path)
    checkpoint = tmp_path / "checkpoints/step-00000020"
    raw, averaged = Denoiser(), Denoiser()
    manifest = load_for_inference(checkpoint, raw, "raw")
    load_for_inference(checkpoint, averaged, "ema")
    assert manifest["step"] == 20
    for name, value in tensors(trained).items():
        assert torch.equal(tensors(raw)[name], value)
        same = torch.equal(tensors(averaged)[name], value)
        assert same == name.startswith(("frozen", "seen")), "only what is trained is averaged"


def test_published_weights_of_schedule_free_are_the_averaged_ones(tmp_path):
    """What validation saw is what is saved: not the weights that gradients are taken at."""
    options = {"optimizer": OptimizerConfig("adamw_schedulefree", lr=0.05), "schedule": ScheduleConfig(), "ema": None}
    _, trained = train(tmp_path, validation=ValidationConfig(weights="raw"), **options)
    loaded = Denoiser()
    load_for_inference(tmp_path / "checkpoints/step-00000020", loaded, "raw")
    assert not torch.equal(loaded.up.weight, trained.up.weight)
    found = evaluate(loaded, Toy().val(), batch=4)
    line = [line for line in (tmp_path / "log.jsonl").read_text().splitlines() if '"validation"' in line][-1]
    assert str(found.metrics["error"]) in line


def test_an_average_that_is_not_there_is_refused(tmp_path):
    train(tmp_path / "none", ema=None, steps=5)
    with pytest.raises(UserError, match="has no EMA"):
        load_for_inference(tmp_path / "none/checkpoints/step-00000005", Denoiser())
    train(tmp_path / "late", ema=EmaConfig(start=5), steps=6)
    load_for_inference(tmp_path / "late/checkpoints/step-00000006", Denoiser())
    with pytest.raises(UserError, match="has not begun"):
        load_for_inference(tmp_path / "late/checkpoints/step-00000005", Denoiser())


def test_damage_is_found_before_loading(tmp_path):
    train(tmp_path, steps=5)
    checkpoint = tmp_path / "checkpoints/step-00000005"
    (checkpoint / "ema.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"ema.safetensors is cut"):
        load_for_inference(checkpoint, Denoiser(), "raw")


class Summed(Denoiser):
    """Also has a vector of every sample, of which a metric of the whole set is made."""

    def evaluate(self, batch, *, seed):
        return super().evaluate(batch, seed=seed) | {"features": batch["x"][:, :3]}

    def summarise(self, records):
        features = records.pop("features")
        return super().summarise(records) | {"spread": float(features.std(dim=0).sum())}


@pytest.mark.parametrize("batch", [1, 5])
def test_vectors_make_a_metric_of_the_whole_set_and_are_not_kept(batch):
    found = evaluate(Summed(), Vectors(), batch=batch)
    everything = torch.stack([Vectors().sample(i, None)["x"][:3] for i in range(22)])
    assert found.metrics["spread"] == pytest.approx(float(everything.std(dim=0).sum()), rel=1e-6)
    assert found.records.keys() == {"error"}
