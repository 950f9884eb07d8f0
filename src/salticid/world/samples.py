"""The embedded data set of the panorama recipe: rigs of fisheye cameras in procedural scenes."""

import math

import torch
from torch import Generator

from salticid.data.coverage import check_coverage
from salticid.data.source import Data, Sample, Source
from salticid.errors import ConfigError
from salticid.geometry.cameras import UCM, Equirectangular
from salticid.geometry.rig import Rig, ucm_intrinsics
from salticid.world.make import make_scene
from salticid.world.render import render_many


class WorldPanoramas(Data):
    """Four (or more) fisheye views of a procedural scene and the panorama that they should become.

    Every index is a scene of its own, rendered when it is asked for: nothing to download, nothing to store. The views
    look around the horizon from their own optical centres, `radius` metres from the rig's, so that parallax is real;
    the panorama is seen from the rig's centre. Validation scenes are never trained on, whatever the two counts.

    A sample holds, float32:
        views: (N, 3, view_size, view_size) in [−1, 1].
        panorama: (3, height, 2·height) in [−1, 1].
        intrinsics: (N, 5), the UCM's fx, fy, cx, cy (pixels) and ξ.
        poses: (N, 4, 4), camera to rig, m.
        distance: (1, height, 2·height), of the panorama, m; infinite in the sky.

    Args:
        seed: of all scenes.
        train_scenes, val_scenes: how many; a scene costs nothing until it is read.
        height: of the panorama, pixels; it is twice as wide.
        view_size: height and width of the views, pixels.
        views: number of cameras, evenly around the horizon.
        xi: the cameras' ξ.
        focal: the UCM's fx and fy, pixels: u = focal·x/(z + ξ·|p|) + cx. 34 at 64 pixels sees 98.6 % of the sphere.
        focal_size: height and width of the pictures for which `focal` is stated, where that is not view_size: 220
            pixels of a calibration at 560 are 50.3 at 128. 0: view_size.
        radius: distance of the cameras from the rig's centre, m; at most 0.4, which scenes keep clear.
        supersample: supersample² rays a pixel are averaged, in views and panorama.
        min_coverage: share of the sphere, by solid angle, that the rig has to see; 0 allows every rig.

    Raises:
        ConfigError: a value that makes no rig, or a rig that sees too little.
    """

    def __init__(
        self,
        seed: int = 0,
        train_scenes: int = 100_000,
        val_scenes: int = 32,
        height: int = 64,
        view_size: int = 64,
        views: int = 4,
        xi: float = 0.9,
        focal: float = 34.0,
        focal_size: int = 0,
        radius: float = 0.15,
        supersample: int = 1,
        min_coverage: float = 0.9,
    ) -> None:
        counts = {
            "train_scenes": train_scenes,
            "val_scenes": val_scenes,
            "height": height,
            "view_size": view_size,
            "views": views,
            "supersample": supersample,
        }
        for key, value in counts.items():
            if value < 1:
                raise ConfigError(f"data.{key} is {value}; expected at least 1")
        if focal_size < 0:
            raise ConfigError(f"data.focal_size is {focal_size}; expected 0 or more")
        if not 0 <= radius <= 0.4:
            raise ConfigError(f"data.radius is {radius} m; expected 0 to 0.4, which scenes keep clear")
        if not (0 < focal < math.inf and 0 <= xi < math.inf):
            raise ConfigError(f"data.focal is {focal} and data.xi {xi}; expected finite focal > 0 and xi ≥ 0")
        self.seed, self.train_scenes, self.val_scenes = seed, train_scenes, val_scenes
        self.supersample = supersample
        self.panorama = Equirectangular(height, 2 * height)
        self.camera = UCM.centred(view_size, view_size, focal * view_size / (focal_size or view_size), xi=xi)
        self.rig = Rig.ring(views, self.camera, radius)
        check_coverage(self.rig, min_coverage, focal)

    def train(self) -> Source:
        return _Scenes(self, "train", self.train_scenes)

    def val(self) -> Source:
        return _Scenes(self, "val", self.val_scenes)


class _Scenes(Source):
    """Training scenes have the indices 0, 1, 2, …, validation scenes −1, −2, −3, …"""

    def __init__(self, data: WorldPanoramas, split: str, count: int) -> None:
        self.data, self.split, self.count = data, split, count
        self.intrinsics = ucm_intrinsics(data.rig)

    def __len__(self) -> int:
        return self.count

    def id(self, index: int) -> str:
        return f"world-{self.split}-{index:06d}"

    def sample(self, index: int, augment: Generator | None) -> Sample:
        """`augment` is not needed: scenes do not run out."""
        data = self.data
        scene = make_scene(data.seed, index if self.split == "train" else -1 - index)
        centre = torch.eye(4)
        frames = render_many(
            scene, [*data.rig.cameras, data.panorama], [*data.rig.poses, centre], supersample=data.supersample
        )
        return {
            "views": torch.stack([frame.rgb for frame in frames[:-1]]),
            "panorama": frames[-1].rgb,
            "intrinsics": self.intrinsics.clone(),
            "poses": data.rig.poses.clone(),
            "distance": frames[-1].distance[None],
        }
