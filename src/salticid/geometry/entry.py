"""Values of a YAML file that know their place in it, so that every error names file and key."""

import math
import reprlib
from collections.abc import Mapping
from dataclasses import MISSING
from pathlib import Path
from typing import Any

from salticid.errors import UserError


class Entry:
    """A value of a calibration file with its place in it, which the errors name."""

    def __init__(self, path: Path, key: str, value: Any) -> None:
        self.path, self.key, self.value = path, key, value

    def error(self, expected: str) -> UserError:
        return UserError(f"{self.path}: {self.key}: expected {expected}, not {reprlib.repr(self.value)}")

    def get(self, *names: str, default: Any = MISSING) -> "Entry":
        """The first of the entries called `names` that there is."""
        if not isinstance(self.value, Mapping):
            raise self.error("a mapping")
        for name in names:
            if name in self.value:
                return Entry(self.path, f"{self.key}.{name}" if self.key else name, self.value[name])
        where = f"{self.key}.{names[0]}" if self.key else names[0]
        if default is MISSING:
            raise UserError(f"{self.path}: {where}: missing" + (f" (or {names[1]})" if names[1:] else ""))
        return Entry(self.path, where, default)

    def only(self, *names: str) -> None:
        """Refuse entries other than `names`."""
        if not isinstance(self.value, Mapping):
            raise self.error("a mapping")
        for name in self.value:
            if name not in names:
                raise UserError(f"{self.path}: {self.key}: unknown key {name!r}; it may have {', '.join(names)}")

    def items(self) -> list["Entry"]:
        if not isinstance(self.value, list) or not self.value:
            raise self.error("a list that is not empty")
        return [Entry(self.path, f"{self.key}[{i}]", value) for i, value in enumerate(self.value)]

    def text(self) -> str:
        if not isinstance(self.value, str):
            raise self.error("a word")
        return self.value

    def number(self) -> float:
        # YAML 1.1 takes 1e-3, without a point, for a word.
        value = self.value if isinstance(self.value, int | float | str) else math.nan
        try:
            number = math.nan if isinstance(value, bool) else float(value)
        except (ValueError, OverflowError):
            number = math.nan
        if not math.isfinite(number):
            raise self.error("a finite number")
        return number

    def positive(self) -> float:
        if (number := self.number()) <= 0:
            raise self.error("a positive number")
        return number

    def numbers(self, count: int) -> list[float]:
        """`count` numbers, in a list or in the rows of a matrix."""
        rows = self.value if isinstance(self.value, list) else [self.value]
        flat = [x for row in rows for x in (row if isinstance(row, list) else [row])]
        if len(flat) != count:
            raise self.error(f"{count} numbers")
        return [Entry(self.path, self.key, x).number() for x in flat]

    def size(self) -> tuple[int, int]:
        first, second = self.numbers(2)
        if not (first.is_integer() and second.is_integer() and 0 < first <= 1 << 16 and 0 < second <= 1 << 16):
            raise self.error("two whole numbers of pixels")
        return int(first), int(second)
