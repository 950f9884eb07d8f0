"""The sv4d recipe: views × frames of an object from a video of it; with a single frame, SV3D's orbit from a picture."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from salticid.data.source import Batch
from salticid.errors import ConfigError, require
from salticid.nets.conditioner import Embedder
from salticid.nets.embedders import ClipImageEmbedder, FourierEmbedder, LatentEmbedder
from salticid.nets.first_stage import FirstStageSettings
from salticid.nets.lora import Lora
from salticid.recipes.video.freeze import Train
from salticid.recipes.video.recipe import VideoRecipe
from salticid.recipes.video.settings import (
    Diffusion,
    Guider,
    Network,
    Sampler,
    Scoring,
)
from salticid.recipes.video.svd import FPS, as_floats


@dataclass(frozen=True)
class Keys:
    """What the batch calls its parts."""

    image: str = "image"
    """What is to be made: (B, 3, T, V, H, W); (B, 3, T, H, W) of one view; (B, 3, H, W) of one frame, too."""
    context: str = "context"
    """The video that is given: (B, T, 3, H, W)."""
    camera: str = "camera"
    """(B, V, 3), or (B, 3) of one view: polar angle and azimuth in radians, distance."""
    reference: str = "reference"
    """The views of the first frame: (B, V, 3, H, W). Only where the network has frame attention."""


class Sv4dRecipe(VideoRecipe):
    """A video of an object → what other cameras saw of it at the same moments (SV4D, Xie et al. 2024).

    Args:
        base: an SVD, SV3D or SV4D in the format of diffusers or of generative-models, or `tiny-video`. Of one that is
            not of this kind the UNet takes what fits, frame attention from its layers along time.
        frames_apart: frame attention of its own, which looks at the views of the first frame: SV4D. False: frames ×
            views are one film of a camera; with a single frame that is SV3D.
        keys: what the batch calls its parts.
        conditioner: the embedders; null: those of SV4D, or SV3D_p.
        first_stage, network, diffusion, train, lora, sampler, scoring: as in `SvdRecipe`.
    """

    def __init__(
        self,
        base: str = "tiny-video",
        frames_apart: bool = True,
        keys: Keys = Keys(),
        conditioner: Sequence[Embedder] | None = None,
        first_stage: FirstStageSettings = FirstStageSettings(),
        network: Network | None = None,
        diffusion: Diffusion = Diffusion(),
        train: Train = "all",
        lora: Lora | None = None,
        sampler: Sampler = Sampler(steps=20, guider=Guider("spatiotemporal", 1.0, 2.0)),
        scoring: Scoring = Scoring(),
    ):
        super().__init__(
            base,
            sv4d_conditioner(frames_apart) if conditioner is None else conditioner,
            first_stage=first_stage,
            network=network,
            diffusion=diffusion,
            train=train,
            lora=lora,
            sampler=sampler,
            scoring=scoring,
        )
        fits = bool(self.model.conditioner.of_kind("reference")) == frames_apart
        require("recipe.frames_apart", frames_apart, fits, "true with an embedder of kind reference, else false")
        self.keys, self.frames_apart = keys, frames_apart
        self.register_buffer("usual", torch.zeros(7))
        """Frames, views, height, width, fps, mean elevation (rad) and the last view's azimuth (rad) of a sample of the
        data: what prediction makes where nothing else is said."""

    def check_sample(self, sample: Mapping[str, Any]) -> None:
        image = sample.get(self.keys.image)
        shape = tuple(image.shape) if isinstance(image, Tensor) else None
        if shape is None or len(shape) not in (3, 4, 5) or shape[0] != 3:
            raise ConfigError(f"data: samples have {self.keys.image} of shape {shape}; expected (3, T, V, H, W)")
        t, v = (1, 1, *shape[1:-2])[-2:] if len(shape) != 4 else (shape[1], 1)
        size = shape[-2:]
        expected = {self.keys.context: (t, 3, *size), self.keys.camera: (v, 3) if len(shape) == 5 else (3,)}
        if self.frames_apart:
            expected[self.keys.reference] = (v, 3, *size)
        for name, wanted in expected.items():
            found = tuple(sample[name].shape) if name in sample else None
            if found != wanted:
                raise ConfigError(f"data: samples have {name} of shape {found}; expected {wanted}")
        self.check_size(*size)
        camera = sample[self.keys.camera].view(-1, 3)
        elevation, azimuth = math.pi / 2 - float(camera[:, 0].mean()), float(camera[-1, 1])
        self.usual.copy_(torch.tensor([t, v, *size, float(sample.get("fps", FPS)), elevation, azimuth]))

    def _image(self, batch: Batch) -> Tensor:
        """(B, 3, T, V, H, W)"""
        image = batch[self.keys.image]
        if image.ndim == 4:
            image = image[:, :, None]
        return image[:, :, :, None] if image.ndim == 5 else image

    def grid(self, batch: Batch) -> tuple[int, ...]:
        if "latent" in batch:
            views = batch["angles"].shape[1]
            return batch["latent"].shape[1] // views, views
        return tuple(self._image(batch).shape[2:4])

    def pictures(self, batch: Batch) -> Tensor:
        return as_floats(self._image(batch).permute(0, 2, 3, 1, 4, 5).flatten(1, 2))

    def given(self, batch: Batch) -> dict[str, Tensor]:
        camera = batch[self.keys.camera].float()
        found = {"video": batch[self.keys.context], "angles": camera if camera.ndim == 3 else camera[:, None]}
        if self.frames_apart:
            found["views"] = batch[self.keys.reference]
        return found

    def values(self, encoded: Batch) -> dict[str, Any]:
        video = as_floats(encoded["video"])[:, :, None]
        polar, azimuth = encoded["angles"][..., 0], encoded["angles"][..., 1]
        found = {
            "cond_frames_without_noise": video,
            "polar_rad": polar[:, None],
            "azimuth_rad": azimuth[:, None],
        }
        return found | ({"cond_view": as_floats(encoded["views"])[:, None]} if self.frames_apart else {})

    def encoding(self) -> dict[str, Any]:
        return super().encoding() | {"keys": asdict(self.keys), "frames_apart": self.frames_apart}

    def conditioning(self, encoded: Batch) -> Tensor:
        return as_floats(encoded["video"])[:, :, None]

    def baselines(self, batch: Batch) -> dict[str, Tensor]:
        """The given video from everywhere."""
        views = self.grid(batch)[1]
        return {"context": as_floats(batch[self.keys.context]).repeat_interleave(views, dim=1)}

    def legend(self) -> str:
        return f"rows: frames of the truth · of the model, {self.sampler.steps} steps; columns: views"

    # --- prediction

    @torch.no_grad()
    def predict(  # type: ignore[override]  # a recipe's own options are flags of `salticid predict`
        self,
        inputs: list[Path],
        output: Path,
        *,
        reference: Path | None = None,
        frames: int | None = None,
        views: int | None = None,
        size: tuple[int, int] | None = None,
        elevation: float | None = None,
        azimuths: Sequence[float] | None = None,
        noise: float | None = None,
        steps: int | None = None,
        seed: int = 0,
    ) -> list[Path]:
        """What other cameras see of the object of a picture (SV3D), or of a video: a film, and pictures of its views.

        Args:
            reference: folder with pictures of the views of the first frame, in the order of their names: what a
                prediction of a model of orbits (`frames_apart` false) writes. Needed where a video is given.
            frames: of a video that are used; null: all.
            views: how many, evenly around the object; null: as in training, or as there are in the reference.
            size: height and width, which pictures are cut to; null: those of training.
            elevation: of the cameras, degrees above the horizontal; null: as in training.
            azimuths: of the views from the given one, degrees counterclockwise as seen from above; null: evenly.
            noise: standard deviation of the noise on the given pictures; null: the recipe's.
            steps: of sampling; null: the recipe's.
            seed: of the noise.
        """
        from salticid.recipes.video.films import check_numbers
        from salticid.recipes.video.orbits import Orbits

        check_numbers(noise, frames=frames, views=views, steps=steps)
        orbits = Orbits(self, reference, views, size, elevation, azimuths)
        return orbits.save(inputs, output, frames=frames, noise=noise, steps=steps, seed=seed)


def sv4d_conditioner(frames_apart: bool, width: int = 256) -> list[Embedder]:
    """SV4D's, or with `frames_apart` false SV3D_p's, in the order of their vector; `width`: of the noise level's
    sinusoids; angles have twice as many."""
    embedders: list[Embedder] = [
        ClipImageEmbedder("cond_frames_without_noise"),
        LatentEmbedder("cond_frames"),
        FourierEmbedder("cond_aug", width),
        FourierEmbedder("polar_rad", 2 * width),
        FourierEmbedder("azimuth_rad", 2 * width),
    ]
    return embedders + ([LatentEmbedder("cond_view", kind="reference")] if frames_apart else [])
