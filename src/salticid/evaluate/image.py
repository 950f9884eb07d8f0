"""How far a picture is from the truth: per-sample metrics of image batches (B, C, H, W) with values in [0, 1].

Everything is computed in float64 from 8-bit-rounded pictures where `eight_bit` was applied first, as papers do.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def eight_bit(image: Tensor) -> Tensor:
    """Images in [−1, 1] → float64 in [0, 1] on the 256 levels that a saved file would have."""
    return (((image.double() + 1) / 2).clamp(0, 1) * 255).round() / 255


def mse(a: Tensor, b: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean squared error (B,), weighted by `weight` (broadcastable to (B, 1, H, W)) where given.

    A sample whose weights are all zero has no error to speak of: NaN.
    """
    error = (a.double() - b.double()).square().mean(dim=1, keepdim=True)
    return weighted_mean(error, weight)


def mae(a: Tensor, b: Tensor) -> Tensor:
    """Mean absolute error (B,)."""
    return (a.double() - b.double()).abs().flatten(1).mean(dim=1)


def weighted_mean(values: Tensor, weight: Tensor | None) -> Tensor:
    """Mean over (1, H, W) of values (B, 1, H, W): (B,)."""
    if weight is None:
        return values.flatten(1).mean(dim=1)
    weight = weight.double().expand_as(values).flatten(1)
    return (values.flatten(1) * weight).sum(dim=1) / weight.sum(dim=1)


def psnr(a: Tensor, b: Tensor, weight: Tensor | None = None) -> Tensor:
    """Peak signal-to-noise ratio in dB for a peak of 1, per image (B,); equal pictures give +inf."""
    return -10 * torch.log10(mse(a, b, weight))


def latitude_weight(height: int) -> Tensor:
    """cos(latitude) of every row of an equirectangular image, (H, 1): proportional to its solid angle."""
    latitude = (torch.arange(height, dtype=torch.float64) + 0.5) / height - 0.5
    return torch.cos(latitude * math.pi)[:, None]


def ws_psnr(a: Tensor, b: Tensor, mask: Tensor | None = None) -> Tensor:
    """PSNR weighted to uniformity on the sphere (Sun, Lu & Yu 2017), over `mask` (B, 1, H, W) where given."""
    weight = latitude_weight(a.shape[-2]).to(a.device).expand(len(a), 1, *a.shape[-2:])
    return psnr(a, b, weight if mask is None else weight * mask)


def ssim(a: Tensor, b: Tensor, *, window: int = 7) -> Tensor:
    """Structural similarity (Wang et al. 2004), uniform window, sample covariance, mean over channels: (B,).

    The same numbers as scikit-image's default (`gaussian_weights=False`, `use_sample_covariance=True`,
    `data_range=1`): windows that leave the image do not count.
    """
    a, b = a.double(), b.double()
    c1, c2 = 0.01**2, 0.03**2
    unbiased = window**2 / (window**2 - 1)

    def local_mean(x: Tensor) -> Tensor:
        return F.avg_pool2d(x, window, stride=1)

    mean_a, mean_b = local_mean(a), local_mean(b)
    var_a = unbiased * (local_mean(a * a) - mean_a**2)
    var_b = unbiased * (local_mean(b * b) - mean_b**2)
    cov = unbiased * (local_mean(a * b) - mean_a * mean_b)
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    structure = (2 * cov + c2) / (var_a + var_b + c2)
    return (luminance * structure).flatten(1).mean(dim=1)


def seam_error(panorama: Tensor, truth: Tensor) -> Tensor:
    """How much rougher the picture is across its left/right border than the truth is there: (B,).

    Mean |first column − last column| of the panorama minus that of the truth; 0 where the seam is as invisible
    as in the truth, in units of the image range.
    """

    def jump(x: Tensor) -> Tensor:
        return (x[..., 0] - x[..., -1]).double().abs().flatten(1).mean(dim=1)

    return jump(panorama) - jump(truth)
