"""A recipe with a frozen encoder and pictures for it, importable by tests of the engine and of the commands."""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from salticid.data.source import Batch, Data, Sample, Source
from salticid.engine.latents import digest
from salticid.engine.recipe import Clock, Loss, Phase, Recipe
from salticid.errors import UnreadableSample


class Pictures(Source):
    """Random pictures (3, 6, 6), flipped or not, those in `broken` unreadable, each read after `delay` seconds."""

    def __init__(self, data: "PictureData", start: int, count: int, training: bool) -> None:
        self.data, self.start, self.count, self.training = data, start, count, training

    def __len__(self) -> int:
        return self.count

    def id(self, index: int) -> str:
        return f"picture-{self.start + index}"

    @property
    def outcomes(self) -> int | None:
        return {"none": 1, "flip": 2, "endless": None}[self.data.augmentation if self.training else "none"]

    def outcome(self, index: int, which: int) -> Sample:
        time.sleep(self.data.delay)
        if index in self.data.broken and self.training:
            raise UnreadableSample(f"picture-{index}.png: cut short")
        generator = torch.Generator().manual_seed(self.start + index)
        picture = torch.randn(3, self.data.size, self.data.size, generator=generator)
        return {"picture": picture.flip(-1) if which else picture, "valid": picture[:1] > 0}

    def sample(self, index: int, augment: torch.Generator | None) -> Sample:
        return self.outcome(index, self.draw(augment))


@dataclass
class PictureData(Data):
    count: int = 22
    size: int = 6
    augmentation: str = "flip"
    broken: tuple[int, ...] = ()
    delay: float = 0.0
    root: Path = Path()
    seed: int = 0

    def train(self) -> Source:
        return Pictures(self, 1000 * self.seed, self.count, training=True)

    def val(self) -> Source:
        return Pictures(self, 1000 * self.seed + 500, 8, training=False)


class Latent(Recipe):
    """Learns, through dropout, to predict the mean of a frozen encoding.

    `together`: encode all of a batch at once: convolutions then round by the size of the batch. `kill`: after so many
    encoded batches this process is killed.
    """

    def __init__(self, scale: float = 1.0, seed: int = 3, together: bool = False, kill: int = -1) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.encoder = nn.Conv2d(3, 2, 3, stride=3).requires_grad_(False)
            torch.manual_seed(1)
            self.head = nn.Sequential(nn.Dropout(0.1), nn.Linear(8, 4), nn.Tanh(), nn.Linear(4, 1))
        self.scale, self.together, self.kill, self.encoded = scale, together, kill, 0

    def phases(self) -> tuple[Phase, ...]:
        return (Phase("head", ("head",)),)

    @torch.no_grad()
    def encode(self, batch: Batch) -> dict[str, Tensor]:
        if self.encoded == self.kill:
            os.kill(os.getpid(), 9)
        self.encoded += 1
        parts = batch["picture"].split(len(batch["picture"]) if self.together else 1)
        latent = torch.cat([self.encoder(part) for part in parts]).float() * self.scale
        return {"latent": latent, "cells": batch["valid"].flatten(1).sum(1, dtype=torch.int32)}

    def encoding(self) -> dict[str, Any]:
        return {"version": 1, "encoder": digest(self.encoder), "scale": self.scale}

    def loss(self, phase: str, batch: Batch, clock: Clock) -> Loss:
        encoded = batch if "latent" in batch else batch | self.encode(batch)
        latent = encoded["latent"][..., :2, :2].flatten(1)
        error = (self.head(latent).squeeze(1) - latent.mean(1)).square()
        return Loss((error * encoded["cells"]).sum() / encoded["cells"].sum(), {"mse": error.detach().mean()})

    def evaluate(self, batch: Batch, *, seed: int) -> dict[str, Tensor]:
        latent = self.encode(batch)["latent"][..., :2, :2].flatten(1)
        return {"error": (self.head(latent).squeeze(1) - latent.mean(1)).abs()}

    def preview(self, batch: Batch, *, seed: int) -> Tensor:
        return torch.zeros(3, 4, 4, dtype=torch.uint8)
