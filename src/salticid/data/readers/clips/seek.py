"""Some frames out of the middle of a video file, by their time stamps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from salticid.data.readers.depth.decode import needed
from salticid.data.readers.video import Video
from salticid.errors import UnreadableSample

if TYPE_CHECKING:
    from av import VideoFrame
    from jaxtyping import Int64, UInt8


def survey_video(path: Path) -> tuple[tuple[int, int], Int64[np.ndarray, " n"], float]:
    """Height and width, the time stamps of all frames, ascending, and their unit, s. One frame is decoded.

    Raises:
        UnreadableSample: no video, its first frame is damaged, or frames have no time stamps.
    """
    with _opened(path) as video:
        shape = next(video.frames()).shape
    with _opened(path) as video:
        packets = [packet for packet in video.container.demux(video.stream) if packet.size and not packet.is_discard]
        stamps = [packet.pts for packet in packets if packet.pts is not None]
        if len(stamps) < len(packets) or video.stream.time_base is None:
            raise UnreadableSample(f"{path}: frames without time stamps")
        return (shape[1], shape[2]), np.unique(stamps), float(video.stream.time_base)


def frames_at(path: Path, stamps: Sequence[int], made: Callable[[UInt8[Tensor, "3 h w"]], Tensor]) -> list[Tensor]:
    """What is `made` of the frames with these time stamps, ascending; a stamp may come more than once.

    Decoding begins at the keyframe before the first. Where that is not to be found, it begins with the file.

    Raises:
        UnreadableSample: the video is damaged there.
    """
    found: dict[int | None, Tensor] = {}
    for seek in (True, False):
        with _opened(path) as video:
            if seek and not _sought(video, stamps[0]):
                continue
            found = {frame.pts: made(_upright(frame)) for frame in _between(video, stamps)}
        if found.keys() >= set(stamps):
            return [found[stamp] for stamp in stamps]
    counts = f"{len(set(stamps)) - len(found)} of {len(set(stamps))}"
    raise UnreadableSample(f"{path}: the video is damaged: {counts} frames from stamp {stamps[0]} on cannot be decoded")


@contextmanager
def _opened(path: Path) -> Iterator[Video]:
    """Whatever PyAV finds wrong in the block is an UnreadableSample."""
    av = needed("av", "av", path)
    try:
        with Video.opened(path) as video:
            yield video
    except av.FFmpegError as error:
        raise UnreadableSample(f"{path}: the video is damaged ({error.strerror or error})") from None


def _sought(video: Video, stamp: int) -> bool:
    """Whether the file could be wound to the keyframe before `stamp`."""
    import av

    try:
        video.container.seek(stamp, stream=video.stream)
    except av.FFmpegError:
        return False
    return True


def _between(video: Video, stamps: Sequence[int]) -> Iterator[VideoFrame]:
    """The frames with these stamps that are whole."""
    wanted = set(stamps)
    for frame in video.container.decode(video.stream):
        if frame.pts in wanted and not frame.is_corrupt:
            yield frame
        if frame.pts is not None and frame.pts >= stamps[-1]:
            return


def _upright(frame: VideoFrame) -> UInt8[Tensor, "3 h w"]:
    turned = np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90))
    return torch.from_numpy(np.ascontiguousarray(turned.transpose(2, 0, 1)))
