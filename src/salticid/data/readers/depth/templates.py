"""Patterns that tell which file belongs to which: `rgb/{name}` and `depth/{name}`."""

import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import PurePosixPath

from salticid.errors import ConfigError


class Template:
    """A path with placeholders. `{name}` stands for any text, folders included, the same wherever it stands again.

    Args:
        text: for instance `{scene}/rgb/{name}.png`. Without one of the endings, any of them will do.
        suffixes: the endings that such files may have, in lower case.
        key: of the setting, for messages.

    Raises:
        ConfigError: braces that make no placeholder.
    """

    def __init__(self, text: str, suffixes: Collection[str], key: str) -> None:
        self.text, self.suffixes, self.key = text.removeprefix("./"), suffixes, key
        self._parts = re.split(r"\{(\w+)\}", self.text)
        if any(brace in literal for literal in self._parts[::2] for brace in "{}") or not self.text:
            raise ConfigError(f"{key} is {text!r}; expected a path with placeholders such as {{name}}")
        self.names = frozenset(self._parts[1::2])
        self.ends = PurePosixPath(self.text).suffix.lower() in suffixes

    def matcher(self) -> re.Pattern[str]:
        """An expression for whole paths, whose groups are the placeholders."""
        expression, seen = "", set()
        for i, part in enumerate(self._parts):
            if i % 2 == 0:
                expression += re.escape(part)
            else:
                expression += f"(?P={part})" if part in seen else f"(?P<{part}>.+)"
                seen.add(part)
        endings = "" if self.ends else f"(?i:{'|'.join(map(re.escape, sorted(self.suffixes)))})"
        return re.compile(expression + endings)

    def filled(self, values: Mapping[str, str]) -> str:
        """The path with values for its placeholders, without an ending where the template has none."""
        return "".join(values[part] if i % 2 else part for i, part in enumerate(self._parts))

    def find(self, values: Mapping[str, str], files: Mapping[str, list[str]]) -> str | None:
        """The file of these values, None if there is none.

        Args:
            files: paths by `stem_of` them.

        Raises:
            ConfigError: several files, with different endings.
        """
        path = self.filled(values)
        if self.ends:
            return path if path in files.get(stem_of(path), ()) else None
        candidates = [file for file in files.get(path, ()) if PurePosixPath(file).suffix.lower() in self.suffixes]
        if len(candidates) > 1:
            raise ConfigError(f"{self.key}: both {candidates[0]} and {candidates[1]} are there; add an ending to it")
        return candidates[0] if candidates else None


def stem_of(path: str) -> str:
    """The path without its last ending."""
    return str(PurePosixPath(path).with_suffix(""))


def by_stem(paths: Iterable[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for path in paths:
        found.setdefault(stem_of(path), []).append(path)
    return found
