"""A folder of equirectangular pictures as training data: fisheye views are cut out of them on the fly."""

import logging
import math
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from salticid.data.readers.cache import DecodedCache
from salticid.data.readers.jitter import RigJitter, jittered, signed
from salticid.data.readers.pictures import is_picture, picture_size
from salticid.data.readers.scenes import kept_out, scene_rule
from salticid.data.source import Data, Sample, Source
from salticid.errors import ConfigError, UnreadableSample
from salticid.geometry.cameras import UCM
from salticid.geometry.rig import Rig, ucm_intrinsics
from salticid.geometry.views import views_from_panorama

log = logging.getLogger(__name__)


class PanoramaFolder(Data):
    """All 2:1 pictures under a folder, split into training and validation **by scene**.

    Args:
        root: the folder, searched recursively for JPEG, PNG, WebP, TIFF, BMP and Radiance HDR files. Links to files
            are followed, links to folders are not.
        height: rows of the target panorama; it is twice as wide.
        view_size, views, xi, focal: the rig cut out of each panorama: `views` UCM cameras of view_size² pixels
            at equal steps of yaw, all at the panorama's own centre. `focal` is in pixels of the view.
        jitter: how much the cameras of training samples vary.
        scene: what makes a scene: `stem` (files of the same name in different folders belong together, as in
            up/down pairs), `folder`, or a regular expression with a group named `scene`, searched in the path
            relative to root.
        val_scenes: names of the scenes kept out for validation; empty: a share `val_share` of the scenes, chosen
            by a hash of their names, so that a scene stays on its side when others are added. Of two scenes or more,
            each side gets one at least, unless the share is 0 (all for training) or 1 (all for validation).
        exclude: glob patterns (on the path relative to root) of files to leave out.
        turn: turn training panoramas by a random yaw. flip: mirror half of them.
        gain: every colour channel of a training sample is multiplied by a factor from [1 − gain, 1 + gain].
        cache_mb: decoded panoramas kept in memory, per loader process.
        source_height: panoramas are reduced to this many rows (area average) when decoded; 0: 4 × height.

    Files that are broken, not 2:1, not 8-bit colour or whose names are not UTF-8 are named in the log, counted in
    `skipped`, left out.

    Raises:
        ConfigError: a value out of range, no such folder, no usable panorama, or scenes that cannot be told apart.
    """

    def __init__(
        self,
        root: Path,
        height: int = 64,
        view_size: int = 64,
        views: int = 4,
        xi: float = 0.9,
        focal: float = 34.0,
        jitter: RigJitter | None = None,
        scene: str = "stem",
        val_scenes: Sequence[str] = (),
        val_share: float = 0.2,
        exclude: Sequence[str] = (),
        turn: bool = True,
        flip: bool = True,
        gain: float = 0.2,
        cache_mb: int = 1024,
        source_height: int = 0,
    ):
        self.root = Path(root)
        if not self.root.is_dir():
            raise ConfigError(f"data.root: {root} is not a folder of panoramas")
        self.jitter = jitter or RigJitter()
        for key, value, expected, right in (
            ("height", height, "at least 1", height >= 1),
            ("view_size", view_size, "at least 1", view_size >= 1),
            ("views", views, "at least 1", views >= 1),
            ("xi", xi, "a finite number, not negative", 0 <= xi < math.inf),
            ("focal", focal, "a finite number above 0", 0 < focal < math.inf),
            ("jitter.xi", self.jitter.xi, "0 to below 1", 0 <= self.jitter.xi < 1),
            ("jitter.focal", self.jitter.focal, "a finite number, not negative", 0 <= self.jitter.focal < math.inf),
            ("jitter.rotation", self.jitter.rotation, "0 to 180 degrees", 0 <= self.jitter.rotation <= 180),
            ("val_share", val_share, "0 to 1", 0 <= val_share <= 1),
            ("gain", gain, "0 to 1", 0 <= gain <= 1),
            ("cache_mb", cache_mb, "0 or more", cache_mb >= 0),
            ("source_height", source_height, "0 or more", source_height >= 0),
        ):
            if not right:
                raise ConfigError(f"data.{key} is {value}; expected {expected}")
        self.height = height
        self.rig = Rig.ring(views, UCM.centred(view_size, view_size, f=focal, xi=xi))
        self.turn, self.flip, self.gain = turn, flip, gain
        self.cache = DecodedCache(cache_mb * 2**20, source_height or 4 * height)
        self.files, self.skipped = find_panoramas(self.root, exclude)
        scene_of = scene_rule(scene)
        scenes = {path: scene_of(path) for path in self.files}
        out = kept_out(set(scenes.values()), val_scenes, val_share)
        self.train_files = [path for path in self.files if scenes[path] not in out]
        self.val_files = [path for path in self.files if scenes[path] in out]

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


def find_panoramas(root: Path, exclude: Sequence[str]) -> tuple[list[Path], dict[str, str]]:
    """Usable files under `root` (relative to it, sorted), and the reason for every one that is not.

    Raises:
        ConfigError: there is no usable file, or a pattern is empty.
    """
    if "" in exclude:
        raise ConfigError("data.exclude: a pattern is empty")
    usable, skipped = [], {}
    unmatched = dict.fromkeys(exclude)
    for path in sorted(p for p in root.rglob("*") if is_picture(p) and p.is_file()):
        relative = path.relative_to(root)
        if matching := [pattern for pattern in exclude if relative.match(pattern)]:
            for pattern in matching:
                unmatched.pop(pattern, None)
            continue
        try:
            check_panorama(path)
        except UnreadableSample as error:
            skipped[printable(relative)] = str(error)
            log.warning("skipped %s", error)
        else:
            usable.append(relative)
    for pattern in unmatched:
        log.warning("data.exclude: no picture under %s matches %r", root, pattern)
    if not usable:
        raise ConfigError(f"data.root: no usable 2:1 panorama under {root} ({len(skipped)} files skipped)")
    return usable, skipped


def check_panorama(path: Path) -> None:
    """Raise UnreadableSample, with the reason, unless the file's name and header are those of a usable panorama."""
    if printable(path) != str(path):
        raise UnreadableSample(f"{printable(path)}: the file's name is not UTF-8")
    height, width = picture_size(path)
    if not height or abs(width / height - 2) > 0.02:
        raise UnreadableSample(f"{path}: {width}×{height} is not 2:1")


def printable(path: Path) -> str:
    """The path with escapes for bytes that are not UTF-8."""
    return str(path).encode(errors="backslashreplace").decode()


def brightened(image: Tensor, gain: Tensor) -> Tensor:
    """The image in [−1, 1] with every channel's grey levels multiplied by its gain, clipped at white."""
    return ((image + 1) * gain).clamp(max=2) - 1
