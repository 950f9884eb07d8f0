"""How far a depth map is from the truth: per-sample metrics of metric, aligned depth (see `alignment`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Float64

METRICS = ("absrel", "sqrel", "rmse", "rmse_log", "log10", "silog", "delta1", "delta2", "delta3")


def depth_metrics(
    prediction: Float[Tensor, "b 1 h w"], truth: Float[Tensor, "b 1 h w"], mask: Bool[Tensor, "b 1 h w"]
) -> dict[str, Float64[Tensor, " b"]]:
    """The usual metrics of depth p against truth g over the pixels of `mask`, by the names of `METRICS`, in float64.

    - `absrel` mean |p − g| / g, `sqrel` mean (p − g)² / g [m], `rmse` √mean (p − g)² [m];
    - `rmse_log` √mean (ln p − ln g)², `log10` mean |log₁₀ p − log₁₀ g|;
    - `silog` 100 √var(ln p − ln g), the variance with divisor n: the scale-invariant error of Eigen et al. (2014,
      λ = 1) as KITTI's depth benchmark tells it;
    - `delta1` … `delta3`: shares of pixels with max(p/g, g/p) < 1.25, 1.25², 1.25³.

    A sample without a pixel in its mask has no error to speak of: NaN. Predictions that are not positive have no
    logarithm: they make the three logarithmic metrics infinite and count as outside every δ.

    Args:
        prediction, truth: in metres; outside the mask anything, NaN too.
        mask: where to look; the truth must be positive there.
    """
    p = torch.where(mask, prediction.double(), 1.0).flatten(1)
    g = torch.where(mask, truth.double(), 1.0).flatten(1)
    valid = mask.flatten(1)
    count = valid.sum(dim=1)

    def mean(values: Tensor) -> Tensor:
        return torch.where(valid, values, 0.0).sum(dim=1) / count

    error, logs = p - g, p.clamp(min=0).log() - g.log()
    squared, bias = error.square(), mean(logs)
    spread = mean((logs - bias[:, None]).square())
    ratio = torch.where(p > 0, torch.maximum(p / g, g / p), torch.inf)
    values = (
        mean(error.abs() / g),
        mean(squared / g),
        mean(squared).sqrt(),
        mean(logs.square()).sqrt(),
        mean((p.clamp(min=0).log10() - g.log10()).abs()),
        100 * torch.where(bias.isneginf(), torch.inf, spread).sqrt(),
        *(mean((ratio < 1.25**power).double()) for power in (1, 2, 3)),
    )
    return dict(zip(METRICS, values, strict=True))
