"""The model: an encoder shared by the views, a fusion, and a flow-matching decoder with a geometric guide."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from salticid.diffusion.path import Flow
from salticid.diffusion.solve import Denoiser, first_order
from salticid.diffusion.target import Velocity
from salticid.diffusion.times import power_grid
from salticid.geometry.cameras import Equirectangular
from salticid.geometry.rig import Rig
from salticid.geometry.stitch import stitch
from salticid.nets.fusion import AttentionFusion, Average, ConcatConv, RayFusion
from salticid.nets.kl_encoder import DiagonalGaussian, KLEncoder
from salticid.nets.ldm_encoder import LDMEncoder
from salticid.nets.panorama_unet import Drawn, PanoramaUNet, Sketch
from salticid.nets.uvit import SIZES, UViT
from salticid.recipes.panorama.settings import DecoderName, EncoderName, FusionName, shrinks_by


@dataclass(frozen=True)
class Condition:
    """All that does not change during sampling; computed once per panorama."""

    latent: Tensor
    """Of the panorama, (B, C, H/f, W/f)."""
    drawn: Drawn | None
    stitches: Tensor | None
    """Warp-and-blend at each of the guide's distances, (B, S, 3, H, W) in [−1, 1]."""
    coverage: Tensor | None
    """1 where a view sees the pixel at one of them, (B, 1, H, W)."""

    @property
    def estimate(self) -> Tensor | None:
        """The image head's panorama (B, 3, H, W), where there is a head."""
        return None if self.drawn is None else self.drawn.estimate


class PanoramaModel(nn.Module):
    """Views (B, N, 3, h, w) in [−1, 1] and their rig → panorama (B, 3, height, 2·height)."""

    path, target = Flow(), Velocity()

    def __init__(
        self,
        height: int,
        views: int,
        *,
        encoder: EncoderName,
        decoder: DecoderName,
        fusion: FusionName,
        concat_norm: bool,
        fusion_distances: Sequence[float],
        stitch_distances: Sequence[float],
        image_head: bool,
        latent: int,
        encoder_widths: Sequence[int],
        decoder_widths: Sequence[int],
        residual: float,
        wrap: bool,
    ):
        super().__init__()
        self.shrinks_by = shrinks_by(encoder)
        stitches = len(stitch_distances)
        self.encoder: nn.Module
        self.encoder = (
            KLEncoder(encoder_widths, latent) if encoder == "small" else LDMEncoder(shrinks_by(encoder), latent)
        )
        self.fusion = make_fusion(fusion, views, latent, concat_norm, fusion_distances, wrap)
        small = decoder == "small"
        drawing = {"stitches": stitches, "image_head": image_head, "wrap": wrap}
        self.sketch = Sketch(latent, **drawing) if image_head or small else None
        self.decoder: PanoramaUNet | UViT
        if small:
            self.decoder = PanoramaUNet(widths=decoder_widths, **drawing)
        else:
            beside = 3 * image_head + (3 * stitches + 1 if stitches else 0)
            self.decoder = UViT(SIZES[decoder], latent, extra=beside, wrap=wrap)
        self.stitch_distances = tuple(stitch_distances)
        self.residual = residual
        self.sphere = Equirectangular(height, 2 * height)

    def encode(self, views: Tensor) -> DiagonalGaussian:
        """The posterior of every view's latent, (B·N, C, h/f, w/f)."""
        return self.encoder(views.flatten(0, 1))

    def condition(self, views: Tensor, rig: Rig, latents: Tensor | None = None) -> Condition:
        """All that the decoder needs to know. `latents` (B·N, C, h/f, w/f) are those of the views; None: their
        posterior's mean."""
        latents = self.encode(views).mean if latents is None else latents
        grid = (side // self.shrinks_by for side in (self.sphere.height, self.sphere.width))
        latent = self.fusion(latents.unflatten(0, views.shape[:2]), rig, *grid)
        stitches, coverage = self.guide(views, rig)
        drawn = None if self.sketch is None else self.sketch(latent, self.sphere.height, stitches, coverage)
        return Condition(latent, drawn, stitches, coverage)

    def guide(self, views: Tensor, rig: Rig) -> tuple[Tensor, Tensor] | tuple[None, None]:
        """What plain geometry makes of the views, where the model is to see it."""
        if not self.stitch_distances:
            return None, None
        made = [stitch(views, rig, self.sphere, distance=d) for d in self.stitch_distances]
        coverage = torch.stack([seen for _, seen in made]).amax(dim=0)
        return torch.stack([picture for picture, _ in made], dim=1), coverage.expand(len(views), -1, -1, -1)

    def velocity(self, x: Tensor, t: Tensor, condition: Condition) -> tuple[Tensor, Tensor]:
        """The flow x₀ − ε that the network predicts at x_t, t in [0, 1] for each sample, and its features (B, C, H/8,
        W/8).

        Without an image head it is the network's output. With one, x₀ = estimate + r and r ~ N(0, s²):
        y = x_t − (1−t)·estimate = (1−t)·r + t·ε has variance d = (1−t)²s² + t², and estimate + ((1−t)s² − t)/d·y is
        the best linear guess of x₀ − ε; what is left has standard deviation s/√d. The network is given y/√d and
        predicts what is left, both of unit scale (the preconditioning of EDM, Karras et al. 2022, for a flow around
        an estimate).
        """
        if condition.estimate is None:
            return self.decode(x, 1000 * t, condition)
        s2 = self.residual**2
        estimate = condition.estimate.detach()
        time = t.float().reshape(-1, 1, 1, 1)
        variance = (1 - time) ** 2 * s2 + time**2
        y = x.float() - (1 - time) * estimate
        left, features = self.decode(y * variance.rsqrt(), 1000 * t, condition)
        guess = estimate + ((1 - time) * s2 - time) / variance * y
        return guess + self.residual * variance.rsqrt() * left, features

    def decode(self, noisy: Tensor, time: Tensor, condition: Condition) -> tuple[Tensor, Tensor]:
        """The decoder's output and features, float32."""
        stitches, coverage = condition.stitches, condition.coverage
        if isinstance(self.decoder, UViT):
            beside = [] if condition.estimate is None else [condition.estimate.detach()]
            if stitches is not None and coverage is not None:
                beside += [stitches.flatten(1, 2), coverage]
            out, features = self.decoder(noisy, time, condition.latent, torch.cat(beside, dim=1) if beside else None)
        else:
            out, features = self.decoder(noisy, time, condition.drawn, stitches, coverage)
        return out.float(), features

    def denoiser(self, condition: Condition) -> Denoiser:
        return Denoiser(lambda x, t: self.velocity(x, t, condition)[0], self.path, self.target)

    def generate(self, condition: Condition, noise: Tensor, steps: int, power: float = 2.0) -> Tensor:
        """A panorama (B, 3, H, W) from noise by Euler steps on the grid linspace(1, 0, steps + 1) ** power."""
        return first_order(self.denoiser(condition), noise, self.path, power_grid(steps, power))


def make_fusion(
    name: FusionName, views: int, latent: int, concat_norm: bool, distances: Sequence[float], wrap: bool
) -> nn.Module:
    """From the latents of the views to that of the panorama."""
    if name == "concat_conv":
        return ConcatConv(views, latent, final_norm=concat_norm)
    if name == "average":
        return Average(latent, wrap=wrap)
    if name == "attention":
        return AttentionFusion(latent, wrap=wrap)
    return RayFusion(latent, inverse_distances=tuple(1 / d for d in distances), wrap=wrap)
