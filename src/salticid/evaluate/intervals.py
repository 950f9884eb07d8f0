"""How far the mean of each metric may be from that of other samples like these."""

import torch
from torch import Tensor

from salticid.evaluate.bootstrap import bootstrap

RESAMPLES = 2000


def intervals(ids: list[str], records: dict[str, Tensor]) -> dict[str, list[float]]:
    """The 95 % bootstrap interval [low, high] of the mean of every metric ((N,), float64) without a gap.

    Samples of one folder (their id up to the last slash: a scene, a film) are alike: where there are several folders,
    whole folders are drawn. Empty with fewer than two samples.
    """
    names = [name for name, values in records.items() if values.isfinite().all()]
    if len(ids) < 2 or not names:
        return {}
    folders = {name: number for number, name in enumerate(dict.fromkeys(map(_folder, ids)))}
    blocks = torch.tensor([folders[_folder(name)] for name in ids]) if len(folders) > 1 else None
    found = bootstrap(torch.stack([records[name] for name in names], dim=1), resamples=RESAMPLES, blocks=blocks)
    return {name: [float(found.low[i]), float(found.high[i])] for i, name in enumerate(names)}


def _folder(name: str) -> str:
    """Of a sample's id; the id itself, where it is in none."""
    return name.rpartition("/")[0] or name
