"""Prediction of the sv4d recipe: from pictures and videos to what other cameras saw."""

import math
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from salticid.data.readers.inputs import pictures_of
from salticid.data.readers.pictures import read_picture
from salticid.data.readers.video import Video, is_video
from salticid.diffusion.noise import stable_key
from salticid.errors import UserError
from salticid.evaluate.pictures import save_png, to_bytes
from salticid.recipes.video.films import covered, mosaic, read_frames, save_film, save_films
from salticid.recipes.video.matrix import Matrix

if TYPE_CHECKING:
    from salticid.recipes.video.sv4d import Sv4dRecipe

MOST_FRAMES = 1024
"""Of a video that are read."""
ORBIT = Fraction(8)
"""Views per second, where a film goes around a still object."""


class Orbits:
    """Views around an object, as asked for. Arguments as those of `Sv4dRecipe.predict`.

    Raises:
        UserError: they do not fit each other, the model, or the reference.
    """

    def __init__(
        self,
        recipe: "Sv4dRecipe",
        reference: Path | None,
        views: int | None,
        size: tuple[int, int] | None,
        elevation: float | None,
        azimuths: Sequence[float] | None,
    ):
        self.recipe = recipe
        frames, usual_views, height, width, fps, usual_elevation, last = recipe.usual.tolist()
        self.window, self.size = (int(frames), int(usual_views)), size or (int(height), int(width))
        if min(*self.window, *self.size) < 1:
            raise UserError("the run has seen no data: there is no telling how many views it makes")
        factor = recipe.model.first_stage.factor
        if any(side % factor for side in self.size):
            raise UserError(f"--size is {list(self.size)}; expected multiples of {factor}")
        if (reference is None) == recipe.frames_apart:
            expected = "a folder with the first frame's views" if recipe.frames_apart else "none: the model makes them"
            raise UserError(f"--reference is {reference}; expected {expected}")
        self.reference = self._read(reference) if reference else None
        count = len(self.reference) if self.reference is not None else int(usual_views)
        count = views or (len(azimuths) if azimuths else count)
        for name, other in (
            ("--reference", None if self.reference is None else len(self.reference)),
            ("--azimuths", None if azimuths is None else len(azimuths)),
        ):
            if other not in (None, count):
                raise UserError(f"{name} has {other} views; expected {count}")
        self.rate = fps
        around = count if last == 0 else count + 1  # whether the given view is the last one
        degrees = azimuths or [360 * (view + 1) / around for view in range(count)]
        tilt = usual_elevation if elevation is None else math.radians(elevation)
        self.camera = torch.tensor([[math.pi / 2 - tilt, math.radians(a) % (2 * math.pi), 0.0] for a in degrees])

    def _read(self, folder: Path) -> Tensor:
        """Views of the first frame, (V, 3, H, W)."""
        if not folder.is_dir():
            raise UserError(f"--reference {folder}: no such folder")
        return torch.cat([covered(read_picture(file)[None], self.size) for file in pictures_of(folder)])

    def save(
        self, inputs: list[Path], output: Path, *, frames: int | None, noise: float | None, steps: int | None, seed: int
    ) -> list[Path]:
        """Write films of all views side by side, and name all files."""
        further: list[Path] = []
        device = self.recipe.usual.device

        def film(file: Path) -> tuple[Tensor, Fraction]:
            video = covered(read_frames(file, frames or MOST_FRAMES), self.size).to(device)
            if not self.recipe.frames_apart:
                video = video[:1]
            made = self._made(video, stable_key(file.name), noise, steps, seed)
            folder = output.parent if output.suffix.lower() == ".mp4" else output
            rate = self._rate(file)
            further.extend(self._save_views(made, folder / f"{file.stem}-views", rate))
            if len(made) == 1:
                return made[0], ORBIT
            return torch.stack(list(mosaic(made, math.isqrt(made.shape[1] - 1) + 1))), rate

        written = save_films(inputs, output, "-orbit.mp4", film)
        return written + further

    def _rate(self, file: Path) -> Fraction:
        if not is_video(file):
            return Fraction(self.rate).limit_denominator(1000)
        with Video.opened(file) as video:
            return video.rate

    def _save_views(self, made: Tensor, folder: Path, rate: Fraction) -> list[Path]:
        """Each view (T, V, 3, H, W) by itself: a picture, or a film."""
        names = [folder / f"view-{view:02d}{'.png' if len(made) == 1 else '.mp4'}" for view in range(made.shape[1])]
        for view, path in enumerate(names):
            if len(made) == 1:
                save_png(to_bytes(made[0, view]), path)
            else:
                save_film(made[:, view], path, rate)
        return names

    def _made(self, video: Tensor, key: int, noise: float | None, steps: int | None, seed: int) -> Tensor:
        """Pictures (T, V, 3, H, W) from the frames (T, 3, H, W) that are given."""
        recipe, model = self.recipe, self.recipe.model
        camera = self.camera.to(video.device)
        places = len(video) * len(camera), model.first_stage.channels
        small = [side // model.first_stage.factor for side in self.size]
        given = {
            "video": video[None],
            "angles": camera[None],
            "key": torch.tensor([key], device=video.device),
            "latent": torch.zeros(1, *places, *small, device=video.device),
        }
        if self.reference is None:
            return recipe.sampled(given, seed, steps, noise)[0].unflatten(0, (len(video), -1))
        views = self.reference.to(video.device)
        embedded = recipe.sampling_embeddings(given | {"views": views[None]}, seed, noise)
        first = model.first_stage.encode(views)
        matrix = Matrix(model, recipe.sampler, embedded, self.window, first, len(video), seed=seed + key, steps=steps)
        latents = matrix().flatten(0, 1)[None]
        return model.decode(latents, len(camera))[0].unflatten(0, (len(video), -1))
