"""The panorama recipe on two ranks follows the single process, replicated and sharded."""

import json
import os
import subprocess
import sys

import pytest

CONFIG = """
recipe:
  class_path: salticid.recipes.PanoramaRecipe
  init_args:
    height: 32
    view_size: 32
    encoder_widths: [8, 8, 8]
    decoder_widths: [8, 8, 8]
    stitch_distances: [2.0, .inf]
    baseline_distances: [2.0]
data: {class_path: salticid.world.WorldPanoramas, init_args: {height: 32, view_size: 32, focal: 17.0, val_scenes: 4}}
trainer: {steps: 6, batch: 4, clip: 1.0, timeout: 60}
optimizer: {lr: 1.0e-3}
ema: {decay: 0.9, start: 2}
validation: {samples: 4, previews: 1}
log: {every: 1}
"""


def train(folder, name, ranks, *arguments):
    command = [sys.executable, "-m"]
    if ranks > 1:
        command += ["torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks), "-m"]
    command += ["salticid", "train", str(folder / "config.yaml"), "--run-dir", str(folder / name), *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    lines = [json.loads(line) for line in (folder / name / "log.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if line["kind"] == "step"]
    (validation,) = [line["metrics"] for line in lines if line["kind"] == "validation"]
    return losses, validation


@pytest.mark.dist
@pytest.mark.slow
def test_two_ranks_follow_one_process_replicated_and_sharded(tmp_path):
    (tmp_path / "config.yaml").write_text(CONFIG)
    losses, metrics = train(tmp_path, "alone", 1)
    assert len(losses) == 6
    for mode in ("ddp", "fsdp"):
        others, other_metrics = train(tmp_path, mode, 2, "--trainer.parallel", mode)
        assert others == pytest.approx(losses, rel=1e-5)
        assert other_metrics == pytest.approx(metrics, rel=1e-3, abs=1e-3)
