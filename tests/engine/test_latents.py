"""Latents are made once, by whoever is at hand, and training from them is training without them."""

import json
import os
import signal
import time
from pathlib import Path

import pytest
import torch
from encoding_toys import Latent, PictureData
from safetensors import safe_open
from toys import exit_codes, in_process, settings

from salticid.data.mixture import Mixture, Part
from salticid.data.source import Data, Source
from salticid.engine.evaluation import Stopped
from salticid.engine.latents import EncodedSource, Latents, digest
from salticid.engine.latents.encode import Encoder, begin
from salticid.engine.latents.fingerprint import difference, fingerprint
from salticid.engine.latents.index import read_index
from salticid.engine.latents.lease import STALE, Lease
from salticid.engine.latents.worker import Worker
from salticid.engine.log import LogConfig, RunLog, deterministic_lines
from salticid.engine.progress import Progress
from salticid.engine.trainer import Trainer
from salticid.engine.weights import trainable
from salticid.errors import ConfigError, UnreadableSample, UserError

CONFIG = {"class_path": "toys.PictureData"}


def worker(folder: Path, data: Data | None = None, recipe=None, *, batch=4, workers=0, stop=None, **layout) -> Worker:
    recipe, source = recipe or Latent(), (data or PictureData()).train()
    encoder = Encoder(recipe, torch.device("cpu"), layout.pop("precision", "fp32"), batch, workers)
    latents = encoder.probe(source)
    recipe.encoded = 0
    layout = {"samples_per_shard": 4, "command": "salticid encode toy"} | layout
    index = begin(folder, fingerprint(recipe, source, CONFIG, encoder.precision), latents, **layout)
    made = Worker(encoder, source, folder, index, Progress(len(source), quiet=True), stop or (lambda: False))
    made.check_room(latents)
    return made


def encode(folder: Path, data: Data | None = None, recipe=None, **options) -> Worker:
    made = worker(folder, data, recipe, **options)
    assert made.run() == []
    return made


def fit(
    directory: Path, data: Data | None = None, recipe=None, *, latents: Path | None = None, resume=False, **options
):
    """(status, weights)"""
    chosen, recipe = settings(**options), recipe or Latent()
    log = RunLog(directory, LogConfig(every=1), steps=chosen.trainer.steps, batch=chosen.trainer.batch)
    cache = Latents(latents, CONFIG) if latents else None
    status = Trainer(recipe, data or PictureData(), directory, chosen, latents=cache).fit(log, resume)
    return status, {name: p.detach().clone() for name, p in trainable(recipe).items()}


def opened(folder: Path, data: Data | None = None) -> Source:
    return Latents(folder, CONFIG).replace(Latent(), data or PictureData(), "fp32").train()


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# ---- the same training ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "encoding"),
    [
        ({}, {}),
        ({"workers": 2, "micro_batch": 3}, {"batch": 5, "workers": 2, "samples_per_shard": 7}),
        ({"precision": "bf16"}, {"precision": "bf16"}),
    ],
    ids=["plain", "workers", "bf16"],
)
def test_training_from_latents_is_training_without_them(tmp_path, options, encoding):
    """Bit for bit: weights, log, and the samples in whose places others had to step."""
    data = PictureData(broken=(3, 11))
    encode(tmp_path / "latents", data, **encoding)
    _, expected = fit(tmp_path / "without", data, **options)
    _, found = fit(tmp_path / "with", data, latents=tmp_path / "latents", **options)
    assert same(found, expected)
    assert deterministic_lines(tmp_path / "with") == deterministic_lines(tmp_path / "without")
    assert any("cut short" in line for line in deterministic_lines(tmp_path / "with"))


def test_the_encoder_is_at_rest_while_training_from_latents(tmp_path):
    encode(tmp_path / "latents")
    recipe = Latent(kill=0)  # encoding a single batch would kill this process
    recipe.evaluate = lambda batch, *, seed: {"error": torch.zeros(len(batch["id"]))}
    status, _ = fit(tmp_path / "run", PictureData(), recipe, latents=tmp_path / "latents")
    assert status == "finished"


def test_another_batch_rounds_otherwise(tmp_path):
    """The convolution of the encoder depends on the size of its batch by 1e-6; so then does the run."""
    encode(tmp_path / "latents", recipe=Latent(together=True), batch=3)
    _, expected = fit(tmp_path / "without", recipe=Latent(together=True))
    _, found = fit(tmp_path / "with", recipe=Latent(together=True), latents=tmp_path / "latents")
    assert all(torch.allclose(found[name], expected[name], atol=1e-4) for name in expected)
    encode(tmp_path / "same", recipe=Latent(together=True), batch=4)
    _, found = fit(tmp_path / "as-before", recipe=Latent(together=True), latents=tmp_path / "same")
    assert same(found, expected)


@pytest.mark.parametrize(
    ("before", "after"), [(None, None), ("latents", "latents"), (None, "latents"), ("latents", None)]
)
def test_a_mixture_is_resumed_in_its_second_epoch(tmp_path, before, after):
    """Stopped by SIGTERM in step 5, positions 40 … 47 of epochs of 30 samples; the result is, bit for bit, that of an
    uninterrupted run without latents."""
    parts = {
        "near": Part(PictureData(count=13, broken=(2, 7)), 3.0),
        "far": Part(PictureData(count=17, seed=1, augmentation="none"), 1.0),
    }
    data = Mixture(parts, group=2)
    assert [data.train().order(8, 0).epochs_after(step) for step in (5, 6)] == [1, 1]
    encode(tmp_path / "latents", data)
    interrupted = Latent()
    inner = interrupted.loss

    def loss(phase, batch, clock):
        if clock.step == 5 and int(batch["key"][0]) == 40:  # a second signal would act at once
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.005)
        return inner(phase, batch, clock)

    interrupted.loss = loss
    place = {None: None, "latents": tmp_path / "latents"}
    assert fit(tmp_path / "parts", data, interrupted, latents=place[before])[0] == "interrupted"
    status, found = fit(tmp_path / "parts", data, resume=True, latents=place[after])
    assert status == "finished"
    assert same(found, fit(tmp_path / "whole", data)[1])
    assert deterministic_lines(tmp_path / "parts") == deterministic_lines(tmp_path / "whole")


def test_a_source_of_latents_is_the_source_but_for_what_is_read(tmp_path):
    data = PictureData(broken=(5,))
    encode(tmp_path / "latents", data)
    source, found = data.train(), opened(tmp_path / "latents", data)
    assert isinstance(found, EncodedSource)
    assert len(found) == len(source)
    assert found.outcomes == 2
    assert [found.order(4, 1).index(p) for p in range(99)] == [source.order(4, 1).index(p) for p in range(99)]
    for index in (0, 7, 21):
        for which in (0, 1):
            batch = {k: v[None] for k, v in source.outcome(index, which).items()} | {"id": ["x"]}
            expected = {name: value[0] for name, value in Latent().encode(batch).items()}
            assert same(found.outcome(index, which), expected)
        drawn = [found.sample(index, torch.Generator().manual_seed(s))["latent"] for s in range(20)]
        flips = [source.draw(torch.Generator().manual_seed(s)) for s in range(20)]
        assert all(torch.equal(a, found.outcome(index, w)["latent"]) for a, w in zip(drawn, flips, strict=True))
    with pytest.raises(UnreadableSample, match=r"^picture-5.png: cut short$"):
        found.sample(5, None)


def test_numbers_are_kept_in_the_type_that_is_asked_for(tmp_path):
    for storage, tolerance in (("bf16", 2**-8), ("fp16", 2**-11)):
        encode(tmp_path / storage, storage=storage)
        found = opened(tmp_path / storage).outcome(3, 1)
        encode(tmp_path / "fp32")
        exact = opened(tmp_path / "fp32").outcome(3, 1)
        assert found["latent"].dtype == torch.float32
        assert found["cells"].dtype == torch.int32
        assert torch.equal(found["cells"], exact["cells"])
        assert 0 < (found["latent"] / exact["latent"] - 1).abs().max() <= tolerance
    with pytest.raises(UserError, match=r"^picture-0: a value of .*e\+06 does not fit fp16; expected another --dtype$"):
        encode(tmp_path / "large", recipe=Latent(scale=1e6), storage="fp16")
    assert names(tmp_path / "large") == ["index.json"]


def test_pictures_of_several_sizes_are_encoded_by_size(tmp_path):
    parts = {"a": Part(PictureData(count=5)), "b": Part(PictureData(count=5, size=9, seed=1))}
    data = Mixture(parts, group=4, val_part="a")
    encode(tmp_path / "latents", data)
    found = opened(tmp_path / "latents", data)
    assert found.outcome(4, 1)["latent"].shape == (2, 2, 2)
    assert found.outcome(5, 1)["latent"].shape == (2, 3, 3)
    _, expected = fit(tmp_path / "without", data)
    assert same(fit(tmp_path / "with", data, latents=tmp_path / "latents")[1], expected)


# ---- several workers --------------------------------------------------------------------------------------------


def test_workers_share_the_work(tmp_path):
    """Four processes, thirteen shards: several make some, none is made twice, and the bytes are those of one worker."""
    data = PictureData(count=50, delay=0.004)

    def work(name):
        made = worker(tmp_path / "shared", data)
        made.run()
        (tmp_path / name).write_text(str(made.figures.shards))

    processes = [in_process(work, f"done-{i}") for i in range(4)]
    assert exit_codes(processes) == [0] * 4
    done = [int((tmp_path / f"done-{i}").read_text()) for i in range(4)]
    assert sum(done) == 13
    assert sum(n > 0 for n in done) >= 2
    assert len(names(tmp_path / "shared")) == 14
    encode(tmp_path / "alone", data)
    for path in sorted((tmp_path / "alone").glob("shard-*")):
        assert path.read_bytes() == (tmp_path / "shared" / path.name).read_bytes()


def test_a_worker_that_is_killed_loses_its_shard_alone(tmp_path):
    data = PictureData(broken=(1,))
    process = in_process(lambda: encode(tmp_path / "latents", data, Latent(kill=5)))  # two batches a shard
    assert exit_codes([process]) == [-signal.SIGKILL]
    shards = [name for name in names(tmp_path / "latents") if name.startswith("shard")]
    assert shards == ["shard-00000.safetensors", "shard-00001.safetensors"]
    assert ".shard-00002.safetensors.lease" in names(tmp_path / "latents")
    before = (tmp_path / "latents" / shards[0]).stat().st_mtime_ns
    with pytest.raises(UserError, match=r"lacks 4 of 6 shards; complete it with: salticid encode toy$"):
        opened(tmp_path / "latents", data)
    made = encode(tmp_path / "latents", data)
    assert made.figures.shards == 4
    assert (tmp_path / "latents" / shards[0]).stat().st_mtime_ns == before
    assert names(tmp_path / "latents") == ["index.json", *(f"shard-{n:05d}.safetensors" for n in range(6))]
    encode(tmp_path / "whole", data)
    assert all(
        (tmp_path / "whole" / name).read_bytes() == (tmp_path / "latents" / name).read_bytes()
        for name in names(tmp_path / "whole")
    )


def test_a_worker_that_is_to_stop_gives_its_shard_back(tmp_path):
    asked = iter([False, False, False, True])
    made = worker(tmp_path / "latents", stop=lambda: next(asked))
    with pytest.raises(Stopped):
        made.run()
    assert names(tmp_path / "latents") == ["index.json", "shard-00000.safetensors"]
    assert encode(tmp_path / "latents").figures.shards == 5


def test_a_shard_in_the_hands_of_another_is_left_alone(tmp_path):
    made = worker(tmp_path / "latents")
    target = tmp_path / "latents/shard-00001.safetensors"
    holder = in_process(lambda: (Lease.claim(target), time.sleep(60)))
    while not (tmp_path / "latents/.shard-00001.safetensors.lease").exists():
        time.sleep(0.005)
    time.sleep(0.05)
    assert made.run() == [1]
    holder.kill()
    holder.join()
    assert made.run() == []


def test_a_silent_lease_is_taken_over_and_a_living_one_is_not(tmp_path):
    target = tmp_path / "shard"
    with pytest.MonkeyPatch.context() as patch:  # a worker of another machine
        patch.setattr("salticid.engine.latents.lease._machine", lambda: "elsewhere")
        lease = Lease.claim(target)
    lease.aside.write_text("half")
    assert Lease.claim(target) is None
    lease.beat()
    os.utime(lease.path, (time.time() - STALE - 60,) * 2)
    lease.beat()  # alive after all
    assert Lease.claim(target) is None
    os.utime(lease.path, (time.time() - STALE - 60,) * 2)
    with Lease.claim(target) as other:
        assert not lease.held()
        assert not lease.aside.exists()
        with lease:  # it comes back to life, and leaves what is not its own
            pass
        assert other.held()
    assert names(tmp_path) == []


def test_of_many_that_evict_a_dead_worker_one_gets_its_shard(tmp_path):
    target = tmp_path / "shard"
    for attempt in range(5):
        assert exit_codes([in_process(lambda: (Lease.claim(target), os.kill(os.getpid(), 9)))]) == [-9]

        def take(name):
            lease = Lease.claim(target)
            (tmp_path / name).write_text(lease.token if lease else "")
            time.sleep(0.3)  # a dead holder would lose it to the next

        processes = [in_process(take, f"{attempt}-{i}") for i in range(4)]
        exit_codes(processes)
        tokens = [(tmp_path / f"{attempt}-{i}").read_text() for i in range(4)]
        assert len([token for token in tokens if token]) == 1
        os.unlink(tmp_path / ".shard.lease")


# ---- what is refused --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "recipe", "message"),
    [
        (PictureData(), Latent(scale=2.0), "encoding.scale: 1.0 there, 2.0 here"),
        (PictureData(), Latent(seed=4), "encoding.encoder: "),
        (PictureData(count=23), Latent(), "samples: 22 there, 23 here"),
        (PictureData(seed=1), Latent(), "ids: "),
        (PictureData(augmentation="none"), Latent(), "outcomes: 2 there, 1 here"),
    ],
    ids=["setting", "weights", "number", "ids", "outcomes"],
)
def test_stale_latents_are_refused_by_training_and_by_encoding(tmp_path, data, recipe, message):
    encode(tmp_path / "latents")
    with pytest.raises(UserError, match=r"^latents: .* is of something else \(" + message):
        fit(tmp_path / "run", data, recipe, latents=tmp_path / "latents")
    assert not (tmp_path / "run").exists() or names(tmp_path / "run") == ["log.jsonl"]
    with pytest.raises(UserError, match=r"has latents of something else \(" + message):
        worker(tmp_path / "latents", data, recipe)


def test_latents_of_another_precision_or_configuration_are_refused(tmp_path):
    encode(tmp_path / "latents")
    with pytest.raises(UserError, match=r'precision: "fp32" there, "bf16" here'):
        fit(tmp_path / "run", latents=tmp_path / "latents", precision="bf16")
    with pytest.raises(UserError, match=r"data.size: nothing there, 6 here"):
        Latents(tmp_path / "latents", CONFIG | {"size": 6}).replace(Latent(), PictureData(), "fp32")
    for key, value in (("storage", "bf16"), ("samples_per_shard", 5)):
        flag = {"storage": "--dtype", "samples_per_shard": "--shard"}[key]
        with pytest.raises(UserError, match=rf"^{flag} {value}: .* was begun with"):
            worker(tmp_path / "latents", **{key: value})


def test_what_is_no_cache_is_refused(tmp_path):
    (tmp_path / "other").mkdir()
    with pytest.raises(UserError, match=r"has no latents: index.json is missing"):
        opened(tmp_path / "other")
    (tmp_path / "other/holiday.jpg").touch()
    with pytest.raises(UserError, match=r"has holiday.jpg, but no index.json; expected an empty folder"):
        worker(tmp_path / "other")
    with pytest.raises(UserError, match=r"holiday.jpg: cannot be written"):
        worker(tmp_path / "other/holiday.jpg")
    encode(tmp_path / "latents")
    path = tmp_path / "latents/index.json"
    whole = path.read_text()
    for broken in (
        "",
        "{",
        "[]",
        '{"format": 1}',
        whole.replace('"shard": 4', '"shard": 0'),
        whole.replace('"float32"', '"load"'),
    ):
        path.write_text(broken)
        with pytest.raises(UserError, match=r"index.json is damaged, or no index of latents"):
            opened(tmp_path / "latents")
    path.write_text(whole.replace('"format": 1', '"format": 9'))
    with pytest.raises(UserError, match=r"format 9; this version reads format 1"):
        opened(tmp_path / "latents")


@pytest.mark.parametrize("damage", ["cut", "empty", "header", "flipped bit", "of others"])
def test_a_damaged_shard_is_one_clear_line_and_is_made_anew(tmp_path, damage):
    folder = tmp_path / "latents"
    encode(folder)
    path = folder / "shard-00002.safetensors"
    whole = path.read_bytes()
    encode(tmp_path / "others", recipe=Latent(scale=3.0))
    content = {
        "cut": whole[:-40],
        "empty": b"",
        "header": whole[:20] + b"#" + whole[21:],
        "flipped bit": whole[:-17] + bytes([whole[-17] ^ 4]) + whole[-16:],
        "of others": (tmp_path / "others" / path.name).read_bytes(),
    }[damage]
    path.unlink()
    path.write_bytes(content)
    match = r"^\S*shard-00002.safetensors is damaged \(.*\): delete it and make it anew with: salticid encode toy$"
    with pytest.raises(UserError, match=match):
        fit(tmp_path / "run", latents=folder, workers=1)
    if damage == "flipped bit":  # the header cannot tell
        path.unlink()
    assert encode(folder).figures.shards == 1
    assert path.read_bytes() == whole


def test_a_shard_that_goes_missing_is_named(tmp_path):
    encode(tmp_path / "latents")
    source = opened(tmp_path / "latents")
    (tmp_path / "latents/shard-00002.safetensors").unlink()
    with pytest.raises(UserError, match=r"shard-00002.safetensors is missing: complete the latents with: salticid"):
        source.outcome(9, 0)
    with pytest.raises(UserError, match=r"lacks 1 of 6 shards"):
        opened(tmp_path / "latents")


def test_a_full_disk_is_told_before_and_while(tmp_path, monkeypatch):
    import shutil
    from collections import namedtuple

    usage = namedtuple("usage", "free")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: usage(1000))
        with pytest.raises(UserError, match=r"latents: 0 MB are needed, 0 MB are free$"):
            worker(tmp_path / "latents")
    made = worker(tmp_path / "latents")

    def full(tensors, path, metadata):
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("salticid.engine.latents.shards.save_file", full)
        with pytest.raises(UserError, match=r"shard-00000.safetensors: cannot be written: No space left on device$"):
            made.run()
    assert names(tmp_path / "latents") == ["index.json"]
    assert made.run() == []


def test_recipes_without_frozen_parts_have_nothing_to_encode():
    from toys import Denoiser

    for call in (lambda: Denoiser().encode({}), Denoiser().encoding):
        with pytest.raises(ConfigError, match=r"^Denoiser has nothing to encode"):
            call()


def test_an_encoder_that_does_not_keep_to_its_contract_is_named(tmp_path):
    recipe = Latent()
    recipe.encode = lambda batch: {"latent": torch.zeros(7, 2)}
    with pytest.raises(ConfigError, match=r"^Latent.encode: latent has shape \(7, 2\) for 1 samples$"):
        worker(tmp_path, recipe=recipe)
    recipe.encoding = lambda: {"encoder": recipe.encoder}
    with pytest.raises(ConfigError, match=r"^Latent.encoding\(\) is not plain JSON"):
        fingerprint(recipe, PictureData().train(), {}, "fp32")


# ---- the small parts --------------------------------------------------------------------------------------------


def test_digests_tell_names_types_shapes_and_values_apart():
    base = {"a": torch.arange(4.0), "b": torch.zeros(2, 2)}
    others = [
        base | {"a": torch.arange(4.0) + 1e-6},
        base | {"a": torch.arange(4)},
        base | {"b": torch.zeros(4)},
        base | {"c": torch.zeros(())},
        {"a": base["b"], "b": base["a"]},
    ]
    found = {digest(tensors) for tensors in [base, *others]}
    assert len(found) == 6
    assert digest(dict(reversed(base.items()))) == digest(base)
    transposed = torch.arange(6.0).reshape(2, 3).T
    assert digest({"a": transposed}) == digest({"a": transposed.contiguous()})
    net = torch.nn.Linear(2, 2)
    assert digest(net) == digest(net.state_dict())


def test_the_first_difference_is_named():
    assert difference({"a": {"b": [1, 2]}}, {"a": {"b": [1, 2]}}) is None
    assert difference({"a": {"b": [1, 2]}}, {"a": {"b": [1, 3]}}) == "a.b: [1, 2] there, [1, 3] here"
    assert difference({"a": 1}, {"a": {"b": None}}) == "a: 1 there, nothing here"


def test_shards_say_what_they_hold(tmp_path):
    encode(tmp_path, PictureData(broken=(4,)))
    with safe_open(tmp_path / "shard-00001.safetensors", "pt") as file:
        assert set(file.keys()) == {f"{i}/{w}/{n}" for i in (5, 6, 7) for w in (0, 1) for n in ("latent", "cells")}
        skipped = json.loads(file.metadata()["latents"])["skipped"]
    assert skipped == {f"4/{which}/": "picture-4.png: cut short" for which in (0, 1)}
    index = read_index(tmp_path)
    assert index.tensors == {"latent": "float32", "cells": "int32"}
    assert index.fingerprint["encoding"]["scale"] == 1.0
