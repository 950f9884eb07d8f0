"""An interrupted and resumed run is the uninterrupted one, bit for bit."""

import json
import os
import random
import signal
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from toys import Denoiser, Duel, Toy, exit_codes, in_process, train

from salticid.engine import checkpoint as checkpoints
from salticid.engine import sharded
from salticid.engine.checkpoint import CheckpointConfig
from salticid.engine.log import deterministic_lines
from salticid.engine.optim import OptimizerConfig, ScheduleConfig
from salticid.engine.settings import ValidationConfig
from salticid.errors import CheckpointError, ConfigError


def state_of(directory: Path) -> dict[str, torch.Tensor]:
    stored = sharded.describe(directory)
    tensors = {name: torch.zeros(shape, dtype=dtype) for name, (shape, dtype) in stored.items()}
    sharded.read(directory, tensors, distributed=False)
    return tensors


def assert_same_run(a: Path, b: Path) -> None:
    """Same log, and the same newest checkpoint: weights, average, optimiser, counters."""
    assert deterministic_lines(a) == deterministic_lines(b)
    newest_a, newest_b = (checkpoints.newest(run / "checkpoints")[0] for run in (a, b))
    assert newest_a.name == newest_b.name
    for file in ("model.safetensors", "ema.safetensors"):
        if (newest_a / file).exists():
            one, other = load_file(newest_a / file), load_file(newest_b / file)
            assert one.keys() == other.keys()
            assert all(torch.equal(one[name], other[name]) for name in one), file
    one, other = state_of(newest_a / "state"), state_of(newest_b / "state")
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert checkpoints.read_manifest(newest_a)["progress"] == checkpoints.read_manifest(newest_b)["progress"]


SCHEDULE_FREE = {"optimizer": OptimizerConfig("radam_schedulefree", lr=0.05), "schedule": ScheduleConfig(warmup=2)}


@pytest.mark.parametrize(
    ("recipe", "options"),
    [
        (Denoiser, {}),
        (Denoiser, {"workers": 2, "micro_batch": 3}),
        (Denoiser, {"ema": None, "optimizer": OptimizerConfig("adam"), "clip": None, "precision": "bf16"}),
        (Denoiser, {"precision": "fp16", "validation": ValidationConfig(every_epochs=1)}),
        (Denoiser, SCHEDULE_FREE),
        (Duel, {"workers": 1}),
    ],
    ids=["plain", "workers", "bf16", "fp16", "schedule-free", "two phases"],
)
def test_interrupted_by_sigterm_in_mid_step(tmp_path, recipe, options):
    data = Toy(broken=(3, 11))
    train(tmp_path / "whole", recipe(), data, **options)
    interrupted = recipe()
    inner, calls = interrupted.loss, 0

    def loss(*arguments):
        nonlocal calls
        calls += 1
        if calls == 20:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.005)
        return inner(*arguments)

    interrupted.loss = loss
    status, _ = train(tmp_path / "parts", interrupted, data, **options)
    assert status == "interrupted"
    torch.manual_seed(1234)  # neither torch's random state nor initial weights matter to a resumed run
    fresh = recipe()
    for p in fresh.parameters():
        torch.nn.init.normal_(p)
    status, _ = train(tmp_path / "parts", fresh, data, resume=True, **options)
    assert status == "finished"
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_interrupted_in_validation(tmp_path):
    """Validation is given up at once, and done by the resumed run: one line of each, however often that happens."""
    options = {
        "checkpoint": CheckpointConfig(every=5, keep_last=3, best_metric="ema/error", best_mode="min"),
        "validation": ValidationConfig(every_steps=4, weights="both", previews=2),
    }
    train(tmp_path / "whole", **options)

    def stopping_at(call: int) -> Denoiser:
        recipe, calls = Denoiser(), 0
        inner = recipe.evaluate

        def evaluate(batch, *, seed):
            nonlocal calls
            calls += 1
            if calls == call:
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.005)
            return inner(batch, seed=seed)

        recipe.evaluate = evaluate
        return recipe

    # Batches of four of nine samples: the validations are at calls 1–3 (raw, step 4), 4–6 and 7–9 (both, step 8).
    assert train(tmp_path / "parts", stopping_at(8), **options)[0] == "interrupted"
    assert train(tmp_path / "parts", stopping_at(4), resume=True, **options)[0] == "interrupted"
    assert checkpoints.listing(tmp_path / "parts/checkpoints")[-1].name == "step-00000008"
    killed = in_process(lambda: train(tmp_path / "parts", Denoiser(trouble={8: "SIGKILL"}), resume=True, **options))
    assert exit_codes([killed]) == [-signal.SIGKILL]  # after the validation of step 8, before the next checkpoint
    assert train(tmp_path / "parts", resume=True, **options)[0] == "finished"
    validations = [line for line in deterministic_lines(tmp_path / "parts") if '"validation"' in str(line)]
    assert len(validations) == 1 + 4 * 2
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
    best = [checkpoints.read_best(tmp_path / run / "checkpoints") for run in ("whole", "parts")]
    assert best[0] == best[1]


def test_interrupted_in_the_last_step(tmp_path):
    """The resumed run has nothing to do but to validate; after that there is nothing left to do."""
    options = {"checkpoint": CheckpointConfig(every=5, keep_last=3, best_metric="ema/error", best_mode="min")}
    train(tmp_path / "whole", **options)
    assert train(tmp_path / "parts", Denoiser(trouble={19: "SIGTERM"}), **options)[0] == "interrupted"
    newest = tmp_path / "parts/checkpoints/step-00000020"
    assert checkpoints.read_manifest(newest)["progress"]["validated"] == 16
    assert train(tmp_path / "parts", resume=True, **options)[0] == "finished"
    assert checkpoints.verify(newest)["progress"]["validated"] == 20
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
    best = [checkpoints.read_best(tmp_path / run / "checkpoints") for run in ("whole", "parts")]
    assert best[0] == best[1]
    recipe = Denoiser()
    recipe.evaluate = lambda *_, **__: pytest.fail("validated twice")
    train(tmp_path / "parts", recipe, resume=True, **options)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
    assert not list((tmp_path / "parts/checkpoints").glob(".*"))


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_killed_at_random_moments(tmp_path, workers):
    """Also while a checkpoint is being written: its half-written directory is there, and neither used nor kept."""
    options = {
        "steps": 120,
        "workers": workers,
        "checkpoint": CheckpointConfig(every=4, keep_last=2),
        "validation": ValidationConfig(samples=0),
    }
    train(tmp_path / "whole", **options)
    run, moments = tmp_path / "parts", random.Random(workers)
    kills = mid_write = 0
    process = in_process(lambda: train(run, resume=False, **options))
    while process.is_alive() and kills < 8:
        if kills % 2:
            time.sleep(moments.uniform(0.05, 0.4))
        else:
            _wait_for_a_half_written_checkpoint(run / "checkpoints", process)
        process.kill()
        process.join()
        kills += 1
        mid_write += bool(list((run / "checkpoints").glob(".step-*")))
        process = in_process(lambda: train(run, resume=True, **options))
    assert exit_codes([process]) == [0]
    assert kills >= 4
    assert mid_write >= 1
    assert_same_run(tmp_path / "whole", run)
    assert not list((run / "checkpoints").glob(".*"))


def _wait_for_a_half_written_checkpoint(folder: Path, process) -> None:
    while process.is_alive() and not any(True for _ in folder.glob(".step-*/*")):
        time.sleep(0.0005)


def test_no_checkpoint_is_durable_before_the_log_that_it_has_seen(tmp_path, monkeypatch):
    """What a power cut leaves is what was flushed: when a checkpoint gets its name, all lines and pictures are."""
    flushed, published = {}, []
    rename = os.rename

    def fsync(handle):
        stat = os.fstat(handle)
        flushed[stat.st_ino] = stat.st_size

    def publish(source, target):
        if (name := Path(target).name).startswith("step-"):
            files = [tmp_path / "log.jsonl", *(tmp_path / "samples").iterdir()]
            assert [p.name for p in files if flushed.get(p.stat().st_ino) != p.stat().st_size] == []
            assert {tmp_path.stat().st_ino, (tmp_path / "samples").stat().st_ino} <= flushed.keys()
            published.append(name)
        rename(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", publish)
        train(tmp_path, steps=6, validation=ValidationConfig(every_steps=1), checkpoint=CheckpointConfig(2, 9))
    assert published == ["step-00000002", "step-00000004", "step-00000006"]


def test_a_damaged_newest_checkpoint_is_passed_over(tmp_path):
    train(tmp_path / "whole")
    train(tmp_path / "parts", Denoiser(trouble={11: "SIGTERM"}))
    damaged = tmp_path / "parts/checkpoints/step-00000012/model.safetensors"
    content = bytearray(damaged.read_bytes())
    content[-5] ^= 1
    damaged.write_bytes(content)
    assert train(tmp_path / "parts", resume=True)[0] == "finished"
    events = [json.loads(line) for line in (tmp_path / "parts/log.jsonl").read_text().splitlines()]
    (rejected,) = [e for e in events if e["kind"] == "checkpoint_rejected"]
    assert "step-00000012/model.safetensors is damaged" in rejected["message"]
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_nothing_is_begun_over_or_resumed_from_nothing_whole(tmp_path):
    train(tmp_path, steps=5)
    with pytest.raises(ConfigError, match="has checkpoints"):
        train(tmp_path, steps=5)
    (tmp_path / "checkpoints/step-00000005/manifest.json").unlink()
    with pytest.raises(CheckpointError, match=r"no checkpoint .* is whole: .*manifest.json is missing"):
        train(tmp_path, steps=5, resume=True)


def test_a_run_killed_before_its_first_checkpoint_starts_over(tmp_path):
    train(tmp_path / "whole")
    train(tmp_path / "parts", resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
