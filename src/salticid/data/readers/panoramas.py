"""A folder of equirectangular pictures as training data: fisheye views are cut out of them on the fly."""

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from salticid.data.coverage import check_coverage
from salticid.data.readers.cache import DecodedCache
from salticid.data.readers.jitter import RigJitter, extremes, jittered, signed
from salticid.data.readers.splits import Split, divided
from salticid.data.source import Data, Sample, Source
from salticid.errors import ConfigError
from salticid.geometry.cameras import UCM
from salticid.geometry.rig import Rig, ucm_intrinsics
from salticid.geometry.views import views_from_panorama


class PanoramaFolder(Data):
    """All 2:1 pictures under a folder, split into training and validation **by scene**, by folders or by lists.

    Args:
        root: the folder, searched recursively for JPEG, PNG, WebP, TIFF, BMP and Radiance HDR files. Links to files
            are followed, links to folders are not.
        height: rows of the target panorama; it is twice as wide.
        view_size, views, xi, focal: the rig cut out of each panorama: `views` UCM cameras of view_size² pixels
            at equal steps of yaw, all at the panorama's own centre. `focal` is in pixels of the view.
        focal_size: height and width of the pictures for which `focal` is stated, where that is not view_size: 220
            pixels of a calibration at 560 are 50.3 at 128. 0: view_size.
        jitter: how much the cameras of training samples vary.
        min_coverage: share of the sphere, by solid angle, that the rig has to see even at its worst jitter; 0 allows
            every rig.
        scene: what makes a scene: `stem` (files of the same name in different folders belong together, as in
            up/down pairs), `folder`, or a regular expression with a group named `scene`, searched in the path
            relative to root.
        val_share: share of the scenes kept out for validation, chosen by a hash of their names, so that a scene
            stays on its side when others are added. Of two scenes or more, each side gets one at least, unless the
            share is 0 (all for training) or 1 (all for validation). None: 0.2, if nothing else says how to split.
        val_scenes: names of the scenes kept out for validation.
        train_folders, val_folders: folders in root for each side.
        train_list, val_list: text files with one path per line, relative to root or to the list's own folder.
        exclude: glob patterns (on the path relative to root) of files to leave out.
        turn: turn training panoramas by a random yaw. flip: mirror half of them.
        gain: every colour channel of a training sample (all of its views and the target alike) is multiplied by a
            factor from [1 − gain, 1 + gain].
        cache_mb: decoded panoramas kept in memory, per loader process.
        source_height: panoramas are reduced to this many rows (area average) when decoded; 0: 4 × height.

    Scenes, a share of them, folders and lists are four ways to split; at most one may be given. Of two folders or
    lists one may be left out: that side then gets all other pictures. If no way is given and root holds pictures in
    `train` and in `val` or `test`, these folders are the split.

    Files that are missing, broken, not 2:1, not 8-bit colour or whose names are not UTF-8 are named in the log,
    counted in `skipped`, left out.

    Raises:
        ConfigError: a value out of range, a rig that sees too little, no such folder or list, more than one way to
            split, no usable panorama, or scenes that cannot be told apart.
    """

    def __init__(
        self,
        root: Path,
        height: int = 64,
        view_size: int = 64,
        views: int = 4,
        xi: float = 0.9,
        focal: float = 34.0,
        focal_size: int = 0,
        jitter: RigJitter | None = None,
        min_coverage: float = 0.9,
        scene: str = "stem",
        val_share: float | None = None,
        val_scenes: Sequence[str] = (),
        train_folders: Sequence[str] = (),
        val_folders: Sequence[str] = (),
        train_list: Path | None = None,
        val_list: Path | None = None,
        exclude: Sequence[str] = (),
        turn: bool = True,
        flip: bool = True,
        gain: float = 0.0,
        cache_mb: int = 1024,
        source_height: int = 0,
    ):
        self.root = Path(root)
        if not self.root.is_dir():
            raise ConfigError(f"data.root: {root} is not a folder of panoramas")
        self.jitter = jitter or RigJitter()
        check_values(
            self.jitter,
            height=height,
            view_size=view_size,
            views=views,
            xi=xi,
            focal=focal,
            focal_size=focal_size,
            gain=gain,
            cache_mb=cache_mb,
            source_height=source_height,
        )
        split = Split(val_scenes, val_share, train_folders, val_folders, train_list, val_list)
        self.height = height
        pixels = focal * view_size / (focal_size or view_size)
        self.rig = Rig.ring(views, UCM.centred(view_size, view_size, f=pixels, xi=xi))
        check_coverage(self.rig, min_coverage, focal, extremes=partial(extremes, jitter=self.jitter))
        self.turn, self.flip, self.gain = turn, flip, gain
        self.cache = DecodedCache(cache_mb * 2**20, source_height or 4 * height)
        self.train_files, self.val_files, self.skipped = divided(self.root, split, scene, exclude)

    def train(self) -> "PanoramaViews":
        return PanoramaViews(self, self.train_files)

    def val(self) -> "PanoramaViews":
        return PanoramaViews(self, self.val_files)


class PanoramaViews(Source):
    """Samples of a list of panorama files: `views` (N, 3, h, w), `panorama` (3, H, W), `intrinsics` (N, 5) as
    fx, fy, cx, cy, ξ, and `poses` (N, 4, 4) camera → rig."""

    def __init__(self, folder: PanoramaFolder, files: Sequence[Path]):
        self.folder, self.files = folder, files

    def __len__(self) -> int:
        return len(self.files)

    def id(self, index: int) -> str:
        return self.files[index].as_posix()

    def sample(self, index: int, augment: Generator | None) -> Sample:
        folder = self.folder
        source = folder.cache.read(folder.root / self.files[index])  # uint8 (3, Hs, 2·Hs)
        rig, gain = folder.rig, torch.ones(3, 1, 1)
        if augment is not None:
            source = self.turned(source, augment)
            rig = jittered(rig, folder.jitter, augment)
            gain = 1 + folder.gain * signed(3, augment)[:, None, None]
        views = views_from_panorama(source, rig)
        panorama = F.interpolate(source[None].float(), (folder.height, 2 * folder.height), mode="area")[0] / 127.5 - 1
        return {
            "views": brightened(views, gain),
            "panorama": brightened(panorama, gain),
            "intrinsics": ucm_intrinsics(rig),
            "poses": rig.poses.float(),
        }

    def turned(self, source: Tensor, augment: Generator) -> Tensor:
        """The panorama with a random heading and mirrored half of the time: both exact, without resampling."""
        shift = int(torch.randint(source.shape[-1], (), generator=augment)) if self.folder.turn else 0
        mirror = bool(torch.rand((), generator=augment) < 0.5) and self.folder.flip
        source = torch.roll(source, shift, dims=-1)
        return source.flip(-1) if mirror else source


def check_values(jitter: RigJitter, **values: float) -> None:
    """Raise ConfigError, with the key, unless all numbers are in their ranges."""
    counts = [(key, values[key], "at least 1", values[key] >= 1) for key in ("height", "view_size", "views")]
    sizes = [(key, values[key], "0 or more", values[key] >= 0) for key in ("focal_size", "cache_mb", "source_height")]
    xi, focal, gain = values["xi"], values["focal"], values["gain"]
    for key, value, expected, right in (
        *counts,
        *sizes,
        ("xi", xi, "a finite number, not negative", 0 <= xi < math.inf),
        ("focal", focal, "a finite number above 0", 0 < focal < math.inf),
        ("jitter.xi", jitter.xi, "0 to below 1", 0 <= jitter.xi < 1),
        ("jitter.focal", jitter.focal, "a finite number, not negative", 0 <= jitter.focal < math.inf),
        ("jitter.rotation", jitter.rotation, "0 to 180 degrees", 0 <= jitter.rotation <= 180),
        ("gain", gain, "0 to 1", 0 <= gain <= 1),
    ):
        if not right:
            raise ConfigError(f"data.{key} is {value}; expected {expected}")


def brightened(image: Tensor, gain: Tensor) -> Tensor:
    """The image in [−1, 1] with every channel's grey levels multiplied by its gain, clipped at white."""
    return ((image + 1) * gain).clamp(max=2) - 1
