"""The panorama recipe: what the engine asks of it, on the model and the scores beside this file."""

import copy
import logging
import math
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from salticid.data.source import Batch, Data, first_readable
from salticid.diffusion.noise import keyed_normal
from salticid.engine.recipe import Clock, Loss, Phase, Recipe
from salticid.errors import ConfigError, require
from salticid.evaluate.image import eight_bit
from salticid.evaluate.pictures import fit, tile, to_bytes
from salticid.geometry.rig import Rig
from salticid.geometry.stitch import Stitcher
from salticid.losses.frozen import Frozen
from salticid.nets.blocks import Recomputable
from salticid.nets.kl_encoder import DiagonalGaussian
from salticid.recipes.panorama.initial import begin
from salticid.recipes.panorama.metrics import Metrics
from salticid.recipes.panorama.model import Condition, PanoramaModel
from salticid.recipes.panorama.objective import Objective
from salticid.recipes.panorama.predict import predict_panorama
from salticid.recipes.panorama.rigs import batch_rig
from salticid.recipes.panorama.score import Panorama, baselines, best_stitch, score_all, summarise
from salticid.recipes.panorama.settings import (
    DecoderName,
    Distillation,
    EncoderName,
    FusionName,
    Gan,
    Initial,
    Judges,
    LossWeights,
    Sampler,
    check_sizes,
    distances,
    positive,
)

log = logging.getLogger(__name__)


class PanoramaRecipe(Recipe):
    """Fisheye views (four for `concat_conv`, any number for the other fusions) → a panorama of height × 2·height.

    Args:
        height: rows of the panorama; a multiple of 8, and of what the encoder shrinks by.
        views, view_size: the rig's number of views and their (square) size; the size is such a multiple too.
        encoder: `small`, of `encoder_widths`, or SSDD's f8c4, f16c4, f32c4.
        decoder: `small`, of `decoder_widths`, or SSDD's U-ViT S, B, M, L, XL, H.
        fusion: `concat_conv` stacks the views' latents as the public code does; `average` takes their mean;
            `attention` and `rays` look through the cameras.
        concat_norm: whether `concat_conv` ends in GroupNorm·SiLU, as the public code does.
        fusion_distances: metres at which `rays` looks into the views (.inf allowed).
        stitch_distances: metres of the warp-and-blend stitches that guide the decoder; empty: no guide, the
            decoder sees the latent alone.
        baseline_distances: evaluation reports warp-and-blend at the best of these distances.
        image_head: draw the panorama from the latent first; the flow then models what is left around that picture.
        latent, encoder_widths, decoder_widths: channels of the latent and of the small networks' levels.
        residual: standard deviation that is left to the flow once the image head has drawn its picture; the
            network's input and output are scaled for it (preconditioning).
        noisy_share: share of training times drawn next to t = 1, where one-step sampling starts and the
            logit-normal distribution hardly ever goes.
        wrap: left and right of the panorama are neighbours, in convolutions and in attention; False as in the
            public code.
        freeze_encoder: train all but the encoder, which `initial` must bring.
        sampler: of evaluation and previews, beside one single step.
        weights, gan, judges: of the loss terms, the discriminator, and the networks that judge.
        initial: weights to begin with.
        distill: teach one step what the initial weights do in many; encoder, fusion and image head stay as they are.
    """

    def __init__(
        self,
        height: int = 64,
        views: int = 4,
        view_size: int = 64,
        encoder: EncoderName = "small",
        decoder: DecoderName = "small",
        fusion: FusionName = "rays",
        concat_norm: bool = False,
        fusion_distances: Sequence[float] = (1.0, 2.5, math.inf),
        stitch_distances: Sequence[float] = (),
        baseline_distances: Sequence[float] = (1.5, 2.0, 2.5, 3.0, 4.0, 6.0, math.inf),
        image_head: bool = True,
        latent: int = 4,
        encoder_widths: Sequence[int] = (32, 64, 96),
        decoder_widths: Sequence[int] = (40, 64, 96),
        residual: float = 0.35,
        noisy_share: float = 0.1,
        wrap: bool = True,
        freeze_encoder: bool = False,
        sampler: Sampler = Sampler(),
        weights: LossWeights = LossWeights(),
        gan: Gan = Gan(),
        judges: Judges = Judges(),
        initial: Initial | None = None,
        distill: Distillation | None = None,
    ):
        super().__init__()
        check_sizes(height, view_size, views, latent, encoder, encoder_widths, decoder_widths)
        require("recipe.fusion_distances", fusion_distances, len(fusion_distances) > 0, "at least one distance")
        for name, values in (
            ("fusion_distances", fusion_distances),
            ("stitch_distances", stitch_distances),
            ("baseline_distances", baseline_distances),
        ):
            require(f"recipe.{name}", values, distances(*values), "metres above 0 (.inf allowed)")
        require("recipe.residual", residual, positive(residual), "a number above 0")
        if initial is None:
            began = "recipe.initial.path: a run or a checkpoint to take it from"
            require("recipe.freeze_encoder", freeze_encoder, not freeze_encoder, f"false, or {began}")
            require("recipe.distill", distill, distill is None, f"null, or {began}")
        require("recipe.weights.gan", weights.gan, not (distill and weights.gan), "0 in a distillation")
        self.model = PanoramaModel(
            height,
            views,
            encoder=encoder,
            decoder=decoder,
            fusion=fusion,
            concat_norm=concat_norm,
            fusion_distances=fusion_distances,
            stitch_distances=stitch_distances,
            image_head=image_head,
            latent=latent,
            encoder_widths=encoder_widths,
            decoder_widths=decoder_widths,
            residual=residual,
            wrap=wrap,
        )
        self.height, self.views, self.view_size = height, views, view_size
        self.baseline_distances = tuple(baseline_distances)
        self.sampler, self.initial, self.distill = sampler, initial, distill
        self.objective = Objective(self.model, weights, gan, judges, noisy_share, wrap)
        self.metrics = Metrics(judges)
        self.teacher: Frozen | None = None
        self.frozen_encoder = freeze_encoder or distill is not None
        if self.frozen_encoder:
            self.model.encoder.requires_grad_(False)
        if distill:
            self.model.requires_grad_(False).decoder.requires_grad_(True)
        # What prediction from other rigs has to imitate: taken from the data, saved with the weights.
        self.register_buffer("rig_intrinsics", torch.zeros(views, 5))
        self.register_buffer("rig_poses", torch.eye(4).repeat(views, 1, 1))

    def phases(self) -> tuple[Phase, ...]:
        model = Phase("flow", ("model", "objective.repa") if self.objective.repa else ("model",))
        if self.objective.discriminator is None:
            return (model,)
        gan = self.objective.gan
        judge = Phase("discriminator", ("objective.discriminator",), lr_scale=gan.lr_scale, start=gan.start)
        return model, judge

    def check(self, data: Data) -> None:
        sample = first_readable(data.train(), data.val())
        expected = {
            "views": (self.views, 3, self.view_size, self.view_size),
            "panorama": (3, self.height, 2 * self.height),
            "intrinsics": (self.views, 5),
            "poses": (self.views, 4, 4),
        }
        for name, shape in expected.items():
            got = tuple(sample[name].shape) if name in sample else None
            if got != shape:
                raise ConfigError(f"data: samples have {name} of shape {got}, the recipe expects {shape}")
        self.rig_intrinsics.copy_(sample["intrinsics"])
        self.rig_poses.copy_(sample["poses"])

    def start(self, *, fresh: bool) -> None:
        self.objective.start()
        self.metrics.start()
        if self.initial is None or not (fresh or self.distill):
            return
        needed = {"encoder", "fusion", "decoder"} if self.distill else {"encoder"} if self.frozen_encoder else set()
        begun = copy.deepcopy(self.model)
        begin(begun, self.initial, needed)
        if fresh:
            self.model.load_state_dict(begun.state_dict())
        if self.distill:
            begun.encoder = begun.fusion = torch.nn.Identity()  # it is told what the student is told
            self.teacher = Frozen(begun)

    # --- training

    def loss(self, phase: str, batch: Batch, clock: Clock) -> Loss:
        if phase == "discriminator":
            with torch.no_grad():
                condition, _ = self.look(batch, clock)
                scored, _ = self.objective.predict(self.model, batch, condition, clock)
            return self.objective.discriminate(scored.x0, batch["panorama"])
        condition, posterior = self.look(batch, clock)
        if self.distill is None:
            return self.objective.flow(self.model, batch, condition, clock, posterior)
        if self.teacher is None:
            raise ConfigError("a distillation has no teacher before the recipe is started")
        noise = self.objective.noise(batch, clock)
        with torch.no_grad():
            taught = self.teacher.network.generate(condition, noise, self.distill.steps, self.distill.power)
        return self.objective.distilled(self.model, batch, condition, clock, noise, taught)

    def look(self, batch: Batch, clock: Clock) -> tuple[Condition, DiagonalGaussian | None]:
        """What the decoder is to know of a training batch, from sampled latents; and their posterior, if trained."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen_encoder):
            posterior = self.model.encode(batch["views"])
        shape = batch["views"].shape[1], *posterior.mean.shape[1:]
        jitter = keyed_normal(batch["key"], shape, seed=clock.seed, stream="latent", device=batch["views"].device)
        latents = posterior.sample(jitter.flatten(0, 1))
        condition = self.model.condition(batch["views"], self.rig(batch), latents)
        return condition, None if self.frozen_encoder else posterior

    def rig(self, batch: Batch) -> Rig:
        return batch_rig(batch["intrinsics"], batch["poses"], self.view_size)

    def blocks(self) -> tuple[torch.nn.Module, ...]:
        model, objective = self.model, self.objective
        parts = model.encoder, model.fusion, model.sketch, model.decoder, objective.discriminator
        return tuple(part for part in parts if part is not None)

    def checkpoint_activations(self) -> None:
        for module in self.modules():
            if isinstance(module, Recomputable):
                module.recompute = True

    # --- evaluation

    def generate(self, condition: Condition, batch: Batch, seed: int) -> dict[str, Tensor]:
        """Panoramas of one and of the sampler's number of steps; noise is a function of (seed, sample) alone."""
        shape = 3, self.height, 2 * self.height
        noise = keyed_normal(batch["key"], shape, seed=seed, stream="sample", device=batch["views"].device)
        steps = dict.fromkeys((1, self.sampler.steps))
        return {f"{n}-step": self.model.generate(condition, noise, n, self.sampler.power) for n in steps}

    def evaluate(self, batch: Batch, *, seed: int) -> dict[str, Tensor]:
        views, rig, truth = batch["views"], self.rig(batch), eight_bit(batch["panorama"])
        condition = self.model.condition(views, rig)
        seen = Stitcher(rig, self.model.sphere, device=views.device).coverage
        generated = self.generate(condition, batch, seed)
        made: dict[str, Panorama] = {name: (eight_bit(panorama), seen) for name, panorama in generated.items()}
        if condition.estimate is not None:
            made["image-head"] = eight_bit(condition.estimate), None
        made |= baselines(views, rig, truth, self.model.sphere, self.baseline_distances)
        pictures = {name: picture for name, (picture, _) in made.items()}
        return score_all(made, truth) | self.metrics(pictures, truth)

    def summarise(self, records: dict[str, Tensor]) -> dict[str, float]:
        features = {name: values for name, values in records.items() if values.ndim == 2}
        plain = {name: values for name, values in records.items() if name not in features}
        return summarise(plain, self.baseline_distances, self.metrics.distances(features))

    def preview(self, batch: Batch, *, seed: int) -> Tensor:
        side_by_side = torch.stack([tile_views(v, self.height) for v in batch["views"]])
        columns = list(self.spheres(batch, seed=seed).values())
        return tile(torch.stack([side_by_side.to(columns[0]), *columns], dim=1))

    def spheres(self, batch: Batch, *, seed: int) -> dict[str, Tensor]:
        views, rig = batch["views"], self.rig(batch)
        blend, _ = best_stitch(views, rig, batch["panorama"], self.model.sphere, self.baseline_distances)
        made = self.generate(self.model.condition(views, rig), batch, seed)
        pictures = {"warp-and-blend": blend, **made, "truth": batch["panorama"]}
        return {name: to_bytes(picture) for name, picture in pictures.items()}

    def legend(self) -> str:
        steps = " · ".join(f"model, {n} step{'s' * (n > 1)}" for n in dict.fromkeys((1, self.sampler.steps)))
        return f"columns: views · warp-and-blend at its best distance · {steps} · truth"

    # --- prediction

    @torch.no_grad()
    def predict(  # type: ignore[override]  # a recipe's own options are flags of `salticid predict`
        self,
        inputs: list[Path],
        output: Path,
        *,
        rig: Path,
        steps: int = 1,
        distance: float = math.inf,
        coverage: Path | None = None,
        seed: int = 0,
    ) -> list[Path]:
        """One panorama from one picture per camera of a rig, in the rig's order.

        Args:
            rig: calibration file: the project's own YAML, OpenCV fisheye, or a Kalibr camchain.
            steps: Euler steps.
            distance: metres at which the pictures of another rig than the trained one are stitched.
            coverage: where to write a second picture, in which what no view shows, and is made up, is marked.
            seed: of the noise that sampling starts from.
        """
        options = {"steps": steps, "distance": distance, "seed": seed, "coverage_file": coverage}
        return predict_panorama(self, inputs, output, rig, **options)


def tile_views(views: Tensor, height: int) -> Tensor:
    """Views (N, 3, h, w) in two rows, fitted into a uint8 picture (3, height, 2·height)."""
    columns = math.ceil(len(views) / 2)
    padded = F.pad(views, (0, 0, 0, 0, 0, 0, 0, 2 * columns - len(views)), value=1.0)
    return fit(tile(to_bytes(padded).unflatten(0, (2, columns))), height, 2 * height)
