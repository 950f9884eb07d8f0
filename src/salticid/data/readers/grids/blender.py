"""NeRF's synthetic objects (Mildenhall et al. 2020): renderings by Blender with their cameras."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch

from salticid.data.readers.depth.files import Files
from salticid.data.readers.grids.base import GridData
from salticid.data.readers.grids.cameras import MAX_VIEWS, field_of_view, pose, read_json
from salticid.data.readers.grids.subject import Pictures, Subject
from salticid.data.readers.pictures import is_picture
from salticid.data.readers.splits import inside
from salticid.errors import ConfigError, UserError

if TYPE_CHECKING:
    from jaxtyping import Float64
    from torch import Tensor

    from salticid.geometry.entry import Entry


class _Shot(NamedTuple):
    file: str
    """Relative to the object's folder."""
    pose: Float64[Tensor, "4 4"]
    time: float | None


@dataclass(kw_only=True, eq=False)
class BlenderTransforms(GridData):
    """NeRF-synthetic: `transforms_train.json` with `camera_angle_x` and `frames` of `file_path` (without an ending: a
    PNG) and `transform_matrix`, camera to world in OpenGL's axes, z up, the object around the origin. Other keys do not
    matter. See `GridData` for what is not said here; frames without a file are left out.

    Frames with a `time` make a grid only where cameras stay in their places and are there at every time: one camera
    that moves makes none.

    Args:
        split: of which files to train: transforms_SPLIT.json.
        val_split: which to validate on; null: `val_every` or whole objects.
        val_every: views 0, n, 2n, … of every object validate and are not trained on; null: `val_split` or objects.

    Raises:
        ConfigError: besides what `GridData` says, more than one way to validate, or one that leaves nothing to.
    """

    frames: int = 1
    context: Literal["first", "random", "each"] = "each"
    split: str = "train"
    val_split: str | None = None
    val_every: int | None = None

    marker = "transforms_*.json"
    layout = "transforms_train.json and its pictures, or such folders"

    def sides(self) -> tuple[list[Subject], list[Subject]]:
        ways = [key for key in ("val_split", "val_every", "val_scenes", "val_share") if getattr(self, key)]
        if len(ways) > 1:
            raise ConfigError(f"data.{' and data.'.join(ways)} contradict each other; expected one way to validate")
        train = self._of_split(self.split)
        if self.val_split:
            train, val = self.usable(train), self.usable(self._of_split(self.val_split))
        elif self.val_every:
            train, val = self._by_views(train, self.val_every)
        else:
            return self.divided(self.usable(train))
        if train and not val:
            reason = f" ({name}: {self.skipped[name]})" if (name := next(reversed(self.skipped), "")) else ""
            raise ConfigError(f"data.{ways[0]}: {getattr(self, ways[0])} leaves nothing to validate on{reason}")
        return train, val

    def _of_split(self, split: str) -> list[Subject]:
        return self.subjects(f"transforms_{split}.json", self._subject)

    def _by_views(self, subjects: Sequence[Subject], every: int) -> tuple[list[Subject], list[Subject]]:
        sides = []
        for kept in (False, True):
            parts = [s.only([n for n in range(len(s.views)) if (n % every == 0) == kept]) for s in subjects]
            sides.append(self.usable(parts))
        return sides[0], sides[1]

    def _subject(self, name: str, path: Path) -> Subject:
        """Raises UserError where the file is wrong or times make no grid."""
        root = read_json(path)
        angle, entries = field_of_view(root), root.get("frames").items()
        if len(entries) > MAX_VIEWS:
            raise UserError(f"{path}: frames: {len(entries)} of them; expected at most {MAX_VIEWS}")
        shots = {shot.file: shot for shot in (_shot(entry) for entry in entries)}
        if len(shots) < len(entries):
            raise UserError(f"{path}: frames: {len(entries) - len(shots)} with a file_path that another one has")
        if len({shot.time is None for shot in shots.values()}) > 1:
            raise UserError(f"{path}: frames: expected a time in all of them or in none")
        files = Files(path.parent)
        for file in [file for file in shots if file not in files]:
            self.skipped[f"{name}/{file}"] = f"{path.parent / file}: no such file"
            del shots[file]
        views = _cameras(path, list(shots.values()))
        films = [Pictures([path.parent / shot.file for shot in view], self.background) for view in views]
        poses = torch.stack([view[0].pose for view in views])
        return Subject(name, [view[0].file for view in views], films, poses, angle=angle)


def _shot(entry: Entry) -> _Shot:
    """Raises UserError."""
    path = entry.get("file_path")
    file = path.text() if is_picture(Path(path.text())) else path.text() + ".png"
    folder = entry.path.parent
    relative = inside(folder, folder / file)
    if Path(file).is_absolute() or relative is None or "\0" in file:
        raise path.error("the path of a picture in the object's folder")
    time = entry.get("time").number() if "time" in entry.value else None
    return _Shot(relative.as_posix(), pose(entry.get("transform_matrix"), torch.zeros(3)), time)


def _cameras(path: Path, shots: Sequence[_Shot]) -> list[list[_Shot]]:
    """The shots of each camera, by time. Raises UserError where there are none."""
    if not shots:
        raise UserError(f"{path}: none of its pictures is there")
    if shots[0].time is None:
        return [[shot] for shot in shots]
    places = defaultdict(list)
    for shot in sorted(shots, key=lambda shot: shot.time or 0.0):
        places[tuple(shot.pose.flatten().mul(1e5).round().tolist())].append(shot)
    times = {shot.time for shot in shots}
    views = [view for view in places.values() if {shot.time for shot in view} == times and len(view) == len(times)]
    if not views:
        seen = f"none of {len(places)} cameras is there at all of {len(times)} times"
        raise UserError(f"{path}: {seen}: a film of a moving camera is no grid")
    return views
