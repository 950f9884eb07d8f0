"""Rendering of clips: samples of `WorldVideos`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from random import Random
from typing import TYPE_CHECKING

import torch
from torch import Generator, Tensor

from salticid.data.source import Sample, Source
from salticid.data.video import bucket_of_flow, clip_sample, mirrored, motion_bucket
from salticid.geometry import se3
from salticid.geometry.lens import Lens
from salticid.world.flow import flow
from salticid.world.lenses import lens_of_view
from salticid.world.make import make_scene
from salticid.world.render import render_many
from salticid.world.ride import draw_ride
from salticid.world.scene import DURATION, Scene
from salticid.world.studio import CENTRE, CLEAR

if TYPE_CHECKING:
    from jaxtyping import Float, UInt8

    from salticid.world.videos import WorldVideos

_RADIUS = (0.6 * CLEAR, 0.9 * CLEAR)
"""Nearest and farthest camera of a studio from the middle of the toy, m."""
_ELEVATION = (-0.1, 0.5)
"""Lowest and highest, rad."""


@dataclass(frozen=True)
class Shot:
    """How a clip of a scene is taken."""

    scene: Scene
    lens: Lens
    fps: float
    poses: Float[Tensor, "T 4 4"]
    """Camera to world."""
    times: list[float]
    """Of the world, s."""

    def render(self, supersample: int) -> UInt8[Tensor, "3 T h w"]:
        frames = render_many(self.scene, [self.lens] * len(self.times), self.poses, self.times, supersample)
        return torch.stack([frame.rgb for frame in frames], dim=1).add_(1).mul_(127.5).round_().to(torch.uint8)

    def flows(self) -> Sample:
        """Flow from each frame to the next, 0 where it leaves the picture, and where both frames see the same."""
        moments = pairwise(zip(self.poses, self.times, strict=True))
        flows = [flow(self.scene, self.lens, *this, self.lens, *following) for this, following in moments]
        return {
            "flow": torch.stack([f.flow.permute(2, 0, 1).where(f.valid, 0.0) for f in flows]),
            "flow_valid": torch.stack([(f.valid & ~f.occluded)[None] for f in flows]),
        }


class Clips(Source):
    """Training scenes have the indices 0, 1, 2, …, validation scenes −1, −2, −3, …"""

    def __init__(self, data: WorldVideos, split: str, scenes: int) -> None:
        self.data, self.split, self.scenes = data, split, scenes
        self.kept: dict[int, Sample] = {}

    def __len__(self) -> int:
        return self.scenes

    def id(self, index: int) -> str:
        return f"world-{self.split}-{index:06d}"

    @property
    def outcomes(self) -> int:
        """As it is, and mirrored."""
        return 2 if self.split == "train" and self.data.flip else 1

    def draw(self, augment: Generator | None) -> int:
        if augment is None or self.outcomes == 1:
            return 0
        return int(float(torch.rand((), generator=augment)) < self.data.flip)

    def outcome(self, index: int, which: int) -> Sample:
        sample = self.kept.get(index) or self._clip(index)
        if len(self.kept) < self.data.keep:
            self.kept[index] = sample
        sample = {name: value.clone() for name, value in sample.items()}
        return mirrored(sample) if which else sample

    def sample(self, index: int, augment: Generator | None) -> Sample:
        return self.outcome(index, self.draw(augment))

    def shot(self, index: int) -> Shot:
        """How sample `index` is taken."""
        data, number = self.data, index if self.split == "train" else -1 - index
        scene = make_scene(data.seed, number, data.kind)
        random = Random(f"salticid video {data.seed} {number}")
        fps = random.uniform(*data.fps)
        lens = lens_of_view("pinhole", data.size, random.uniform(*data.view))
        begin = random.uniform(0, DURATION - (data.frames - 1) / fps)
        times = [begin + i / fps if data.moving else 0.0 for i in range(data.frames)]
        way = _around if data.kind == "studio" else _along
        return Shot(scene, lens, fps, way(random, scene, data, fps), times)

    def _clip(self, index: int) -> Sample:
        data, shot = self.data, self.shot(index)
        video, given = shot.render(data.supersample), self.split == "val" or data.flow == "always"
        truth = shot.flows() if given or data.motion == "flow" else {}
        if data.motion == "flow":
            bucket = bucket_of_flow(truth["flow"], shot.fps, truth["flow_valid"])
        else:
            bucket = motion_bucket(video, shot.fps, data.motion)
        return clip_sample(video, shot.fps, bucket) | (truth if given else {})


def _along(random: Random, scene: Scene, data: WorldVideos, fps: float) -> Float[Tensor, "T 4 4"]:
    """Poses on a ride."""
    speed = data.speed_outdoors if scene.sky else data.speed
    step, turn = ((low / fps, high / fps) for low, high in (speed, data.turn))
    ride = draw_ride(random, scene.path, data.frames, step, turn, data.sideways, data.vertical)
    return torch.stack([ride.pose(number) for number in range(data.frames)])


def _around(random: Random, scene: Scene, data: WorldVideos, fps: float) -> Float[Tensor, "T 4 4"]:
    """Poses on a circle around the toy of a studio, looking at it."""
    centre = torch.tensor((CENTRE[0], scene.floor - CENTRE[1], CENTRE[2]))
    radius, elevation = random.uniform(*_RADIUS), random.uniform(*_ELEVATION)
    step = random.choice((-1, 1)) * math.radians(random.uniform(*data.turn)) / fps
    azimuth = random.uniform(0, 2 * math.pi) + step * torch.arange(data.frames)
    flat, up = math.cos(elevation), math.sin(elevation)
    away = torch.stack((flat * azimuth.sin(), torch.full_like(azimuth, -up), flat * azimuth.cos()), dim=-1)
    return se3.look_at(centre + radius * away, centre.expand(data.frames, 3))
