"""A folder of one's own pictures with depth or stereo disparity."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from salticid.data.readers.depth.base import DepthData
from salticid.data.readers.depth.decode import (
    ARRAY_SUFFIXES,
    DEPTH_SUFFIXES,
    RASTER_SUFFIXES,
    fitted,
    read_colour,
    read_mask,
    read_values,
)
from salticid.data.readers.depth.files import Files
from salticid.data.readers.depth.pairs import Decoded, Pair
from salticid.data.readers.depth.templates import Template, by_stem
from salticid.data.readers.pictures import COLOUR_SUFFIXES, RADIANCE_SUFFIXES
from salticid.data.readers.scenes import scene_rule
from salticid.data.readers.splits import Split, remark_on_shared_scenes
from salticid.data.readers.survey import printable, without_excluded
from salticid.errors import ConfigError

if TYPE_CHECKING:
    from jaxtyping import Float, Shaped

PICTURE_SUFFIXES = COLOUR_SUFFIXES | RADIANCE_SUFFIXES


@dataclass(frozen=True)
class Stereo:
    """A calibrated, rectified pair of cameras: depth = focal · baseline / (disparity + doffs).

    Raises:
        ConfigError: no positive focal length or baseline.
    """

    focal: float
    """Pixels."""
    baseline: float
    """Metres."""
    doffs: float = 0.0
    """cx of the right camera less cx of the left one, pixels (Middlebury's name)."""

    def __post_init__(self) -> None:
        for name in ("focal", "baseline"):
            if not 0 < (value := getattr(self, name)) < math.inf:
                raise ConfigError(f"data.stereo.{name} is {value}; expected a finite number above 0")

    def depth(self, disparity: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
        """Metres; infinite where the disparity shows nothing this side of infinity."""
        shift = disparity + np.float32(self.doffs)
        return np.divide(self.focal * self.baseline, shift, out=np.full_like(shift, np.inf), where=shift > 0)


@dataclass(kw_only=True, eq=False)
class DepthFolder(DepthData):
    """Pictures with depth in a folder of one's own; see `DepthData` for what is not said here.

    Args:
        image, depth, mask: where the files of a pair lie in root. `{name}` stands for any text, folders included, and
            is the same in all three; there may be others, as in `{scene}/rgb/{name}`. Without an ending, any that is
            known will do. A mask is a file of one channel, 0 where depth is not to be trusted; null: none.
        scale: metres (or pixels of disparity) are value / scale. Null: 1000 for files of integers, that is
            millimetres; 1 for files of floats and for disparity.
        offset: pixels added to value / scale where that is disparity.
        key: which array of an NPZ, which channel of an EXR; null: the only or likeliest one.
        stereo: the calibration, where files hold disparity; null: they hold depth.
        fit_picture: resize a picture (area average) that is not as large as its depth, instead of skipping the pair.
        scene: what makes a scene: `folder`, `stem`, or a regular expression with a group named `scene`, searched in
            the picture's path. Null: the folder, if pictures lie in several, else the stem.
        val_share, val_scenes, train_folders, val_folders: how to split, as in `PanoramaFolder`; lists are the fourth
            way. A line of a list is `picture depth [mask]`. Folders `train` beside `val` or `test` need no setting.
        exclude: glob patterns of pictures to leave out.

    Values that are 0, negative, NaN or infinite are not valid, be they depth or disparity.
    """

    image: str = "rgb/{name}"
    depth: str = "depth/{name}"
    mask: str | None = None
    scale: float | None = None
    offset: float = 0.0
    key: str | None = None
    stereo: Stereo | None = None
    fit_picture: bool = False
    scene: str | None = None
    val_share: float | None = None
    val_scenes: Sequence[str] = ()
    train_folders: Sequence[str] = ()
    val_folders: Sequence[str] = ()
    exclude: Sequence[str] = ()

    layout: ClassVar[str] = "no picture that data.image matches has the depth that data.depth says"

    def __post_init__(self) -> None:
        if self.scale is not None and not 0 < self.scale < math.inf:
            raise ConfigError(f"data.scale is {self.scale}; expected a finite number above 0, or null")
        if not math.isfinite(self.offset):
            raise ConfigError(f"data.offset is {self.offset}; expected a finite number")
        if self.offset and self.stereo is None:
            raise ConfigError(f"data.offset is {self.offset}, but without data.stereo files hold depth; expected 0")
        self._split = Split(
            self.val_scenes, self.val_share, self.train_folders, self.val_folders, self.train_list, self.val_list
        )
        super().__post_init__()

    def columns(self, columns: list[str]) -> Sequence[str]:
        return columns[0], columns[1], *columns[2:3]

    def decode(self, pair: Pair) -> Decoded:
        path = self.root / pair.depth
        depth = self.metres(read_values(path, self.key))
        mask = read_mask(self.root / pair.mask) if pair.mask else None
        picture = read_colour(self.root / pair.image, depth.shape)
        return Decoded(fitted(picture, depth.shape) if self.fit_picture else picture, depth, mask)

    def metres(self, values: Shaped[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
        """Depth of what a file holds; 0, NaN or infinite where it holds nothing."""
        scale = self.scale
        if scale is None:
            scale = 1000.0 if values.dtype.kind in "iu" and self.stereo is None else 1.0
        known = np.isfinite(values) & (values > 0)
        scaled = values.astype(np.float32) / np.float32(scale)
        if self.stereo is not None:
            scaled = self.stereo.depth(scaled + np.float32(self.offset))
        return np.where(known, scaled, np.float32(0))

    def found(self, files: Files) -> tuple[list[Pair], list[Pair]]:
        pairs = self._matched(files.all())
        kept = {path.as_posix() for path in without_excluded(self.root, map(Path, pairs), self.exclude)}
        pairs = {image: pair for image, pair in pairs.items() if image in kept}
        folders = {Path(image).parent for image in pairs}
        scene_of = scene_rule(self.scene or ("folder" if len(folders) > 1 else "stem"))
        scenes = {Path(image): scene_of(Path(image)) for image in pairs}
        sides = self._split.sides(self.root) if pairs else None
        if sides is None:
            val = self._split.val_files(scenes) if pairs else set()
            train = scenes.keys() - val
        else:
            train, val = sides
            remark_on_shared_scenes({path: scenes[path] for path in scenes.keys() & (train | val)}, scenes.keys() & val)
        train_pairs, val_pairs = (
            [pair for image, pair in pairs.items() if Path(image) in side] for side in (train, val)
        )
        return train_pairs, val_pairs

    def _matched(self, paths: list[str]) -> dict[str, Pair]:
        """The pairs that the patterns make of files, by picture. Pictures without depth are noted in `skipped`."""
        image = Template(self.image, PICTURE_SUFFIXES, "data.image")
        others = [Template(self.depth, DEPTH_SUFFIXES, "data.depth")]
        if self.mask is not None:
            others.append(Template(self.mask, RASTER_SUFFIXES | ARRAY_SUFFIXES, "data.mask"))
        for other in others:
            if more := other.names - image.names:
                raise ConfigError(f"{other.key}: {other.text!r} has {{{min(more)}}}, which data.image has not")
        matcher, stems = image.matcher(), by_stem(paths)
        matches = [(path, match.groupdict()) for path in paths if (match := matcher.fullmatch(path))]
        partners = {path: [other.find(values, stems) for other in others] for path, values in matches}
        depths = {partner for path, found in partners.items() for partner in found if partner != path}
        pairs = {}
        for path, values in matches:
            found = partners[path]
            missing = [other for other, partner in zip(others, found, strict=True) if partner in (None, path)]
            if not missing:
                pairs[path] = Pair(path, *filter(None, found))
            elif path not in depths:  # `{name}` matches the depth of `{name}_depth` as well
                partner = missing[0].filled(values) + ("" if missing[0].ends else ".*")
                self.skipped[printable(Path(path))] = f"no file {printable(Path(partner))} ({missing[0].key})"
        if not matches:
            there = f"there are {', '.join(paths[:3])}{' …' if len(paths) > 3 else ''}" if paths else "it is empty"
            raise ConfigError(f"data.image: no picture under {self.root} matches {self.image!r}; {there}")
        return pairs
