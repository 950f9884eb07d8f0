"""What motion data sets have in common: settings, which frames are targets, and saying which are left out."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from salticid.data.motion import Augmentation, check_offsets
from salticid.data.readers.depth.base import NAMED, WHOLE, Window
from salticid.data.readers.depth.decode import read_values
from salticid.data.readers.depth.files import Files
from salticid.data.readers.motion.film import Film, Target
from salticid.data.readers.motion.frames import Frame, read_frame
from salticid.data.readers.motion.samples import MotionFrames
from salticid.data.readers.motion.still import Still, moving
from salticid.data.source import Data
from salticid.errors import ConfigError

if TYPE_CHECKING:
    from jaxtyping import Float

log = logging.getLogger(__name__)

TRUTH = ("depths", "poses", "ways")


@dataclass(kw_only=True, eq=False)
class MotionData(Data):
    """Frames of moving cameras with their neighbours. What a data set adds: which sequences and targets there are
    (`found`), and how its depth is read (`read_depth`). What samples hold says `salticid.data.motion`.

    Args:
        root: the folder with the files.
        size: height and width that frames are resized to; null: as they are.
        offsets: of the frames from the target, which comes first: 0.
        val_offsets: the same of validation; [0] needs no neighbours; null: `offsets`.
        stereo: the other camera's frame is the last one.
        truth: whose samples hold depth, poses and travel, where the data set has them: those of validation or all.
            Frames without what others of the same side have are left out.
        limits: nearest and farthest valid depth, m, both exclusive.
        depth_size: height and width that depth is brought to, by the nearest pixel; null: as measured.
        still: training targets that are left out because the camera hardly moves; null: none.
        keep: how many frames a process holds in memory at `size`, the first that it reads.
        augmentation: of training samples.

    Targets that lack a file are left out, counted in the log and kept in `skipped`: id → reason.

    Raises:
        ConfigError: a value out of range, no such folder or list, no target, or one that is on both sides.
    """

    root: Path = field(kw_only=False)
    size: tuple[int, int] | None = None
    offsets: tuple[int, ...] = (0, -1, 1)
    val_offsets: tuple[int, ...] | None = None
    stereo: bool = False
    truth: Literal["val", "always"] = "val"
    limits: tuple[float, float] = (1e-3, 80.0)
    depth_size: tuple[int, int] | None = None
    still: Still | None = None
    keep: int = 0
    augmentation: Augmentation = field(default_factory=Augmentation)
    skipped: dict[str, str] = field(init=False, repr=False, default_factory=dict)
    train_targets: list[Target] = field(init=False, repr=False)
    val_targets: list[Target] = field(init=False, repr=False)

    per_metre: ClassVar[float] = 1.0
    """Value of a pixel of a depth file at one metre."""

    def __post_init__(self) -> None:
        self.root = Path(self.root)
        self._check_values()
        files = Files(self.root)
        train, val = self.found(files)
        both = {target.id for target in train} & {target.id for target in val}
        if both:
            raise ConfigError(f"data: {min(both)} is to be trained on and to validate, one of {len(both)} frames")
        self.train_truth, self.val_truth = (_known(side) for side in (train, val))
        if self.truth == "val":
            self.train_truth = ()
        self.train_targets = self._usable(train, self.offsets, self.train_truth)
        self.val_targets = self._usable(val, self.val_offsets or self.offsets, self.val_truth)
        if self.still:
            self.train_targets = self._moving(self.still, self.train_targets)
        self._report(len(train) + len(val))

    def train(self) -> MotionFrames:
        return MotionFrames(self, self.train_targets, self.train_truth, self.offsets, training=True)

    def val(self) -> MotionFrames:
        offsets = self.val_offsets or self.offsets
        return MotionFrames(self, self.val_targets, self.val_truth, offsets, training=False)

    @abstractmethod
    def found(self, files: Files) -> tuple[list[Target], list[Target]]:
        """The targets for training and for validation; frames may be missing.

        Raises:
            ConfigError: there are none, or a list or calibration cannot be read.
        """

    def read_frame(self, path: str) -> Frame:
        """A frame at `size`. Raises UnreadableSample."""
        return read_frame(self.root / path, self.size)

    def read_depth(self, film: Film, number: int) -> Float[np.ndarray, "h w"]:
        """Depth of a frame in metres; 0, NaN or infinite where nothing was measured. Raises UnreadableSample."""
        return read_values(self.root / film.depths[number]).astype(np.float32) / np.float32(self.per_metre)

    def judged(self, height: int, width: int) -> Window:
        """The rows and columns in which validation judges depth."""
        return WHOLE

    def _check_values(self) -> None:
        check_offsets(self.offsets, 1 if self.stereo else 2)
        check_offsets(self.val_offsets or self.offsets, 1, "val_offsets")
        if not 0 <= self.limits[0] < self.limits[1]:
            raise ConfigError(f"data.limits is {list(self.limits)}; expected two depths in metres, ascending")
        for key in ("size", "depth_size"):
            size = getattr(self, key)
            if size is not None and min(size) < 1:
                raise ConfigError(f"data.{key} is {list(size)}; expected height and width, at least 1")
        if self.keep < 0:
            raise ConfigError(f"data.keep is {self.keep}; expected 0 or more")
        if not self.root.exists():
            raise ConfigError(f"data.root: {self.root} does not exist")

    def _usable(self, targets: Sequence[Target], offsets: Sequence[int], truth: Sequence[str]) -> list[Target]:
        """The targets all of whose files are there, each once."""
        kept: dict[str, Target] = {}
        for target in targets:
            if lack := target.lacks(offsets, truth, self.stereo):
                self.skipped[target.id] = lack
            else:
                kept[target.id] = target
        return list(kept.values())

    def _moving(self, still: Still, targets: Sequence[Target]) -> list[Target]:
        kept = moving(still, targets, self.offsets, self.root)
        gone = {target.id for target in targets} - {target.id for target in kept}
        self.skipped |= dict.fromkeys(gone, "the camera hardly moves (data.still)")
        return kept

    def _report(self, named: int) -> None:
        """Say what was left out; refuse data of which nothing is left."""
        left = len(self.train_targets) + len(self.val_targets)
        if not left:
            reason = f": {next(iter(self.skipped.values()))}" if self.skipped else ""
            raise ConfigError(f"data.root: none of {named} frames under {self.root} can be used{reason}")
        for name, reason in list(self.skipped.items())[:NAMED]:
            log.warning("skipped %s: %s", name, reason)
        if len(self.skipped) > NAMED:
            kinds = Counter(" ".join(reason.split()[:2]) for reason in self.skipped.values())
            counts = ", ".join(f"{kind}: {count}" for kind, count in kinds.most_common())
            log.warning("skipped %d frames in all (%s …); %d are left", len(self.skipped), counts, left)


def _known(targets: Sequence[Target]) -> tuple[str, ...]:
    """What of the truth any of the targets' sequences has."""
    films = {target.film for target in targets}
    return tuple(kind for kind in TRUTH if any(getattr(film, kind) for film in films))
