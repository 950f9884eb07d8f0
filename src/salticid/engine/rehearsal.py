"""`--dry-run`: one of everything on the real settings, and what it costs."""

from collections.abc import Callable
from functools import partial
from time import perf_counter

import torch

from salticid.engine import checkpoint as checkpoints
from salticid.engine.loop import Run
from salticid.engine.pace import peak_memory


def rehearse(run: Run) -> dict[str, float]:
    """Take two steps, validate on one batch with pictures, save, verify and load a checkpoint in the run's directory.

    Returns:
        `parameters`, `trainable` (numbers); `micro_batch` (samples); `first_step_s` (with all that happens once),
        `step_s`, `validation_s`, `save_s`, `load_s` (seconds); `data_wait` (share of a step); `checkpoint_bytes`;
        `memory` (bytes, the peak); `total_h` (hours for all steps at this speed, without validation and saving).
    """
    trainer, device = run.settings.trainer, run.ranks.device
    parameters = list(run.recipe.parameters())
    figures: dict[str, float] = {
        "parameters": sum(p.numel() for p in parameters),
        "trainable": sum(p.numel() for p in parameters if p.requires_grad),
        "micro_batch": run.state.micro_batch,
    }
    with run.steps(until=2) as step:
        figures["first_step_s"] = _seconds(step, device)
        run.stopwatch.figures(1, trainer.batch, device)
        figures["step_s"] = _seconds(step, device)
        figures["data_wait"] = run.stopwatch.figures(2, trainer.batch, device)["data_wait"]
    if len(run.val):
        judge = partial(run.judge.judge, run.state, limit=run.state.micro_batch)
        figures["validation_s"] = _seconds(lambda: run.score(judge()), device)
    figures["save_s"] = _seconds(run.save, device)
    found = checkpoints.listing(run.folder)[-1]
    figures["checkpoint_bytes"] = sum(path.stat().st_size for path in found.rglob("*"))
    figures["load_s"] = _seconds(run.resume, device)
    figures["memory"] = peak_memory(device)
    figures["total_h"] = figures["step_s"] * trainer.steps / 3600
    return figures


def _seconds(action: Callable[[], object], device: torch.device) -> float:
    start = perf_counter()
    action()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return perf_counter() - start
