"""`salticid encode`, and training from what it has written."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from salticid.cli import main

ENGINE = Path(__file__).parents[1] / "engine"
TOY = """
recipe: {class_path: encoding_toys.Latent}
data: {class_path: encoding_toys.PictureData, init_args: {broken: [3], root: here}}
trainer: {steps: 6, batch: 4, micro_batch: 2}
optimizer: {lr: 0.05}
checkpoint: {every: 3}
validation: {every_steps: 3}
log: {every: 1}
"""


@pytest.fixture(autouse=True)
def latent_toy(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ENGINE))
    monkeypatch.setenv("SALTICID_ALLOW", "toy_recipes,encoding_toys")
    (place / "latent.yaml").write_text(TOY)


def start(*arguments: str, launcher: tuple[str, ...] = (), **options) -> subprocess.Popen:
    environment = os.environ | {"PYTHONPATH": str(ENGINE), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *launcher, "-m", "salticid", *arguments]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


def weights(run: str) -> bytes:
    return Path(run, "checkpoints/step-00000006/model.safetensors").read_bytes()


def test_encode_and_train(answered):
    said = answered("encode", "latent.yaml", "--output", "latents", "--shard", "8")
    lines = said.splitlines()
    assert [line.split("  ")[0] for line in lines[:3]] == ["sample 8/22", "sample 16/22", "sample 22/22"]
    assert lines[3].startswith("22 samples in 3 shards, 0 MB, ")
    assert lines[4] == "1 samples cannot be read; the first: picture-3: picture-3.png: cut short"
    assert lines[5] == "latents is complete; train from it with --latents latents"
    assert "samples/s" in lines[0]
    answered("train", "latent.yaml", "--run-dir", "without")
    answered("train", "latent.yaml", "--run-dir", "with", "--latents", "latents")
    assert weights("with") == weights("without")
    assert "latents: latents\n" in Path("with/config.yaml").read_text()
    again = answered("encode", "latent.yaml", "--output", "latents")
    assert again == "latents is complete; train from it with --latents latents\n"
    assert "micro-batch" in answered("train", "latent.yaml", "--latents", "latents", "--dry-run")


def test_a_run_may_go_on_with_latents_and_without(answered, monkeypatch):
    answered("encode", "latent.yaml", "--output", "latents")
    answered("train", "latent.yaml", "--run-dir", "whole")
    from encoding_toys import Latent

    original = Latent.loss

    def loss(self, phase, batch, clock):
        if clock.step == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return original(self, phase, batch, clock)

    for name, before, after in (("on", "null", "latents"), ("off", "latents", "null")):
        with monkeypatch.context() as patch:
            patch.setattr(Latent, "loss", loss)
            assert main(["train", "latent.yaml", "--run-dir", name, "--latents", before]) == 130
        said = answered("train", "--resume", name, "--latents", after)
        assert f"{name}: goes on with latents: " in said
        assert weights(name) == weights("whole")
    shutil.move("latents", "moved")
    shutil.rmtree("off/checkpoints/step-00000006")
    assert "latents: null → 'moved'" in answered("train", "--resume", "off", "--latents", "moved")
    assert weights("off") == weights("whole")


def test_a_run_says_what_to_encode_and_data_may_move(answered):
    answered("train", "latent.yaml", "--run-dir", "run", "--trainer.steps", "1")
    answered("encode", "run", "--output", "latents", "--data.root", "there", "--dtype", "bf16", "--batch", "3")
    said = answered("train", "latent.yaml", "--run-dir", "two", "--latents", "latents", "--data.root", "elsewhere")
    assert "report: " in said


@pytest.mark.slow
def test_shells_share_the_work(answered, place: Path):
    arguments = ("encode", "latent.yaml", "--output", "latents", "--shard", "2", "--data.delay", "0.02")
    shells = [start(*arguments) for _ in range(2)]
    ends = [shell.communicate(timeout=100) for shell in shells]
    assert [shell.returncode for shell in shells] == [0, 0], ends
    done = [out.partition(" samples in ")[2].partition(" ")[0] for out, _ in ends]
    assert sum(map(int, filter(None, done))) == 11
    assert len(list(Path("latents").iterdir())) == 12
    answered("train", "latent.yaml", "--run-dir", "with", "--latents", "latents", "--data.delay", "0.02")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_after_the_shard_is_given_back(answered, capsys, monkeypatch, number):
    from encoding_toys import Latent

    arguments = ("encode", "latent.yaml", "--output", "latents", "--shard", "4", "--workers", "1")
    original, calls = Latent.encode, 0

    def encode(self, batch):
        nonlocal calls
        calls += 1
        if calls == 8:  # after the first sample, and four batches of the first shard
            os.kill(os.getpid(), number)
        return original(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(Latent, "encode", encode)
        assert main(list(arguments)) == 130
    assert capsys.readouterr().out.splitlines()[-1] == "interrupted; the same command goes on"
    assert sorted(os.listdir("latents")) == ["index.json", "shard-00000.safetensors"]
    assert "18 samples in 5 shards" in answered(*arguments)


@pytest.mark.dist
def test_it_works_under_torchrun_without_a_word_between_ranks(place: Path, answered):
    launcher = ("-m", "torch.distributed.run", "--nproc-per-node", "2")
    shell = start(
        "encode", "latent.yaml", "--output", "latents", "--shard", "2", "--data.delay=0.01", launcher=launcher
    )
    _, error = shell.communicate(timeout=100)
    assert shell.returncode == 0, error
    assert "is complete" in answered("encode", "latent.yaml", "--output", "latents", "--data.delay=0.01")


def test_stale_and_incomplete_latents_are_refused_before_anything_is_written(answered, refused):
    answered("encode", "latent.yaml", "--output", "latents", "--shard", "8")
    train = ("train", "latent.yaml", "--run-dir", "run", "--latents")
    line = refused(*train, "latents", "--data.size", "7")
    assert "latents is of something else (data.init_args.size: 6 there, 7 here)" in line
    assert "encoding.scale: 1.0 there, 2.0 here" in refused(*train, "latents", "--recipe.scale", "2")
    assert 'precision: "fp32" there, "bf16" here' in refused(*train, "latents", "--trainer.precision", "bf16")
    assert "nowhere has no latents: index.json is missing" in refused(*train, "nowhere")
    os.unlink("latents/shard-00001.safetensors")
    line = refused(*train, "latents")
    assert line.endswith(
        "latents lacks 1 of 3 shards; complete it with: salticid encode latent.yaml --output latents --shard 8"
    )
    assert not Path("run").exists()
    line = refused("encode", "latent.yaml", "--output", "latents", "--recipe.scale", "2")
    assert (
        "latents has latents of something else (encoding.scale: 1.0 there, 2.0 here); expected another folder" in line
    )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("encode", "the following arguments are required: PRESET|FILE.yaml|RUN, --output"),
        ("encode latent.yaml", "the following arguments are required: --output"),
        ("encode none.yaml --output x", "none.yaml: there is no such configuration file"),
        ("encode . --output x", ".: not a run: config.yaml is missing"),
        ("encode latent.yaml --output x --batch 0", "expected a number above 0, got '0'"),
        ("encode latent.yaml --output x --workers -1", "expected 0 or a number above, got '-1'"),
        ("encode latent.yaml --output x --dtype int8", "invalid choice: 'int8'"),
        ("encode latent.yaml --output latent.yaml", "latent.yaml: cannot be written: File exists"),
        ("encode latent.yaml --output x --data.augmentation endless", "has endlessly many outcomes"),
        ("encode latent.yaml --output x --data.count 1 --data.broken [0]", "no sample can be read: picture-0.png: cut"),
        ("encode toy.yaml --output x", "ToyRecipe has nothing to encode"),
    ],
)
def test_what_cannot_be_encoded_is_answered_in_one_line(refused, line: str, message: str):
    assert message in refused(*line.split())
    assert not Path("x").exists()
