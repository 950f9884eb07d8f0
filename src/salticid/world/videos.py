"""The embedded data set of the video recipe: clips of a moving camera and moving bodies in procedural scenes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from salticid.data.source import Data, Source
from salticid.data.video import Motion, check_motion
from salticid.errors import require
from salticid.world.clips import Clips
from salticid.world.scene import DURATION


@dataclass(kw_only=True, eq=False)
class WorldVideos(Data):
    """Clips of procedural scenes, without captions and labels. What a sample holds says `salticid.data.video`.

    Every index is a scene of its own, rendered when it is asked for. The camera moves mostly the way that it looks, as
    in `WorldMotion`; in a studio it circles the toy. All motion is in seconds: the higher the frame rate that a clip
    draws, the less happens between its frames. Validation scenes are never trained on, whatever the two counts.

    Args:
        seed: of all scenes.
        train_scenes, val_scenes: how many; a scene costs nothing until it is read.
        frames: T, of a clip.
        size: height and width of the frames, pixels.
        kind: of the scenes, `room`, `outdoors` or `studio`; None: one of the first two.
        view: smallest and largest horizontal field of view, degrees, of which each clip has its own.
        fps: lowest and highest frame rate, of which each clip has its own.
        speed: slowest and fastest way of the camera, m/s; slower where a clip would leave the clear path.
        speed_outdoors: the same outdoors, where things are farther away.
        turn: slowest and fastest turn of the camera about the vertical (in a studio, around the toy), degrees/s.
        sideways, vertical: how much the camera moves to the side, and up and down, as shares (standard deviations) of
            its way forward.
        moving: bodies move; else the world stands still.
        motion: how `motion_bucket` is told: `difference` of grey values, `flow`, which is the true one and takes as
            long as all the rest, or a number; see `salticid.data.video.motion_bucket`.
        flow: whether training samples hold it as well as those of validation.
        flip: probability that a training sample is mirrored.
        supersample: supersample² rays a pixel are averaged for the colour.
        keep: how many rendered clips a process holds in memory, the first that it reads: with no more training scenes
            than that, only the first epoch takes the time of rendering.

    Raises:
        ConfigError: a value out of range.
    """

    seed: int = 0
    train_scenes: int = 100_000
    val_scenes: int = 32
    frames: int = 8
    size: tuple[int, int] = (64, 64)
    kind: Literal["room", "outdoors", "studio"] | None = None
    view: tuple[float, float] = (60.0, 80.0)
    fps: tuple[float, float] = (5.0, 15.0)
    speed: tuple[float, float] = (0.3, 1.2)
    speed_outdoors: tuple[float, float] = (1.0, 4.0)
    turn: tuple[float, float] = (0.0, 20.0)
    sideways: float = 0.5
    vertical: float = 0.2
    moving: bool = True
    motion: Motion = "difference"
    flow: Literal["val", "always"] = "val"
    flip: float = 0.0
    supersample: int = 1
    keep: int = 0

    def __post_init__(self) -> None:
        slowest = (self.frames - 1) / DURATION
        for key, expected, met in (
            ("train_scenes", "at least 1", self.train_scenes >= 1),
            ("val_scenes", "at least 1", self.val_scenes >= 1),
            ("frames", "at least 2", self.frames >= 2),
            ("size", "two numbers of pixels, at least 8", min(self.size) >= 8),
            ("view", "two angles in (0, 170) degrees, ascending", self.view[0] > 0 and self.view[1] < 170),
            ("fps", f"two frame rates, ascending, at least {slowest:g}: scenes last {DURATION:g} s", self._lasts()),
            ("speed", "two speeds in m/s, ascending", self.speed[0] >= 0),
            ("speed_outdoors", "two speeds in m/s, ascending", self.speed_outdoors[0] >= 0),
            ("turn", "two angles in [0, 90] degrees/s, ascending", self.turn[0] >= 0 and self.turn[1] <= 90),
            ("sideways", "0 or more", self.sideways >= 0),
            ("vertical", "0 or more", self.vertical >= 0),
            ("flip", "0 to 1", 0 <= self.flip <= 1),
            ("supersample", "at least 1", self.supersample >= 1),
            ("keep", "0 or more", self.keep >= 0),
        ):
            value = getattr(self, key)
            ascending = not isinstance(value, Sequence) or key == "size" or value[0] <= value[1] < float("inf")
            require(f"data.{key}", value, met and ascending, expected)
        check_motion(self.motion, estimated=False)

    def _lasts(self) -> bool:
        """Whether the longest clip is no longer than scenes keep the way clear."""
        return self.fps[0] > 0 and (self.frames - 1) / self.fps[0] <= DURATION

    def train(self) -> Source:
        return Clips(self, "train", self.train_scenes)

    def val(self) -> Source:
        return Clips(self, "val", self.val_scenes)
