"""Judging a model: the same numbers from one rank or many, and the run goes on as if nothing had happened."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from salticid.data.loader import FILLER, eval_batches
from salticid.data.source import Batch, Source
from salticid.engine import checkpoint as checkpoints
from salticid.engine.parallel import Ranks
from salticid.engine.precision import Precision, autocast
from salticid.engine.recipe import Recipe
from salticid.engine.weights import load_tensors, saved, trainable
from salticid.errors import UserError

Weights = Literal["raw", "ema"]
Row = dict[str, Any]
"""What is said of one sample: numbers by metric, and vectors (K,)."""


@dataclass
class Evaluation:
    """What an evaluation found."""

    metrics: dict[str, float]
    """The summary, by metric."""
    records: dict[str, Tensor]
    """Each metric of every sample: (N,) float64, in the order of the source."""
    ids: list[str]
    """Of those samples."""
    skipped: list[str] = field(default_factory=list)
    """Unreadable samples, with the reason."""


class Stopped(Exception):
    """The evaluation was given up because the run is to stop."""


def to_device(batch: Batch, device: torch.device, channels_last: bool = False) -> Batch:
    """The batch with its tensors on `device`; images in NHWC memory order where asked."""
    if device.type == "cpu" and not channels_last:
        return batch

    def move(value: Tensor) -> Tensor:
        form = torch.channels_last if channels_last and value.ndim == 4 else torch.preserve_format
        return value.to(device, non_blocking=True, memory_format=form)

    return {name: move(v) if isinstance(v, Tensor) else v for name, v in batch.items()}


@contextmanager
def judging(recipe: Recipe, device: torch.device, precision: Precision, seed: int) -> Iterator[None]:
    """Evaluation mode, without gradients, under the precision of training; afterwards every module is in the mode
    in which it was, and torch's random state as if nothing had been drawn."""
    modes = [(module, module.training) for module in recipe.modules()]
    devices = [device] if device.type == "cuda" else []
    recipe.eval()
    try:
        with torch.random.fork_rng(devices), torch.no_grad(), autocast(device, precision):
            torch.manual_seed(seed)
            yield
    finally:
        for module, training in modes:
            module.training = training


def evaluate(
    recipe: Recipe,
    source: Source,
    *,
    batch: int,
    device: torch.device | str = "cpu",
    seed: int = 0,
    precision: Precision = "fp32",
    workers: int = 0,
    limit: int | None = None,
    ranks: Ranks | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Evaluation:
    """Evaluate a recipe, with the weights that it has, on `source`, or on `limit` samples spread over it.

    Unreadable samples are left out and named. All ranks must call it, and get the same answer.

    Raises:
        UserError: no sample can be read, or metrics are not one number a sample.
        Stopped: `stop()` was true, after some batch, on some rank.
    """
    device = torch.device(device)
    ranks = ranks or Ranks(device)
    found: dict[int, tuple[str, Row]] = {}
    skipped: list[str] = []
    batches = eval_batches(
        source, batch, rank=ranks.rank, world=ranks.world, workers=workers, limit=limit, pin=device.type == "cuda"
    )
    with closing(batches), judging(recipe, device, precision, seed):
        for loaded in batches:
            values = recipe.evaluate(to_device(loaded, device), seed=seed)
            skipped += loaded["skipped"]
            found |= _by_place(loaded, values)
            if any(ranks.any(stop())):
                raise Stopped
    gathered = ranks.gather((found, skipped))
    everything = {place: row for rows, _ in gathered for place, row in rows.items()}
    return _summary(recipe, everything, [name for _, names in gathered for name in names])


def _by_place(batch: Batch, values: dict[str, Tensor]) -> dict[int, tuple[str, Row]]:
    ids, places = batch["id"], batch["row"]
    for name, value in values.items():
        if value.ndim not in (1, 2) or len(value) != len(ids):
            raise UserError(f"metric {name} has shape {tuple(value.shape)}; one number a sample is ({len(ids)},)")
    columns = {name: value.double().tolist() if value.ndim == 1 else value.cpu() for name, value in values.items()}
    rows = [{name: column[i] for name, column in columns.items()} for i in range(len(ids))]
    return {place: (name, row) for place, name, row in zip(places, ids, rows, strict=True) if place != FILLER}


def _summary(recipe: Recipe, found: dict[int, tuple[str, Row]], skipped: list[str]) -> Evaluation:
    if not found:
        raise UserError(f"no sample can be evaluated; the first of {len(skipped)} unreadable ones: {skipped[:1]}")
    rows = [found[place] for place in sorted(found)]
    names = rows[0][1]
    columns = {name: [row[name] for _, row in rows] for name in names}
    vectors = {name: torch.stack(column) for name, column in columns.items() if isinstance(column[0], Tensor)}
    records = {n: torch.tensor(c, dtype=torch.float64) for n, c in columns.items() if n not in vectors}
    metrics = {name: float(value) for name, value in recipe.summarise(records | vectors).items()}
    return Evaluation(metrics, records, [name for name, _ in rows], sorted(skipped))


def preview(
    recipe: Recipe,
    source: Source,
    count: int,
    *,
    device: torch.device | str = "cpu",
    seed: int = 0,
    precision: Precision = "fp32",
) -> Tensor:
    """The recipe's picture, uint8 (3, H, W), of `count` samples spread over `source`: the same ones each time."""
    with _showing(recipe, source, count, torch.device(device), precision, seed) as batch:
        return recipe.preview(batch, seed=seed).cpu()


@contextmanager
def _showing(
    recipe: Recipe, source: Source, count: int, device: torch.device, precision: Precision, seed: int
) -> Iterator[Batch]:
    """The batch of samples that pictures show, under the conditions of an evaluation."""
    batch = next(eval_batches(source, count, limit=count))
    with judging(recipe, device, precision, seed):
        yield to_device(batch, device)


@dataclass
class Spheres:
    """Pictures to look around in."""

    ids: list[str]
    """Of the samples."""
    pictures: dict[str, Tensor]
    """By name, each uint8 (b, 3, H, 2H) on the CPU, of the first b samples."""


def spheres(
    recipe: Recipe,
    source: Source,
    count: int,
    *,
    device: torch.device | str = "cpu",
    seed: int = 0,
    precision: Precision = "fp32",
) -> Spheres:
    """The recipe's pictures to look around in, of the samples that `preview` shows.

    Raises:
        UserError: they are of another type or shape than `Recipe.spheres` says.
    """
    with _showing(recipe, source, count, torch.device(device), precision, seed) as batch:
        made = recipe.spheres(batch, seed=seed)
    for name, pictures in made.items():
        samples, channels, height, width = pictures.shape if pictures.ndim == 4 else (0, 0, 0, 0)
        fits = pictures.dtype == torch.uint8 and channels == 3 and width == 2 * height > 0
        if not fits or not 1 <= samples <= len(batch["id"]):
            raise UserError(
                f"spheres: {name} is {pictures.dtype} {tuple(pictures.shape)}; expected uint8 (b, 3, H, 2H) of at "
                f"most {len(batch['id'])} samples"
            )
    return Spheres(batch["id"], {name: pictures.cpu() for name, pictures in made.items()})


def load_for_inference(checkpoint: Path, recipe: Recipe, weights: Weights = "ema") -> dict[str, object]:
    """Fill a recipe with the weights of a checkpoint (`…/checkpoints/step-00001000`), every digest checked.

    Args:
        weights: `raw`, or `ema` for the averaged ones, where a parameter is averaged.

    Returns:
        the content of the manifest: `step`, `progress`, `files`.

    Raises:
        CheckpointError: the checkpoint is damaged, or belongs to another model.
        UserError: its EMA is asked for, and it has none or one without updates.
    """
    manifest = checkpoints.verify(checkpoint)
    if weights == "ema":
        if "ema.safetensors" not in manifest["files"]:
            raise UserError(f"{checkpoint} has no EMA (ema: null in its run); evaluate its raw weights")
        if not manifest["progress"]["ema_updates"]:
            raise UserError(f"the EMA of {checkpoint} has not begun; evaluate its raw weights")
    load_tensors(checkpoint / "model.safetensors", saved(recipe))
    if weights == "ema":
        load_tensors(checkpoint / "ema.safetensors", trainable(recipe))
    return manifest
