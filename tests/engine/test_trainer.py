import json
import shutil

import pytest
import torch
from safetensors.torch import load_file
from toys import Denoiser, Duel, Toy, Vectors, settings, train

from salticid.data.source import Data, NoData
from salticid.engine import checkpoint as checkpoints
from salticid.engine.checkpoint import CheckpointConfig
from salticid.engine.ema import EmaConfig
from salticid.engine.evaluation import load_for_inference
from salticid.engine.optim import ScheduleConfig
from salticid.engine.recipe import Phase
from salticid.engine.report import write_report
from salticid.engine.report.files import numbers
from salticid.engine.settings import ValidationConfig
from salticid.engine.trainer import Trainer
from salticid.errors import ConfigError, UserError


def lines(run, kind):
    every = map(json.loads, (run / "log.jsonl").read_text().splitlines())
    return [line for line in every if line["kind"] == kind]


def test_a_run_learns_and_logs(tmp_path):
    status, _ = train(tmp_path, steps=60)
    assert status == "finished"
    steps = lines(tmp_path, "step")
    assert [line["step"] for line in steps] == list(range(1, 61))
    assert list(steps[0]) == ["kind", "step", "loss", "error", "grad_norm", "lr", "ema_decay"]
    assert steps[-1]["loss"] < 0.5 * steps[0]["loss"]
    assert 0 <= lines(tmp_path, "speed")[5]["data_wait"] < 1
    assert [p.name for p in checkpoints.listing(tmp_path / "checkpoints")] == [
        "step-00000050",
        "step-00000055",
        "step-00000060",
    ]
    assert lines(tmp_path, "end")[-1]["status"] == "finished"


def test_logging_less_changes_nothing(tmp_path):
    _, often = train(tmp_path / "a")
    _, seldom = train(tmp_path / "b", validation=ValidationConfig(samples=0), checkpoint=CheckpointConfig(1000))
    assert all(torch.equal(p, q) for p, q in zip(often.parameters(), seldom.parameters(), strict=True))


@pytest.mark.parametrize(
    ("validation", "expected"),
    [
        (ValidationConfig(every_steps=8), [8, 16, 20]),
        (ValidationConfig(every_epochs=2), [6, 11, 17, 20]),  # 44, 88 and 132 samples, 8 a step
        (ValidationConfig(), [20]),
        (ValidationConfig(samples=0, every_steps=1), []),
    ],
)
def test_validation_is_due(tmp_path, validation, expected):
    train(tmp_path, validation=validation)
    assert [line["step"] for line in lines(tmp_path, "validation")] == expected


def test_both_kinds_of_weights_are_judged(tmp_path):
    train(tmp_path, validation=ValidationConfig(every_steps=3, weights="both", previews=2), ema=EmaConfig(0.9, start=4))
    kinds = [(line["step"], line["weights"]) for line in lines(tmp_path, "validation")]
    assert kinds[:3] == [(3, "raw"), (6, "raw"), (6, "ema")], "an average that has not begun is not judged"
    metrics = [line["metrics"]["error"] for line in lines(tmp_path, "validation")]
    assert metrics[1] != metrics[2]
    assert {line["name"] for line in lines(tmp_path, "picture")} == {"raw", "ema"}


def test_the_best_checkpoint_is_kept(tmp_path):
    """The score of step s is made to be lowest at step 6."""

    class Scored(Denoiser):
        def evaluate(self, batch, *, seed):
            step = float(self.seen_steps)
            return {"score": torch.full((len(batch["id"]),), abs(step - 6))}

        def loss(self, phase, batch, clock):
            self.seen_steps = clock.step + 1
            return super().loss(phase, batch, clock)

    checkpoint = CheckpointConfig(every=10, keep_last=1, best_metric="ema/score", best_mode="min")
    train(tmp_path, Scored(), validation=ValidationConfig(every_steps=2), ema=EmaConfig(0.9), checkpoint=checkpoint)
    folder = tmp_path / "checkpoints"
    assert checkpoints.read_best(folder) == {"step": 6, "metric": "ema/score", "value": 0.0}
    assert [p.name for p in checkpoints.listing(folder)] == ["step-00000006", "step-00000020"]
    assert checkpoints.verify(folder / "step-00000006")["progress"]["validated"] == 6


def test_a_best_metric_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"best_metric is psnr; there are ema/error, error"):
        train(tmp_path, checkpoint=CheckpointConfig(best_metric="psnr"))


@pytest.mark.parametrize("name", ["psnr", "ema/psnr"])
def test_a_dry_run_finds_a_best_metric_that_does_not_exist(tmp_path, name):
    """Before a long run has lost the steps up to its first validation; also one of an average that has not begun."""
    with pytest.raises(ConfigError, match=rf"best_metric is {name}; there are error, raw/error"):
        Trainer(Denoiser(), Toy(), tmp_path / "run", settings(checkpoint=CheckpointConfig(best_metric=name))).dry_run()


def test_a_best_average_waits_for_the_average(tmp_path):
    checkpoint = CheckpointConfig(every=100, keep_last=1, best_metric="ema/error", best_mode="min")
    train(tmp_path, checkpoint=checkpoint, validation=ValidationConfig(every_steps=2), ema=EmaConfig(0.5, start=5))
    files = [line["file"] for line in lines(tmp_path, "checkpoint")]
    assert files == sorted(set(files)), "no step is saved twice"
    assert files[0] == "step-00000006"


def test_replaced_samples_are_recorded(tmp_path):
    train(tmp_path, data=Toy(broken=(3, 7)))
    named = {"vector-003: made to fail", "vector-007: made to fail"}
    assert {name for line in lines(tmp_path, "replaced") for name in line["ids"]} == named
    replaced = checkpoints.read_manifest(tmp_path / "checkpoints/step-00000020")["progress"]["replaced"]
    assert set(replaced) == named
    assert sum(replaced.values()) == sum(len(line["ids"]) for line in lines(tmp_path, "replaced"))
    assert lines(tmp_path, "validation")[0]["skipped"] == sorted(named)


def test_a_non_finite_loss_stops_the_run(tmp_path):
    with pytest.raises(UserError, match=r"step 8, phase model: loss nan.*samples: vector-\d+, "):
        train(tmp_path, Denoiser(trouble={7: "nan"}))
    (skipped,) = lines(tmp_path, "skipped")
    assert len(skipped["ids"]) == 4
    assert checkpoints.newest(tmp_path / "checkpoints")[0].name == "step-00000005"
    assert lines(tmp_path, "end")[-1]["status"] == "failed"


def test_a_non_finite_loss_is_left_out(tmp_path):
    _, recipe = train(tmp_path, Denoiser(trouble={7: "nan", 9: "nan"}), on_nonfinite="skip")
    assert [line["step"] for line in lines(tmp_path, "skipped")] == [8, 10]
    assert all(p.isfinite().all() for p in recipe.parameters())
    progress = checkpoints.read_manifest(tmp_path / "checkpoints/step-00000020")["progress"]
    assert (progress["counts"]["nonfinite"], progress["failures"]) == (2, 0)


def test_a_run_that_only_skips_gives_up(tmp_path):
    trouble = dict.fromkeys(range(3, 200), "nan")
    with pytest.raises(UserError, match="no update in 100 steps in a row, up to step 103"):
        train(tmp_path, Denoiser(trouble=trouble), steps=200, on_nonfinite="skip")


def test_phases_have_their_own_lines(tmp_path):
    train(tmp_path, Duel())
    first, third = (lines(tmp_path, "step")[i] for i in (0, 2))
    assert "critic/loss" not in first
    assert third["loss"] == pytest.approx(third["generator/loss"] + third["critic/loss"])
    assert list(third)[3:] == [
        "generator/loss",
        "generator/size",
        "generator/grad_norm",
        "critic/loss",
        "critic/grad_norm",
        "lr",
        "ema_decay",
    ]


class Misnamed(Denoiser):
    def phases(self):
        return (Phase("model", ("down", "upp")),)


class Twice(Denoiser):
    def phases(self):
        return Phase("a", ("down", "up")), Phase("b", ("up",))


class Forgetful(Denoiser):
    def phases(self):
        return (Phase("model", ("down",)),)


class Frozen(Denoiser):
    def phases(self):
        return Phase("model", ("down", "up")), Phase("other", ("frozen",))


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (Misnamed, "phase model of Misnamed: .*upp"),
        (Twice, r"up\.weight belongs to phases a and b"),
        (Forgetful, r"up\.weight is trainable, but belongs to no phase"),
        (Frozen, "phase other has no trainable parameters in frozen"),
    ],
)
def test_phases_share_the_parameters_out(tmp_path, recipe, message):
    with pytest.raises(ConfigError, match=message):
        Trainer(recipe(), Toy(), tmp_path / "run", settings())
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        ({"steps": -1}, "trainer.steps is -1; it must be at least 0"),
        ({"batch": 0}, "trainer.batch"),
        ({"micro_batch": 0}, "trainer.micro_batch"),
        ({"clip": 0.0}, "trainer.clip"),
        ({"workers": -1}, "trainer.workers"),
        ({"device": "cuda"}, "trainer.device"),
        ({"timeout": 0.0}, "trainer.timeout is 0.0"),
        ({"timeout": float("nan")}, "trainer.timeout is nan"),
        ({"validation": ValidationConfig(every_steps=0)}, "validation.every_steps"),
        ({"validation": ValidationConfig(samples=-1)}, "validation.samples is -1"),
        ({"validation": ValidationConfig(previews=-4)}, "validation.previews is -4"),
        ({"checkpoint_activations": True}, "trainer.checkpoint_activations is true, but Denoiser has no"),
        ({"ema": EmaConfig(start=20)}, "ema.start"),
        ({"ema": None, "checkpoint": CheckpointConfig(best_metric="ema/error")}, "checkpoint.best_metric"),
        ({"checkpoint": CheckpointConfig(best_metric="raw/error")}, "checkpoint.best_metric"),
        (
            {"validation": ValidationConfig(samples=0), "checkpoint": CheckpointConfig(best_metric="error")},
            "checkpoint.best_metric",
        ),
    ],
)
def test_wrong_settings_are_named(tmp_path, overrides, key):
    if key == "trainer.device" and torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(ConfigError, match=key):
        train(tmp_path, **overrides)


class Nothing(Data):
    def __init__(self, train=0):
        self.count = train

    def train(self):
        return Vectors(self.count)

    def val(self):
        return Vectors(0)


def test_an_empty_source_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="training source is empty"):
        train(tmp_path, data=Nothing())
    with pytest.raises(ConfigError, match=r"validation source is empty; validation\.samples: 0"):
        train(tmp_path, data=Nothing(train=8))


def test_a_dry_run_does_one_of_everything_and_leaves_nothing(tmp_path):
    recipe = Denoiser()
    figures = Trainer(recipe, Toy(), tmp_path / "runs/toy", settings()).dry_run()
    assert figures["parameters"] == sum(p.numel() for p in recipe.parameters())
    assert figures["trainable"] == figures["parameters"] - sum(p.numel() for p in recipe.frozen.parameters())
    assert figures["micro_batch"] == 4
    for name in ("first_step_s", "step_s", "validation_s", "save_s", "load_s", "checkpoint_bytes", "memory", "total_h"):
        assert figures[name] > 0, name
    assert list(tmp_path.iterdir()) == []


def test_the_other_switches(tmp_path):
    class Image(Denoiser):
        def __init__(self):
            super().__init__()
            torch.manual_seed(4)
            self.conv = torch.nn.Conv2d(1, 2, 3, padding=1)
            self.remembered = False

        def phases(self):
            return (Phase("model", ("down", "up", "conv")),)

        def checkpoint_activations(self):
            self.remembered = True

        def loss(self, phase, batch, clock):
            loss = super().loss(phase, batch, clock)
            loss.total = loss.total + self.conv(batch["x"][:, None, None]).square().mean()
            return loss

    _, plain = train(tmp_path / "a", Image(), steps=6)
    _, switched = train(tmp_path / "b", Image(), steps=6, channels_last=True, checkpoint_activations=True)
    assert switched.remembered
    assert not plain.remembered
    assert switched.conv.weight.is_contiguous(memory_format=torch.channels_last)
    for p, q in zip(plain.parameters(), switched.parameters(), strict=True):
        torch.testing.assert_close(p, q)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("c++"), reason="torch.compile needs a C++ compiler")
def test_a_compiled_run_follows_the_eager_one(tmp_path, capfd):
    """Through training, validation and a resumed run; and checkpoints go from one to the other and back."""
    torch._dynamo.reset()
    options = {"steps": 12, "checkpoint": CheckpointConfig(every=6, keep_last=9)}
    train(tmp_path / "eager", Denoiser(dropout=0.0), **options)
    train(tmp_path / "compiled", Denoiser(dropout=0.0, trouble={5: "SIGTERM"}), compile=True, **options)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] >= 2
    status, _ = train(tmp_path / "compiled", Denoiser(dropout=0.0), compile=True, resume=True, **options)
    assert status == "finished"
    for kind in ("step", "validation"):
        one, other = lines(tmp_path / "eager", kind), lines(tmp_path / "compiled", kind)
        assert len(one) == len(other) > 0
        for a, b in zip(one, other, strict=True):
            assert a["step"] == b["step"]
            a, b = (numbers(line.get("metrics", line)) for line in (a, b))
            assert a == pytest.approx(b, rel=1e-5)
    assert "recompile_limit" not in capfd.readouterr().err
    last = "checkpoints/step-00000012/model.safetensors"
    weights = [load_file(tmp_path / run / last) for run in ("eager", "compiled")]
    torch.testing.assert_close(*weights, rtol=1e-5, atol=1e-6)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_gpu_resumes_bit_for_bit(tmp_path, precision):
    from test_resume import assert_same_run

    options = {"device": "cuda", "precision": precision, "workers": 1, "deterministic": True}
    train(tmp_path / "whole", **options)
    train(tmp_path / "parts", Denoiser(trouble={9: "SIGTERM"}), **options)
    train(tmp_path / "parts", resume=True, **options)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


class Starting(Denoiser):
    """Remembers how it was started."""

    def __init__(self):
        super().__init__()
        self.started = []

    def start(self, *, fresh):
        self.started.append(fresh)


def test_a_recipe_is_told_once_whether_weights_will_come_from_a_checkpoint(tmp_path):
    _, recipe = train(tmp_path, recipe=Starting(), steps=20)
    assert recipe.started == [True]
    again = Starting()
    trainer = Trainer(again, Toy(), tmp_path, settings(steps=20))
    trainer.start(resume=True)
    trainer.start(resume=True)
    assert again.started == [False]
    killed_early = Starting()
    Trainer(killed_early, Toy(), tmp_path / "none", settings()).start(resume=True)
    assert killed_early.started == [True]


class Pretrained(Denoiser):
    """Begins with weights from elsewhere."""

    def start(self, *, fresh):
        if fresh:
            torch.nn.init.constant_(self.up.bias, 7.0)


NO_STEPS = {
    "steps": 0,
    "schedule": ScheduleConfig("cosine", warmup=100),  # as of the preset that was meant for training
    "checkpoint": CheckpointConfig(best_metric="ema/error", best_mode="min"),
}


@pytest.mark.parametrize("workers", [0, 1])
def test_a_run_of_no_steps_saves_what_the_recipe_begins_with(tmp_path, workers):
    status, recipe = train(tmp_path, Pretrained(), workers=workers, micro_batch="auto", **NO_STEPS)
    assert status == "finished"
    (only,) = checkpoints.listing(tmp_path / "checkpoints")
    assert only.name == "step-00000000"
    assert not (only / "ema.safetensors").exists()
    loaded = Denoiser()
    manifest = load_for_inference(only, loaded, "raw")
    assert manifest["progress"]["micro_batch"] == 1
    assert loaded.up.bias.tolist() == 6 * [7.0]
    assert all(torch.equal(p, q) for p, q in zip(loaded.parameters(), recipe.parameters(), strict=True))
    assert not lines(tmp_path, "validation")
    assert lines(tmp_path, "end")[-1]["status"] == "finished"
    assert "0 of 0 steps" in write_report(tmp_path).read_text()


def test_a_run_of_no_steps_is_resumed_in_vain_or_begun_anew(tmp_path):
    train(tmp_path, Pretrained(), **NO_STEPS)
    manifest = tmp_path / "checkpoints" / "step-00000000" / "manifest.json"
    before = manifest.stat().st_mtime_ns
    status, recipe = train(tmp_path, Pretrained(), resume=True, **NO_STEPS)
    assert status == "finished"
    assert manifest.stat().st_mtime_ns == before
    assert recipe.up.bias.tolist() == 6 * [7.0]
    assert len(lines(tmp_path, "resumed")) == 1
    shutil.rmtree(manifest.parent)  # killed before it was written
    train(tmp_path, Pretrained(), resume=True, **NO_STEPS)
    assert checkpoints.verify(manifest.parent)["step"] == 0
    manifest.write_text("{}")
    with pytest.raises(UserError, match="is whole"):
        train(tmp_path, Pretrained(), resume=True, **NO_STEPS)


def test_a_run_of_no_steps_can_be_rehearsed(tmp_path):
    assert Trainer(Pretrained(), Toy(), tmp_path / "run", settings(**NO_STEPS)).dry_run()["total_h"] == 0


def test_without_data_there_is_nothing_to_rehearse(tmp_path):
    with pytest.raises(UserError, match="no training samples"):
        Trainer(Pretrained(), NoData(), tmp_path / "run", settings(**NO_STEPS)).dry_run()
