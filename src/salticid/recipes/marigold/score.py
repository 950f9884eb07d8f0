"""How good predictions are, beside what can be known without looking."""

import torch
import torch.nn.functional as F
from torch import Tensor

from salticid.data.source import Batch, Sample, Source
from salticid.evaluate.alignment import Alignment
from salticid.evaluate.depth import depth_metrics
from salticid.recipes.baselines import mean_map
from salticid.recipes.marigold.coding import DepthCoding
from salticid.recipes.marigold.settings import Protocol


def score(made: dict[str, Tensor], batch: Batch, coding: DepthCoding, protocol: Protocol) -> dict[str, Tensor]:
    """All metrics of all predictions (B, 1, H, W), as `metric/name`: (B,); of alignments beyond the first as
    `metric/name-alignment`."""
    records: dict[str, Tensor] = {}
    truth, valid = batch["depth"], batch["valid"]
    for number, method in enumerate(protocol.alignments):
        align = Alignment(method, coding.predicts, protocol.max_resolution, protocol.ransac)
        for name, prediction in made.items():
            metres = align(prediction.expand_as(truth), truth, valid, limits=batch["limits"], keys=batch["key"])
            shown = name if number == 0 else f"{name}-{method}"
            records |= {f"{metric}/{shown}": values for metric, values in depth_metrics(metres, truth, valid).items()}
    return records


def baselines(mean: Tensor, size: torch.Size, coding: DepthCoding) -> dict[str, Tensor]:
    """The mean depth map of training, where it is known, and one depth everywhere: (1, 1, H, W) each."""
    constant = {"constant": coding.decode(torch.zeros(1, 1, *size, device=mean.device))}
    if mean.isnan().any():
        return constant
    resized = F.interpolate(mean, tuple(size), mode="bilinear", antialias=True)
    return {"mean-map": coding.decode(resized)} | constant


def mean_coded(source: Source, coding: DepthCoding, size: int) -> Tensor:
    """The mean of coded depth maps (1, 1, size, size), where they are valid; 0 where none is."""

    def coded(sample: Sample) -> tuple[Tensor, Tensor]:
        valid = sample["valid"][None]
        return coding(sample["depth"][None], valid), valid

    return mean_map(source, size, coded)[0]
