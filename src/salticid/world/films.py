"""Rendering of films: samples of `WorldMotion`."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import TYPE_CHECKING

import torch
from torch import Generator, Tensor

from salticid.data.motion import lens_parameters
from salticid.data.source import Sample, Source
from salticid.geometry import se3
from salticid.geometry.lens import Lens
from salticid.world.flow import flow
from salticid.world.lenses import VIEWS
from salticid.world.make import make_scene
from salticid.world.render import Frame, render, render_many
from salticid.world.ride import Ride, draw_ride
from salticid.world.scene import DURATION, Scene

if TYPE_CHECKING:
    from salticid.world.motion import WorldMotion


class Films(Source):
    """The targets of `scenes` films of `length` frames, one film after the other. Training scenes have the indices 0,
    1, 2, …, validation scenes −1, −2, −3, …"""

    def __init__(self, data: WorldMotion, split: str, scenes: int, length: int, with_flow: bool) -> None:
        self.data, self.split, self.scenes, self.length, self.with_flow = data, split, scenes, length, with_flow
        self.targets = length - data.span + 1
        self.kept: dict[int, Sample] = {}

    def __len__(self) -> int:
        return self.scenes * self.targets

    def id(self, index: int) -> str:
        number, target = divmod(index, self.targets)
        return f"world-{self.split}-{number:06d}/{target + self.data.before:04d}"

    @property
    def outcomes(self) -> None:
        """Augmentation has endlessly many."""
        return None

    def sample(self, index: int, augment: Generator | None) -> Sample:
        sample = self.kept.get(index) or self._film(index)
        if len(self.kept) < self.data.keep:
            self.kept[index] = sample
        return self.data.augmentation({name: value.clone() for name, value in sample.items()}, augment)

    def _film(self, index: int) -> Sample:
        data = self.data
        number, target = divmod(index, self.targets)
        target += data.before
        scene_number = number if self.split == "train" else -1 - number
        scene = make_scene(data.seed, scene_number, data.kind)
        random = Random(f"salticid motion {data.seed} {scene_number}")
        lens = data.lens(random.uniform(*(data.view or VIEWS[data.camera])))
        steps = data.step_outdoors if scene.sky else data.step
        ride = draw_ride(random, scene.path, self.length, steps, data.turn, data.sideways, data.vertical)
        shots = self._shots(ride, [target + offset for offset in data.offsets])
        frames = self._render(scene, lens, shots)
        sample = self._truth(lens, shots, frames)
        if self.with_flow:
            sample |= _flows(scene, lens, shots[: len(data.offsets)])
        sample["frames"] = torch.stack([_bytes(frame.rgb) for frame in frames])
        sample["place"] = torch.tensor([number, target])
        return sample

    def _shots(self, ride: Ride, numbers: Sequence[int]) -> list[tuple[Tensor, float]]:
        """Camera-to-world pose and time of each frame; a stereo partner of the first is the last."""
        data = self.data
        interval = min(data.interval, DURATION / max(self.length - 1, 1)) if data.moving else 0.0
        shots = [(ride.pose(number), number * interval) for number in numbers]
        if data.baseline:
            aside = se3.pose(torch.eye(3), torch.tensor((data.baseline, 0.0, 0.0)))
            shots.append((se3.compose(shots[0][0], aside), shots[0][1]))
        return shots

    def _render(self, scene: Scene, lens: Lens, shots: Sequence[tuple[Tensor, float]]) -> list[Frame]:
        if self.data.moving:
            return [render(scene, lens, pose, time, self.data.supersample) for pose, time in shots]
        return render_many(scene, [lens] * len(shots), [pose for pose, _ in shots], supersample=self.data.supersample)

    def _truth(self, lens: Lens, shots: Sequence[tuple[Tensor, float]], frames: Sequence[Frame]) -> Sample:
        data, target = self.data, frames[0]
        near, far = data.limits
        depth = target.depth if data.measure == "depth" else target.distance
        valid = target.valid & (depth >= near) & (depth <= far)
        back = se3.inverse(shots[0][0])
        poses = torch.stack([torch.eye(4)] + [se3.compose(back, pose) for pose, _ in shots[1:]])
        own = poses[: len(data.offsets)]
        sample = {
            "intrinsics": lens_parameters(lens),
            "depth": depth.where(valid, 0.0)[None],
            "valid": valid[None],
            "limits": torch.tensor(data.limits),
            "poses": own,
            "travel": torch.linalg.vector_norm(own[1:, :3, 3], dim=-1),
        }
        return sample | ({"stereo_pose": poses[-1]} if data.baseline else {})


def _bytes(rgb: Tensor) -> Tensor:
    """uint8 of values in [−1, 1]."""
    return rgb.add(1).mul_(127.5).round_().to(torch.uint8)


def _flows(scene: Scene, lens: Lens, shots: Sequence[tuple[Tensor, float]]) -> Sample:
    (pose, time), *others = shots
    flows = [flow(scene, lens, pose, time, lens, other, then) for other, then in others]
    return {
        "flow": torch.stack([f.flow.permute(2, 0, 1).where(f.valid, 0.0) for f in flows]),
        "flow_valid": torch.stack([(f.valid & ~f.occluded)[None] for f in flows]),
    }
