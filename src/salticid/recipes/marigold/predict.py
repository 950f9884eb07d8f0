"""From picture files, folders and video files to files of their depth."""

import logging
from collections.abc import Sequence
from pathlib import Path

import torch

from salticid.data.readers.inputs import find_inputs, report_unreadable
from salticid.data.readers.pictures import read_picture
from salticid.data.readers.video import Video, is_video
from salticid.errors import UnreadableSample, UserError
from salticid.recipes.marigold.estimator import Estimator, Frames, Temporal
from salticid.recipes.marigold.results import ENDINGS, Intrinsics, Output, files_of, is_file, save_picture, save_video

log = logging.getLogger(__name__)


@torch.no_grad()
def predict_depth(
    estimator: Estimator,
    inputs: list[Path],
    output: Path,
    *,
    outputs: Sequence[Output] = ("png16", "npy", "colour"),
    intrinsics: Intrinsics | None = None,
    temporal: Temporal = "none",
) -> list[Path]:
    """Write the depth of pictures and videos, and name the files. What cannot be read is named, skipped and counted.

    Args:
        inputs: picture files, folders of them, and video files.
        output: a folder; or the name of one file, for a single picture (.png, .npy, .ply: 16-bit PNG, array, points)
            or video (.mp4), which is then all that is written.
        outputs: what is written of a picture. A video becomes an MP4 of colours, with `npy` beside it one array
            (frames, H, W) too.
        intrinsics: fx, fy, cx, cy in pixels of the input, for `ply`.
        temporal: what holds the frames of a video together, see `Frames`.

    Raises:
        UserError: options that do not fit each other, nothing could be read, or a file cannot be written.
    """
    files = find_inputs(inputs, output)
    chosen = _single(files, output) if is_file(output) else tuple(dict.fromkeys(outputs))
    plans = files_of(files, output, chosen)
    _check(chosen, estimator.ensemble, intrinsics)
    written: list[Path] = []
    unreadable: list[UnreadableSample] = []
    for file, plan in zip(files, plans, strict=True):
        try:
            if is_video(file):
                with Video.opened(file) as video:
                    save_video(video, Frames(estimator, file.name, temporal), plan)
            else:
                save_picture(read_picture(file), file.name, estimator, plan, intrinsics)
            written += plan.values()
        except UnreadableSample as error:
            unreadable.append(error)
            log.warning("skipped: %s", error)
    report_unreadable(unreadable, len(files))
    return written


def _single(files: list[Path], output: Path) -> tuple[Output, ...]:
    """What is written where the output is one file."""
    if len(files) != 1:
        raise UserError(f"{output}: is one file, for {len(files)} inputs; expected the name of a folder")
    wanted = ENDINGS[output.suffix.lower()]
    if is_video(files[0]) != (wanted == "video"):
        expected = ".mp4" if is_video(files[0]) else ".png, .npy or .ply"
        raise UserError(f"{output}: the result of {files[0].name} is written as {expected}, or into a folder")
    return () if wanted == "video" else (wanted,)


def _check(chosen: Sequence[Output], ensemble: int, intrinsics: Intrinsics | None) -> None:
    if "uncertainty" in chosen and ensemble == 1:
        raise UserError("--outputs has uncertainty, the spread of an ensemble; expected --ensemble 2 or more")
    if "ply" in chosen and intrinsics is None:
        raise UserError("points (ply) need the camera; expected --intrinsics [fx,fy,cx,cy], in pixels of the input")
    if intrinsics is not None and not (intrinsics[0] > 0 and intrinsics[1] > 0):
        raise UserError(f"--intrinsics is {list(intrinsics)}; expected focal lengths above 0")
