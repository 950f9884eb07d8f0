"""What the model is trained for: to predict noise, depth or v in the latent space; or, in one step, depth itself."""

import torch
from torch import Tensor

from salticid.data.source import Batch
from salticid.diffusion.loss import DiffusionLoss
from salticid.diffusion.noise import keyed_normal, multi_resolution_noise
from salticid.diffusion.target import recover
from salticid.diffusion.times import UniformIntegers
from salticid.engine.recipe import Clock, Loss
from salticid.evaluate.consensus import least_squares
from salticid.recipes.marigold.coding import DepthCoding
from salticid.recipes.marigold.model import MarigoldModel
from salticid.recipes.marigold.settings import Noise


def training_noise(settings: Noise, keys: Tensor, times: Tensor, like: Tensor, steps: int, seed: int) -> Tensor:
    """Noise in the shape of `like` (B, C, h, w), a pure function of (seed, key).

    Multi-resolution noise is annealed: it has all its strength at the last time and none at the first (Ke et al.
    2024, section 3.2).
    """
    shape = like.shape[1], like.shape[2], like.shape[3]
    if settings.kind == "gaussian":
        return keyed_normal(keys, shape, seed=seed, device=like.device)
    strength = settings.strength * times.float() / steps
    return multi_resolution_noise(keys, shape, strength, seed=seed, divide_by=settings.divide_by, device=like.device)


class LatentObjective:
    """The diffusion loss of depth latents, over valid cells where `masked`."""

    def __init__(self, model: MarigoldModel, noise: Noise, distance: str, masked: bool):
        self.noise, self.masked = noise, masked
        self.times = UniformIntegers(steps=len(model.path.times))
        self.score = DiffusionLoss(model.path, model.target, distance=distance)  # type: ignore[arg-type]

    def __call__(self, model: MarigoldModel, encoded: Batch, clock: Clock) -> tuple[Loss, Tensor]:
        """The loss, and its number of valid elements (latent cells times channels)."""
        x0, keys = encoded["depth_latent"], encoded["key"]
        times = self.times(keys, seed=clock.seed, device=x0.device)
        noise = training_noise(self.noise, keys, times, x0, self.times.steps, clock.seed)
        output = model.output(encoded["image_latent"], model.path.mix(x0, noise, times), times)
        scored = self.score(output, x0, noise, times, encoded["valid_latent"] if self.masked else None)
        empty = (~encoded["valid_latent"]).flatten(1).all(dim=1).float().mean()
        return Loss(scored.loss, {"empty": empty}), scored.valid


class DepthObjective:
    """One step from the last time, decoded: absolute error in metres after a least-squares scale and shift (Martin
    Garcia et al. 2024, section 4), the truth clipped to the range that the coding takes for [−1, 1]."""

    def __init__(self, coding: DepthCoding):
        self.coding = coding

    def __call__(self, model: MarigoldModel, encoded: Batch, clock: Clock) -> tuple[Loss, Tensor]:
        """The loss, and its number of valid pixels."""
        image, depth, valid = encoded["image_latent"], encoded["depth"], encoded["valid"]
        noise = model.noise(image, encoded["key"], seed=clock.seed, stream="noise")
        last = torch.full((len(image),), model.last_time, device=image.device)
        x0, _ = recover(noise, model.output(image, noise, last), *model.path.at(last, noise), model.target)
        made = model.decode(x0)
        truth = self.truth(depth, valid)
        scale, shift = (
            value.view(-1, 1, 1, 1) for value in least_squares(made.flatten(1), truth.flatten(1), valid.flatten(1))
        )
        error = (scale * made + shift - truth).abs().where(valid, 0.0)
        count = valid.sum()
        empty = (~valid).flatten(1).all(dim=1).float().mean()
        return Loss(error.sum() / count.clamp_min(1), {"empty": empty}), count.float()

    def truth(self, depth: Tensor, valid: Tensor) -> Tensor:
        """Depth (B, 1, H, W) in metres (or the coding's space), clipped to the coding's range; 0 where not valid."""
        value = self.coding.value(depth.float().where(valid, 1.0))
        low, high = self.coding.range(value, valid)
        return torch.minimum(torch.maximum(value, low), high).where(valid, 0.0)
