"""The embedded data set of the motion recipe: short films of a camera that moves through procedural scenes."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Literal

import torch
from torch import Generator, Tensor

from salticid.data.motion import Augmentation, check_offsets, lens_parameters
from salticid.data.source import Data, Sample, Source
from salticid.errors import ConfigError
from salticid.geometry import se3
from salticid.geometry.lens import Lens
from salticid.world.flow import flow
from salticid.world.lenses import VIEWS, LensName, lens_of_view
from salticid.world.make import make_scene
from salticid.world.render import Frame, render, render_many
from salticid.world.ride import Ride, draw_ride
from salticid.world.scene import DURATION, Scene


@dataclass(kw_only=True, eq=False)
class WorldMotion(Data):
    """Neighbouring frames of a camera on its way through a procedural scene, with depth, poses and flow.

    Every scene is a sequence of its own, rendered when it is asked for. The camera moves mostly the way that it looks,
    to the sides and up and down a little, and turns slowly: see `ride`. Validation scenes are never trained on,
    whatever the two counts. What a sample holds says `salticid.data.motion`; the depth has the size of the frames.

    Args:
        seed: of all scenes.
        train_scenes, val_scenes: how many; a scene costs nothing until it is read.
        size: height and width of the frames, pixels.
        offsets: of the frames from the target, which comes first: 0.
        sequence: frames of a validation scene. All that have their neighbours in it are targets, one after the other.
        kind: of the scenes, `room` or `outdoors`; None: both.
        camera: model of the lens.
        view: smallest and largest horizontal field of view, degrees, of which each scene has its own; None: 60 to 80
            for a pinhole, else 150 to 170.
        shape: parameters of the lens besides focal length and principal point: ξ of the UCM (None: 0.9), k1 … k4 of
            Kannala–Brandt (−0.02, 0, 0, 0), ξ and α of the double sphere (−0.2, 0.59).
        step: shortest and longest way between two frames, m; shorter where a long sequence would leave the clear path.
        step_outdoors: the same outdoors, where things are farther away.
        turn: slowest and fastest turn about the vertical, degrees a frame.
        sideways, vertical: how much the camera moves to the side, and up and down, as shares (standard deviations) of
            its way forward.
        moving: bodies move; else the world stands still.
        interval: seconds between frames, where bodies move; shorter where a long sequence would outlast the scene.
        baseline: distance of a second camera, to the right of the first, m; 0: none.
        limits: nearest and farthest valid depth, m.
        measure: what `depth` holds: z, or the distance along the ray, for lenses that see beyond a right angle.
        flow: whether training samples hold it as well: it takes as long as all the rest.
        supersample: supersample² rays a pixel are averaged for the colour.
        keep: how many rendered samples a process holds in memory, the first that it reads: with no more training scenes
            than that, only the first epoch takes the time of rendering.
        augmentation: of training samples.

    Raises:
        ConfigError: a value out of range.
    """

    seed: int = 0
    train_scenes: int = 100_000
    val_scenes: int = 32
    size: tuple[int, int] = (64, 80)
    offsets: tuple[int, ...] = (0, -1, 1)
    sequence: int = 3
    kind: Literal["room", "outdoors"] | None = None
    camera: LensName = "pinhole"
    view: tuple[float, float] | None = None
    shape: tuple[float, ...] | None = None
    step: tuple[float, float] = (0.05, 0.15)
    step_outdoors: tuple[float, float] = (0.15, 0.4)
    turn: tuple[float, float] = (0.0, 2.0)
    sideways: float = 0.5
    vertical: float = 0.2
    moving: bool = False
    interval: float = 0.1
    baseline: float = 0.0
    limits: tuple[float, float] = (0.1, 80.0)
    measure: Literal["depth", "distance"] = "depth"
    flow: Literal["val", "always"] = "val"
    supersample: int = 1
    keep: int = 0
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        check_offsets(self.offsets)
        self.before, self.after = -min(self.offsets), max(self.offsets)
        view = self.view or VIEWS[self.camera]
        for key, expected, right in (
            ("train_scenes", "at least 1", self.train_scenes >= 1),
            ("val_scenes", "at least 1", self.val_scenes >= 1),
            ("size", "two numbers of pixels, at least 8", min(self.size) >= 8),
            ("sequence", f"at least {self.span}, the span of the offsets", self.sequence >= self.span),
            ("view", "two angles in (0, 360) degrees, ascending", 0 < view[0] <= view[1] < 360),
            ("step", "two lengths in metres, ascending", 0 <= self.step[0] <= self.step[1]),
            ("step_outdoors", "two lengths in metres, ascending", 0 <= self.step_outdoors[0] <= self.step_outdoors[1]),
            ("turn", "two angles in [0, 45] degrees, ascending", 0 <= self.turn[0] <= self.turn[1] <= 45),
            ("sideways", "0 or more", self.sideways >= 0),
            ("vertical", "0 or more", self.vertical >= 0),
            ("interval", f"more than 0, at most {DURATION} s", 0 < self.interval <= DURATION),
            ("baseline", "0 to 0.3 m, which scenes keep clear", 0 <= self.baseline <= 0.3),
            ("limits", "two depths in metres, ascending", 0 < self.limits[0] < self.limits[1]),
            ("supersample", "at least 1", self.supersample >= 1),
            ("keep", "0 or more", self.keep >= 0),
        ):
            if not right:
                raise ConfigError(f"data.{key}: expected {expected}, got {getattr(self, key)}")
        for angle in view:
            self.lens(angle)

    @property
    def span(self) -> int:
        """Frames from the first to the last neighbour."""
        return self.before + self.after + 1

    def lens(self, view: float) -> Lens:
        """The camera with a horizontal field of view of `view` degrees. Raises as `lens_of_view`."""
        return lens_of_view(self.camera, self.size, view, self.shape)

    def train(self) -> Source:
        return _Films(self, "train", self.train_scenes, self.span, self.flow == "always")

    def val(self) -> Source:
        return _Films(self, "val", self.val_scenes, self.sequence, True)


class _Films(Source):
    """Training scenes have the indices 0, 1, 2, …, validation scenes −1, −2, −3, …"""

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
