"""What the model is trained for: to denoise the latents of a clip, all of whose places share a noise level."""

import torch
from torch import Tensor

from salticid.diffusion.loss import DiffusionLoss, Scored
from salticid.diffusion.noise import keyed_normal, offset_noise
from salticid.diffusion.path import VE
from salticid.nets.conditioner import Conditions
from salticid.recipes.video.model import VideoModel
from salticid.recipes.video.settings import WEIGHTINGS, Diffusion


class VideoObjective:
    """The diffusion loss of clips (B, places, c, h, w), with a level and noise that are functions of (seed, key)."""

    def __init__(self, diffusion: Diffusion):
        self.levels, self.offset = diffusion.levels.sampler(), diffusion.offset_noise
        target = diffusion.preconditioning.scaling().target
        self.score = DiffusionLoss(VE(), target, WEIGHTINGS[diffusion.weighting], diffusion.loss)

    def __call__(self, model: VideoModel, x0: Tensor, conditions: Conditions, keys: Tensor, seed: int) -> Scored:
        """The loss of a training batch of scaled latents."""
        sigma = self.levels(keys, seed=seed, device=x0.device)
        noise = offset_noise(keys, tuple(x0.shape[1:]), self.offset, seed=seed, device=x0.device)
        return self.at(model, x0, conditions, noise, sigma)

    def at(self, model: VideoModel, x0: Tensor, conditions: Conditions, noise: Tensor, sigma: Tensor) -> Scored:
        """The loss with this noise, at these levels (B,)."""
        output = model.denoiser(conditions).output(self.score.path.mix(x0, noise, sigma), sigma)
        return self.score(output, x0, noise, sigma)

    def held_out(
        self, model: VideoModel, x0: Tensor, conditions: Conditions, keys: Tensor, seed: int, levels: Tensor
    ) -> dict[str, Tensor]:
        """The loss (B,) of each clip at some levels, and their mean: `loss`; and that of a UNet that answers nothing,
        as a new one does: `loss/blank`."""
        noise = keyed_normal(keys, tuple(x0.shape[1:]), seed=seed, stream="held out", device=x0.device)
        found, blank = [], []
        for sigma in levels.tolist():
            at = torch.full((len(x0),), sigma, device=x0.device)
            found.append(self.at(model, x0, conditions, noise, at).per_sample)
            blank.append(self.score(torch.zeros_like(x0), x0, noise, at).per_sample)
        by_level = {f"loss/σ={sigma:.3g}": loss for sigma, loss in zip(levels.tolist(), found, strict=True)}
        return {"loss": torch.stack(found).mean(0), **by_level, "loss/blank": torch.stack(blank).mean(0)}
