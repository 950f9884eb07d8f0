"""Frames of a video file in any order: decoded once, at the size that is wanted, into a file that is mapped."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from salticid.data.readers.motion.frames import Frame, resized
from salticid.data.readers.video import Video
from salticid.errors import ConfigError, UnreadableSample


def frame_name(clip: str, number: int) -> str:
    return f"{clip}/{number:06d}"


def default_cache() -> Path:
    """A folder of this user among the temporary files."""
    return Path(tempfile.gettempdir()) / f"salticid-frames-{os.getuid() if hasattr(os, 'getuid') else 'user'}"


class Clip:
    """A video file whose frames were decoded into `cache`, as uint8 (N, h, w, 3), or are now. What is there is used
    again as long as the video has the same size and time of change. The file appears complete or not at all.

    Args:
        size: height and width that frames are resized to; None: as they are.

    Raises:
        ConfigError: no video, a damaged one, or a cache that cannot be written.
    """

    def __init__(self, path: Path, size: tuple[int, int] | None, cache: Path) -> None:
        self.path, self.size = path, size
        try:
            stat = path.stat()
            key = json.dumps([str(path.resolve()), stat.st_size, stat.st_mtime_ns, size])
            stem = hashlib.sha256(key.encode()).hexdigest()[:24]
            self.pixels, self.facts = cache / f"{stem}.bin", cache / f"{stem}.json"
            if not self.facts.is_file():
                cache.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._decode()
            facts = json.loads(self.facts.read_text(encoding="utf-8"))
        except UnreadableSample as error:
            raise ConfigError(f"data.root: {error}") from None
        except OSError as error:
            raise ConfigError(f"data.cache: {error.filename or cache}: {error.strerror or error}") from None
        self.count: int = facts["count"]
        self.rate: float = facts["rate"]
        self.shape: tuple[int, int] = (facts["height"], facts["width"])

    def frame(self, number: int) -> Frame:
        """Frame `number`, from 0. Raises UnreadableSample where the cache is gone."""
        height, width = self.size or self.shape
        try:
            frames = np.memmap(self.pixels, np.uint8, "r", shape=(self.count, height, width, 3))
        except (OSError, ValueError) as error:
            raise UnreadableSample(f"{self.pixels}: decoded frames cannot be read ({error})") from None
        return Frame(torch.from_numpy(np.array(frames[number])).permute(2, 0, 1).contiguous(), self.shape)

    def _decode(self) -> None:
        aside = self.pixels.with_suffix(f".{os.getpid()}.tmp")
        count, shape = 0, (0, 0)
        try:
            with Video.opened(self.path) as video, aside.open("wb") as file:
                rate = float(video.rate)
                for frame in video.frames():
                    shape = frame.shape[1:]
                    picture = resized(Image.fromarray(frame.permute(1, 2, 0).numpy()), self.size)
                    file.write(picture.permute(1, 2, 0).numpy().tobytes())
                    count += 1
            aside.replace(self.pixels)
            facts = {"count": count, "rate": rate, "height": shape[0], "width": shape[1]}
            aside.write_text(json.dumps(facts), encoding="utf-8")
            aside.replace(self.facts)
        finally:
            aside.unlink(missing_ok=True)
