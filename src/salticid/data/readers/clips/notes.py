"""What is noted of clips beside their pictures: captions and labels, in files or in the names of folders."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Literal, TypeAlias

from salticid.errors import ConfigError

Captions: TypeAlias = Literal["sidecar"] | Path | None
Labels: TypeAlias = Literal["folder"] | Path | None


def captions_of(root: Path, ids: Sequence[str], source: Captions) -> dict[str, str]:
    """The captions of clips, by id, of those that have one.

    Args:
        source: `sidecar`: a text file of the clip's name beside it, `a/b.txt` of `a/b.mp4`; or a table: `read_table`.

    Raises:
        ConfigError: the table cannot be read.
    """
    if source is None:
        return {}
    if source == "sidecar":
        texts = {id: _text(root / PurePosixPath(id).with_suffix(".txt")) for id in ids}
        return {id: text for id, text in texts.items() if text}
    return _noted(read_table(Path(source), "data.captions"), ids)


def labels_of(root: Path, ids: Sequence[str], source: Labels) -> tuple[dict[str, int], list[str]]:
    """The labels of clips, by id, of those that have one, and the names of all classes.

    Args:
        source: `folder`: the clip's folder is its class; or a table: `read_table`. Where all classes are numbers, they
            are the labels; else classes are numbered in the order of their names.

    Raises:
        ConfigError: the table cannot be read.
    """
    if source is None:
        return {}, []
    if source == "folder":
        names = {id: (root.resolve() / id).parent.name for id in ids}
    else:
        names = _noted(read_table(Path(source), "data.labels"), ids)
    classes = sorted(set(names.values()))
    if source != "folder" and all(name.isdecimal() for name in classes):
        return {id: int(name) for id, name in names.items()}, classes
    return {id: classes.index(name) for id, name in names.items()}, classes


def read_table(path: Path, key: str) -> dict[str, str]:
    """Text by id of a clip, with or without the ending of its name: a JSON object, or a CSV file of two columns. Ids of
    no clip, such as those of a CSV file's head, do not matter.

    Raises:
        ConfigError: the file, given as `key`, cannot be read or holds something else.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            if path.suffix.lower() == ".json":
                return _texts(json.load(file), path, key)
            return _columns(csv.reader(file), path, key)
    except (OSError, ValueError, csv.Error, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else " ".join(str(error).split())
        raise ConfigError(f"{key}: {path} cannot be read ({reason}); expected a JSON object or a CSV file") from None


def _texts(table: object, path: Path, key: str) -> dict[str, str]:
    if not isinstance(table, dict) or not all(isinstance(value, str | int) for value in table.values()):
        raise ConfigError(f"{key}: {path} is no JSON object of texts or numbers by the id of a clip")
    return {id: str(value) for id, value in table.items()}


def _columns(rows: csv.Reader, path: Path, key: str) -> dict[str, str]:
    table = {}
    for row in rows:
        if row and len(row) != 2:
            raise ConfigError(f"{key}: line {rows.line_num} of {path} has {len(row)} columns; expected id and text")
        table |= {row[0]: row[1]} if row else {}
    return table


def _noted(table: Mapping[str, str], ids: Sequence[str]) -> dict[str, str]:
    found = {id: table.get(id, table.get(PurePosixPath(id).with_suffix("").as_posix())) for id in ids}
    return {id: text for id, text in found.items() if text is not None}


def _text(path: Path) -> str:
    """Of a file, or nothing."""
    try:
        return path.read_text(encoding="utf-8-sig").strip()
    except (OSError, UnicodeDecodeError):
        return ""
