"""A folder of equirectangular pictures as training data: fisheye views are cut out of them on the fly."""

import hashlib
import logging
import math
import re
from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from salticid.data.readers.pictures import is_picture, picture_size, read_picture
from salticid.data.source import Data, Sample, Source
from salticid.errors import ConfigError, UnreadableSample
from salticid.geometry.cameras import UCM
from salticid.geometry.rig import Rig
from salticid.geometry.se3 import yaw_pitch_roll
from salticid.geometry.views import views_from_panorama

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RigJitter:
    """How much the cameras of a training sample differ from the nominal rig. Poses and intrinsics in the sample
    are the jittered ones, so a model that looks at them is told the truth."""

    xi: float = 0.0
    """ξ is multiplied by a factor drawn uniformly from [1 − xi, 1 + xi]."""
    focal: float = 0.0
    """The focal length is multiplied by a factor drawn log-uniformly from [1/(1 + focal), 1 + focal]."""
    rotation: float = 0.0
    """Degrees: every view is turned by independent yaw, pitch and roll drawn uniformly from ± this."""


class PanoramaFolder(Data):
    """All 2:1 pictures under a folder, split into training and validation **by scene**.

    Args:
        root: the folder, searched recursively for JPEG, PNG, WebP, TIFF, Radiance HDR and OpenEXR files.
        height: rows of the target panorama; it is twice as wide.
        view_size, views, xi, focal: the rig cut out of each panorama: `views` UCM cameras of view_size² pixels
            at equal steps of yaw, all at the panorama's own centre. `focal` is in pixels of the view.
        jitter: how much the cameras of training samples vary.
        scene: what makes a scene: `stem` (files of the same name in different folders belong together, as in
            up/down pairs), `folder`, or a regular expression with a group named `scene`, searched in the path
            relative to root.
        val_scenes: names of the scenes kept out for validation; empty: a share `val_share` of the scenes, chosen
            by a hash of their names, so that a scene stays on its side when others are added.
        exclude: glob patterns (on the path relative to root) of files to leave out.
        turn: turn training panoramas by a random yaw. flip: mirror half of them.
        gain: every colour channel of a training sample is multiplied by a factor from [1 − gain, 1 + gain].
        cache_mb: decoded panoramas kept in memory, per loader process.
        source_height: panoramas are reduced to this many rows (area average) when decoded; 0: 4 × height.

    Files that are broken, not 2:1 or not 8-bit colour are named in the log, counted in `skipped`, left out.

    Raises:
        ConfigError: no such folder, no usable panorama, or a side of the split is empty.
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
        self.height = height
        self.rig = Rig.ring(views, UCM.centred(view_size, view_size, f=focal, xi=xi))
        self.jitter = jitter or RigJitter()
        self.turn, self.flip, self.gain = turn, flip, gain
        self.scene_of = scene_rule(scene)
        self.source_height = source_height or 4 * height
        self.cache = DecodedCache(cache_mb * 2**20, self.source_height)
        self.files, self.skipped = self.find(exclude)
        self.train_files, self.val_files = self.split(val_scenes, val_share)

    def find(self, exclude: Sequence[str]) -> tuple[list[Path], dict[str, str]]:
        """Usable files (relative, sorted), and the reason for every one that is not."""
        usable, skipped = [], {}
        for path in sorted(p for p in self.root.rglob("*") if p.is_file() and is_picture(p)):
            relative = path.relative_to(self.root)
            if any(relative.match(pattern) for pattern in exclude):
                continue
            try:
                height, width = picture_size(path)
                if abs(width / height - 2) > 0.02:
                    raise UnreadableSample(f"{path}: {width}×{height} is not 2:1")
            except UnreadableSample as error:
                skipped[str(relative)] = str(error)
                log.warning("skipped %s", error)
            else:
                usable.append(relative)
        if not usable:
            raise ConfigError(f"data.root: no usable 2:1 panorama under {self.root} ({len(skipped)} files skipped)")
        return usable, skipped

    def split(self, val_scenes: Sequence[str], val_share: float) -> tuple[list[Path], list[Path]]:
        """Training and validation files; every scene lies on one side."""
        scenes = Counter(self.scene_of(path) for path in self.files)
        if unknown := set(val_scenes) - set(scenes):
            raise ConfigError(f"data.val_scenes: no scene named {sorted(unknown)[0]!r} under {self.root}")
        kept_out = set(val_scenes) or {s for s in scenes if hash_share(s) < val_share}
        train = [p for p in self.files if self.scene_of(p) not in kept_out]
        val = [p for p in self.files if self.scene_of(p) in kept_out]
        for name, side in (("training", train), ("validation", val)):
            if not side:
                raise ConfigError(
                    f"data: no {name} scene among the {len(scenes)} under {self.root}; set data.val_scenes"
                )
        return train, val

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
            "intrinsics": intrinsics(rig),
            "poses": rig.poses.float(),
        }

    def turned(self, source: Tensor, augment: Generator) -> Tensor:
        """The panorama with a random heading and mirrored half of the time: both exact, without resampling."""
        shift = int(torch.randint(source.shape[-1], (), generator=augment)) if self.folder.turn else 0
        mirror = bool(torch.rand((), generator=augment) < 0.5) and self.folder.flip
        source = torch.roll(source, shift, dims=-1)
        return source.flip(-1) if mirror else source


class DecodedCache:
    """Decoded panoramas, least recently used dropped first. One per process: workers each fill their own."""

    def __init__(self, limit: int, height: int):
        self.limit, self.height, self.size = limit, height, 0
        self.pictures: OrderedDict[Path, Tensor] = OrderedDict()

    def read(self, path: Path) -> Tensor:
        """The panorama as uint8 (3, height, 2·height); smaller files are not enlarged."""
        if path in self.pictures:
            self.pictures.move_to_end(path)
            return self.pictures[path]
        picture = read_picture(path)
        height = min(self.height, picture.shape[1])
        if picture.shape[1:] != (height, 2 * height):
            picture = F.interpolate(picture[None].float(), (height, 2 * height), mode="area")[0].round().byte()
        self.pictures[path] = picture
        self.size += picture.nbytes
        while self.size > self.limit and len(self.pictures) > 1:
            self.size -= self.pictures.popitem(last=False)[1].nbytes
        return picture


def brightened(image: Tensor, gain: Tensor) -> Tensor:
    """The image in [−1, 1] with every channel's grey levels multiplied by its gain, clipped at white."""
    return ((image + 1) * gain).clamp(max=2) - 1


def intrinsics(rig: Rig) -> Tensor:
    """(N, 5): fx, fy, cx, cy, ξ of the rig's UCM cameras."""
    rows = [[camera.fx, camera.fy, camera.cx, camera.cy, camera.xi] for camera in rig.cameras]  # type: ignore[attr-defined]
    return torch.tensor(rows, dtype=torch.float32)


def jittered(rig: Rig, jitter: RigJitter, generator: Generator) -> Rig:
    """The rig with cameras drawn around the nominal ones; intrinsics are shared by all views of a sample."""
    xi = 1 + jitter.xi * float(signed(1, generator))
    focal = (1 + jitter.focal) ** float(signed(1, generator))
    angles = signed((len(rig.cameras), 3), generator) * math.radians(jitter.rotation)
    cameras = tuple(
        UCM(c.height, c.width, c.fx * focal, c.fy * focal, c.cx, c.cy, c.xi * xi)  # type: ignore[attr-defined]
        for c in rig.cameras
    )
    poses = rig.poses.clone()
    turn = yaw_pitch_roll(*angles.to(poses.dtype).unbind(-1))
    poses[:, :3, :3] = poses[:, :3, :3] @ turn
    return Rig(cameras, poses, rig.names)


def signed(shape: int | tuple[int, ...], generator: Generator) -> Tensor:
    """Uniform on [−1, 1]."""
    return 2 * torch.rand(shape, generator=generator) - 1


def hash_share(name: str) -> float:
    """A number in [0, 1) that depends on the name alone."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big") / 2**64


def scene_rule(rule: str):
    """The function path → scene name of a `scene` setting."""
    if rule == "stem":
        return lambda path: path.stem
    if rule == "folder":
        return lambda path: path.parent.as_posix()
    try:
        pattern = re.compile(rule)
    except re.error as error:
        raise ConfigError(f"data.scene: {rule!r} is neither stem, folder nor a regular expression ({error})") from None
    if "scene" not in pattern.groupindex:
        raise ConfigError(f"data.scene: {rule!r} has no group named scene: (?P<scene>…)")

    def search(path: Path) -> str:
        match = pattern.search(path.as_posix())
        return match["scene"] if match else path.stem

    return search
