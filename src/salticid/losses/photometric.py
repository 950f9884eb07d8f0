"""How little a warped picture looks like the one it should match: SSIM and L1, and the minimum over source pictures.

The formulas of Godard et al. 2019 (Monodepth2), in an order of evaluation that is fast and exact. With d = x − y, local
means μ and variances s of 3×3 windows, the two factors of SSIM are 1 − δ₁ and 1 − δ₂,

    δ₁ = μ_d² / (μ_x² + μ_y² + C₁)        δ₂ = s_d / (s_x + s_y + C₂),

so that (1 − SSIM)/2 = (δ₁ + δ₂ − δ₁δ₂)/2 needs three local means beside those of the target, and does not take the
difference of two numbers near 1 where the pictures are alike.
"""

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from salticid.losses.pixels import full_precision, masked_mean

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

C1 = 0.01**2
C2 = 0.03**2
SSIM_WEIGHT = 0.85
NOISE = 1e-5
"""Scale of the noise that decides between standing still and a reprojection of the same error."""

_CACHED_VALUES = 1 << 18
"""A CPU works through so many values at a time: the intermediate results stay in its cache and its heap, which halves
the time of a batch of 192×640 pictures."""


class Target:
    """A picture that predictions are compared with. Its local statistics are computed once, here.

    Args:
        image: (B, C, H, W) in [0, 1], H and W at least 2. A gradient flows into it where it wants one.
        ssim_weight: of (1 − SSIM)/2; the rest is that of |x − y|.
    """

    def __init__(self, image: "Float[Tensor, 'b c h w']", *, ssim_weight: float = SSIM_WEIGHT):
        self.image = full_precision(image)
        self.ssim_weight = ssim_weight
        with torch.no_grad():
            padded = _pad(self.image, "reflect")
            self._mean = _window_mean(padded)
            self._variance = _window_mean(padded.square()) - self._mean.square()

    def __call__(self, predictions: "Float[Tensor, 'bk c h w']") -> "Float[Tensor, 'b k h w']":
        """The loss at every pixel, in [0, 1]: `ssim_weight`·(1 − SSIM)/2 + (1 − `ssim_weight`)·|x − y|, mean over
        channels.

        `predictions`: (B·K, C, H, W) in [0, 1], the K of a sample next to each other. In float32 at least, whatever
        their type and autocast say. First derivatives alone.

        Raises:
            ValueError: their size or number does not fit the target.
        """
        batch = len(self.image)
        if predictions.shape[1:] != self.image.shape[1:] or len(predictions) % batch:
            expected = " × ".join(str(n) for n in self.image.shape)
            raise ValueError(f"predictions are {tuple(predictions.shape)}; expected a multiple of {expected}")
        stacked = full_precision(predictions).unflatten(0, (batch, -1))
        samples, each = _parts(stacked)
        columns = (values.split(samples) for values in (stacked, self.image, self._mean, self._variance))
        return torch.cat([self._compare(some.split(each, dim=1), *of) for some, *of in zip(*columns, strict=True)])

    def _compare(self, parts: tuple[Tensor, ...], image: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        return torch.cat([_Photometric.apply(x, image, mean, variance, self.ssim_weight) for x in parts], dim=1)


def photometric(
    predictions: "Float[Tensor, 'bk c h w']", target: "Float[Tensor, 'b c h w']", *, ssim_weight: float = SSIM_WEIGHT
) -> "Float[Tensor, 'b k h w']":
    """`Target(target)(predictions)`, for a target that is used once: (B, 1, H, W) for one prediction a sample."""
    return Target(target, ssim_weight=ssim_weight)(predictions)


class Minimum(NamedTuple):
    """Of the photometric losses of several source pictures."""

    loss: "Float[Tensor, 'b']"
    """Mean over the pixels of a sample."""
    automask: "Bool[Tensor, 'b 1 h w']"
    """Pixels that teach: a reprojection is better than standing still."""


def minimum_reprojection(
    reprojected: "Float[Tensor, 'b k h w']",
    identity: "Float[Tensor, 'b j h w'] | None" = None,
    noise: "Float[Tensor, 'b j h w'] | None" = None,
    *,
    valid: "Bool[Tensor, '#b #k h w'] | None" = None,
    identity_valid: "Bool[Tensor, '#b #j h w'] | None" = None,
) -> Minimum:
    """The least loss at every pixel, which occlusion spoils least, and the auto-mask (Godard et al. 2019).

    Without masks, the mean is over all pixels, as in Monodepth2: also over those where standing still wins, a constant
    without a gradient. With masks, invalid candidates never win, and the mean of a sample is over its pixels with a
    valid candidate; 0, without a gradient, where it has none. Equal reprojections share the gradient.

    Args:
        reprojected: losses of the warped source pictures.
        identity: losses of the source pictures as they are, which depend on no scale: compute them once. They win where
            they are no worse.
        noise: standard normal, times 1e-5 added to `identity`.
        valid: where the warped pictures show something: the pixel does not leave the source picture, or the image
            circle of its lens.
        identity_valid: where the source pictures do.
    """
    best = _least(reprojected, valid)
    chosen = best != torch.inf
    if identity is not None:
        still = _least(identity if noise is None else identity + NOISE * noise, identity_valid)
        chosen = ~(best >= still)  # a NaN is chosen, and seen in the loss
        best = torch.where(chosen, best, still)
    counted = None if valid is None and identity_valid is None else best != torch.inf
    return Minimum(masked_mean(best, counted), chosen)


def _least(losses: Tensor, valid: Tensor | None) -> Tensor:
    """The minimum (B, 1, H, W) over candidates; infinite where none is valid."""
    return (losses if valid is None else torch.where(valid, losses, torch.inf)).amin(dim=1, keepdim=True)


class _Photometric(torch.autograd.Function):
    """Per-pixel losses (B, K, H, W) of `stacked` (B, K, C, H, W) and a target (B, C, H, W) with its local mean and
    variance; analytic derivatives with respect to both pictures.

    For the backward pass, three maps of the size of `stacked` are kept (four where the target wants a gradient), a
    quarter of what autograd would keep: with u = (1 − δ₂)/B₁, v = (1 − δ₁)/B₂ and w = v·δ₂, where B₁ and B₂ are the
    denominators, the derivatives of (δ₁ + δ₂ − δ₁δ₂)/2 by the window means of x, d² and x² are
    (u − v)·μ_d + (w − u·δ₁)·μ_x, v/2 and −w/2.
    """

    @staticmethod
    def forward(ctx: Any, stacked: Tensor, image: Tensor, mean: Tensor, variance: Tensor, ssim_weight: float) -> Tensor:
        ctx.ssim_weight = ssim_weight
        difference = stacked - image[:, None]
        mean, variance = mean[:, None], variance[:, None]
        x = _pad(stacked, "reflect")
        mean_x2 = _window_mean(x.square_())
        d = _pad(difference, "reflect")
        mean_d = _window_mean(d)
        variance_d = _window_mean(d.square_()).sub_(mean_d.square())
        mean_x = mean_d + mean
        denominator_2 = mean_x2.sub_(mean_x.square()).add_(variance).add_(C2)
        denominator_1 = mean_x.square().add_(mean.square()).add_(C1)
        delta_1 = mean_d.square().div_(denominator_1)
        delta_2 = variance_d.div_(denominator_2)
        loss = (delta_1 + delta_2).addcmul_(delta_1, delta_2, value=-1).mul_(ssim_weight / 2)
        loss.add_(difference.abs_(), alpha=1 - ssim_weight)

        if any(ctx.needs_input_grad[:2]):
            u = (1 - delta_2).div_(denominator_1)
            v = (1 - delta_1).div_(denominator_2)
            w = delta_2.mul_(v)
            common = w - delta_1.mul_(u)
            by_mean = u.sub_(v).mul_(mean_d)
            # By the mean of y: x and y change places, and d its sign.
            by_means = [by_mean.neg().addcmul_(common, mean)] if ctx.needs_input_grad[1] else []
            by_means = [by_mean.addcmul_(common, mean_x), *by_means]
            ctx.save_for_backward(stacked, image, v, w, *by_means)
        # Rounding alone leaves [0, 1].
        return loss.mean(dim=2).clamp_(0, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        stacked, image, v, w, *by_means = ctx.saved_tensors
        of_channel = grad_outputs[0][:, :, None] / stacked.shape[2]
        # The transpose of a window mean with reflected borders is a window mean again, of values that are repeated over
        # the border and weighted there.
        weights = _border(of_channel, -2) * _border(of_channel, -1)
        spread = _pad(of_channel * ctx.ssim_weight, "replicate").mul_(weights)
        difference = stacked - image[:, None]
        by_x2 = _window_mean(_pad(w, "replicate").mul_(spread))
        odd = _window_mean(_pad(v, "replicate").mul_(spread)).mul_(difference)
        odd.addcmul_(difference.sign_(), of_channel, value=1 - ctx.ssim_weight)
        by_x = by_y = None
        if ctx.needs_input_grad[0]:
            by_x = _window_mean(_pad(by_means[0], "replicate").mul_(spread)).add_(odd)
            by_x = by_x.addcmul_(stacked, by_x2, value=-1)
        if ctx.needs_input_grad[1]:
            by_y = _window_mean(_pad(by_means[1], "replicate").mul_(spread)).sub_(odd)
            by_y = by_y.addcmul_(image[:, None], by_x2, value=-1).sum(dim=1)
        return by_x, by_y, None, None, None


def _cached(values: Tensor) -> bool:
    """Whether to do without fused kernels, on a CPU that has its cache instead."""
    return values.device.type == "cpu" and not torch.compiler.is_compiling()


def _parts(stacked: Tensor) -> tuple[int, int]:
    """How many samples to work through at a time, and how many predictions of each."""
    if not _cached(stacked):
        return len(stacked), stacked.shape[1]
    return max(1, _CACHED_VALUES // stacked[0].numel()), max(1, _CACHED_VALUES // stacked[0, 0].numel())


def _pad(images: Tensor, mode: str) -> Tensor:
    """Images (…, C, H, W) with one more pixel on every side."""
    return F.pad(images.flatten(0, -4), (1, 1, 1, 1), mode=mode).unflatten(0, images.shape[:-3])


def _border(images: Tensor, dim: int) -> Tensor:
    """−1, 2, 1, …, 1, 2, −1 along a padded dimension."""
    size = images.shape[dim]
    position = torch.arange(size + 2, device=images.device)
    # Of sizes 2 and up, no pixel is second from both ends.
    weights = torch.where((position == 1) | (position == size), 2.0, 1.0).to(images.dtype)
    weights = torch.where((position == 0) | (position == size + 1), -1.0, weights)
    return weights if dim == -1 else weights[:, None]


def _window_mean(padded: Tensor) -> Tensor:
    """Means of all 3×3 windows: (…, C, H + 2, W + 2) → (…, C, H, W)."""
    if not _cached(padded):
        return F.avg_pool2d(padded.flatten(0, -4), 3, stride=1).unflatten(0, padded.shape[:-3])
    # Torch's pooling is not vectorised for a CPU: it takes ten times as long as these sums of slices.
    rows = (padded[..., :-2, :] + padded[..., 1:-1, :]).add_(padded[..., 2:, :])
    return (rows[..., :-2] + rows[..., 1:-1]).add_(rows[..., 2:]).mul_(1 / 9)
