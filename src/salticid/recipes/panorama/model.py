"""The model: a KL encoder shared by the views, a fusion, and a flow-matching decoder with a geometric guide."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from salticid.diffusion.path import Flow
from salticid.diffusion.solve import Denoiser, first_order
from salticid.diffusion.target import Velocity
from salticid.diffusion.times import power_grid
from salticid.geometry.cameras import Equirectangular
from salticid.geometry.rig import Rig
from salticid.geometry.stitch import stitch
from salticid.nets.fusion import ConcatConv, RayFusion
from salticid.nets.kl_encoder import KLEncoder
from salticid.nets.panorama_unet import Condition, PanoramaUNet, Sketch

FusionName = Literal["concat_conv", "rays"]


class PanoramaModel(nn.Module):
    """Views (B, N, 3, h, w) in [−1, 1] and their rig → panorama (B, 3, height, 2·height)."""

    path, target = Flow(), Velocity()

    def __init__(
        self,
        height: int,
        views: int,
        *,
        fusion: FusionName,
        concat_norm: bool,
        fusion_distances: Sequence[float],
        stitch_distances: Sequence[float],
        latent: int,
        encoder_widths: Sequence[int],
        decoder_widths: Sequence[int],
        residual: float,
    ):
        super().__init__()
        self.encoder = KLEncoder(encoder_widths, latent)
        self.fusion: nn.Module
        if fusion == "concat_conv":
            self.fusion = ConcatConv(views, latent, final_norm=concat_norm)
        else:
            self.fusion = RayFusion(latent, inverse_distances=tuple(1 / d for d in fusion_distances))
        self.sketch = Sketch(latent, stitches=len(stitch_distances))
        self.decoder = PanoramaUNet(stitches=len(stitch_distances), widths=decoder_widths)
        self.stitch_distances = tuple(stitch_distances)
        self.residual = residual
        self.sphere = Equirectangular(height, 2 * height)

    def condition(self, views: Tensor, rig: Rig, latents: Tensor | None = None) -> Condition:
        """All that the decoder needs to know. `latents` (B·N, C, h/8, w/8) are those of the views; None: their
        posterior's mean."""
        if latents is None:
            latents = self.encoder(views.flatten(0, 1)).mean
        latents = latents.unflatten(0, views.shape[:2])
        latent = self.fusion(latents, rig, self.sphere.height // 8, self.sphere.width // 8)
        if not self.stitch_distances:
            return self.sketch(latent, None, None)
        made = [stitch(views, rig, self.sphere, distance=d) for d in self.stitch_distances]
        stitches = torch.stack([picture for picture, _ in made], dim=1)
        coverage = torch.stack([seen for _, seen in made]).amax(dim=0)
        return self.sketch(latent, stitches, coverage.expand(len(views), -1, -1, -1))

    def velocity(self, x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """The flow x₀ − ε that the network predicts at x_t, t in [0, 1] for each sample.

        With x₀ = estimate + r and r ~ N(0, s²), y = x_t − (1−t)·estimate = (1−t)·r + t·ε has variance
        d = (1−t)²s² + t², and estimate + ((1−t)s² − t)/d·y is the best linear guess of x₀ − ε; what is left has
        standard deviation s/√d. The network is given y/√d and predicts what is left, both of unit scale (the
        preconditioning of EDM, Karras et al. 2022, for a flow around an estimate).
        """
        s2 = self.residual**2
        estimate = condition.estimate.detach()
        time = t.float().reshape(-1, 1, 1, 1)
        variance = (1 - time) ** 2 * s2 + time**2
        y = x.float() - (1 - time) * estimate
        left = self.decoder(y * variance.rsqrt(), 1000 * t, condition).float()
        return estimate + ((1 - time) * s2 - time) / variance * y + self.residual * variance.rsqrt() * left

    def denoiser(self, condition: Condition) -> Denoiser:
        return Denoiser(lambda x, t: self.velocity(x, t, condition), self.path, self.target)

    def generate(self, condition: Condition, noise: Tensor, steps: int, power: float = 2.0) -> Tensor:
        """A panorama (B, 3, H, W) from noise by Euler steps on the grid linspace(1, 0, steps + 1) ** power."""
        return first_order(self.denoiser(condition), noise, self.path, power_grid(steps, power))
