"""Data sets whose targets are named by lists."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from pathlib import Path

from salticid.data.readers.depth.files import Files
from salticid.data.readers.motion.base import MotionData
from salticid.data.readers.motion.film import Film, Target
from salticid.data.readers.motion.tables import read_targets
from salticid.errors import ConfigError

PICTURE = r"(\d+)\.(?:jpg|png)"


@dataclass(kw_only=True, eq=False)
class ListedData(MotionData):
    """Targets of lists; see `MotionData` for what is not said here.

    Args:
        train_list, val_list: targets, `folder frame l|r` a line, as published with Monodepth2 and AF-SfMLearner; a side
            without a list is empty.
    """

    train_list: Path | None = None
    val_list: Path | None = None
    films: dict[tuple[str, str], Film] = field(init=False, repr=False, default_factory=dict)

    def found(self, files: Files) -> tuple[list[Target], list[Target]]:
        if not self.train_list and not self.val_list:
            raise ConfigError("data.train_list: expected a list of targets here or in data.val_list")
        sides: list[list[Target]] = []
        for key in ("train_list", "val_list"):
            path = getattr(self, key)
            targets = read_targets(Path(path), f"data.{key}") if path else []
            sides.append([Target(self.film(files, folder, side), number) for folder, number, side in targets])
        return sides[0], sides[1]

    def film(self, files: Files, folder: str, side: str) -> Film:
        if (folder, side) not in self.films:
            self.films[folder, side] = self.make_film(files, folder, side)
        return self.films[folder, side]

    @abstractmethod
    def make_film(self, files: Files, folder: str, side: str) -> Film:
        """The sequence of one camera, l or r. Without pictures it needs no calibration."""
