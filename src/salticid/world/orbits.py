"""The embedded data set of the multi-view video recipes: a moving toy seen by cameras all around it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from salticid.data.grids import orbit_camera, poses_from_orbit
from salticid.data.motion import lens_parameters
from salticid.data.source import Data, Sample, Source
from salticid.errors import require
from salticid.geometry.cameras import Pinhole
from salticid.world.make import make_scene
from salticid.world.render import Frame, render_many
from salticid.world.scene import Scene
from salticid.world.studio import CENTRE, CLEAR

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, UInt8

REACH = 1.5
"""How far from the vertical through `CENTRE` the toy comes, m: cameras stand farther away."""
UP = torch.tensor((0.0, -1.0, 0.0))
Range = tuple[float, float]


@dataclass(kw_only=True, eq=False)
class WorldOrbits(Data):
    """The toy of a procedural studio, seen by `views` cameras and the context camera, at `frames` moments.

    Every scene is an object of its own, rendered when it is asked for. All cameras look at the middle of the studio,
    from one distance. Validation scenes are never trained on, whatever the two counts. What a sample holds says
    `salticid.data.grids`; those of validation hold intrinsics, poses and depth as well.

    Args:
        seed: of all scenes.
        train_scenes, val_scenes: how many; a scene costs nothing until it is read.
        frames: T; 1: still objects (SV3D).
        views: V.
        size: height and width of the pictures, pixels.
        fps: frames per second.
        film: frames of a film, the first of which is that of the reference. A training sample is any `frames` of them
            in a row, a validation sample the first. None: `frames`.
        view: smallest and largest horizontal field of view, degrees, of which each scene has its own.
        distance: smallest and largest distance of the cameras, m; the same of each scene.
        elevation: smallest and largest angle above the horizontal, degrees; the same.
        random_azimuths: azimuths are drawn, and every view has an elevation of its own (SV3D's dynamic orbits); else
            views and context camera are evenly spaced around the object at one elevation (static orbits).
        context_view: the context camera is the last of the views as well, as in SV3D.
        background: `white` paints everything but the toy white.
        supersample: supersample² rays a pixel are averaged for the colour; above 1, the toy has soft edges on white.
        keep: how many rendered samples a process holds in memory, the first that it reads: with no more training scenes
            than that, only the first epoch takes the time of rendering.

    Raises:
        ConfigError: a value out of range.
    """

    seed: int = 0
    train_scenes: int = 100_000
    val_scenes: int = 32
    frames: int = 4
    views: int = 4
    size: tuple[int, int] = (64, 64)
    fps: float = 8.0
    film: int | None = None
    view: Range = (52.0, 60.0)
    distance: Range = (2.5, 2.9)
    elevation: Range = (0.0, 30.0)
    random_azimuths: bool = False
    context_view: bool = False
    background: Literal["rendered", "white"] = "rendered"
    supersample: int = 1
    keep: int = 0

    def __post_init__(self) -> None:
        for key in ("train_scenes", "val_scenes", "frames", "views", "supersample"):
            require(f"data.{key}", getattr(self, key), getattr(self, key) >= 1, "at least 1")
        require("data.size", self.size, min(self.size) >= 8, "two numbers of pixels, at least 8")
        require("data.keep", self.keep, self.keep >= 0, "0 or more")
        require("data.fps", self.fps, 0 < self.fps < math.inf, "a finite number above 0")
        require("data.film", self.film, self.length >= self.frames, f"at least data.frames, {self.frames}")
        for key, low, high, unit in (
            ("view", 1, 170, "angles in degrees"),
            ("distance", REACH, CLEAR, "lengths in metres"),
            ("elevation", -80, 80, "angles in degrees"),
        ):
            least, most = getattr(self, key)
            met = low <= least <= most <= high
            require(f"data.{key}", getattr(self, key), met, f"two {unit}, {low:g} to {high:g}, ascending")
        lowest = CENTRE[1] + self.distance[1] * math.sin(math.radians(self.elevation[0]))
        require("data.elevation", self.elevation, lowest > 0.1, "cameras above the floor: angles nearer to 0")

    @property
    def length(self) -> int:
        """Frames of a film."""
        return self.frames if self.film is None else self.film

    def train(self) -> Source:
        return _Grids(self, "train", self.train_scenes)

    def val(self) -> Source:
        return _Grids(self, "val", self.val_scenes)


class _Grids(Source):
    """Training scenes have the indices 0, 1, 2, …, validation scenes −1, −2, −3, …"""

    def __init__(self, data: WorldOrbits, split: str, count: int) -> None:
        self.data, self.split, self.count = data, split, count
        self.kept: dict[int, Sample] = {}

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
        sample = self.kept.get(index) or self._grid(index)
        if len(self.kept) < self.data.keep:
            self.kept[index] = sample
        return {name: value.clone() for name, value in sample.items()}

    def _grid(self, index: int) -> Sample:
        data, training = self.data, self.split == "train"
        number = index if training else -1 - index
        scene = make_scene(data.seed, number, "studio")
        random = Random(f"salticid orbits {data.seed} {number}")
        camera = Pinhole.centred(*data.size, data.size[1] / 2 / math.tan(math.radians(random.uniform(*data.view)) / 2))
        centre = torch.tensor((CENTRE[0], scene.floor - CENTRE[1], CENTRE[2]))
        poses = _orbit(random, data, centre)
        start = random.randint(0, data.length - data.frames) if training else 0
        times = [number / data.fps for number in sorted({0, *range(start, start + data.frames)})]
        pictures = self._pictures(scene, camera, poses, times)
        grid = pictures[-data.frames :]
        views = [*range(1, len(poses)), *([0] if data.context_view else [])]
        sample = {
            "image": grid[:, views].permute(2, 0, 1, 3, 4).contiguous(),
            "context": grid[:, 0].contiguous(),
            "reference": pictures[0, views],
            "camera": orbit_camera(poses, centre, UP)[views],
            "fps": torch.tensor(data.fps),
        }
        if training:
            return sample
        depth = self._depth(scene, camera, poses[views], times)
        return sample | {"intrinsics": lens_parameters(camera), "poses": poses[views], "depth": depth}

    def _pictures(
        self, scene: Scene, camera: Pinhole, poses: Tensor, times: Sequence[float]
    ) -> "UInt8[Tensor, 't n 3 h w']":
        fine = self.data.supersample
        frames = _looks(scene, camera.resized(fine * camera.height, fine * camera.width), poses, times)
        rgb = torch.stack([frame.rgb.where(self._shown(scene, frame), 1.0) for frame in frames])
        rgb = F.avg_pool2d(rgb, fine).add_(1).mul_(127.5).round_().to(torch.uint8)
        return rgb.unflatten(0, (len(times), len(poses)))

    def _depth(
        self, scene: Scene, camera: Pinhole, poses: Tensor, times: Sequence[float]
    ) -> "Float[Tensor, 't n h w']":
        """Of the pixels' centres, which finer pictures may not have."""
        frames = _looks(scene, camera, poses, times)
        depth = torch.stack([frame.depth.where(self._shown(scene, frame), 0.0) for frame in frames])
        return depth.unflatten(0, (len(times), len(poses)))

    def _shown(self, scene: Scene, frame: Frame) -> "Bool[Tensor, 'h w']":
        """Where nothing is painted white."""
        if self.data.background == "rendered":
            return frame.valid
        # Nothing in a studio moves but the toy.
        toy = [number for number, body in enumerate(scene.bodies, 1) if body.motion]
        return torch.isin(frame.instance, torch.tensor(toy))


def _looks(scene: Scene, camera: Pinhole, poses: Tensor, times: Sequence[float]) -> list[Frame]:
    """From every pose at every time, one time after the other."""
    count = len(poses) * len(times)
    moments = [time for time in times for _ in poses]
    return render_many(scene, [camera] * count, poses.repeat(len(times), 1, 1), moments)


def _orbit(random: Random, data: WorldOrbits, centre: Tensor) -> "Float[Tensor, 'n 4 4']":
    """Camera-to-world poses of the context camera, then of the others in the order of their azimuths."""
    others = data.views - data.context_view
    distance, height = random.uniform(*data.distance), random.uniform(*data.elevation)
    start = random.uniform(0, 2 * math.pi)
    if data.random_azimuths:
        azimuths = [0.0, *sorted(random.uniform(0, 2 * math.pi) for _ in range(others))]
        heights = [height, *(random.uniform(*data.elevation) for _ in range(others))]
    else:
        azimuths = [2 * math.pi * i / (others + 1) for i in range(others + 1)]
        heights = [height] * len(azimuths)
    camera = torch.tensor(
        [(math.pi / 2 - math.radians(h), a, distance) for a, h in zip(azimuths, heights, strict=True)]
    )
    return poses_from_orbit(camera, centre, UP, torch.tensor((math.sin(start), 0.0, math.cos(start))))
