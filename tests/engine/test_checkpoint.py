import errno
import json
import os
import pickle
import resource
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from toys import exit_codes, in_process

from salticid.engine import checkpoint as checkpoints
from salticid.engine import sharded, weights
from salticid.engine.checkpoint import CheckpointConfig, Content
from salticid.engine.manifest import digest_of
from salticid.engine.parallel import Ranks
from salticid.errors import CheckpointError, ConfigError

FILES = [
    "config.yaml",
    "ema.safetensors",
    "manifest.json",
    "model.safetensors",
    "state/.metadata",
    "state/__0_0.distcp",
]
PROGRESS = {
    "micro_batch": 4,
    "validated": 0,
    "failures": 0,
    "counts": {},
    "replaced": {},
    "best": None,
    "ema_updates": 1,
    "phases": {"m": {"groups": [{}], "scale": None}},
}
ALONE = Ranks(torch.device("cpu"))


def content(step, size=64):
    def tensors(*names):
        return {name: torch.full((size,), float(step)) for name in names}

    return Content(step, tensors("w", "b"), tensors("w"), tensors("optimizer.m.w.exp_avg"), PROGRESS, "a: 1\n")


def save(folder, *steps, size=64):
    return [checkpoints.save(folder, content(step, size), ALONE) for step in steps][-1]


def files(checkpoint):
    return sorted(p.relative_to(checkpoint).as_posix() for p in checkpoint.rglob("*") if p.is_file())


def test_what_is_saved_is_there(tmp_path):
    path = save(tmp_path, 7)
    assert path.name == "step-00000007"
    assert files(path) == FILES
    body = checkpoints.verify(path)
    assert (body["step"], body["progress"]) == (7, PROGRESS)
    model = {"w": torch.zeros(64), "b": torch.zeros(64)}
    weights.load_tensors(path / "model.safetensors", model)
    assert all((tensor == 7).all() for tensor in model.values())
    state = {"optimizer.m.w.exp_avg": torch.zeros(64)}
    read(path / "state", state)
    assert (state["optimizer.m.w.exp_avg"] == 7).all()
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000007"]


def read(directory, target):
    sharded.read(directory, target, distributed=False)


def flip(path, bit=0):
    changed = bytearray(path.read_bytes())
    changed[len(changed) // 2] ^= 1 << bit
    path.write_bytes(changed)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_any_damage_to_any_file_is_found(tmp_path, name, damage):
    good, bad = save(tmp_path, 1), save(tmp_path, 2)
    file = bad / name
    if damage == "flip":
        flip(file)
    elif damage == "cut":
        file.write_bytes(file.read_bytes()[:-1])
    else:
        file.unlink()
    with pytest.raises(CheckpointError, match=name.split("/")[-1].replace(".", r"\.")):
        checkpoints.verify(bad)
    found, rejected = checkpoints.newest(tmp_path)
    assert found == good
    assert len(rejected) == 1
    assert str(bad) in rejected[0]


def test_foreign_files_are_found(tmp_path):
    path = save(tmp_path, 1)
    (path / "state/__1_0.distcp").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"__1_0.distcp is not listed"):
        checkpoints.verify(path)


def reseal(path, change):
    """Change the content of a manifest and give it the digest that goes with it."""
    manifest = json.loads((path / "manifest.json").read_text())
    change(manifest["content"])
    manifest["sha256"] = digest_of(manifest["content"])
    (path / "manifest.json").write_text(json.dumps(manifest))


def without(*keys):
    def change(body):
        for key in keys[:-1]:
            body = body[key]
        del body[keys[-1]]

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("format"), "format None; this version reads format 2"),
        (without("step"), "incomplete: step is missing"),
        (without("files"), "incomplete: files is missing"),
        (without("files", "config.yaml", "size"), "incomplete: files lacks one of sha256, size"),
        (without("progress"), "incomplete: progress is missing"),
        *((without("progress", key), f"incomplete: progress.{key} is missing") for key in PROGRESS),
        (without("progress", "phases", "m", "groups"), "incomplete: progress.phases lacks one of groups, scale"),
        (lambda body: body["progress"].update(best={}), "incomplete: progress.best lacks one of metric"),
        (lambda body: body["progress"].update(counts=[]), "incomplete: progress.counts is .*not what it should"),
        (lambda body: body.update(step=3), "is of step 3: the directory bears another's name"),
    ],
)
def test_an_incomplete_manifest_is_passed_over_though_its_digest_matches(tmp_path, change, message):
    good, bad = save(tmp_path, 1), save(tmp_path, 2)
    reseal(bad, change)
    with pytest.raises(CheckpointError, match=message) as caught:
        checkpoints.verify(bad)
    assert len(str(caught.value).splitlines()) == 1
    assert checkpoints.newest(tmp_path) == (good, [str(caught.value)])


def test_a_checkpoint_may_be_taken_out_and_named_otherwise(tmp_path):
    checkpoints.verify(save(tmp_path, 1).rename(tmp_path / "final"))


def test_a_damaged_one_is_overwritten(tmp_path):
    flip(save(tmp_path, 3) / "model.safetensors")
    checkpoints.verify(save(tmp_path, 3))
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000003"]


def test_the_last_and_the_best_are_kept(tmp_path):
    save(tmp_path, 1, 2, 3, 4, 9)
    checkpoints.prune(tmp_path, keep_last=2, upto=4, best=1)
    assert [checkpoints.step_of(p) for p in checkpoints.listing(tmp_path)] == [1, 3, 4, 9]
    best = {"step": 1, "metric": "psnr", "value": 20.5}
    checkpoints.write_best(tmp_path, best)
    assert checkpoints.read_best(tmp_path) == best
    (tmp_path / "best.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"best.json is damaged"):
        checkpoints.read_best(tmp_path)


def test_what_a_kill_left_is_swept(tmp_path):
    save(tmp_path, 1)
    shutil.copytree(tmp_path / "step-00000001", tmp_path / ".step-00000002.tmp-123")
    assert checkpoints.newest(tmp_path)[0].name == "step-00000001"
    checkpoints.sweep(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000001"]


@pytest.mark.parametrize("limit", [200, 3000, 9000])
def test_a_full_disk_leaves_the_old_checkpoint(tmp_path, limit):
    """A limit on the size of a file, which the system answers much as a full disk, at several stages of writing."""

    def fill():
        os.environ["PYTHONWARNINGS"] = "ignore"
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        with pytest.raises(CheckpointError, match=r"step-00000002 cannot be written .*older checkpoints are untouched"):
            save(tmp_path, 2, size=2048)

    old = save(tmp_path, 1)
    assert exit_codes([in_process(fill)]) == [0]
    assert checkpoints.newest(tmp_path) == (old, [])
    assert [p.name for p in tmp_path.iterdir()] == [old.name]


def test_no_space_is_seen_before_writing(tmp_path, monkeypatch):
    old = save(tmp_path, 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9 - 100, 100))
    with pytest.raises(CheckpointError, match=r"MiB are needed.*older checkpoints are untouched"):
        save(tmp_path, 2)
    assert checkpoints.newest(tmp_path) == (old, [])


def test_no_space_while_flushing(tmp_path, monkeypatch):
    """Some file systems say so only when data goes to the disk."""

    def fsync(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    old = save(tmp_path, 1)
    monkeypatch.setattr(checkpoints.os, "fsync", fsync)
    with pytest.raises(CheckpointError, match=r"No space left on device"):
        save(tmp_path, 2)
    assert [p.name for p in tmp_path.iterdir()] == [old.name]


class Hostile:
    """Unpickled, it makes a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


def rewrite(path, file, payload):
    """Put a file into a checkpoint as an attacker would: with a manifest that matches."""
    (path / file).write_bytes(payload)
    reseal(path, lambda body: body["files"].update({file: checkpoints._describe(path / file)}))
    checkpoints.verify(path)


@pytest.mark.parametrize("file", ["state/.metadata", "state/__0_0.distcp", "model.safetensors"])
def test_hostile_checkpoints_run_nothing(tmp_path, file):
    path, proof = save(tmp_path / "run", 1), tmp_path / "proof"
    payload = pickle.dumps(Hostile(proof))
    rewrite(path, file, payload)
    target = {"optimizer.m.w.exp_avg": torch.zeros(64)}
    with pytest.raises(CheckpointError):
        weights.load_tensors(path / file, target) if "model" in file else read(path / "state", target)
    assert not proof.exists()
    pickle.loads(payload)
    assert proof.exists(), "the payload works"


def test_hostile_tensors_run_nothing(tmp_path):
    """A genuine description of a state whose tensor is a pickled torch file with code in it."""
    path, proof = save(tmp_path / "run", 1), tmp_path / "proof"
    stored = path / "state/__0_0.distcp"
    torch.save(Hostile(proof), tmp_path / "hostile.pt")
    rewrite(path, "state/__0_0.distcp", (tmp_path / "hostile.pt").read_bytes().ljust(stored.stat().st_size, b"\0"))
    with pytest.raises(CheckpointError):
        read(path / "state", {"optimizer.m.w.exp_avg": torch.zeros(64)})
    assert not proof.exists()


def describe_with(path, change):
    metadata = sharded._Reader(path / "state").read_metadata()
    change(metadata)
    rewrite(path, "state/.metadata", pickle.dumps(metadata))


def test_descriptions_stay_in_their_directory(tmp_path):
    path = save(tmp_path, 1)

    def elsewhere(metadata):
        for place in metadata.storage_data.values():
            place.relative_path = "../../secret"

    describe_with(path, elsewhere)
    with pytest.raises(CheckpointError, match="points to"):
        sharded.describe(path / "state")


def test_entries_that_are_not_tensors_are_refused(tmp_path):
    """DCP would read them with an unrestricted unpickler."""
    torch.distributed.checkpoint.save({"a": "text"}, checkpoint_id=tmp_path, no_dist=True)
    with pytest.raises(CheckpointError, match=r"not a tensor|has no place there"):
        sharded.describe(tmp_path)


def test_weights_of_another_model_are_refused(tmp_path):
    file = tmp_path / "m.safetensors"
    save_file({"a": torch.zeros(2), "b": torch.zeros(3)}, file)
    with pytest.raises(CheckpointError, match=r"lacks c \(1 in all\)"):
        weights.load_tensors(file, {"a": torch.zeros(2), "b": torch.zeros(3), "c": torch.zeros(1)})
    with pytest.raises(CheckpointError, match=r"has unknown b \(1 in all\)"):
        weights.load_tensors(file, {"a": torch.zeros(2)})
    with pytest.raises(CheckpointError, match=r"b has shape \(3,\), the model wants \(4,\)"):
        weights.load_tensors(file, {"a": torch.zeros(2), "b": torch.zeros(4)})


@pytest.mark.parametrize(("values", "key"), [({"every": 0}, "every"), ({"keep_last": 0}, "keep_last")])
def test_wrong_settings_are_named(values, key):
    with pytest.raises(ConfigError, match=f"checkpoint.{key}"):
        CheckpointConfig(**values).check()


def test_better():
    best, least = CheckpointConfig(best_mode="max"), CheckpointConfig(best_mode="min")
    assert best.better(1.0, None)
    assert [best.better(value, 1.0) for value in (0.5, 1.0, 2.0)] == [False, False, True]
    assert [least.better(value, 1.0) for value in (0.5, 1.0, 2.0)] == [True, False, False]
    assert not best.better(float("nan"), None)
