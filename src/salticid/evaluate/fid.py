"""FID: the Fréchet distance of two sets of images in the features of Inception-v3 (Heusel et al. 2017)."""

import io
from typing import Any

import torch
from torch import Tensor, nn

from salticid.errors import UserError
from salticid.losses.frozen import Frozen
from salticid.losses.pretrained import fill, find, package, read

FEATURES = 2048
FID_ENOUGH = 10_000
"""Images from which on an FID is worth telling; papers use 50 000."""
EXPECTED = "torch-fidelity's weights-inception-2015-12-05-6726825d.pth (pt_inception-2015-12-05-6726825d.pth)"


class Inception(nn.Module):
    """The Inception-v3 that FID is defined by, from the package `torch-fidelity`: TensorFlow's weights and resizing.

    Computed in float32 whatever autocast says. Frozen and outside `state_dict()`: see `Frozen`.

    Args:
        weights: local file with the network's weights; both names under which it is published hold the same file.
        key: configuration key that errors name.

    Raises:
        ConfigError: the package is missing, or the file is, or it holds something else.
    """

    def __init__(self, weights: str, *, key: str = "metrics.fid"):
        super().__init__()
        module = package("torch_fidelity.feature_extractor_inceptionv3", key)
        file = find(weights, EXPECTED, key)
        network = _without_weights(module.FeatureExtractorInceptionV3)
        fill(network, read(file, key), file=file, expected=EXPECTED, key=key)
        self.judge = Frozen(network)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Features (B, 2048) of images (B, 3, H, W): uint8, or floats in [0, 1], which are rounded to 8 bits.

        Raises:
            ValueError: floats outside [0, 1].
        """
        with torch.autocast(images.device.type, enabled=False):
            return self.judge(_bytes(images))[0]


def _bytes(images: Tensor) -> Tensor:
    if images.dtype == torch.uint8:
        return images
    if images.numel() and not 0 <= float(images.min()) <= float(images.max()) <= 1:
        raise ValueError("Inception: images are not in [0, 1]")
    return (images.double() * 255).round().to(torch.uint8)


def _without_weights(extractor: Any) -> Any:
    """The package's network, empty: its constructor would download the weights, or unpickle them."""

    class Empty(extractor):
        def load_state_dict(self, state_dict: Any, strict: bool = True, assign: bool = False) -> Any:
            return super().load_state_dict(state_dict, strict=strict and bool(state_dict), assign=assign)

    nothing = io.BytesIO()
    torch.save({}, nothing)
    nothing.seek(0)
    with torch.device("meta"):
        return Empty("inception-v3", [str(FEATURES)], feature_extractor_weights_path=nothing)


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """Squared Fréchet distance of the Gaussians that fit features a (N, D) and b (M, D), in float64; 0 or more.

    |μ_a − μ_b|² + tr Σ_a + tr Σ_b − 2 tr (Σ_a Σ_b)^½ with unbiased covariances. With Σ = FᵀF, the last trace is the
    sum of the singular values of F_a F_bᵀ: no square root of a matrix, hence exact also where Σ is singular (fewer
    than D + 1 images), where the usual ways lose half of the digits.

    Raises:
        UserError: fewer than two images on a side.
    """
    if min(len(a), len(b)) < 2:
        raise UserError(f"FID of {len(a)} and {len(b)} images; it needs at least 2 of each")
    a, b = a.double(), b.double()
    means = (a.mean(dim=0) - b.mean(dim=0)).square().sum()
    root_a, root_b = _root(a), _root(b)
    shared = torch.linalg.svdvals(root_a @ root_b.T).sum()
    return max(0.0, float(means + root_a.square().sum() + root_b.square().sum() - 2 * shared))


def _root(features: Tensor) -> Tensor:
    """F (at most D rows) with FᵀF the unbiased covariance of features (N, D)."""
    centred = (features - features.mean(dim=0)) / (len(features) - 1) ** 0.5
    return torch.linalg.qr(centred, mode="r").R if len(centred) > centred.shape[1] else centred


def fid_remark(n: int) -> str:
    """What an FID of n images (the smaller side) is worth, for those who read it; empty from `FID_ENOUGH` on."""
    if n >= FID_ENOUGH:
        return ""
    enough = f"{FID_ENOUGH:,} are the least that is usual, papers use 50,000"
    if n <= FEATURES:  # as many images as features leave one direction without variance
        return f"of {n:,} images, too few for a regular covariance ({FEATURES + 1:,}): not an FID to quote; {enough}"
    return f"of {n:,} images, hence too high: compare it with FIDs of as many images only; {enough}"
