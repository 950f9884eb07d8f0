"""Weights to begin with: from runs of ours and from files of the public code, strictly; frozen encoders, students."""

import hashlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from salticid.data.source import collate
from salticid.engine.ema import EmaConfig
from salticid.engine.log import LogConfig, RunLog
from salticid.engine.optim import ScheduleConfig
from salticid.engine.recipe import Clock
from salticid.engine.settings import Settings, TrainerConfig, ValidationConfig
from salticid.engine.trainer import Trainer
from salticid.errors import ConfigError
from salticid.nets.ldm_encoder import LDMEncoder
from salticid.nets.uvit import SIZES, UViT
from salticid.recipes.panorama import Distillation, Initial, LossWeights, PanoramaRecipe
from salticid.recipes.panorama.initial import FUSION, load_initial, read_initial
from salticid.recipes.panorama.model import make_fusion
from salticid.world import WorldPanoramas

SMALL = {
    "height": 32,
    "view_size": 32,
    "encoder_widths": (8, 8, 8),
    "decoder_widths": (8, 8, 8),
    "fusion": "concat_conv",
    "image_head": False,
}
PUBLIC_NAMES = {  # SHA-256 of the sorted lines "name shape" of the public code's state dicts
    "ssdd_f8c4_S": "58ae7f30c44e40f64987d35587f4976ced60330f5d9c699218314279fc09a95b",
    "ssdd_f8c4_M": "18d236601f7cd6fe377178a33989d1c652fd16da717ac8fd422dab2d7b86dcaa",
    "ssdd_multiview_f8c4_M": "07a027052b9933147dbf47eacb3073f173b2b5b66193c5fbb124f1877de20b4a",
}


@pytest.fixture(scope="module")
def data():
    return WorldPanoramas(height=32, view_size=32, focal=17.0, val_scenes=4)


@pytest.fixture(scope="module")
def batch(data):
    samples = [data.val().sample(i, None) for i in range(2)]
    return collate(samples) | {"key": torch.arange(2), "id": ["a", "b"]}


def recipe(seed=0, **options):
    torch.manual_seed(seed)
    return PanoramaRecipe(**{**SMALL, **options})


def fit(made, data, folder, steps=2):
    settings = Settings(
        TrainerConfig(steps=steps, batch=2, clip=1.0),
        schedule=ScheduleConfig(kind="constant"),
        ema=EmaConfig(decay=0.5),
        validation=ValidationConfig(samples=0),
    )
    log = RunLog(folder, LogConfig(), steps=steps, batch=2, quiet=True)
    assert Trainer(made, data, folder, settings).fit(log) == "finished"
    return folder


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    """A run of ours, two steps long."""
    return fit(recipe(seed=1), data, tmp_path_factory.mktemp("run"))


def digest(module, rename=lambda name: name):
    lines = sorted(f"{rename(name)} {'x'.join(map(str, value.shape))}" for name, value in module.state_dict().items())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def public(name):
    """Our name → that of the public multi-view code."""
    for theirs, ours in FUSION.items():
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    return name if name.startswith("fusion.") else "base_ssdd." + name


@pytest.mark.parametrize("size", ["S", "M"])
def test_names_and_shapes_are_those_of_the_public_code(size):
    with torch.device("meta"):
        model = torch.nn.ModuleDict({"encoder": LDMEncoder(8), "decoder": UViT(SIZES[size])})
        assert digest(model) == PUBLIC_NAMES[f"ssdd_f8c4_{size}"]
        model["fusion"] = make_fusion("concat_conv", 4, 4, True, (), False)
    if size == "M":
        assert digest(model, public) == PUBLIC_NAMES["ssdd_multiview_f8c4_M"]


def state(seed):
    """Weights of a model with the public fusion, by our names."""
    return recipe(seed, concat_norm=True).model.state_dict()


def write(file: Path, **sets):
    """A file of the public code with sets of weights under prefixes."""
    tensors = {f"{prefix}{public(n)}": v.clone() for prefix, values in sets.values() for n, v in values.items()}
    save_file(tensors, file) if file.suffix == ".safetensors" else torch.save(tensors, file)
    return file


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("weights", ["raw", "ema"])
def test_files_of_the_public_code_load_by_name(tmp_path, suffix, weights):
    raw, ema = state(1), state(2)
    file = write(tmp_path / f"public{suffix}", raw=("model.", raw), ema=("ema.ema_model.", ema))
    made = recipe(concat_norm=True, initial=Initial(str(file), weights))
    made.start(fresh=True)
    for name, value in made.model.state_dict().items():
        assert torch.equal(value, {"raw": raw, "ema": ema}[weights][name])


def test_single_view_weights_leave_the_fusion_alone(tmp_path):
    single = {name: value for name, value in state(1).items() if not name.startswith("fusion.")}
    save_file({name: value.clone() for name, value in single.items()}, tmp_path / "single.safetensors")
    made, before = recipe(concat_norm=True), state(0)
    tensors = read_initial(Initial(str(tmp_path / "single.safetensors"), "raw"))
    assert load_initial(made.model, tensors, "single") == ["decoder", "encoder", "sketch"]
    for name, value in made.model.state_dict().items():
        assert torch.equal(value, before[name] if name.startswith("fusion.") else single[name])


def test_weights_that_do_not_fit_are_refused_and_change_nothing(tmp_path):
    whole = state(1)
    first = next(iter(whole))
    lacking = {name: value for name, value in whole.items() if name != first}
    extra = whole | {"encoder.more": torch.zeros(1)}
    wide = whole | {first: torch.zeros(3, 3)}
    plain = {name: value for name, value in whole.items() if not name.startswith("fusion.finish")}
    for tensors, options, message in (
        (lacking, {"concat_norm": True}, f"lacks {first}"),
        (extra, {"concat_norm": True}, "has unknown encoder.more"),
        (wide, {"concat_norm": True}, rf"{first} has shape \(3, 3\)"),
        (plain, {"concat_norm": True}, "lacks fusion.finish.0"),
        (whole, {}, "recipe.concat_norm true"),
    ):
        made = recipe(**options)
        before = {name: value.clone() for name, value in made.model.state_dict().items()}
        with pytest.raises(ConfigError, match=message):
            load_initial(made.model, tensors, "file")
        for name, value in made.model.state_dict().items():
            assert torch.equal(value, before[name])


def test_what_is_not_there_is_refused_in_one_line(tmp_path):
    file = write(tmp_path / "plain.pth", raw=("", state(1)))
    with pytest.raises(ConfigError, match=r"has no averaged weights; recipe\.initial\.weights: raw"):
        read_initial(Initial(str(file)))
    assert read_initial(Initial(str(file), "raw")).keys() == state(1).keys()
    with pytest.raises(ConfigError, match="does not exist"):
        read_initial(Initial(str(tmp_path / "nowhere")))
    with pytest.raises(ConfigError, match="has no valid checkpoint"):
        read_initial(Initial(str(tmp_path)))
    (tmp_path / "broken.safetensors").write_bytes(b"nonsense")
    with pytest.raises(ConfigError, match="read safely"):
        read_initial(Initial(str(tmp_path / "broken.safetensors"), "raw"))


@pytest.mark.parametrize("weights", ["raw", "ema"])
def test_a_run_of_ours_is_gone_on_from(run, weights):
    (checkpoint,) = (run / "checkpoints").glob("step-*")
    stored = load_file(checkpoint / ("ema.safetensors" if weights == "ema" else "model.safetensors"))
    for path in (run, checkpoint):
        made = recipe(initial=Initial(str(path), weights))
        made.start(fresh=True)
        for name, value in made.model.state_dict().items():
            assert torch.equal(value, stored[f"model.{name}"])


def test_a_frozen_encoder_must_come_from_somewhere(run, data, tmp_path):
    with pytest.raises(ConfigError, match=r"recipe.freeze_encoder is True; expected false, or recipe.initial.path"):
        recipe(freeze_encoder=True)
    fusion_only = {"fusion.codes": state(1)["fusion.codes"].clone()}
    save_file(fusion_only, tmp_path / "fusion.safetensors")
    with pytest.raises(ConfigError, match="has no weights of encoder parts"):
        recipe(
            freeze_encoder=True, initial=Initial(str(tmp_path / "fusion.safetensors"), "raw", parts="encoder")
        ).start(fresh=True)
    made = recipe(freeze_encoder=True, initial=Initial(str(run), parts="encoder"))
    decoder = {name: value.clone() for name, value in made.model.decoder.state_dict().items()}
    fit(made, data, tmp_path / "frozen")
    taken = read_initial(Initial(str(run), parts="encoder"))
    assert taken
    for name, value in made.model.encoder.state_dict().items():
        assert torch.equal(value, taken[f"encoder.{name}"])
    assert any(not torch.equal(value, decoder[name]) for name, value in made.model.decoder.state_dict().items())


def student(run, **options):
    return recipe(initial=Initial(str(run)), distill=Distillation(steps=3), **options)


def test_a_student_is_taught_the_many_steps_of_its_teacher(run, batch):
    """Loss = squared error of its velocity at t = 1 against (teacher's panorama − the same noise)."""
    made = student(run)
    made.start(fresh=True)
    loss = made("flow", batch, clock := Clock(0, 10, 5))
    with torch.no_grad():
        condition, posterior = made.look(batch, clock)
        noise = made.objective.noise(batch, clock)
        teacher = made.model.generate(condition, noise, steps=3, power=2.0)
        one = noise + made.model.velocity(noise, torch.ones(2), condition)[0]
    assert posterior is None
    torch.testing.assert_close(loss.total.detach(), (one - teacher).square().mean())
    loss.total.backward()
    learning = {name.split(".")[1] for name, p in made.named_parameters() if p.grad is not None}
    assert learning == {"decoder"}


def test_a_student_learns_and_its_teacher_stays(run, data, batch, tmp_path):
    made = student(run)
    fit(made, data, tmp_path / "student", steps=3)
    teacher = made.teacher.network
    taken = read_initial(Initial(str(run)))
    for name, value in teacher.decoder.state_dict().items():
        assert torch.equal(value, taken[f"decoder.{name}"])
    learnt = made.model.decoder.state_dict()
    assert any(not torch.equal(value, taken[f"decoder.{name}"]) for name, value in learnt.items())
    assert not any("teacher" in name for name in made.state_dict())
    # On resume, the teacher is loaded again and the student is left as the checkpoint has it.
    again = student(run)
    again.load_state_dict(made.state_dict())
    again.start(fresh=False)
    for name, value in again.model.state_dict().items():
        assert torch.equal(value, made.model.state_dict()[name])
    torch.testing.assert_close(again("flow", batch, Clock(0, 9, 0)).total, made("flow", batch, Clock(0, 9, 0)).total)


def test_distillations_that_cannot_be_are_refused(run, tmp_path):
    with pytest.raises(ConfigError, match=r"recipe\.distill is .*expected null, or recipe\.initial\.path"):
        recipe(distill=Distillation())
    with pytest.raises(ConfigError, match=r"recipe\.weights\.gan is 0\.1; expected 0 in a distillation"):
        student(run, weights=LossWeights(gan=0.1))
    with pytest.raises(ConfigError, match=r"recipe\.distill\.steps is 1"):
        Distillation(steps=1)
    single = {n: v.clone() for n, v in recipe().model.state_dict().items() if not n.startswith("fusion.")}
    save_file(single, tmp_path / "single.safetensors")
    made = recipe(initial=Initial(str(tmp_path / "single.safetensors"), "raw"), distill=Distillation())
    with pytest.raises(ConfigError, match="has no fusion, which is not to be trained"):
        made.start(fresh=True)
