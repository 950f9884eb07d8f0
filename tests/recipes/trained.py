"""What runs on one process and on several are compared by."""

from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

from salticid.engine.checkpoint import newest

Named = dict[str, Tensor]
"""Weights by name."""


def weights(run: Path) -> Named:
    """Of the newest checkpoint."""
    checkpoint, _ = newest(run / "checkpoints")
    assert checkpoint is not None
    return load_file(checkpoint / "model.safetensors")


def apart(a: Named, b: Named, start: Named) -> float:
    """How far trained weights are from others, as a share of how far they are from where they began."""
    distance, way = (sum(float((a[n] - other[n]).square().sum()) for n in start) ** 0.5 for other in (b, start))
    assert way > 0.01
    return distance / way
