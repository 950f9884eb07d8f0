"""Which files there are, and what a list of pairs names."""

import os
import posixpath
from pathlib import Path

from salticid.errors import ConfigError


class Files:
    """The files below a root, asked for by their path relative to it.

    Folders are listed once each, when they are first asked about: half a million single questions take minutes on a
    network's file system.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._names: dict[str, frozenset[str]] = {}

    def names(self, folder: str) -> frozenset[str]:
        """Names of what lies in a folder; nothing, where there is no such folder."""
        if folder not in self._names:
            try:
                self._names[folder] = frozenset(os.listdir(self.root / folder))
            except OSError:
                self._names[folder] = frozenset()
        return self._names[folder]

    def __contains__(self, path: str) -> bool:
        folder, name = posixpath.split(path)
        return name in self.names(folder)

    def folders(self, *patterns: str) -> list[str]:
        """The folders that match one of the glob patterns, sorted."""
        found = {path for pattern in patterns for path in self.root.glob(pattern) if path.is_dir()}
        return sorted(path.relative_to(self.root).as_posix() for path in found)

    def all(self) -> list[str]:
        """All files, sorted. Links to files are followed, links to folders are not."""
        found = []
        for folder, _, names in os.walk(self.root):
            inner = Path(folder).relative_to(self.root)
            found += [(inner / name).as_posix() for name in names]
        return sorted(found)


def read_list(path: Path, key: str) -> list[tuple[int, list[str]]]:
    """Number and columns of every line. Columns stand between tabs, or in a line without any between spaces; blank
    lines and those that begin with # are comments.

    Raises:
        ConfigError: no such list, no text, no entry.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise ConfigError(f"{key}: {path} cannot be read ({reason}); expected a text file of pairs") from None
    lines = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip() or line.startswith("#"):
            continue
        columns = [column.strip() for column in line.split("\t")] if "\t" in line else line.split()
        lines.append((number, columns))
    if not lines:
        raise ConfigError(f"{key}: {path} names no file")
    return lines
