"""Small videos whose frames say by their brightness which they are."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

STEP = 8
"""Grey levels from frame to frame: 24 frames at most."""


class Studio:
    """Makes videos below a root."""

    def __init__(self, root: Path):
        self.root = root

    def path(self, name: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def film(self, name, count=24, rate=24, shape=(32, 48), stamps=None):
        """Grey frames, darker on the left; `stamps` are times in units of 1/rate s. A keyframe every 6."""
        av = pytest.importorskip("av")
        with av.open(str(self.path(name)), "w") as container:
            codec = {".gif": "gif", ".webm": "libvpx"}.get(Path(name).suffix, "libx264")
            stream = container.add_stream(codec, rate=rate)
            stream.height, stream.width = shape
            stream.pix_fmt = "rgb8" if codec == "gif" else "yuv420p"
            stream.codec_context.time_base = Fraction(1, rate)
            stream.gop_size = 6
            if codec == "libx264":
                stream.options = {"crf": "1", "bf": "2"}
            for number in range(count):
                frame = av.VideoFrame.from_ndarray(picture(number, shape), format="rgb24")
                frame.pts, frame.time_base = (stamps or range(count))[number], Fraction(1, rate)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return self.path(name)

    def folder(self, name, numbers, shape=(32, 48)):
        for number in numbers:
            Image.fromarray(picture(number, shape)).save(self.path(f"{name}/{number:05d}.png"))

    def text(self, name, text):
        self.path(name).write_text(text, encoding="utf-8")
        return self.path(name)


def picture(number, shape):
    values = np.full((*shape, 3), STEP * number + 40, dtype=np.uint8)
    values[:, : shape[1] // 2] -= 40
    return values


def numbers_of(video):
    """Which frames a sample holds, by the darker of its halves, and that they are not something in between."""
    halves = torch.stack([half.float().mean((0, 2, 3)) for half in video.chunk(2, dim=-1)])
    levels = halves.amin(0) / STEP
    assert (levels - levels.round()).abs().max() < 0.3
    return levels.round().int().tolist()


def is_mirrored(video):
    return bool(video[..., :8].float().mean() > video[..., -8:].float().mean())


@pytest.fixture
def studio(tmp_path) -> Studio:
    return Studio(tmp_path / "clips")
