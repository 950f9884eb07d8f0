"""What the model is trained for: flow matching, and the terms that may stand beside it."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from salticid.data.source import Batch
from salticid.diffusion.loss import DiffusionLoss, Scored
from salticid.diffusion.noise import keyed_normal
from salticid.diffusion.times import LogitNormal
from salticid.engine.recipe import Clock, Loss
from salticid.errors import ConfigError
from salticid.losses.gan import PatchDiscriminator, hinge_discriminator, hinge_generator
from salticid.losses.lpips import Lpips
from salticid.losses.repa import Repa
from salticid.nets.kl_encoder import DiagonalGaussian
from salticid.recipes.panorama.model import Condition, PanoramaModel
from salticid.recipes.panorama.settings import Gan, Judges, LossWeights


class Objective(nn.Module):
    """The losses of the recipe, with what of them is trained (REPA's projection, the discriminator)."""

    def __init__(
        self, model: PanoramaModel, weights: LossWeights, gan: Gan, judges: Judges, noisy_share: float, wrap: bool
    ):
        super().__init__()
        self.weights, self.gan, self.judges = weights, gan, judges
        for term, judge in (("lpips", "vgg"), ("repa", "dinov2")):
            if getattr(weights, term) and getattr(judges, judge) is None:
                raise ConfigError(
                    f"recipe.weights.{term} is {getattr(weights, term)}, but recipe.judges.{judge} is null: give a "
                    f"local path or a hub id, or train without the term (recipe.weights.{term}: 0)"
                )
        self.times = LogitNormal(noisy_share=noisy_share)
        self.flow_loss = DiffusionLoss(model.path, model.target)
        self.repa = Repa(model.decoder.feature_channels) if weights.repa else None
        self.discriminator = PatchDiscriminator(width=gan.width, wrap=wrap) if weights.gan else None
        self.lpips: Lpips | None = None

    def start(self) -> None:
        """Load the networks that only training looks through.

        Raises:
            ConfigError: they cannot be loaded.
        """
        if self.weights.lpips and self.judges.vgg:
            with _or_without("lpips"):
                self.lpips = Lpips(self.judges.vgg, key="recipe.judges.vgg")
        if self.repa is not None and self.judges.dinov2:
            with _or_without("repa"):
                self.repa.load(self.judges.dinov2, key="recipe.judges.dinov2")

    def flow(
        self,
        model: PanoramaModel,
        batch: Batch,
        condition: Condition,
        clock: Clock,
        posterior: DiagonalGaussian | None,
    ) -> Loss:
        """The model's phase: all terms but the discriminator's. No KL term where the posterior is None: frozen."""
        truth = batch["panorama"]
        scored, features = self.predict(model, batch, condition, clock)
        terms = {"flow": scored.loss}
        if condition.estimate is not None:
            terms["image"] = F.mse_loss(condition.estimate.float(), truth)
        if posterior is not None:
            terms["kl"] = posterior.kl().mean()
        return self.total(terms | self.judged(scored.x0, truth, truth, features, clock))

    def predict(self, model: PanoramaModel, batch: Batch, condition: Condition, clock: Clock) -> tuple[Scored, Tensor]:
        """The flow-matching loss at a random time of each sample, with x̂₀; and the decoder's features."""
        truth = batch["panorama"]
        noise, times = self.noise(batch, clock), self.times(batch["key"], seed=clock.seed, device=truth.device)
        output, features = model.velocity(model.path.mix(truth, noise, times), times, condition)
        return self.flow_loss(output, truth, noise, times), features

    def noise(self, batch: Batch, clock: Clock) -> Tensor:
        truth = batch["panorama"]
        return keyed_normal(batch["key"], truth.shape[1:], seed=clock.seed, stream="noise", device=truth.device)

    def distilled(
        self, model: PanoramaModel, batch: Batch, condition: Condition, clock: Clock, noise: Tensor, taught: Tensor
    ) -> Loss:
        """The student's single step from pure noise, towards what the teacher has made of the same noise."""
        output, features = model.velocity(noise, torch.ones(len(noise), device=noise.device), condition)
        terms = {"flow": F.mse_loss(output, taught - noise)}
        return self.total(terms | self.judged(noise + output, taught, batch["panorama"], features, clock))

    def judged(self, x0: Tensor, target: Tensor, truth: Tensor, features: Tensor, clock: Clock) -> dict[str, Tensor]:
        """The terms of pretrained networks and of the discriminator on x̂₀. LPIPS compares with `target`; REPA aligns
        with the truth."""
        terms = {}
        if self.lpips is not None:
            terms["lpips"] = self.lpips(x0, target).mean()
        if self.repa is not None:
            terms["repa"] = self.repa(features, truth).mean()
        if self.discriminator is not None and clock.step >= self.gan.start:
            terms["gan"] = hinge_generator(self.discriminator(x0)).mean()
        return terms

    def total(self, terms: dict[str, Tensor]) -> Loss:
        weights = self.weights
        total = torch.stack([getattr(weights, name) * value for name, value in terms.items()]).sum()
        return Loss(total, {name: value.detach() for name, value in terms.items()})

    def discriminate(self, fake: Tensor, truth: Tensor) -> Loss:
        """The discriminator's phase."""
        assert self.discriminator is not None
        real, made = self.discriminator(truth), self.discriminator(fake)
        loss = hinge_discriminator(real, made).mean()
        return Loss(loss, {"real": real.mean().detach(), "fake": made.mean().detach()})


@contextmanager
def _or_without(term: str) -> Iterator[None]:
    """Add the other way out to a refusal."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{error}; or train without the term (recipe.weights.{term}: 0)") from error
