"""What data sets of several views have in common: settings, which objects are usable, and which validate."""

from __future__ import annotations

import logging
import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from salticid.data.grids import span
from salticid.data.readers.grids.samples import Grids
from salticid.data.readers.grids.subject import Colour, Pictures, Subject
from salticid.data.readers.scenes import kept_out
from salticid.data.readers.splits import DEFAULT_SHARE
from salticid.data.source import Data
from salticid.errors import ConfigError, UserError, require

log = logging.getLogger(__name__)

NAMED = 5
"""How many of those left out the log names; all are in `skipped`."""


@dataclass(kw_only=True, eq=False)
class GridData(Data):
    """Objects that are seen by several cameras. What a data set adds: which objects there are (`sides`). What samples
    hold says `salticid.data.grids`.

    Args:
        root: the folder of an object, or of folders with one object each.
        frames: T.
        views: V.
        size: height and width that pictures are resized to, to cover it; what is over is cut off evenly.
        stride: one frame in so many of a film is taken.
        fps: frames per second of films that do not say.
        background: RGB, 0 to 255, of what is transparent.
        context: which view is that of the context camera: the `first`, a `random` one (in validation the first), or
            `each` in turn, so that an object makes as many samples as it has views.
        context_view: the context camera is the last of the views as well, as in SV3D.
        windows: how many choices of context camera, views and frames a training sample has (outcomes, which frozen
            networks can then encode once); null: endlessly many. All are drawn but number 0, that of validation: views
            spread evenly, frames from the first on.
        val_scenes: names of the objects kept out for validation.
        val_share: share of the objects kept out for validation, by a hash of their names; null: 0.2, if no name is
            given.

    Objects that are broken or have too few views are left out, named in the log (the first few) and kept in `skipped`:
    name → reason; so are views without files.

    Raises:
        ConfigError: a value out of range, no such folder, or no object that can be used.
    """

    root: Path = field(kw_only=False)
    frames: int = 5
    views: int = 8
    size: tuple[int, int] = (576, 576)
    stride: int = 1
    fps: float = 24.0
    background: Colour = (255, 255, 255)
    context: Literal["first", "random", "each"] = "first"
    context_view: bool = False
    windows: int | None = None
    val_scenes: Sequence[str] = ()
    val_share: float | None = None
    skipped: dict[str, str] = field(init=False, repr=False, default_factory=dict)
    train_subjects: list[Subject] = field(init=False, repr=False)
    val_subjects: list[Subject] = field(init=False, repr=False)

    marker: ClassVar[str]
    """Glob pattern of a file by which an object's folder is known."""
    layout: ClassVar[str]
    """What an object's folder holds, for messages."""

    def __post_init__(self) -> None:
        self.root = Path(self.root)
        self._check_values()
        self.train_subjects, self.val_subjects = self.sides()
        self._report()

    @property
    def others(self) -> int:
        """Views beside that of the context camera."""
        return self.views - self.context_view

    def train(self) -> Grids:
        return Grids(self, self.train_subjects, training=True)

    def val(self) -> Grids:
        return Grids(self, self.val_subjects, training=False)

    @abstractmethod
    def sides(self) -> tuple[list[Subject], list[Subject]]:
        """The usable objects for training and for validation."""

    def subjects(self, file: str, read: Callable[[str, Path], Subject]) -> list[Subject]:
        """What `read(name, path)` makes of the file of that name in each object's folder.

        Raises:
            ConfigError: there are no folders.
        """
        folders = [self.root]
        if not any(self.root.glob(self.marker)):
            folders = sorted(f for f in self.root.iterdir() if f.is_dir() and not f.name.startswith("."))
        if not folders:
            raise ConfigError(f"data.root: no object under {self.root}: expected {self.layout}")
        found = []
        for folder in folders:
            name = folder.resolve().name
            try:
                found.append(read(name, folder / file))
            except UserError as error:
                self.skipped[name] = str(error)
        return found

    def usable(self, subjects: Sequence[Subject]) -> list[Subject]:
        """Those with enough views, without views that are too short."""
        needed, kept = span(self.frames, self.stride), []
        for subject in subjects:
            # How long videos are is seen when they are read: to open all of them could take hours.
            long = [n for n, f in enumerate(subject.films) if not isinstance(f, Pictures) or len(f) >= needed]
            if len(long) > self.others:
                kept.append(subject.only(long))
                continue
            lack = f"{len(long)} views" + (f" of {needed} frames or more" if needed > 1 else "")
            self.skipped[subject.name] = f"{lack}; data.views needs {self.others + 1} with the context camera's"
        return kept

    def divided(self, subjects: Sequence[Subject]) -> tuple[list[Subject], list[Subject]]:
        """By `val_scenes` or `val_share`. Raises ConfigError as `kept_out`."""
        share = DEFAULT_SHARE if self.val_share is None else self.val_share
        if len(subjects) == 1 and not self.val_scenes and 0 < share < 1:
            raise ConfigError(
                f"data.val_share is {share:g}, but {subjects[0].name} is the only object under {self.root}; expected 0 "
                "(all for training) or 1 (all for validation)"
            )
        out = kept_out({subject.name for subject in subjects}, self.val_scenes, share)
        train, val = ([s for s in subjects if (s.name in out) == side] for side in (False, True))
        return train, val

    def _check_values(self) -> None:
        for key in ("frames", "views", "stride", "windows"):
            value = getattr(self, key)
            require(f"data.{key}", value, value is None or value >= 1, "at least 1")
        require("data.size", list(self.size), min(self.size) >= 1, "height and width, at least 1")
        require("data.fps", self.fps, 0 < self.fps < math.inf, "a finite number above 0")
        require("data.background", list(self.background), all(0 <= c <= 255 for c in self.background), "0 to 255 each")
        require("data.val_share", self.val_share, self.val_share is None or 0 <= self.val_share <= 1, "0 to 1")
        if not self.root.is_dir():
            raise ConfigError(f"data.root: {self.root} is not a folder")

    def _report(self) -> None:
        """Say what was left out; refuse data of which nothing is left."""
        if not self.train_subjects and not self.val_subjects:
            name, reason = next(reversed(self.skipped.items()))
            raise ConfigError(f"data.root: no object under {self.root} can be used; {name}: {reason}")
        for name, reason in list(self.skipped.items())[:NAMED]:
            log.warning("skipped %s: %s", name, reason)
        if len(self.skipped) > NAMED:
            log.warning("skipped %d objects or views in all", len(self.skipped))
