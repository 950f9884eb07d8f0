"""Which files of a folder are clips or pictures, which of them are usable, and why others are not."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from salticid.data.readers.pictures import is_picture
from salticid.data.readers.scenes import kept_out, scene_rule
from salticid.data.readers.survey import printable, without_excluded
from salticid.data.readers.video import is_video
from salticid.errors import ConfigError, UnreadableSample, require

log = logging.getLogger(__name__)

Found = TypeVar("Found")


def clips_under(root: Path, exclude: Sequence[str]) -> dict[str, list[Path]]:
    """By its id, the frames of every folder of pictures (without videos beside them) below `root`, and, with no frames,
    every video. Links to folders are not followed.

    Raises:
        ConfigError: no such folder, or an empty pattern in `exclude`.
    """
    if not root.is_dir():
        raise ConfigError(f"data.root: {root} is not a folder")
    paths = [Path(folder).relative_to(root) / name for folder, _, names in os.walk(root) for name in names]
    paths = without_excluded(root, (path for path in paths if is_video(path) or is_picture(path)), exclude)
    videos = {path.as_posix(): [] for path in paths if is_video(path)}
    beside = {path.parent for path in paths if is_video(path)}
    folders: dict[str, list[Path]] = {}
    for path in paths:
        if is_picture(path) and path.parent not in beside:
            folders.setdefault(path.parent.as_posix(), []).append(root / path)
    return dict(sorted((videos | folders).items()))


def surveyed(ids: Iterable[str], survey: Callable[[str], Found], skipped: dict[str, str]) -> list[Found]:
    """What `survey` makes of each id, in their order; for those that cannot be read, `skipped` gets the reason."""

    def attempt(id: str) -> Found | UnreadableSample:
        try:
            if printable(Path(id)) != id:
                raise UnreadableSample("the file's name is not UTF-8")
            return survey(id)
        except UnreadableSample as error:
            return error

    ids = list(ids)
    with ThreadPoolExecutor() as pool:  # FFmpeg and Pillow decode without the interpreter's lock
        results = dict(zip(ids, pool.map(attempt, ids), strict=True))
    skipped |= {printable(Path(id)): str(r) for id, r in results.items() if isinstance(r, UnreadableSample)}
    return [result for result in results.values() if not isinstance(result, UnreadableSample)]


def report_skipped(root: Path, skipped: Mapping[str, str], left: int, what: str) -> None:
    """Say in the log what was left out.

    Raises:
        ConfigError: nothing is left.
    """
    if not left:
        reason = f" ({next(iter(skipped.items()))[1]})" if skipped else ""
        raise ConfigError(f"data.root: no usable {what} under {root}; {len(skipped)} left out{reason}")
    for id, reason in skipped.items():
        log.warning("skipped %s: %s", id, reason)
    if skipped:
        log.warning("data: %d of %d %s are left out", len(skipped), len(skipped) + left, f"{what}s")


def divided_by_scene(
    ids: Sequence[str], scene: str, val_scenes: Sequence[str], val_share: float
) -> tuple[list[str], list[str]]:
    """The ids for training and for validation.

    Raises:
        ConfigError: as `scene_rule` and `kept_out`, or a share out of range.
    """
    require("data.val_share", val_share, 0 <= val_share <= 1, "0 to 1")
    scene_of = scene_rule(scene)
    scenes = {id: scene_of(Path(id)) for id in ids}
    out = kept_out(set(scenes.values()), val_scenes, val_share)
    return [id for id in ids if scenes[id] not in out], [id for id in ids if scenes[id] in out]


def check_size(key: str, size: tuple[int, int]) -> None:
    require(key, list(size), min(size) >= 8, "height and width, at least 8 pixels")


def check_rates(key: str, rates: tuple[float, float]) -> None:
    require(key, list(rates), 0 < rates[0] <= rates[1] < math.inf, "two frame rates above 0, ascending")
