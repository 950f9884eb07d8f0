"""What prediction reads and writes: first frames, videos, and films of what was made."""

import logging
import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from salticid.data.readers.inputs import find_inputs, report_unreadable
from salticid.data.readers.pictures import read_picture
from salticid.data.readers.video import Video, is_video
from salticid.errors import UnreadableSample, UserError
from salticid.evaluate.pictures import to_bytes
from salticid.evaluate.video_files import VideoWriter

log = logging.getLogger(__name__)


def check_numbers(noise: float | None, **counts: int | None) -> None:
    """Raise UserError where a level of noise that is given is negative or infinite, or a count less than 1."""
    if noise is not None and not 0 <= noise < math.inf:
        raise UserError(f"--noise is {noise}; expected a standard deviation, 0 or more")
    for name, value in counts.items():
        if value is not None and value < 1:
            raise UserError(f"--{name} is {value}; expected at least 1")


def read_frames(file: Path, count: int) -> Tensor:
    """The first frames of a video, or a picture as one: uint8 (n, 3, H, W), n ≤ count.

    Raises:
        UnreadableSample: as `read_picture` and `Video`.
    """
    if not is_video(file):
        return read_picture(file)[None]
    with Video.opened(file) as video:
        return torch.stack(list(islice(video.frames(), count)))


def covered(pictures: Tensor, size: tuple[int, int]) -> Tensor:
    """uint8 (n, 3, H, W) scaled to cover a size and cut to it around the middle: floats in [−1, 1]."""
    height, width = size
    scale = max(height / pictures.shape[-2], width / pictures.shape[-1])
    scaled = max(height, round(pictures.shape[-2] * scale)), max(width, round(pictures.shape[-1] * scale))
    resized = F.interpolate(pictures.float(), scaled, mode="bilinear", antialias=True)
    top, left = (scaled[0] - height) // 2, (scaled[1] - width) // 2
    return resized[..., top : top + height, left : left + width].clamp(0, 255) / 127.5 - 1


def save_film(frames: Tensor, path: Path, rate: Fraction) -> None:
    """Frames (T, 3, H, W) in [−1, 1] as an MP4."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(path, rate) as video:
        for frame in to_bytes(frames).cpu():
            video.write(frame)


def save_films(
    inputs: list[Path], output: Path, ending: str, make: Callable[[Path], tuple[Tensor, Fraction]]
) -> list[Path]:
    """Write what `make` makes of each input, frames (T, 3, H, W) and their rate, and name the files. What cannot be
    read is named, skipped and counted.

    Args:
        inputs: pictures, folders of them, and videos.
        output: a folder, for files named after their inputs with an `ending`; or, for one input, a name in .mp4.

    Raises:
        UserError: nothing could be read, a file would be written twice, or cannot be written.
    """
    files = find_inputs(inputs, output)
    unreadable: list[UnreadableSample] = []
    written = []
    for file, target in zip(files, _targets(files, output, ending), strict=True):
        try:
            frames, rate = make(file)
            save_film(frames, target, rate)
            written.append(target)
        except UnreadableSample as error:
            unreadable.append(error)
            log.warning("skipped: %s", error)
    report_unreadable(unreadable, len(files))
    return written


def _targets(files: list[Path], output: Path, ending: str) -> list[Path]:
    """Where the film of each file goes."""
    if output.suffix.lower() == ".mp4" and not output.is_dir():
        if len(files) != 1:
            raise UserError(f"{output}: is one file, for {len(files)} inputs; expected the name of a folder")
        targets = [output]
    elif output.exists() and not output.is_dir():
        raise UserError(f"{output}: is a file; expected a folder, or a name that ends in .mp4")
    else:
        targets = [output / f"{file.stem}{ending}" for file in files]
    taken = {file.resolve(): file for file in files}
    for file, target in zip(files, targets, strict=True):
        if target.resolve() in taken:
            raise UserError(f"{target}: the film of {file} would take the place of {taken[target.resolve()]}")
        taken[target.resolve()] = file
    return targets


def mosaic(pictures: Tensor, columns: int) -> Iterator[Tensor]:
    """Of views (T, V, 3, H, W) one picture a frame, (3, rows · H, columns · W), the views in rows of columns."""
    missing = -pictures.shape[1] % columns
    filled = torch.cat([pictures, pictures.new_ones(len(pictures), missing, *pictures.shape[2:])], dim=1)
    for frame in filled.unflatten(1, (-1, columns)):
        yield frame.permute(2, 0, 3, 1, 4).flatten(3, 4).flatten(1, 2)
