import json
import math
import os
import signal
import struct
import subprocess
import sys
import time
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console

from salticid.engine.journal import DETERMINISTIC, FILE, append, open_log, read_log
from salticid.engine.log import LogConfig, RunLog, deterministic_lines
from salticid.errors import ConfigError, UserError


def make(folder, *, steps=20, every=1, quiet=False, start=0, **trackers):
    config = LogConfig(every=every, **trackers)
    console = Console(quiet=True)
    return RunLog(folder, config, steps=steps, batch=4, start=start, quiet=quiet, console=console)


def picture(seed):
    return torch.randint(0, 256, (3, 6, 10), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def train(log, first, last):
    """What a run would log: a function of the step, and of the clock only in `speed`."""
    for step in range(first, last + 1):
        if log.wants(step):
            log.step(step, {"loss": math.sin(step) / 3, "flow": torch.tensor(1 / step), "lr": 1e-4 / step})
            log.speed(step, {"samples_per_s": time.perf_counter(), "elapsed": time.time()})
        if step % 5 == 0:
            log.event("validation", step, weights="ema", metrics={"psnr": 10 + step / 7})
            log.picture(step, "preview", picture(step), legend="truth")


def rows(folder):
    return (folder / FILE).read_text().splitlines()


def test_lines_are_exactly_these(tmp_path):
    log = make(tmp_path)
    log.step(1, {"loss": 0.1, "lr": 1e-05, "grad_norm": math.inf, "replaced": ["a"], "steps": 3})
    log.speed(1, {"samples_per_s": 45.25, "data_wait": 0.0})
    log.event("validation", 1, weights="ema", metrics={"psnr": math.nan})
    log.close("finished")
    written = rows(tmp_path)
    assert written[1:4] == [
        '{"kind": "step", "step": 1, "loss": 0.1, "lr": 1e-05, "grad_norm": "inf", "replaced": ["a"], "steps": 3}',
        '{"kind": "speed", "step": 1, "samples_per_s": 45.25, "data_wait": 0.0}',
        '{"kind": "validation", "step": 1, "weights": "ema", "metrics": {"psnr": "nan"}}',
    ]
    first, last = json.loads(written[0]), json.loads(written[-1])
    assert first == {"kind": "start", "step": 0, "steps": 20, "batch": 4, "time": first["time"]}
    assert last == {"kind": "end", "step": 1, "status": "finished", "time": last["time"]}


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_floats_read_back_to_the_same_bits(value):
    row = json.dumps({"x": value})
    assert struct.pack("d", json.loads(row)["x"]) == struct.pack("d", value)


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_float32_tensors_are_logged_exactly(tmp_path_factory, value):
    folder = tmp_path_factory.mktemp("run")
    with open_log(folder) as file:
        append(file, {"kind": "step", "step": 1, "loss": torch.tensor(value)})
    assert struct.pack("f", read_log(folder).lines[0]["loss"]) == struct.pack("f", value)


def test_hostile_ids_survive(tmp_path):
    ids = ["a\nb", "\x1b[31m", "\udcff", '"}', "日本"]
    log = make(tmp_path)
    log.event("replaced", 3, ids=ids)
    assert read_log(tmp_path).of("replaced")[0]["ids"] == ids


def test_wants_first_last_and_every_nth(tmp_path):
    log = make(tmp_path, steps=23, every=10)
    assert [s for s in range(1, 24) if log.wants(s)] == [1, 10, 20, 23]
    assert [s for s in range(1, 24) if make(tmp_path, steps=23, every=10, quiet=True, start=9).wants(s)] == [
        1,
        10,
        20,
        23,
    ]


def test_every_must_be_positive():
    with pytest.raises(ConfigError, match=r"log\.every: 0"):
        LogConfig(every=0)


def test_interrupted_equals_uninterrupted(tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    log = make(whole)
    train(log, 1, 20)
    log.close("finished")

    log = make(broken)
    train(log, 1, 13)  # killed here: no close, and a line torn in the middle
    with open(broken / FILE, "ab") as file:
        file.write(b'{"kind": "step", "step": 14, "lo')
    log = make(broken)
    log.rewind(8)
    train(log, 9, 17)
    log.close("interrupted")
    log = make(broken)
    log.rewind(17)
    train(log, 18, 20)
    log.close("finished")

    assert deterministic_lines(broken) == deterministic_lines(whole)
    assert len(deterministic_lines(whole)) == 20 + 4 + 4
    assert {json.loads(row)["kind"] for row in deterministic_lines(whole)} <= set(DETERMINISTIC)
    names = sorted(p.name for p in (whole / "samples").iterdir())
    assert names == sorted(p.name for p in (broken / "samples").iterdir())
    assert all((whole / "samples" / n).read_bytes() == (broken / "samples" / n).read_bytes() for n in names)


def test_rewind_cuts_lines_and_pictures(tmp_path):
    log = make(tmp_path)
    train(log, 1, 12)
    log.close("interrupted")
    samples = tmp_path / "samples"
    (samples / "step-00000005-preview.png.tmp").write_bytes(b"torn")
    (samples / "notes.txt").write_text("mine")
    content = (tmp_path / FILE).read_bytes().replace(b'{"kind": "step", "step": 2,', b'\x00\xff{"kind": "st')
    (tmp_path / FILE).write_bytes(content + b'{"kind": "speed", "step": 3')
    make(tmp_path).rewind(7)
    journal = read_log(tmp_path)
    assert journal.broken == 0
    assert [line["step"] for line in journal.of("step")] == [1, 3, 4, 5, 6, 7]
    assert not journal.of("end")
    assert sorted(p.name for p in samples.iterdir()) == ["notes.txt", "step-00000005-preview.png"]
    assert sorted(p.name for p in tmp_path.iterdir()) == [FILE, "samples"]


def test_rewind_without_a_log_and_too_late(tmp_path):
    log = make(tmp_path / "new")
    log.rewind(5)
    assert not (tmp_path / "new").exists()
    log.step(6, {"loss": 1.0})
    assert read_log(tmp_path / "new").of("start")[0]["step"] == 5
    with pytest.raises(RuntimeError, match="before the first line"):
        log.rewind(5)


def test_a_torn_line_does_not_swallow_the_next(tmp_path):
    (tmp_path / FILE).write_bytes(b'{"kind": "st')
    make(tmp_path).step(1, {"loss": 1.0})
    journal = read_log(tmp_path)
    assert (journal.broken, [line["kind"] for line in journal.lines]) == (1, ["start", "step"])


def test_broken_rows_are_counted(tmp_path):
    good = '{"kind": "step", "step": 1}'
    bad = ["[1]", "3", '{"kind": 1, "step": 1}', '{"kind": "step"}', '{"kind": "step", "step": "1"}', "\x00", "{"]
    (tmp_path / FILE).write_text("\n".join([good, "", *bad, "[" * 100_000, good]))
    journal = read_log(tmp_path)
    assert (len(journal.lines), journal.broken) == (2, len(bad) + 1)


def test_quiet_writes_nothing(tmp_path):
    log = make(tmp_path / "run", quiet=True, tensorboard=True)
    log.rewind(3)
    train(log, 4, 20)
    log.tick(20)
    log.close("finished")
    assert not (tmp_path / "run").exists()


def test_pictures_hold_the_pixels(tmp_path):
    log = make(tmp_path)
    log.picture(1000, "../a b", picture(0), legend="truth")
    path = tmp_path / "samples" / "step-00001000--a-b.png"
    assert np.array_equal(np.asarray(Image.open(path)), picture(0).permute(1, 2, 0).numpy())
    assert read_log(tmp_path).of("picture")[0] == {
        "kind": "picture", "step": 1000, "name": "../a b", "file": f"samples/{path.name}", "legend": "truth",
    }  # fmt: skip
    for wrong in (picture(0).float(), picture(0)[0], picture(0)[:2]):
        with pytest.raises(ValueError, match=r"uint8 \(3, H, W\)"):
            log.picture(1, "x", wrong)


def test_close_is_said_once(tmp_path):
    log = make(tmp_path)
    log.tick(7)
    log.close("failed")
    log.close("finished")
    ends = read_log(tmp_path).of("end")
    assert [(line["step"], line["status"]) for line in ends] == [(7, "failed")]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_is_named(tmp_path):
    (tmp_path / FILE).symlink_to("/dev/full")
    with pytest.raises(UserError, match=r"log\.jsonl: cannot be written: No space"):
        make(tmp_path).step(1, {"loss": 1.0})


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        make(tmp_path / "file" / "run").step(1, {"loss": 1.0})


KILLED = """
import sys
from pathlib import Path
from salticid.engine.journal import append, open_log
file = open_log(Path(sys.argv[1]))
print("ready", flush=True)
for step in range(1, 10**9):
    append(file, {"kind": "step", "step": step, "loss": 1 / step, "text": "x" * 500})
"""


def test_a_kill_tears_the_last_line_at_most(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    steps = [line["step"] for line in read_log(tmp_path).lines]
    assert steps == list(range(1, len(steps) + 1))
    assert len(steps) > 10
    assert read_log(tmp_path).broken <= 1
    make(tmp_path).rewind(10)
    assert [line["step"] for line in read_log(tmp_path).lines] == list(range(1, 11))


# --- trackers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "package", "extra"),
    [
        ({"tensorboard": True}, "tensorboard", "log"),
        ({"wandb": "p"}, "wandb", "wandb"),
        ({"trackio": "p"},) + ("trackio",) * 2,
    ],
)
def test_missing_packages_are_named(tmp_path, monkeypatch, option, package, extra):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=rf"log\.{package}.*pip install \"salticid\[{extra}\]\""):
        make(tmp_path, **option)


def test_tensorboard_shows_a_resumed_run_without_the_lost_steps(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    log = make(tmp_path, tensorboard=True)
    train(log, 1, 10)
    log.step(11, {"loss": 99.0, "grad_norm": math.nan})  # lost in the kill that follows
    log.event("checkpoint", 11)
    log = make(tmp_path, tensorboard=True)
    log.rewind(8)
    train(log, 9, 10)
    log.close("finished")
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert set(events.Tags()["scalars"]) >= {"train/loss", "train/lr", "speed/samples_per_s", "validation/ema/psnr"}
    loss = events.Scalars("train/loss")
    assert [e.step for e in loss] == list(range(1, 11))
    assert [e.value for e in loss] == [pytest.approx(math.sin(s) / 3, rel=1e-6) for s in range(1, 11)]
    assert [e.step for e in events.Images("preview")] == [5, 10]


class Recorder:
    """Stands in for the runs of W&B and trackio."""

    def __init__(self):
        self.started, self.logged, self.finished = [], [], 0
        self.module = ModuleType("recorder")
        run = SimpleNamespace(
            log=lambda values, step=None: self.logged.append((step, values)),
            define_metric=lambda name, step_metric: None,
            finish=lambda **_: setattr(self, "finished", self.finished + 1),
        )

        def init(**options):
            self.started.append(options)
            return run

        self.module.init = init
        self.module.Image = lambda pixels: pixels.shape
        self.module.Error = RuntimeError


def test_wandb_continues_the_same_run(tmp_path, monkeypatch):
    recorder = Recorder()
    monkeypatch.setitem(sys.modules, "wandb", recorder.module)
    for start in (0, 3):
        log = make(tmp_path, wandb="garden")
        log.rewind(start)
        log.step(start + 1, {"loss": 0.5, "grad_norm": math.nan, "replaced": []})
        log.picture(start + 1, "preview", picture(0))
        log.close("finished")
    assert [o["project"] for o in recorder.started] == ["garden", "garden"]
    assert len({o["id"] for o in recorder.started}) == 1
    assert recorder.logged[0] == (None, {"step": 1, "train/loss": 0.5})
    assert recorder.logged[1] == (None, {"step": 1, "preview": (6, 10, 3)})
    assert recorder.finished == 2


def test_wandb_refusals_are_user_errors(tmp_path, monkeypatch):
    recorder = Recorder()
    recorder.module.init = lambda **_: (_ for _ in ()).throw(RuntimeError("not logged in"))
    monkeypatch.setitem(sys.modules, "wandb", recorder.module)
    with pytest.raises(UserError, match=r"log\.wandb: not logged in"):
        make(tmp_path, wandb="garden").step(1, {"loss": 1.0})


def test_trackio_continues_by_name(tmp_path, monkeypatch):
    recorder = Recorder()
    monkeypatch.setitem(sys.modules, "trackio", recorder.module)
    for start in (0, 3):
        log = make(tmp_path / "night", trackio="garden", start=start)
        log.event("validation", start + 1, weights="raw", metrics={"psnr": 20.0})
        log.close("finished")
    assert [o["resume"] for o in recorder.started] == ["never", "allow"]
    assert {o["name"] for o in recorder.started} == {"night"}
    assert recorder.logged == [(1, {"validation/raw/psnr": 20.0}), (4, {"validation/raw/psnr": 20.0})]
