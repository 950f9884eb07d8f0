"""The marigold recipe: what the engine asks of it, on the model and the objectives beside this file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from salticid.data.source import Batch, Data, Source, first_readable
from salticid.engine.recipe import Clock, Loss, Phase, Recipe
from salticid.errors import ConfigError, require
from salticid.evaluate.colour import coloured
from salticid.evaluate.pictures import tile, to_bytes
from salticid.export.diffusers import Half, MarigoldSettings, export_marigold
from salticid.nets.lora import Lora
from salticid.recipes.marigold.coding import DepthCoding
from salticid.recipes.marigold.estimator import Estimator, Temporal
from salticid.recipes.marigold.fitting import Fitting
from salticid.recipes.marigold.model import MarigoldModel
from salticid.recipes.marigold.objective import DepthObjective, LatentObjective
from salticid.recipes.marigold.predict import predict_depth
from salticid.recipes.marigold.results import Intrinsics, Output
from salticid.recipes.marigold.score import baselines, mean_coded, score
from salticid.recipes.marigold.settings import Noise, OneStep, Protocol, Sampler, Spacing, TargetName

MAP = 64
"""Height and width of the mean depth map that is kept as a baseline."""


class MarigoldRecipe(Recipe):
    """A picture → its depth, by fine-tuning a latent diffusion model (Ke et al. 2024).

    Args:
        base: a Stable Diffusion, or a Marigold, in the format of diffusers: a local folder, a hub id, or `tiny`, which
            ships with the package.
        target: what the UNet predicts.
        zero_terminal_snr: whether the last time holds no signal (Lin et al. 2024); refused with `epsilon`.
        spacing: of the times of sampling: `trailing` starts from the last.
        noise: of training.
        coding: how depth becomes a map in [−1, 1].
        loss: distance in the latent space.
        masked: leave out latent cells with an invalid pixel.
        accumulate: whether micro-batches count in a step by their valid elements, or `equal`ly, as in Marigold.
        padded_prompt: embed the empty prompt as 77 tokens, not as 2.
        one_step: fine-tune end to end for a single step.
        lora: train adapters and the first convolution, and nothing else of the UNet.
        vae_batch: pictures that go through the VAE at a time; 0: all, on a CPU as many as fit into its cache.
        sampler: of evaluation and previews.
        protocol: of evaluation.
    """

    save_frozen = False  # the base has it

    def __init__(
        self,
        base: str = "tiny",
        target: TargetName = "v",
        zero_terminal_snr: bool = True,
        spacing: Spacing = "trailing",
        noise: Noise = Noise(),
        coding: DepthCoding = DepthCoding(),
        loss: Literal["l2", "l1"] = "l2",
        masked: bool = True,
        accumulate: Literal["valid", "equal"] = "valid",
        padded_prompt: bool = False,
        one_step: OneStep | None = None,
        lora: Lora | None = None,
        vae_batch: int = 0,
        sampler: Sampler = Sampler(),
        protocol: Protocol = Protocol(),
    ):
        super().__init__()
        require("recipe.base", base, bool(base), "a folder, a hub id, or tiny")
        require("recipe.vae_batch", vae_batch, vae_batch >= 0, "0 or more")
        knowable = target != "epsilon" or not zero_terminal_snr
        require(
            "recipe.target", target, knowable, "x0 or v with recipe.zero_terminal_snr: all is noise at the last time"
        )
        if one_step:
            require("recipe.sampler.steps", list(sampler.steps), list(sampler.steps) == [1], "[1] of a one-step model")
            require("recipe.spacing", spacing, spacing == "trailing", "trailing of a one-step model: the last time")
            for key, value, usual in (("noise", noise, Noise()), ("loss", loss, "l2"), ("masked", masked, True)):
                require(f"recipe.{key}", value, value == usual, "its default, as one_step has a loss of its own")
        self.model = MarigoldModel(
            base,
            target=target,
            zero_terminal_snr=zero_terminal_snr,
            spacing=spacing,
            start=one_step.start if one_step else "gaussian",
            padded_prompt=padded_prompt,
            lora=lora,
            vae_batch=vae_batch,
        )
        self.objective = (
            DepthObjective(coding) if one_step else LatentObjective(self.model, noise, distance=loss, masked=masked)
        )
        self.target, self.zero_terminal_snr = target, zero_terminal_snr
        self.coding, self.accumulate, self.one_step = coding, accumulate, one_step
        self.sampler, self.protocol = sampler, protocol
        self.training_source: Source | None = None
        self.register_buffer("mean_map", torch.full((1, 1, MAP, MAP), torch.nan))
        """Mean of the coded depth maps of training: what can be known of a picture without looking at it. NaN in a run
        of no steps."""
        self.fitting = Fitting(vae_batch)

    def phases(self) -> tuple[Phase, ...]:
        return (Phase("unet", ("model.unet",)),)

    def check(self, data: Data) -> None:
        sample = first_readable(data.train(), data.val())
        for name in ("image", "depth", "valid", "limits"):
            if name not in sample:
                raise ConfigError(f"data: samples have no {name}; expected pictures with depth")
        self.training_source = data.train()

    def start(self, *, fresh: bool) -> None:
        if self.training_source is not None:
            self._check_size(self.training_source)
        if fresh:
            self.model.load_pretrained()
            if self.training_source is not None:
                self.mean_map.copy_(mean_coded(self.training_source, self.coding, MAP))

    def _check_size(self, source: Source) -> None:
        """Of training pictures alone: those that are judged are padded."""
        size, factor = tuple(first_readable(source)["image"].shape[-2:]), self.model.factor
        if any(side % factor for side in size):
            raise ConfigError(f"data: training pictures of {size[0]}×{size[1]}; expected multiples of {factor}")

    # --- training

    def loss(self, phase: str, batch: Batch, clock: Clock) -> Loss:
        encoded = batch if "image_latent" in batch else batch | self.encode(batch)
        loss, valid = self.objective(self.model, encoded, clock)
        if self.accumulate == "valid":
            loss.weight = valid
        return loss

    @torch.no_grad()
    def encode(self, batch: Batch) -> dict[str, Tensor]:
        """What the frozen VAE makes of a batch; in one-step mode the truth stays depth."""
        image, depth, valid = batch["image"], batch["depth"], batch["valid"]
        if self.one_step:
            return {"image_latent": self.model.encode(image), "depth": depth, "valid": valid}
        maps = torch.cat([image, self.coding(depth, valid).expand(-1, 3, -1, -1)])
        image_latent, depth_latent = self.model.encode(maps).chunk(2)
        cells = self.model.valid_cells(valid)
        return {"image_latent": image_latent, "depth_latent": depth_latent, "valid_latent": cells}

    def encoding(self) -> dict[str, Any]:
        """All that `encode` depends on beside the batch."""
        from salticid.engine.latents import digest

        coding = None if self.one_step else vars(self.coding)
        return {"version": 2, "vae": digest(self.model.vae.network), "scale": self.model.scale, "coding": coding}

    def blocks(self) -> list[torch.nn.Module]:
        return self.model.blocks()

    def checkpoint_activations(self) -> None:
        self.model.checkpoint_activations()

    # --- evaluation

    def variants(self, batch: Batch, seed: int) -> dict[str, Tensor]:
        """Predictions (B, 1, H, W) by name: [0, 1] of the coding's space, or metres."""
        from salticid.recipes.marigold.infer import estimate

        sampler = self.sampler
        times = f"x{sampler.ensemble}" if sampler.ensemble > 1 else ""
        options: dict[str, Any] = {"seed": seed, "ensemble": sampler.ensemble, "processing": sampler.processing}
        made = {}
        for steps in sampler.steps:
            found = self.fitting(
                lambda at_a_time, steps=steps: estimate(
                    self.model, self.coding, batch["image"], batch["key"], steps=steps, batch=at_a_time, **options
                ),
                len(batch["key"]) * sampler.ensemble,
            )
            made[f"{steps}-step{times}"] = found.depth
        return made

    def evaluate(self, batch: Batch, *, seed: int) -> dict[str, Tensor]:
        made = self.variants(batch, seed) | baselines(self.mean_map, batch["image"].shape[-2:], self.coding)
        return score(made, batch, self.coding, self.protocol)

    def preview(self, batch: Batch, *, seed: int) -> Tensor:
        truth = self.coding.decode(self.coding(batch["depth"], batch["valid"]))
        made = [self.coloured(depth) for depth in self.variants(batch, seed).values()]
        columns = [to_bytes(batch["image"]), *made, self.coloured(truth, batch["valid"])]
        return tile(torch.stack([column.cpu() for column in columns], dim=1))

    def coloured(self, depth: Tensor, valid: Tensor | None = None) -> Tensor:
        """Predictions (B, 1, H, W) as uint8 (B, 3, H, W): the same colour for the same value in every picture."""
        coding = self.coding
        ends = depth.new_tensor([coding.near, coding.far] if coding.metric else [0.0, 1.0])
        return coloured(1 - depth if coding.space == "disparity" else depth, ends.expand(len(depth), 2), valid)

    def legend(self) -> str:
        times = f"x{self.sampler.ensemble}" if self.sampler.ensemble > 1 else ""
        made = " · ".join(f"model, {n}-step{times}" for n in self.sampler.steps)
        return f"columns: picture · {made} · truth; near is red, far is blue"

    # --- prediction and export

    def predict(  # type: ignore[override]  # a recipe's own options are flags of `salticid predict`
        self,
        inputs: list[Path],
        output: Path,
        *,
        steps: int | None = None,
        ensemble: int | None = None,
        processing: int | None = None,
        spacing: Spacing | None = None,
        batch: int = 0,
        outputs: Sequence[Output] = ("png16", "npy", "colour"),
        intrinsics: Intrinsics | None = None,
        temporal: Temporal = "none",
        seed: int = 0,
    ) -> list[Path]:
        """The depth of pictures, of the pictures of folders, and of videos.

        Args:
            steps: of DDIM; null: the first number of the recipe's sampler.
            ensemble: predictions of each picture, aligned and reduced to their median; null: the sampler's.
            processing: longest side at which pictures are looked at, as pixels, 0 for their own; null: the sampler's
                `resolution`.
            spacing: of the times of sampling; null: the recipe's.
            batch: predictions at a time; 0: found by trial.
            outputs: files written of each picture, [png16,npy,…].
            intrinsics: fx, fy, cx, cy in pixels of the input, for ply.
            temporal: how the frames of a video are held together.
            seed: of the noise.
        """
        sampler = self.sampler
        estimator = Estimator(
            self.model,
            self.coding,
            steps=sampler.steps[0] if steps is None else steps,
            ensemble=sampler.ensemble if ensemble is None else ensemble,
            processing=sampler.resolution if processing is None else processing,
            spacing=spacing,
            batch=batch,
            seed=seed,
        )
        return predict_depth(estimator, inputs, output, outputs=outputs, intrinsics=intrinsics, temporal=temporal)

    def export(self, output: Path, *, half: Half | None = None, resolution: int | None = None) -> list[Path]:  # type: ignore[override]
        """A folder that diffusers' `MarigoldDepthPipeline` loads.

        Args:
            half: precision of the files (fp16 or bf16), null for float32.
            resolution: longest side at which the pipeline looks at pictures, 0 for their own; null: the sampler's.
        """
        model, space = self.model, self.coding.space
        if space == "log":
            raise ConfigError("recipe.coding.space is log; a MarigoldDepthPipeline has depth or disparity")
        if model.spacing == "lcm":
            raise ConfigError("recipe.spacing is lcm; the DDIM of a MarigoldDepthPipeline has trailing and leading")
        settings = MarigoldSettings(
            target=self.target,
            zero_terminal_snr=self.zero_terminal_snr,
            spacing=model.spacing,
            start=model.start,
            padded_prompt=model.padded,
            quantity="disparity" if space == "disparity" else "depth",
            affine_invariant=not self.coding.metric,
            steps=self.sampler.steps[0],
            resolution=self.sampler.resolution if resolution is None else resolution,
        )
        return export_marigold(model.unet, model.vae.network, model.base, output, settings, half=half)
