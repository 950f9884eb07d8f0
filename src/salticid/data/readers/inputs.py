"""Files that a trained model is to be run on."""

import logging
from collections.abc import Sequence
from pathlib import Path

from salticid.data.readers.pictures import is_picture
from salticid.data.readers.video import is_video
from salticid.errors import UnreadableSample, UserError

log = logging.getLogger(__name__)


def find_inputs(inputs: Sequence[Path], output: Path) -> list[Path]:
    """The picture and video files that are named, and the pictures of folders, each in order of its name.

    Raises:
        UserError: there are none, a file has the name of neither, or results would go among them.
    """
    found: list[Path] = []
    for path in inputs:
        if path.is_dir() and path.resolve() == output.resolve():
            raise UserError(f"{output}: is an input, and its results would be inputs too; expected another folder")
        if path.is_dir():
            found += pictures_of(path)
        elif is_picture(path) or is_video(path):
            found.append(path)
        else:
            raise UserError(f"{path}: expected a folder, a picture or a video (.mp4, .mkv, .mov, .webm, .gif)")
    return list(dict.fromkeys(found))


def pictures_of(folder: Path) -> list[Path]:
    names = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    pictures = [path for path in names if is_picture(path)]
    for path in names:
        if not is_picture(path):
            log.warning("skipped: %s: has not the name of a picture", path)
    if not pictures:
        raise UserError(f"{folder}: has no pictures")
    return pictures


def report_unreadable(unreadable: Sequence[UnreadableSample], count: int) -> None:
    """Log how many of `count` inputs were skipped.

    Raises:
        UserError: all of them.
    """
    if len(unreadable) == count:
        rest = f" (and {count - 1} more)" if count > 1 else ""
        raise UserError(f"nothing could be read: {unreadable[0]}{rest}" if rest else str(unreadable[0]))
    if unreadable:
        log.warning("%d of %d inputs could not be read and were skipped", len(unreadable), count)
