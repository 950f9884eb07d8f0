"""Pictures as they come into a video file, arrays into one NPY file; complete or not at all."""

from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np
from torch import Tensor

from salticid.errors import UserError

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.video.stream import VideoStream


class Aside:
    """A file that is written under another name, and there under its own when all has gone well."""

    def __init__(self, path: Path) -> None:
        self.path, self.aside = path, path.with_name(f".{path.name}.tmp")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            self.close(complete=kind is None)
            if kind is None:
                self.aside.replace(self.path)
        except OSError as broken:
            raise UserError(f"{self.path}: cannot be written ({broken.strerror or broken})") from None
        finally:
            with suppress(OSError):
                self.aside.unlink()

    def close(self, *, complete: bool) -> None:
        raise NotImplementedError


class VideoWriter(Aside):
    """Colour frames into an MP4 file: H.264 where PyAV has it, else MPEG-4. Odd sides get one row or column more, a
    copy of the last, since the colour planes have half the size."""

    def __init__(self, path: Path, rate: Fraction) -> None:
        super().__init__(path)
        self.rate = rate
        self.begun: tuple[OutputContainer, VideoStream] | None = None

    def write(self, frame: Tensor) -> None:
        """uint8 (3, H, W), each of the same size."""
        import av

        picture = frame.permute(1, 2, 0).cpu().numpy()
        height, width = picture.shape[:2]
        picture = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        container, stream = self.begun = self.begun or self._begin(*picture.shape[:2])
        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))

    def _begin(self, height: int, width: int) -> "tuple[OutputContainer, VideoStream]":
        import av

        container = av.open(str(self.aside), "w", format="mp4")
        codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
        stream = cast("VideoStream", container.add_stream(codec, rate=self.rate.limit_denominator(65535)))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        return container, stream

    def close(self, *, complete: bool) -> None:
        if self.begun is None:
            return
        container, stream = self.begun
        if complete:
            container.mux(stream.encode(None))
        container.close()


class ArrayWriter(Aside):
    """Arrays of one shape into one NPY file (N, …), float32, as they come."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.file: Any = None
        self.shape: tuple[int, ...] = ()
        self.count = 0

    def write(self, array: Tensor) -> None:
        if self.file is None:
            self.file, self.shape = self.aside.open("wb"), tuple(array.shape)
            self._head()
        self.file.write(array.float().cpu().numpy().astype("<f4").tobytes())
        self.count += 1

    def _head(self) -> None:
        """NumPy leaves room in the header for the first axis to grow."""
        self.file.seek(0)
        head = {"descr": "<f4", "fortran_order": False, "shape": (self.count, *self.shape)}
        np.lib.format.write_array_header_1_0(self.file, head)

    def close(self, *, complete: bool) -> None:
        if self.file is None:
            return
        with self.file:
            if complete:
                self._head()
