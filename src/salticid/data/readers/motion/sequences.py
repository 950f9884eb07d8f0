"""Data sets without lists: which sequences, or which part of each, validate."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from salticid.data.readers.depth.files import Files
from salticid.data.readers.motion.base import MotionData
from salticid.data.readers.motion.film import Film, Target
from salticid.errors import ConfigError


@dataclass(kw_only=True, eq=False)
class SequenceData(MotionData):
    """Sequences that are found in root; see `MotionData` for what is not said here.

    Args:
        val_sequences: names of those that validate; the others are trained on.
        val_share: where none is named, the last part of every sequence that validates; no frame of it is seen in
            training.

    Raises:
        ConfigError: besides what `MotionData` says, an unknown sequence or a share out of range.
    """

    val_sequences: Sequence[str] = ()
    val_share: float = 0.1

    layout: ClassVar[str]
    """What `films` looks for, for messages."""

    @abstractmethod
    def films(self, files: Files) -> list[Film]:
        """All sequences."""

    def named(self, films: Sequence[Film]) -> Sequence[str]:
        """The sequences that validate."""
        return self.val_sequences

    def found(self, files: Files) -> tuple[list[Target], list[Target]]:
        if not 0 <= self.val_share <= 1:
            raise ConfigError(f"data.val_share is {self.val_share}; expected 0 to 1")
        films = self.films(files)
        if not any(film.frames for film in films):
            raise ConfigError(f"data.root: no frame under {self.root}: {self.layout}")
        names = self.named(films)
        if unknown := set(names) - {film.name for film in films}:
            known = ", ".join(film.name for film in films[:5])
            raise ConfigError(f"data.val_sequences: no sequence {min(unknown)!r} under {self.root}; there are {known}")
        sides: tuple[list[Target], list[Target]] = [], []
        for film in films:
            if not (numbers := list(film.frames)):
                continue
            first = len(numbers) - round(self.val_share * len(numbers))
            if names:
                first = 0 if film.name in names else len(numbers)
            sides[1].extend(Target(film, number) for number in numbers[first:])
            # Neighbours of a training target are not to validate either.
            edge = numbers[first] - max(max(self.offsets), 0) if first < len(numbers) else numbers[-1] + 1
            sides[0].extend(Target(film, number) for number in numbers[:first] if number < edge)
        return sides
