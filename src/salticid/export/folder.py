"""A folder that is there whole or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from salticid.engine.disk import flush
from salticid.errors import UserError


@contextmanager
def whole_folder(output: Path) -> Iterator[Path]:
    """Gives a hidden folder beside `output` to write into, which takes that name when the block is through.

    Raises:
        UserError: `output` is something else than an empty folder, or nothing can be written there.
    """
    if output.exists() and not (output.is_dir() and not any(output.iterdir())):
        raise UserError(f"--output {output} exists; expected a new or an empty folder")
    aside = output.absolute().with_name(f".{output.absolute().name}.tmp-{os.getpid()}")
    try:
        aside.mkdir(parents=True)
        yield aside
        for path in sorted(aside.rglob("*"), reverse=True):
            flush(path)
        flush(aside)
        os.rename(aside, output)
        flush(aside.parent)
    except OSError as error:
        raise UserError(f"--output {output} cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
