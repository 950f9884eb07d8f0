"""The embedded data set of the motion recipe: short films of a camera that moves through procedural scenes."""

from dataclasses import dataclass, field
from typing import Literal

from salticid.data.motion import Augmentation, check_offsets
from salticid.data.source import Data, Source
from salticid.errors import ConfigError
from salticid.geometry.lens import Lens
from salticid.world.films import Films
from salticid.world.lenses import VIEWS, LensName, lens_of_view
from salticid.world.scene import DURATION


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
        return Films(self, "train", self.train_scenes, self.span, self.flow == "always")

    def val(self) -> Source:
        return Films(self, "val", self.val_scenes, self.sequence, True)
