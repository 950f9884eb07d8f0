"""What is to be there after a power cut."""

import os
from pathlib import Path


def flush(path: Path) -> None:
    """Return when the content of a file, or the names in a directory, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def replace(path: Path, text: str, aside: Path | None = None) -> None:
    """Let the file hold `text`: after a crash it is the old one or the new one, whole.

    Args:
        aside: where it is written first, on the same file system; default: a hidden file beside it.
    """
    aside = aside or path.with_name(f".{path.name}.tmp")
    aside.write_text(text, encoding="utf-8")
    flush(aside)
    os.replace(aside, path)
    flush(path.parent)
