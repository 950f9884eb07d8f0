"""The panorama recipe: what the engine asks of it, on the model and the scores beside this file."""

import logging
import math
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from salticid.data.readers.pictures import read_picture
from salticid.data.source import Batch, Data, first_readable
from salticid.diffusion.loss import DiffusionLoss
from salticid.diffusion.noise import keyed_normal
from salticid.diffusion.times import LogitNormal
from salticid.engine.recipe import Clock, Loss, Phase, Recipe
from salticid.errors import ConfigError, UserError
from salticid.evaluate.image import eight_bit
from salticid.evaluate.pictures import check_png_path, fit, save_png, tile, to_bytes
from salticid.geometry.rig import Rig, load_rig
from salticid.geometry.stitch import Stitcher, coverage
from salticid.nets.blocks import ResBlock
from salticid.nets.panorama_unet import Condition
from salticid.recipes.panorama.model import FusionName, PanoramaModel
from salticid.recipes.panorama.rigs import batch_rig, views_for
from salticid.recipes.panorama.score import best_stitch, score, score_baselines, score_seen, summarise
from salticid.recipes.panorama.settings import LossWeights, Sampler, distances, positive, require

log = logging.getLogger(__name__)

LITTLE_COVERAGE = 0.9
"""Share of the sphere below which a rig is remarked on."""


class PanoramaRecipe(Recipe):
    """Fisheye views (four for `concat_conv`, any number for `rays`) → a panorama of height × 2·height.

    Args:
        height: rows of the panorama; a multiple of 8.
        views, view_size: the rig's number of views and their (square) size; the size is a multiple of 8.
        fusion: `concat_conv` stacks the views' latents as the public code does; `rays` looks through the cameras.
        concat_norm: whether `concat_conv` ends in GroupNorm·SiLU, as the public code does.
        fusion_distances: metres at which `rays` looks into the views (.inf allowed).
        stitch_distances: metres of the warp-and-blend stitches that guide the decoder; empty: no guide, the
            decoder sees the latent alone.
        baseline_distances: evaluation reports warp-and-blend at the best of these distances.
        latent, encoder_widths, decoder_widths: channels of the latent and of the networks' levels.
        residual: standard deviation that is left to the flow once the image head has drawn its picture; the
            network's input and output are scaled for it (preconditioning).
        noisy_share: share of training times drawn next to t = 1, where one-step sampling starts and the
            logit-normal distribution hardly ever goes.
        sampler: of evaluation and previews, beside one single step.
        weights: of the loss terms.
    """

    def __init__(
        self,
        height: int = 64,
        views: int = 4,
        view_size: int = 64,
        fusion: FusionName = "rays",
        concat_norm: bool = False,
        fusion_distances: Sequence[float] = (1.0, 2.5, math.inf),
        stitch_distances: Sequence[float] = (),
        baseline_distances: Sequence[float] = (1.5, 2.0, 2.5, 3.0, 4.0, 6.0, math.inf),
        latent: int = 4,
        encoder_widths: Sequence[int] = (32, 64, 96),
        decoder_widths: Sequence[int] = (40, 64, 96),
        residual: float = 0.35,
        noisy_share: float = 0.1,
        sampler: Sampler = Sampler(),
        weights: LossWeights = LossWeights(),
    ):
        super().__init__()
        eight = "a multiple of 8, at least 8"
        require("recipe.height", height, height >= 8 and height % 8 == 0, eight)
        require("recipe.view_size", view_size, view_size >= 8 and view_size % 8 == 0, eight)
        require("recipe.views", views, views >= 1, "at least 1")
        require("recipe.latent", latent, latent >= 1, "at least 1")
        for name, widths in (("encoder_widths", encoder_widths), ("decoder_widths", decoder_widths)):
            three = len(widths) == 3 and all(width >= 1 for width in widths)
            require(f"recipe.{name}", widths, three, "three numbers of channels, one for each halving of the size")
        require("recipe.fusion_distances", fusion_distances, len(fusion_distances) > 0, "at least one distance")
        for name, values in (
            ("fusion_distances", fusion_distances),
            ("stitch_distances", stitch_distances),
            ("baseline_distances", baseline_distances),
        ):
            require(f"recipe.{name}", values, distances(*values), "metres above 0 (.inf allowed)")
        require("recipe.residual", residual, positive(residual), "a number above 0")
        self.model = PanoramaModel(
            height,
            views,
            fusion=fusion,
            concat_norm=concat_norm,
            fusion_distances=fusion_distances,
            stitch_distances=stitch_distances,
            latent=latent,
            encoder_widths=encoder_widths,
            decoder_widths=decoder_widths,
            residual=residual,
        )
        self.height, self.views, self.view_size = height, views, view_size
        self.baseline_distances = tuple(baseline_distances)
        self.sampler, self.weights = sampler, weights
        self.times = LogitNormal(noisy_share=noisy_share)
        self.flow_loss = DiffusionLoss(self.model.path, self.model.target)
        # What prediction from other rigs has to imitate: taken from the data, saved with the weights.
        self.register_buffer("rig_intrinsics", torch.zeros(views, 5))
        self.register_buffer("rig_poses", torch.eye(4).repeat(views, 1, 1))

    def phases(self) -> tuple[Phase, ...]:
        return (Phase("flow", ("model",)),)

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
        seen = coverage(batch_rig(sample["intrinsics"][None], sample["poses"][None], self.view_size)).solid_angle
        if seen < LITTLE_COVERAGE:
            log.warning("the rig sees %.0f %% of the sphere: the rest of the panorama is made up", 100 * seen)

    # --- training

    def loss(self, phase: str, batch: Batch, clock: Clock) -> Loss:
        model, views, truth, keys = self.model, batch["views"], batch["panorama"], batch["key"]
        posterior = model.encoder(views.flatten(0, 1))
        shape = views.shape[1], *posterior.mean.shape[1:]
        jitter = keyed_normal(keys, shape, seed=clock.seed, stream="latent", device=truth.device)
        condition = model.condition(views, self.rig(batch), posterior.sample(jitter.flatten(0, 1)))

        noise = keyed_normal(keys, truth.shape[1:], seed=clock.seed, stream="noise", device=truth.device)
        times = self.times(keys, seed=clock.seed, device=truth.device)
        output = model.denoiser(condition).output(model.path.mix(truth, noise, times), times)

        terms = {
            "flow": self.flow_loss(output, truth, noise, times).loss,
            "image": F.mse_loss(condition.estimate.float(), truth),
            "kl": posterior.kl().mean(),
        }
        total = self.weights.flow * terms["flow"] + self.weights.image * terms["image"] + self.weights.kl * terms["kl"]
        return Loss(total, {name: value.detach() for name, value in terms.items()})

    def rig(self, batch: Batch) -> Rig:
        return batch_rig(batch["intrinsics"], batch["poses"], self.view_size)

    def blocks(self) -> tuple[torch.nn.Module, ...]:
        return self.model.encoder, self.model.fusion, self.model.sketch, self.model.decoder

    def checkpoint_activations(self) -> None:
        for module in self.modules():
            if isinstance(module, ResBlock):
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
        records = score("image-head", eight_bit(condition.estimate), truth)
        for name, panorama in self.generate(condition, batch, seed).items():
            made = eight_bit(panorama)
            records |= score(name, made, truth) | score_seen(name, made, truth, seen)
        return records | score_baselines(views, rig, truth, self.model.sphere, self.baseline_distances)

    def summarise(self, records: dict[str, Tensor]) -> dict[str, float]:
        return summarise(records, self.baseline_distances)

    def preview(self, batch: Batch, *, seed: int) -> Tensor:
        views, rig = batch["views"], self.rig(batch)
        side_by_side = torch.stack([tile_views(v, self.height) for v in views])
        blend, _ = best_stitch(views, rig, batch["panorama"], self.model.sphere, self.baseline_distances)
        made = self.generate(self.model.condition(views, rig), batch, seed)
        columns = [to_bytes(c) for c in (blend, *made.values(), batch["panorama"])]
        return tile(torch.stack([side_by_side.to(columns[0]), *columns], dim=1))

    def legend(self) -> str:
        steps = " · ".join(f"model, {n} step{'s' * (n > 1)}" for n in dict.fromkeys((1, self.sampler.steps)))
        return f"columns: views · warp-and-blend at its best distance · {steps} · truth"

    # --- prediction

    @torch.no_grad()
    def predict(  # type: ignore[override]  # a recipe's own options are flags of `salticid predict`
        self, inputs: list[Path], output: Path, *, rig: Path, steps: int = 1, distance: float = math.inf, seed: int = 0
    ) -> list[Path]:
        """One panorama from one picture per camera of a rig, in the rig's order.

        Args:
            rig: calibration file: the project's own YAML, OpenCV fisheye, or a Kalibr camchain.
            steps: Euler steps.
            distance: metres at which the pictures of another rig than the trained one are stitched.
            seed: of the noise that sampling starts from.
        """
        if not self.rig_intrinsics.any():
            raise UserError("this checkpoint does not know the rig it was trained on; train it with `salticid train`")
        check_png_path(output)
        calibration = load_rig(rig)
        pictures = [read_picture(path).float() / 127.5 - 1 for path in inputs]
        calibration.check_images([(p.shape[1], p.shape[2]) for p in pictures], source=str(rig))
        trained = self.rig_intrinsics.cpu(), self.rig_poses.cpu()
        views = views_for(pictures, calibration, *trained, self.view_size, distance).to(self.rig_poses)[None]

        condition = self.model.condition(
            views, batch_rig(self.rig_intrinsics[None], self.rig_poses[None], self.view_size)
        )
        key = torch.zeros(1, dtype=torch.int64)
        noise = keyed_normal(key, (3, self.height, 2 * self.height), seed=seed, stream="sample", device=views.device)
        panorama = self.model.generate(condition, noise, steps, self.sampler.power)
        save_png(to_bytes(panorama)[0], output)
        return [output]


def tile_views(views: Tensor, height: int) -> Tensor:
    """Views (N, 3, h, w) in two rows, fitted into a uint8 picture (3, height, 2·height)."""
    columns = math.ceil(len(views) / 2)
    padded = F.pad(views, (0, 0, 0, 0, 0, 0, 0, 2 * columns - len(views)), value=1.0)
    return fit(tile(to_bytes(padded).unflatten(0, (2, columns))), height, 2 * height)
