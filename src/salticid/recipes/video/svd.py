"""The svd recipe: a clip from its first frame, or from a caption or a class."""

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from salticid.data.source import Batch
from salticid.diffusion.noise import stable_key
from salticid.errors import ConfigError, UserError, require
from salticid.export.parts import Half
from salticid.export.stable_video import SvdSettings, export_svd
from salticid.nets.conditioner import Embedder
from salticid.nets.embedders import ClassEmbedder, ClipImageEmbedder, FourierEmbedder, LatentEmbedder
from salticid.nets.first_stage import FirstStageSettings
from salticid.nets.lora import Lora, merge_lora
from salticid.nets.stable_video import unet_config
from salticid.recipes.video.films import check_numbers, covered, read_frames, save_films
from salticid.recipes.video.freeze import Train
from salticid.recipes.video.recipe import VideoRecipe
from salticid.recipes.video.settings import (
    Diffusion,
    Network,
    Sampler,
    Scoring,
)

FPS, MOTION = 7.0, 127.0
"""Where samples do not tell: what diffusers' pipeline takes."""


class SvdRecipe(VideoRecipe):
    """A picture → the clip that begins with it (Stable Video Diffusion, Blattmann et al. 2023).

    Args:
        base: an SVD in the format of diffusers or of generative-models: a folder, a file, a hub id, or `tiny-video`,
            which ships with the package.
        input_key: of the batch: clips (B, 3, T, H, W), or pictures (B, 3, H, W), which are clips of one frame that has
            no neighbours. Of bytes, or floats in [−1, 1].
        conditioner: the embedders; null: SVD's five (CLIP and latent of the first frame, fps, motion bucket, noise of
            the latent). Without the pictures' but with a text or class embedder it is a base of SVD.
        first_stage: between pictures and latents.
        network: sizes of a UNet that begins from nothing; null: the base's UNet.
        diffusion: what the UNet is trained for.
        train: which layers learn: `all`, those along time, or those within frames.
        lora: train low-rank adapters beside the UNet, and nothing else of it.
        sampler: of evaluation, previews and, by default, predictions.
        scoring: what evaluation measures.
    """

    first_given: ClassVar[int] = 1

    def __init__(
        self,
        base: str = "tiny-video",
        input_key: str = "video",
        conditioner: Sequence[Embedder] | None = None,
        first_stage: FirstStageSettings = FirstStageSettings(),
        network: Network | None = None,
        diffusion: Diffusion = Diffusion(),
        train: Train = "all",
        lora: Lora | None = None,
        sampler: Sampler = Sampler(),
        scoring: Scoring = Scoring(),
    ):
        super().__init__(
            base,
            svd_conditioner(unet_config(base).vector // 3) if conditioner is None else conditioner,
            first_stage=first_stage,
            network=network,
            diffusion=diffusion,
            train=train,
            lora=lora,
            sampler=sampler,
            scoring=scoring,
        )
        guider = sampler.guider.kind
        require("recipe.sampler.guider.kind", guider, guider != "spatiotemporal", "one of a film, without views")
        self.input_key = input_key
        self.register_buffer("usual", torch.tensor([0.0, 0.0, 0.0, FPS, MOTION]))
        """Frames, height, width, fps and motion bucket of a sample of the data: what prediction makes where nothing
        else is said. No size in a run without data."""

    def check_sample(self, sample: Mapping[str, Any]) -> None:
        video = sample.get(self.input_key)
        shape = tuple(video.shape) if isinstance(video, Tensor) else None
        if shape is None or len(shape) not in (3, 4) or shape[0] != 3:
            raise ConfigError(f"data: samples have {self.input_key} of shape {shape}; expected (3, T, H, W)")
        self.check_size(shape[-2], shape[-1])
        frames = shape[1] if len(shape) == 4 else 1
        numbers = [float(sample.get(name, usual)) for name, usual in (("fps", FPS), ("motion_bucket", MOTION))]
        self.usual.copy_(torch.tensor([frames, *shape[-2:], *numbers]))

    def grid(self, batch: Batch) -> tuple[int, ...]:
        if "latent" in batch:
            return (batch["latent"].shape[1],)
        video = batch[self.input_key]
        return (video.shape[2] if video.ndim == 5 else 1,)

    def pictures(self, batch: Batch) -> Tensor:
        return as_floats(self._clips(batch).transpose(1, 2))

    def _clips(self, batch: Batch) -> Tensor:
        """(B, 3, T, H, W)"""
        video = batch[self.input_key]
        return video if video.ndim == 5 else video[:, :, None]

    def given(self, batch: Batch) -> dict[str, Tensor]:
        clips = self._clips(batch)
        b, t = len(clips), clips.shape[2]
        still = torch.full((b, t), batch[self.input_key].ndim == 4, device=clips.device)
        numbers = {"fps": FPS, "motion_bucket": MOTION}
        known = {
            n: batch[n].float() if n in batch else clips.new_full((b,), v, dtype=torch.float32)
            for n, v in numbers.items()
        }
        read = {e.input_key for e in self.model.conditioner.all}
        own = {name: v for name, v in batch.items() if name in read and isinstance(v, Tensor)}
        return {"first": clips[:, :, 0], "image_only": batch.get("image_only", still), **known, **own}

    def values(self, encoded: Batch) -> dict[str, Any]:
        first, fps, motion = encoded["first"], encoded["fps"], encoded["motion_bucket"]
        own = {name: v[:, None] if isinstance(v, Tensor) else v for name, v in encoded.items()}
        return own | {
            "cond_frames_without_noise": as_floats(first)[:, None],
            "fps_id": fps[:, None] - 1,  # as diffusers' pipeline tells it
            "motion_bucket_id": motion[:, None],
        }

    def encoding(self) -> dict[str, Any]:
        return super().encoding() | {"input_key": self.input_key}

    def conditioning(self, encoded: Batch) -> Tensor:
        return as_floats(encoded["first"])[:, None]

    def baselines(self, batch: Batch) -> dict[str, Tensor]:
        return {"repeat": self.pictures(batch)[:, :1].expand(-1, self.grid(batch)[0], -1, -1, -1)}

    def legend(self) -> str:
        return f"rows: truth · model, {self.sampler.steps} steps, from the first frame"

    # --- prediction

    @torch.no_grad()
    def predict(  # type: ignore[override]  # a recipe's own options are flags of `salticid predict`
        self,
        inputs: list[Path],
        output: Path,
        *,
        frames: int | None = None,
        size: tuple[int, int] | None = None,
        fps: float | None = None,
        motion_bucket: float | None = None,
        noise: float | None = None,
        steps: int | None = None,
        label: int | None = None,
        caption: str | None = None,
        seed: int = 0,
    ) -> list[Path]:
        """A film from each picture, or from the first frame of each video.

        Args:
            frames: of the film; null: as in training.
            size: height and width, which pictures are cut to; null: those of training.
            fps: frames per second, of the file and as the model is told; null: as in training.
            motion_bucket: how much is to move, from 0 to 255; null: as in training.
            noise: standard deviation of the noise on the given frame; null: the recipe's.
            steps: of sampling; null: the recipe's.
            label: class, of a model that was trained with classes.
            caption: of a model that was trained with captions.
            seed: of the noise.
        """
        check_numbers(noise, frames=frames, steps=steps)
        length, height, width, usual_fps, usual_motion = self.usual.tolist()
        count, shape = frames or int(length), size or (int(height), int(width))
        if count < 1 or min(shape) < 1:
            raise UserError("the run has seen no data; expected --frames and --size [H,W]")
        factor = self.model.first_stage.factor
        if shape[0] % factor or shape[1] % factor:
            raise UserError(f"--size is {list(shape)}; expected multiples of {factor}")
        rate = usual_fps if fps is None else fps
        if not 0 < rate < math.inf:
            raise UserError(f"--fps is {rate}; expected a number above 0")
        device = self.usual.device
        told = {
            "fps": torch.tensor([rate], device=device),
            "motion_bucket": torch.tensor([usual_motion if motion_bucket is None else motion_bucket], device=device),
        }
        self._check_told(label=label, caption=caption)
        told |= {} if label is None else {"label": torch.tensor([label], device=device)}
        words = {} if caption is None else {"caption": [caption]}
        latent = torch.zeros(1, count, self.model.first_stage.channels, *(side // factor for side in shape))

        exact = Fraction(rate).limit_denominator(1000)

        def film(file: Path) -> tuple[Tensor, Fraction]:
            first = covered(read_frames(file, 1), shape).to(device)
            key = torch.tensor([stable_key(file.name)], device=device)
            given = {"first": first, "latent": latent.to(device), "key": key} | told | words
            return self.sampled(given, seed, steps, noise)[0], exact

        return save_films(inputs, output, ".mp4", film)

    def _check_told(self, **told: int | str | None) -> None:
        """Raise UserError unless just what the model reads is told, and classes are known."""
        readers = {embedder.input_key: embedder for embedder in self.model.conditioner.all}
        for name, value in told.items():
            reader = readers.get(name)
            if (value is None) != (reader is None):
                expected = "none: the model reads no such thing" if reader is None else f"a {name}: the model reads it"
                raise UserError(f"--{name} is {value}; expected {expected}")
            if isinstance(reader, ClassEmbedder) and not 0 <= int(value or 0) < reader.table.num_embeddings:
                raise UserError(f"--{name} is {value}; expected 0 to {reader.table.num_embeddings - 1}")

    def export(self, output: Path, *, half: Half | None = None) -> list[Path]:  # type: ignore[override]
        """A folder that diffusers' `StableVideoDiffusionPipeline` loads, and that is a base for further training.

        Args:
            half: precision of the files (fp16 or bf16), null for float32.
        """
        model, sampler = self.model, self.sampler
        names = [embedder.name for embedder in model.conditioner.all]
        usual = [embedder.name for embedder in svd_conditioner(2)]
        encoder = next((e for e in model.conditioner.all if isinstance(e, ClipImageEmbedder)), None)
        if names != usual or encoder is None or model.first_stage.vae is None:
            raise ConfigError(
                "recipe.conditioner: diffusers' pipeline has SVD's five embedders and a VAE, in their order: "
                f"{', '.join(usual)}"
            )
        frames, height, width, fps, motion = self.usual.tolist()
        usual_settings = SvdSettings()
        settings = SvdSettings(
            frames=int(frames) or usual_settings.frames,
            size=(int(height), int(width)) if height else usual_settings.size,
            fps=fps,
            motion_bucket=motion,
            noise_aug=self.diffusion.frame_noise.sampling,
            steps=sampler.steps,
            solver=sampler.solver,
            sigma_min=sampler.sigma_min,
            sigma_max=sampler.sigma_max,
            rho=sampler.rho,
            guider=sampler.guider.kind,  # type: ignore[arg-type]  # not spatiotemporal
            guidance=(sampler.guider.low, sampler.guider.high),
        )
        unet, vae = merge_lora(model.unet), model.first_stage.vae.network
        return export_svd(unet, vae, encoder.network, output, settings, half=half)


def svd_conditioner(width: int) -> list[Embedder]:
    """SVD's five, in the order of its vector; `width`: of each number's sinusoids, 256 in the published models."""
    return [
        ClipImageEmbedder("cond_frames_without_noise"),
        FourierEmbedder("fps_id", width),
        FourierEmbedder("motion_bucket_id", width),
        LatentEmbedder("cond_frames"),
        FourierEmbedder("cond_aug", width),
    ]


def as_floats(pictures: Tensor) -> Tensor:
    """Bytes, or floats in [−1, 1], as such floats."""
    return pictures.float() / 127.5 - 1 if pictures.dtype == torch.uint8 else pictures.float()
