"""Sample pictures of a run, small enough to be embedded in a page."""

import base64
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

QUALITIES = (90, 82, 72)


@dataclass(frozen=True)
class Picture:
    """A file `samples/step-00001000-name.png`."""

    step: int
    name: str
    path: Path


@dataclass(frozen=True)
class Embedded:
    """A picture as a `data:` address."""

    picture: Picture
    address: str
    width: int
    height: int


def find_pictures(run_dir: Path) -> dict[str, list[Picture]]:
    """The pictures of a run by name, each list in the order of steps."""
    found: dict[str, list[Picture]] = {}
    for path in sorted((run_dir / "samples").glob("step-*.png")):
        if parts := re.fullmatch(r"step-(\d{1,12})-(.+)", path.stem):
            found.setdefault(parts[2], []).append(Picture(int(parts[1]), parts[2], path))
    return {name: sorted(pictures, key=lambda p: p.step) for name, pictures in found.items()}


def spread_out(items: Sequence[Picture], most: int) -> list[Picture]:
    """At most so many of the items, evenly spaced, the first and the last among them."""
    if len(items) <= most:
        return list(items)
    return [items[round(i * (len(items) - 1) / max(most - 1, 1))] for i in range(most)]


def embed(picture: Picture, budget: int) -> Embedded | None:
    """A picture in at most about `budget` bytes: as it is where it fits, else as JPEG, made smaller as needed.
    None where the file is no picture."""
    try:
        raw = picture.path.read_bytes()
        with Image.open(io.BytesIO(raw), formats=["PNG"]) as image:
            pixels = image.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    if len(raw) <= budget:
        return Embedded(picture, _address(raw, "png"), *pixels.size)
    coded = _jpeg(pixels, QUALITIES[0])
    for quality in QUALITIES[1:]:
        if len(coded) > budget:
            coded = _jpeg(pixels, quality)
    while len(coded) > budget and min(pixels.size) > 32:
        pixels = pixels.resize((pixels.width * 3 // 4, pixels.height * 3 // 4), Image.Resampling.LANCZOS)
        coded = _jpeg(pixels, QUALITIES[-1])
    return Embedded(picture, _address(coded, "jpeg"), *pixels.size)


def _jpeg(pixels: Image.Image, quality: int) -> bytes:
    out = io.BytesIO()
    pixels.save(out, format="JPEG", quality=quality, optimize=True)
    return out.getvalue()


def _address(raw: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(raw).decode('ascii')}"
