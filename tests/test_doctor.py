"""What the machine is told to be: figures beside other sources, advice where something is missing."""

import json
import os
import re
from importlib import metadata
from pathlib import Path

import pytest
import torch

from salticid import doctor
from salticid.cli import main
from salticid.doctor import Finding, examine


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Finding]:
    folder = tmp_path_factory.mktemp("runs")
    found = examine(folder / "not" / "yet")
    assert list(folder.iterdir()) == []
    return {(finding.group, finding.name): finding for finding in found}


def test_it_tells_versions_machine_and_backends(findings):
    assert findings["versions", "torch"].value == torch.__version__
    assert findings["versions", "numpy"].value == metadata.version("numpy")
    cores = int(re.match(r"\d+", findings["machine", "CPU cores"].value)[0])
    assert 1 <= cores <= (os.cpu_count() or 1)
    memory = float(findings["machine", "memory"].value.removesuffix(" GB"))
    total = int(re.search(r"MemTotal:\s+(\d+) kB", Path("/proc/meminfo").read_text())[1]) * 1024 / 1e9
    assert 0 < memory <= total * 1.01
    assert "gloo" in findings["several processes", "backends"].value
    assert float(findings["disk", "writing"].value.split()[0]) > 0
    assert {name for group, name in findings if group == "precision"} >= {"bf16", "fp16"}


def test_extras_come_from_the_package_itself(findings):
    extras = {name for group, name in findings if group == "extras"}
    declared = set(metadata.metadata("salticid").get_all("Provides-Extra") or ())
    assert extras == declared - {"test"}


def test_what_is_missing_comes_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch):
    original = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: None if name in ("tensorboard", "rich") else original(name))
    extras = {f.name: f for f in doctor._extras()}
    assert extras["log"].state == "note"
    assert extras["log"].advice == "pip install 'salticid[log]'"
    versions = {f.name: f for f in doctor._versions()}
    assert (versions["rich"].state, versions["rich"].advice) == ("warning", "pip install rich")


def test_little_room_a_slow_disk_and_a_full_one_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    usage = doctor.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: usage._replace(free=int(1e9)))
    monkeypatch.setattr(doctor, "_write_speed", lambda folder: 3.0)
    found = {f.name: f for f in doctor._disk(tmp_path)}
    assert found["free space"].state == found["writing"].state == "warning"

    def full(folder: Path) -> float:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(doctor, "_write_speed", full)
    found = {f.name: f for f in doctor._disk(tmp_path)}
    assert "No space left" in found[str(tmp_path)].value


@pytest.mark.parametrize(("limit", "quota", "words"), [("1000000", "50000 100000", "0.5"), ("max", "max 100000", "")])
def test_the_limits_of_a_container_are_seen(monkeypatch: pytest.MonkeyPatch, limit: str, quota: str, words: str):
    files = {"/sys/fs/cgroup/memory.max": limit, "/sys/fs/cgroup/cpu.max": quota}
    monkeypatch.setattr(doctor, "_read", lambda path: files[path])
    found = {f.name: f for f in doctor._machine()}
    assert (found["memory"].value == "0.0 GB") == bool(words)
    assert words in found["CPU cores"].value
    assert (found["CPU cores"].state == "note") == bool(words)


def test_the_command_prints_a_table_or_json(monkeypatch: pytest.MonkeyPatch, capsys, tmp_path: Path):
    odd = [Finding("disk", "writing", "[red]1 MB/s", "warning", "use [another] disk")]
    monkeypatch.setattr(doctor, "examine", lambda folder: odd)
    assert main(["doctor", "--folder", str(tmp_path)]) == 0
    table = capsys.readouterr().out
    assert "[red]1 MB/s" in table
    assert "use [another] disk" in table
    assert "1 to look at" in table
    assert main(["doctor", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["advice"] == "use [another] disk"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_gpus_are_listed(findings):
    assert torch.cuda.get_device_name(0) in findings["devices", "cuda:0"].value
    assert findings["precision", "bf16"].value in ("native", "emulated")
