"""What the video recipes share: everything but which pictures are made, and what is given."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from salticid.data.source import Batch, Data, collate, first_readable
from salticid.diffusion.noise import keyed_normal
from salticid.engine.recipe import Clock, Loss, Phase, Recipe
from salticid.errors import ConfigError, require
from salticid.evaluate.pictures import tile
from salticid.nets.conditioner import Conditions, Embedded, Embedder
from salticid.nets.first_stage import FirstStageSettings
from salticid.nets.lora import Lora
from salticid.recipes.video.freeze import Train, freeze, freeze_idle
from salticid.recipes.video.model import VideoModel
from salticid.recipes.video.objective import VideoObjective
from salticid.recipes.video.score import Score, sheet
from salticid.recipes.video.settings import Diffusion, Network, Sampler, Scoring

DRAWN = ("cond_frames", "cond_aug")
"""What embedders read that is drawn: the conditioning frame with noise, and how much of it."""


class VideoRecipe(Recipe):
    """Clips of P places by diffusion in the style of generative-models. Settings are explained by the subclasses."""

    first_given: ClassVar[int] = 0
    """How many frames of what is made are given, and so are not judged."""

    def __init__(
        self,
        base: str,
        conditioner: Sequence[Embedder],
        *,
        first_stage: FirstStageSettings,
        network: Network | None,
        diffusion: Diffusion,
        train: Train,
        lora: Lora | None,
        sampler: Sampler,
        scoring: Scoring,
    ):
        super().__init__()
        require("recipe.base", base, bool(base), "a folder, a file, a hub id, or tiny-video")
        require("recipe.lora", lora, lora is None or train == "all", "null, or recipe.train all")
        scaling = diffusion.preconditioning.scaling()
        self.model = VideoModel(base, conditioner, first_stage=first_stage, network=network, scaling=scaling, lora=lora)
        self.save_frozen = lora is None or not self.model.pretrained  # what adapters stand beside, the base has
        self.objective = VideoObjective(diffusion)
        self.diffusion = diffusion
        self.sampler, self.scoring, self.score = sampler, scoring, Score(scoring, self.first_given)
        self._check_unconditional()
        self.part = "recipe.lora" if lora else "recipe.train" if train != "all" else None
        """What says that only a part of the UNet learns."""
        if lora is None:
            freeze(self.model.unet, train)
        if self.model.conditioner.tokens <= 1:
            freeze_idle(self.model.unet)

    def _check_unconditional(self) -> None:
        named = self.sampler.guider.unconditional
        keys = {embedder.input_key for embedder in self.model.conditioner.all}
        met = named is None or keys.issuperset(named)
        require("recipe.sampler.guider.unconditional", named, met, f"some of {', '.join(sorted(keys))}")

    # --- what a recipe adds

    @abstractmethod
    def grid(self, batch: Batch) -> tuple[int, ...]:
        """(T,) or (T, V) of a batch, encoded or not."""

    @abstractmethod
    def pictures(self, batch: Batch) -> Tensor:
        """What is to be made: (B, places, 3, H, W) in [−1, 1]."""

    @abstractmethod
    def given(self, batch: Batch) -> dict[str, Tensor]:
        """Pictures and numbers of a batch that conditions are made of, as they are kept beside latents."""

    @abstractmethod
    def values(self, encoded: Batch) -> dict[str, Any]:
        """What embedders read that is not drawn, (B, *grid or ones, …) by input key, from what `given` gave."""

    @abstractmethod
    def conditioning(self, encoded: Batch) -> Tensor:
        """The pictures that noise is added to, (B, *grid or ones, 3, H, W) in [−1, 1]."""

    # --- the engine's

    def phases(self) -> tuple[Phase, ...]:
        return (Phase("unet", ("model.unet", "model.conditioner")),)

    def start(self, *, fresh: bool) -> None:
        if self.part and not self.model.pretrained:
            raise ConfigError(
                f"{self.part}: only a part of the UNet would learn, but all of it begins from nothing; expected a base "
                "with weights and recipe.network null, or recipe.train all without adapters"
            )
        if fresh:
            self.model.load_pretrained()

    def loss(self, phase: str, batch: Batch, clock: Clock) -> Loss:
        encoded = batch if "latent" in batch else batch | self.encode(batch)
        conditions = self.training_conditions(encoded, clock)
        scored = self.objective(self.model, encoded["latent"], conditions, encoded["key"], clock.seed)
        return Loss(scored.loss)

    @torch.no_grad()
    def encode(self, batch: Batch) -> dict[str, Tensor]:
        """What frozen networks make of a batch: latents, and embeddings of what is not drawn. The conditioning frame
        stays a picture, for it is noised anew every time."""
        given = self.given(batch)
        values, dims = self.values(batch | given), len(self.grid(batch)) + 1
        costly = {
            f"embedded.{embedder.name}": self.model.conditioner.embed_one(embedder, values, dims)
            for embedder in self.kept()
            if embedder.input_key in values
        }
        return {"latent": self.model.encode(self.pictures(batch)), **given, **costly}

    def kept(self) -> list[Embedder]:
        """Embedders whose embeddings are worth keeping."""
        return [e for e in self.model.conditioner.all if e.costly and not e.trainable]

    def encoding(self) -> dict[str, Any]:
        """All that `encode` depends on beside the batch."""
        from salticid.engine.latents import digest

        stage = self.model.first_stage
        networks = {e.name: [digest(network) for network in e.frozen_networks()] for e in self.kept()}
        return {
            "version": 1,
            "first_stage": {"networks": [digest(n) for n in stage.networks()], "scale": stage.scale},
            "precision": stage.settings.precision,
            "embedders": networks,
        }

    def check(self, data: Data) -> None:
        sample = first_readable(data.train(), data.val())
        self.check_sample(sample)
        batch = collate([sample])
        self.model.conditioner.check({*self.values(batch | self.given(batch)), *DRAWN})

    @abstractmethod
    def check_sample(self, sample: Mapping[str, Any]) -> None:
        """Raise ConfigError where samples do not fit."""

    def check_size(self, height: int, width: int) -> None:
        """Raise ConfigError unless the first stage divides pictures evenly."""
        factor = self.model.first_stage.factor
        if height % factor or width % factor:
            raise ConfigError(f"data: pictures of {height}×{width}; expected multiples of {factor}")

    def blocks(self) -> list[torch.nn.Module]:
        return self.model.blocks()

    def checkpoint_activations(self) -> None:
        self.model.checkpoint_activations()

    # --- conditions

    def training_conditions(self, encoded: Batch, clock: Clock) -> Conditions:
        """With noise on the conditioning frame, and embeddings left out, as (seed, key) has it."""
        keys, pictures = encoded["key"], self.conditioning(encoded)
        level = self.diffusion.frame_noise.sampler()(keys, seed=clock.seed, stream="cond_aug", device=pictures.device)
        embedded = self.embed(encoded, self.noised(pictures, keys, level, clock.seed), clock.step)
        embedded = self.model.conditioner.drop(embedded, keys, clock.seed)
        return self.model.conditioner.assemble(embedded, self.grid(encoded), encoded.get("image_only"))

    def sampling_embeddings(self, encoded: Batch, seed: int, level: float | None = None) -> tuple[Embedded, Embedded]:
        """Those of evaluation and prediction, and their unconditional variant.

        Args:
            level: standard deviation of the noise on the conditioning frame; None: the recipe's.
        """
        keys, pictures = encoded["key"], self.conditioning(encoded)
        noise = torch.full(
            (len(keys),), self.diffusion.frame_noise.sampling if level is None else level, device=pictures.device
        )
        embedded = self.embed(encoded, self.noised(pictures, keys, noise, seed), step=-1)
        return embedded, self.model.conditioner.without(embedded, self.sampler.guider.unconditional)

    def sampling_conditions(self, encoded: Batch, seed: int, level: float | None = None) -> list[Conditions]:
        """As `sampling_embeddings`, assembled."""
        embeddings = self.sampling_embeddings(encoded, seed, level)
        grid, alone = self.grid(encoded), encoded.get("image_only")
        return [self.model.conditioner.assemble(embedded, grid, alone) for embedded in embeddings]

    def noised(self, pictures: Tensor, keys: Tensor, level: Tensor, seed: int) -> dict[str, Tensor]:
        """The conditioning frame with noise in pixel space, and what the UNet is told of it."""
        noise = keyed_normal(keys, tuple(pictures.shape[1:]), seed=seed, stream="cond_noise", device=pictures.device)
        scale = level.view(-1, *[1] * (pictures.ndim - 1))
        return {"cond_frames": pictures + scale * noise, "cond_aug": level.view(-1, *[1] * (pictures.ndim - 4))}

    def embed(self, encoded: Batch, drawn: Mapping[str, Tensor], step: int) -> Embedded:
        """The embeddings of a batch, those that were kept among them."""
        dims = len(self.grid(encoded)) + 1
        known = {name.removeprefix("embedded."): v for name, v in encoded.items() if name.startswith("embedded.")}
        return self.model.conditioner.embed({**self.values(encoded), **drawn}, dims, step, known)

    # --- evaluation

    def baselines(self, batch: Batch) -> dict[str, Tensor]:
        """Pictures (B, places, 3, H, W) that need no model, by name."""
        return {}

    def evaluate(self, batch: Batch, *, seed: int) -> dict[str, Tensor]:
        encoded = batch | self.encode(batch)
        conditions, _ = self.sampling_conditions(encoded, seed)
        levels = self.diffusion.levels.midpoints(self.scoring.levels)
        keys = encoded["key"]
        records = self.objective.held_out(self.model, encoded["latent"], conditions, keys, seed, levels)
        if not self.scoring.sample:
            return records
        grid = self.grid(batch)
        made = {f"{self.sampler.steps}-step": self.sampled(encoded, seed)} | self.baselines(batch)
        if self.model.first_stage.networks():  # what no sampling can be better than
            made["first-stage"] = self.model.decode(encoded["latent"], views_of(grid))
        return records | self.score(made, self.pictures(batch), grid, batch)

    def summarise(self, records: dict[str, Tensor]) -> dict[str, float]:
        features = {name: values for name, values in records.items() if values.ndim == 2}
        plain = {name: float(values.nanmean()) for name, values in records.items() if name not in features}
        return plain | self.score.distances(features)

    def preview(self, batch: Batch, *, seed: int) -> Tensor:
        made = self.sampled(batch | self.encode(batch), seed)
        return tile(sheet([self.pictures(batch), made], self.grid(batch)))

    # --- sampling

    def sampled(self, encoded: Batch, seed: int, steps: int | None = None, level: float | None = None) -> Tensor:
        """Pictures (B, places, 3, H, W), not clipped; noise is a function of (seed, key).

        Args:
            encoded: with a `latent` of the shape that is to be made.
            level: of noise, as in `sampling_conditions`.
        """
        model, grid = self.model, self.grid(encoded)
        views = views_of(grid)
        conditions, free = self.sampling_conditions(encoded, seed, level)
        scale = self.sampler.guider.scale(grid[0], views)
        shape = tuple(encoded["latent"].shape[1:])
        noise = keyed_normal(encoded["key"], shape, seed=seed, stream="sample", device=encoded["latent"].device)
        latents = model.sample(model.guided(conditions, free, scale), noise, self.sampler, steps)
        return model.decode(latents, views)


def views_of(grid: tuple[int, ...]) -> int:
    """How many views a grid (T,) or (T, V) has."""
    return grid[1] if len(grid) > 1 else 1
