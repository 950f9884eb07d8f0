"""Metrics that look through pretrained networks: LPIPS and FID, where the weights are given."""

import logging

from torch import Tensor, nn

from salticid.evaluate.fid import Inception, fid_remark, frechet_distance
from salticid.losses.lpips import Lpips
from salticid.recipes.panorama.settings import Judges

log = logging.getLogger(__name__)

FEATURES = "inception/"
"""What the names of records that FID is computed from begin with."""


class Metrics(nn.Module):
    """Records of eight-bit panoramas (B, 3, H, W) in [0, 1]; without weights there are none."""

    def __init__(self, judges: Judges):
        super().__init__()
        self.judges = judges
        self.lpips: Lpips | None = None
        self.inception: Inception | None = None

    def start(self) -> None:
        """Load what is given and not loaded yet.

        Raises:
            ConfigError: it cannot be loaded.
        """
        if self.judges.alex and self.lpips is None:
            self.lpips = Lpips(self.judges.alex, net="alex", key="recipe.judges.alex")
        if self.judges.inception and self.inception is None:
            self.inception = Inception(self.judges.inception, key="recipe.judges.inception")

    def forward(self, made: dict[str, Tensor], truth: Tensor) -> dict[str, Tensor]:
        """`lpips/name` (B,), and `inception/name` (B, 2048) for `distances`."""
        self.start()
        self.to(truth.device)
        records: dict[str, Tensor] = {}
        if self.lpips is not None:
            records |= {
                f"lpips/{name}": self.lpips(2 * x.float() - 1, 2 * truth.float() - 1) for name, x in made.items()
            }
        if self.inception is not None:
            records |= {FEATURES + name: self.inception(x) for name, x in ({"truth": truth} | made).items()}
        return records

    def distances(self, features: dict[str, Tensor]) -> dict[str, float]:
        """`fid/name` from the features (N, 2048) of all samples."""
        if not features:
            return {}
        truth = features[FEATURES + "truth"]
        if remark := fid_remark(len(truth)):
            log.warning("FID %s", remark)
        others = {name.removeprefix(FEATURES): x for name, x in features.items() if name != FEATURES + "truth"}
        return {f"fid/{name}": frechet_distance(x, truth) for name, x in others.items()}
