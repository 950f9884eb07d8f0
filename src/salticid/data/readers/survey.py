"""Which files of a folder are usable panoramas, and why others are not."""

import logging
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

from salticid.data.readers.pictures import is_picture, picture_size
from salticid.errors import ConfigError, UnreadableSample

log = logging.getLogger(__name__)


def pictures_under(root: Path, folder: str | Path = ".") -> Iterator[Path]:
    """All files below `root`/`folder` with the name of a picture, relative to `root`. Links to files are followed,
    links to folders are not."""
    return (path.relative_to(root) for path in (root / folder).rglob("*") if is_picture(path) and path.is_file())


def without_excluded(root: Path, paths: Iterable[Path], exclude: Sequence[str]) -> list[Path]:
    """The paths (relative to `root`) that no glob pattern matches, sorted; patterns that match nothing are remarked on.

    Raises:
        ConfigError: a pattern is empty.
    """
    if "" in exclude:
        raise ConfigError("data.exclude: a pattern is empty")
    kept, unmatched = [], dict.fromkeys(exclude)
    for path in sorted(paths):
        matching = [pattern for pattern in exclude if path.match(pattern)]
        for pattern in matching:
            unmatched.pop(pattern, None)
        if not matching:
            kept.append(path)
    for pattern in unmatched:
        log.warning("data.exclude: no picture under %s matches %r", root, pattern)
    return kept


def survey(root: Path, paths: Collection[Path]) -> tuple[list[Path], dict[str, str]]:
    """The usable ones of `paths` (relative to `root`), and the reason for every one that is not.

    Raises:
        ConfigError: there is no usable file.
    """
    usable, skipped = [], {}
    for relative in paths:
        try:
            check_panorama(root / relative)
        except UnreadableSample as error:
            skipped[printable(relative)] = str(error)
            log.warning("skipped %s", error)
        else:
            usable.append(relative)
    if not usable:
        raise ConfigError(f"data.root: no usable 2:1 panorama under {root} ({len(skipped)} files skipped)")
    return usable, skipped


def check_panorama(path: Path) -> None:
    """Raise UnreadableSample, with the reason, unless the file's name and header are those of a usable panorama."""
    if printable(path) != str(path):
        raise UnreadableSample(f"{printable(path)}: the file's name is not UTF-8")
    if not os.path.isfile(path):  # pathlib's own question raises on names that are too long
        raise UnreadableSample(f"{path}: no such file")
    height, width = picture_size(path)
    if not height or abs(width / height - 2) > 0.02:
        raise UnreadableSample(f"{path}: {width}×{height} is not 2:1")


def printable(path: Path) -> str:
    """The path with escapes for bytes that are not UTF-8."""
    return str(path).encode(errors="backslashreplace").decode()
