"""Reading picture files of any kind into uint8 colour."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps
from torch import Tensor

from salticid.data.readers.radiance import radiance_size, read_radiance, tone_map
from salticid.errors import UnreadableSample

COLOUR_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp"})
RADIANCE_SUFFIXES = frozenset({".hdr"})
COLOUR_MODES = frozenset({"RGB", "RGBA", "P", "L", "LA", "CMYK", "YCbCr"})
LYING_ORIENTATIONS = frozenset({5, 6, 7, 8})
"""Of EXIF: rows and columns change places."""


def is_picture(path: Path) -> bool:
    """Whether the name is that of a picture file that `read_picture` knows."""
    return path.suffix.lower() in COLOUR_SUFFIXES | RADIANCE_SUFFIXES


def picture_size(path: Path) -> tuple[int, int]:
    """(height, width) of what `read_picture` returns, from the file's header.

    Raises:
        UnreadableSample: not a picture, too large, or not 8-bit colour (16-bit depth maps lie beside many panoramas).
    """
    if path.suffix.lower() in RADIANCE_SUFFIXES:
        return radiance_size(path)
    with opened(path) as image:
        width, height = image.size
        return (width, height) if is_lying(image) else (height, width)


def read_picture(path: Path) -> Tensor:
    """The picture as uint8 (3, H, W), upright.

    Raises:
        UnreadableSample: as `decode`.
    """
    return as_tensor(decode(path))


def decode(path: Path) -> Image.Image:
    """The picture in mode RGB, turned as its EXIF orientation says; Radiance files are tone-mapped by `tone_map`.

    Raises:
        UnreadableSample: the file is missing, truncated, too large, no picture, or not 8-bit colour.
    """
    if path.suffix.lower() in RADIANCE_SUFFIXES:
        return Image.fromarray(tone_map(read_radiance(path)))
    with opened(path) as image:
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
        return image if image.mode == "RGB" else image.convert("RGB")


def as_tensor(image: Image.Image) -> Tensor:
    """An RGB picture as uint8 (3, H, W)."""
    return torch.from_numpy(np.array(image).transpose(2, 0, 1).copy())


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """A picture file of 8-bit colour or grey; whatever fails with it in the block is an UnreadableSample."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path) as image:
                if image.mode not in COLOUR_MODES:
                    raise UnreadableSample(f"{path}: pixel mode {image.mode} is not 8-bit colour")
                yield image
    except UnreadableSample:
        raise
    except Image.DecompressionBombError:
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        raise UnreadableSample(f"{path}: too large (more than {limit} pixels)") from None
    except Exception as error:  # Pillow's decoders raise what they like on damaged files
        raise UnreadableSample(f"{path}: not a readable picture ({one_line(error)})") from None


def is_lying(image: Image.Image) -> bool:
    """Whether the EXIF orientation has height and width of an opened file still to be swapped."""
    if image.format == "TIFF":
        return False  # Pillow has swapped them
    if image.format == "PNG" and "exif" not in image.info:
        return False  # Pillow would decode all pixels to look for the chunk behind them
    return image.getexif().get(ExifTags.Base.Orientation) in LYING_ORIENTATIONS


def one_line(error: Exception) -> str:
    """An exception's message without line breaks, for messages of one line."""
    return " ".join(str(error).split()) or type(error).__name__
