"""Files that appear complete or not at all."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from salticid.errors import UserError


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """A name to write to beside `path`, which takes its place in the end.

    Raises:
        UserError: `path` is a folder or cannot be written.
    """
    aside = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield aside
        aside.replace(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error})") from None
    finally:
        with suppress(OSError):
            aside.unlink(missing_ok=True)
