"""The samples that an evaluation found best and worst."""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from salticid.data.source import Sample, Source
from salticid.engine.checkpoint import CheckpointConfig
from salticid.engine.evaluation import Evaluation, preview
from salticid.engine.recipe import Recipe

GAP = 12
"""White rows between the pictures of the best and of the worst."""


@dataclass(frozen=True)
class Extremes:
    """Ids of samples, none on both sides."""

    metric: str
    best: list[str]
    """The best first."""
    worst: list[str]
    """The worst first."""


class _Chosen(Source):
    """Some samples of a source, in an order of their own."""

    def __init__(self, source: Source, ids: list[str]) -> None:
        places = {source.id(index): index for index in range(len(source))}
        self.source, self.places = source, [places[name] for name in ids]

    def __len__(self) -> int:
        return len(self.places)

    def id(self, index: int) -> str:
        return self.source.id(self.places[index])

    def sample(self, index: int, augment: Generator | None) -> Sample:
        return self.source.sample(self.places[index], augment)


def find_extremes(found: Evaluation, config: CheckpointConfig, count: int) -> Extremes | None:
    """Up to `count` of the best samples and of the worst, by the metric that picks the best checkpoint; samples whose
    value is NaN are neither. None where that metric is not one of single samples."""
    metric = (config.best_metric or "").removeprefix("raw/").removeprefix("ema/")
    values = found.records.get(metric)
    if values is None or values.isnan().all():
        return None
    order = values.argsort(descending=config.best_mode == "max", stable=True)
    ids = [found.ids[i] for i in order[~values[order].isnan()].tolist()]
    return Extremes(metric, ids[: min(count, (len(ids) + 1) // 2)], ids[::-1][: min(count, len(ids) // 2)])


def extremes_picture(recipe: Recipe, source: Source, extremes: Extremes, **conditions: Any) -> Tensor:
    """The recipe's picture of the best samples above that of the worst: uint8 (3, H, W).

    Args:
        conditions: device, seed and precision, as `preview` takes them.
    """
    sheets = [
        preview(recipe, _Chosen(source, ids), len(ids), **conditions) for ids in (extremes.best, extremes.worst) if ids
    ]
    width = max(sheet.shape[2] for sheet in sheets)
    below = [F.pad(sheet, (0, width - sheet.shape[2], GAP, 0), value=255) for sheet in sheets]
    return torch.cat(below, dim=1)[:, GAP:]
