"""What is known of a sequence of frames before one of them is read."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from salticid.errors import ConfigError
from salticid.geometry.lens import Lens

if TYPE_CHECKING:
    from jaxtyping import Float64
    from torch import Tensor


@dataclass(kw_only=True, eq=False)
class Film:
    """The frames of one camera, by their numbers; paths are relative to the root of the data set.

    Offsets to neighbours count in these numbers: where one is missing, so is that neighbour.
    """

    name: str
    """A readable name, unique in its data set."""
    lens: Lens
    """At the size of its calibration. Calibrations that are shares of the width and height are those of an image of
    1 × 1: `normalised`."""
    frames: Mapping[int, str]
    partners: Mapping[int, str] = field(default_factory=dict)
    """Frames of the other camera of a stereo pair."""
    stereo_pose: Float64[Tensor, "4 4"] | None = None
    """The other camera to this one, m."""
    depths: Mapping[int, str] = field(default_factory=dict)
    """Files with depth of frames."""
    poses: Mapping[int, Float64[Tensor, "4 4"]] = field(default_factory=dict)
    """Camera to world, m."""
    ways: Mapping[int, float] = field(default_factory=dict)
    """How far the camera has come, m, along its way from any point of it."""


@dataclass(frozen=True, slots=True)
class Target:
    """A frame that is to be reconstructed from its neighbours."""

    film: Film
    number: int

    @property
    def id(self) -> str:
        return self.film.frames.get(self.number) or f"{self.film.name}/{self.number}"

    def lacks(self, offsets: Iterable[int], truth: Iterable[str], stereo: bool) -> str | None:
        """What of a sample there is not; None: nothing."""
        film, numbers = self.film, [self.number + offset for offset in offsets]
        for number in numbers:
            if number not in film.frames:
                what = "frame" if number == self.number else "neighbour"
                return f"no {what} {number} in {film.name}"
        if stereo and (self.number not in film.partners or film.stereo_pose is None):
            return f"no frame {self.number} of the other camera of {film.name}"
        for kind in truth:
            needed = [self.number] if kind == "depths" else numbers
            if absent := [number for number in needed if number not in getattr(film, kind)]:
                return f"no {kind.rstrip('s')} of frame {absent[0]} of {film.name}"
        return None


def normalised(model: type[Lens], fx: float, fy: float, cx: float, cy: float) -> Lens:
    """The lens of a calibration in shares of the image from its corner: fx · width pixels, centre cx · width from the
    left edge. With pixel centres at integers the principal point is cx · width − ½."""
    return model(1, 1, fx, fy, cx - 0.5, cy - 0.5)


def check_lens(lens: Lens, source: str) -> None:
    """Raise ConfigError unless focal lengths are positive and the principal point lies in the image; `source` says
    where the calibration comes from."""
    values = {name: float(getattr(lens, name)) for name in ("fx", "fy", "cx", "cy")}
    for name, size in (("fx", math.inf), ("fy", math.inf), ("cx", lens.width), ("cy", lens.height)):
        value = values[name]
        if name in ("fx", "fy") and not 0 < value < math.inf:
            raise ConfigError(f"{source}: {name} is {value:g}; expected a positive focal length")
        if name in ("cx", "cy") and not -0.5 <= value <= size - 0.5:
            sizes = f"{lens.height}×{lens.width}"
            raise ConfigError(f"{source}: {name} is {value:g}; expected a principal point in the image, {sizes}")


def numbered(folder: str, names: Iterable[str], pattern: str) -> dict[int, str]:
    """The files of a folder whose whole names match `pattern`, by the number that is its group, in ascending order."""
    matches = [(match, name) for name in names if (match := re.fullmatch(pattern, name))]
    return {int(match[1]): f"{folder}/{name}".removeprefix("./") for match, name in sorted(matches, key=_number)}


def _number(entry: tuple[re.Match[str], str]) -> int:
    return int(entry[0][1])
