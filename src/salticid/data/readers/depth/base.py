"""What depth data sets have in common: settings, lists of pairs, and saying which pairs are missing."""

from __future__ import annotations

import logging
import math
import posixpath
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from salticid.data.readers.depth.augment import ColourJitter
from salticid.data.readers.depth.files import Files, read_list
from salticid.data.readers.depth.pairs import Decoded, DepthPairs, Pair
from salticid.data.readers.splits import inside
from salticid.data.readers.survey import printable
from salticid.data.source import Data
from salticid.errors import ConfigError

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

log = logging.getLogger(__name__)

NAMED = 5
"""How many pairs that are left out the log names; all are in `skipped`."""

Window = tuple[slice, slice]
WHOLE: Window = (slice(None), slice(None))


@dataclass(kw_only=True, eq=False)
class DepthData(Data):
    """Pictures with depth. What a data set adds: its layout (`found`, `columns`), how to decode a pair (`decode`), and
    which part of it counts (`window`, `judged`).

    Args:
        root: the folder with the files.
        train_list, val_list: text files with one pair a line, picture and depth, relative to root, to the list's own
            folder, or to `train`, `val` or `test` in root. If one of them is given, lists alone decide, and a side
            without a list is empty. None: the data set's own layout is searched.
        limits: nearest and farthest valid depth, m, both exclusive; evaluation clips predictions to them.
        size: height and width that training pairs are resized to; null: as they are.
        val_size: the same of validation pairs.
        resize: `nearest` takes the nearest pixel (Marigold's way); `area` averages colours. Depth is never averaged.
        crop: height and width cut at random out of a training pair after that; null: all of it.
        flip: mirror half of the training pairs.
        jitter: of colours, in training.

    Pairs of which a file is missing are left out, named in the log (the first few) and kept in `skipped`: name of the
    pair → reason.

    Raises:
        ConfigError: a value out of range, no such folder or list, no pair, or one that is on both sides.
    """

    root: Path = field(kw_only=False)
    train_list: Path | None = None
    val_list: Path | None = None
    limits: tuple[float, float] = (1e-3, math.inf)
    size: tuple[int, int] | None = None
    val_size: tuple[int, int] | None = None
    resize: Literal["nearest", "area"] = "nearest"
    crop: tuple[int, int] | None = None
    flip: bool = True
    jitter: ColourJitter = field(default_factory=ColourJitter)
    skipped: dict[str, str] = field(init=False, repr=False, default_factory=dict)
    train_pairs: list[Pair] = field(init=False, repr=False)
    val_pairs: list[Pair] = field(init=False, repr=False)

    layout: ClassVar[str]
    """What `found` looks for, for messages."""
    line: ClassVar[str] = "picture and depth"
    """What a line of a list holds, for messages."""
    places: ClassVar[Sequence[str]] = ()
    """Folders of root, beside those above, that entries of lists may be relative to."""

    def __post_init__(self) -> None:
        self.root = Path(self.root)
        if not self.root.is_dir():
            hint = "; unpack it" if self.root.is_file() else ""
            raise ConfigError(f"data.root: {self.root} is not a folder{hint}")
        self._check_values()
        files = Files(self.root)
        if self.train_list or self.val_list:
            sides = [self._listed(side, files) for side in ("train", "val")]
        else:
            sides = list(self.found(files))
        self.train_pairs, self.val_pairs = (self._usable(pairs, files) for pairs in sides)
        if both := {pair.id for pair in self.train_pairs} & {pair.id for pair in self.val_pairs}:
            raise ConfigError(f"data: {min(both)} is to be trained on and to validate, one of {len(both)} pairs")
        self._report(sides)

    def train(self) -> DepthPairs:
        return DepthPairs(self, self.train_pairs, training=True)

    def val(self) -> DepthPairs:
        return DepthPairs(self, self.val_pairs, training=False)

    @abstractmethod
    def found(self, files: Files) -> tuple[list[Pair], list[Pair]]:
        """The pairs for training and for validation in the data set's own layout; files may be missing."""

    @abstractmethod
    def decode(self, pair: Pair) -> Decoded:
        """Read the files of a pair.

        Raises:
            UnreadableSample: one of them is damaged.
        """

    def columns(self, columns: list[str]) -> Sequence[str]:
        """Picture, depth and (if any) mask of the columns of a list's line; IndexError where there are too few."""
        return columns[0], columns[1]

    def spellings(self, entry: str) -> Iterable[str]:
        """Paths at which a file that a list names may lie, in each place, the likeliest first."""
        return (entry,)

    def window(self, pair: Pair, shape: tuple[int, ...]) -> Window:
        """The rows and columns of a pair of (height, width) `shape` that are used at all.

        Raises:
            UnreadableSample: it is too small for that.
        """
        return WHOLE

    def judged(self, height: int, width: int) -> Window:
        """The rows and columns in which validation judges depth."""
        return WHOLE

    def valid(self, depth: Float[np.ndarray, "h w"], mask: Bool[np.ndarray, "h w"] | None) -> Bool[np.ndarray, "h w"]:
        """Where decoded depth is good."""
        near, far = self.limits
        between = (depth > near) & (depth < far)  # NaN is neither
        return between if mask is None else between & mask

    def _check_values(self) -> None:
        near, far = self.limits
        if not 0 <= near < far:
            raise ConfigError(f"data.limits is {list(self.limits)}; expected two depths in metres, ascending")
        for key in ("size", "val_size", "crop"):
            size = getattr(self, key)
            if size is not None and min(size) < 1:
                raise ConfigError(f"data.{key} is {list(size)}; expected height and width, at least 1")

    def _listed(self, side: str, files: Files) -> list[Pair]:
        """The pairs of a side's list. Those without depth (None in the list) are noted in `skipped`."""
        key, path = f"data.{side}_list", getattr(self, f"{side}_list")
        if path is None:
            return []
        own = inside(self.root, Path(path).parent)
        places = dict.fromkeys(["", *([own.as_posix()] if own else []), side, *self.places, "train", "val", "test"])
        pairs = []
        for number, columns in read_list(Path(path), key):
            try:
                named = self.columns(columns)
            except IndexError:
                raise ConfigError(f"{key}: line {number} of {path} is short; expected {self.line}") from None
            if "None" in named[1:]:
                self.skipped[named[0]] = "no depth (None in the list)"
                continue
            located = [self._located(name, places, files) for name in named]
            if None in located:
                raise ConfigError(f"{key}: line {number} of {path} leads out of {self.root}")
            pairs.append(Pair(*filter(None, located)))
        return pairs

    def _located(self, entry: str, places: Iterable[str], files: Files) -> str | None:
        """Where the file of a list's entry lies, or should; None if that is outside the root."""
        if posixpath.isabs(entry):
            return None
        first = None
        for place in places:
            for spelling in self.spellings(entry):
                path = posixpath.normpath(posixpath.join(place, spelling))
                if path.startswith("../"):
                    continue
                if path in files:
                    return path
                first = first or path
        return first

    def _usable(self, pairs: Sequence[Pair], files: Files) -> list[Pair]:
        """The pairs all of whose files are there, each once."""
        kept: dict[str, Pair] = {}
        for pair in pairs:
            missing = [path for path in pair.files if path not in files]
            if (name := printable(Path(pair.id))) != pair.id:
                self.skipped[name] = "the file's name is not UTF-8"
            elif missing:
                self.skipped[name] = f"{self.root / missing[0]}: no such file"
            else:
                kept[name] = pair
        if len(kept) < (named := sum(pair.id in kept for pair in pairs)):
            log.warning("data: %d of %d pairs are named more than once; they count once", named - len(kept), named)
        return list(kept.values())

    def _report(self, sides: Sequence[Sequence[Pair]]) -> None:
        """Say what was left out; refuse data of which nothing is left."""
        counts = len(self.train_pairs), len(self.val_pairs)
        for side, pairs, count in zip(("train", "val"), sides, counts, strict=True):
            if getattr(self, f"{side}_list") and pairs and not count:
                missing = list(self.skipped.values())[-1]
                raise ConfigError(f"data.{side}_list: none of its pairs is under {self.root} ({missing})")
        if not any(counts):
            reason = f"; {len(self.skipped)} left out ({next(iter(self.skipped.values()))})" if self.skipped else ""
            raise ConfigError(f"data.root: no pair of picture and depth under {self.root}: {self.layout}{reason}")
        for name, reason in list(self.skipped.items())[:NAMED]:
            log.warning("skipped %s: %s", name, reason)
        if len(self.skipped) > NAMED:
            log.warning("skipped %d pairs in all; %d are left", len(self.skipped), sum(counts))
