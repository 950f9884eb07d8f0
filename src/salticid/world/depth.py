"""The embedded data set of the depth recipes: ordinary pictures of procedural scenes, with their depth."""

import math
from random import Random
from typing import Literal

import torch
from torch import Generator

from salticid.data.source import Data, Sample, Source
from salticid.errors import ConfigError
from salticid.geometry import se3
from salticid.geometry.cameras import Pinhole
from salticid.world.make import make_scene
from salticid.world.render import render


class WorldDepth(Data):
    """Pictures of a pinhole camera in procedural scenes, each with its depth.

    Every index is a scene of its own, rendered when it is asked for. The camera stands where scenes keep clear, looks
    anywhere around the horizon, a little up or down, and is rolled a little. Validation scenes are never trained on,
    whatever the two counts.

    A sample holds:
        image: float32 (3, H, W) in [−1, 1].
        depth: float32 (1, H, W), z, m; 0 where not valid.
        valid: bool (1, H, W): something is there (no sky), between the limits.
        limits: float32 (2,), near and far, m.
        intrinsics: float32 (4,), fx, fy, cx, cy, pixels.

    Args:
        seed: of all scenes.
        train_scenes, val_scenes: how many; a scene costs nothing until it is read.
        size: height and width of the pictures, pixels.
        kind: of the scenes, `room` or `outdoors`; None: both.
        view: smallest and largest horizontal field of view, degrees.
        limits: nearest and farthest valid depth, m.
        supersample: supersample² rays a pixel are averaged for the colour.

    Raises:
        ConfigError: a value out of range.
    """

    def __init__(
        self,
        seed: int = 0,
        train_scenes: int = 100_000,
        val_scenes: int = 64,
        size: tuple[int, int] = (64, 64),
        kind: Literal["room", "outdoors"] | None = None,
        view: tuple[float, float] = (55.0, 85.0),
        limits: tuple[float, float] = (0.1, 80.0),
        supersample: int = 1,
    ) -> None:
        for key, expected, right in (
            ("train_scenes", "at least 1", train_scenes >= 1),
            ("val_scenes", "at least 1", val_scenes >= 1),
            ("size", "two numbers of pixels, at least 8", min(size) >= 8),
            ("view", "two angles in (0, 170) degrees, ascending", 0 < view[0] <= view[1] < 170),
            ("limits", "two depths in metres, ascending", 0 < limits[0] < limits[1]),
            ("supersample", "at least 1", supersample >= 1),
        ):
            if not right:
                raise ConfigError(f"data.{key}: expected {expected}, got {locals()[key]}")
        self.seed, self.train_scenes, self.val_scenes = seed, train_scenes, val_scenes
        self.size, self.kind, self.view, self.limits, self.supersample = size, kind, view, limits, supersample

    def train(self) -> Source:
        return _Pictures(self, "train", self.train_scenes)

    def val(self) -> Source:
        return _Pictures(self, "val", self.val_scenes)


class _Pictures(Source):
    """Training scenes have the indices 0, 1, 2, …, validation scenes −1, −2, −3, …"""

    def __init__(self, data: WorldDepth, split: str, count: int) -> None:
        self.data, self.split, self.count = data, split, count

    def __len__(self) -> int:
        return self.count

    def id(self, index: int) -> str:
        return f"world-{self.split}-{index:06d}"

    @property
    def outcomes(self) -> int:
        """Scenes do not run out: there is no augmentation."""
        return 1

    def outcome(self, index: int, which: int) -> Sample:
        return self.sample(index, None)

    def sample(self, index: int, augment: Generator | None) -> Sample:
        data = self.data
        number = index if self.split == "train" else -1 - index
        scene = make_scene(data.seed, number, data.kind)
        camera, turn = _look(Random(f"salticid depth {data.seed} {number}"), *data.size, data.view)
        pose = se3.compose(scene.path(0.0), se3.pose(turn, torch.zeros(3)))
        frame = render(scene, camera, pose, supersample=data.supersample)
        near, far = data.limits
        valid = frame.valid & (frame.depth >= near) & (frame.depth <= far)
        return {
            "image": frame.rgb,
            "depth": frame.depth.where(valid, 0.0)[None],
            "valid": valid[None],
            "limits": torch.tensor(data.limits),
            "intrinsics": torch.tensor([camera.fx, camera.fy, camera.cx, camera.cy]),
        }


def _look(random: Random, height: int, width: int, view: tuple[float, float]) -> tuple[Pinhole, torch.Tensor]:
    """A camera, and how it is turned: camera to the frame of the scene's path, (3, 3)."""
    focal = width / 2 / math.tan(math.radians(random.uniform(*view)) / 2)
    yaw, pitch, roll = random.uniform(-math.pi, math.pi), random.gauss(0, 0.12), random.gauss(0, 0.04)
    turn = se3.yaw_pitch_roll(*torch.tensor([yaw, pitch, roll]))
    return Pinhole.centred(height, width, focal), turn
