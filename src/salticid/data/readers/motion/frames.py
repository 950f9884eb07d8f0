"""Frames from picture files, at the size that networks want, with no more work than that takes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps

from salticid.data.readers.pictures import is_lying, opened
from salticid.errors import UnreadableSample

if TYPE_CHECKING:
    from jaxtyping import UInt8
    from torch import Tensor


class Frame(NamedTuple):
    pixels: UInt8[Tensor, "3 h w"]
    shape: tuple[int, int]
    """Height and width of the file."""


def read_frame(path: Path, size: tuple[int, int] | None) -> Frame:
    """A picture, upright, RGB, resized to `size` (height, width) by a Lanczos filter that widens with the reduction;
    None: as it is.

    A JPEG file is decoded at half, a quarter or an eighth of its size where that is still twice what is wanted: the
    discarded frequencies are above those that the filter keeps.

    Raises:
        UnreadableSample: as `pictures.decode`.
    """
    with opened(path) as image:
        width, height = image.size
        shape = (width, height) if is_lying(image) else (height, width)
        if size and image.format == "JPEG":
            wanted = (size[0], size[1]) if shape != (height, width) else (size[1], size[0])
            image.draft(image.mode, (2 * wanted[0], 2 * wanted[1]))
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
        return Frame(resized(image, size), shape)


def resized(image: Image.Image, size: tuple[int, int] | None) -> UInt8[Tensor, "3 h w"]:
    """RGB at `size` (height, width), by PyTorch's Lanczos filter, where it has one, or by Pillow's: the same to
    rounding, in three times the time."""
    if image.mode not in ("RGB", "L"):
        image = image.convert("RGB")
    if size and not _TORCH_HAS_LANCZOS:
        image = image.resize((size[1], size[0]), Image.Resampling.LANCZOS)
    pixels = torch.from_numpy(np.array(image))
    pixels = pixels.reshape(*pixels.shape[:2], -1).permute(2, 0, 1)[None]
    if size and pixels.shape[-2:] != size:
        pixels = F.interpolate(pixels, size, mode="lanczos", antialias=True)
    return pixels[0].expand(3, -1, -1).contiguous()


def _torch_has_lanczos() -> bool:
    try:
        F.interpolate(torch.zeros(1, 3, 4, 4, dtype=torch.uint8), (2, 2), mode="lanczos", antialias=True)
    except (NotImplementedError, ValueError):  # added after PyTorch 2.11
        return False
    return True


_TORCH_HAS_LANCZOS = _torch_has_lanczos()


def scaled_alike(shape: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether one (height, width) is the other times a number, to the rounding of half a pixel."""
    (height, width), (other_height, other_width) = shape, other
    return abs(height * other_width - width * other_height) <= 0.5 * (height + width + other_height + other_width)


def check_shapes(shapes: dict[Path, tuple[int, int]]) -> tuple[int, int]:
    """The one size of all pictures. Raises UnreadableSample where they differ."""
    (first, shape), *others = shapes.items()
    for path, other in others:
        if other != shape:
            sizes = f"{other[0]}×{other[1]}, not {shape[0]}×{shape[1]} as {first.name}"
            raise UnreadableSample(f"{path}: a frame of {sizes}")
    return shape
