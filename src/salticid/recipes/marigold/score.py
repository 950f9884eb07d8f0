"""How good predictions are, beside what can be known without looking."""

import torch
import torch.nn.functional as F
from torch import Tensor

from salticid.data.source import Batch, Source
from salticid.errors import UnreadableSample
from salticid.evaluate.alignment import Alignment
from salticid.evaluate.depth import depth_metrics
from salticid.recipes.marigold.coding import DepthCoding
from salticid.recipes.marigold.settings import Protocol

SAMPLES = 256
"""Of the training data, that the mean depth map is made of."""


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


def mean_map(source: Source, coding: DepthCoding, size: int) -> Tensor:
    """The mean of coded depth maps (1, 1, size, size) over samples spread over a source, where they are valid; 0 where
    none is."""
    total = torch.zeros(1, 1, size, size)
    weight = torch.zeros(1, 1, size, size)
    count = min(SAMPLES, len(source))
    for i in range(count):
        try:
            sample = source.sample(i * len(source) // count, None)
        except UnreadableSample:
            continue
        valid = sample["valid"][None]
        coded = coding(sample["depth"][None], valid).where(valid, 0.0)
        total += F.interpolate(coded, (size, size), mode="area")
        weight += F.interpolate(valid.float(), (size, size), mode="area")
    return total / weight.clamp_min(1e-6)
