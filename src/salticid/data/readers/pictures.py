"""Reading picture files of any kind into uint8 colour."""

import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from salticid.errors import UnreadableSample, UserError

COLOUR_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp"})
RADIANCE_SUFFIXES = frozenset({".hdr", ".exr"})
COLOUR_MODES = frozenset({"RGB", "RGBA", "P", "L", "CMYK", "YCbCr"})


def is_picture(path: Path) -> bool:
    """Whether the name is that of a picture file that `read_picture` knows."""
    return path.suffix.lower() in COLOUR_SUFFIXES | RADIANCE_SUFFIXES


def picture_size(path: Path) -> tuple[int, int]:
    """(height, width), from the file's header where the format allows.

    Raises:
        UnreadableSample: not a picture, or not 8-bit colour (16-bit depth maps lie beside many panoramas).
    """
    if path.suffix.lower() in RADIANCE_SUFFIXES:
        return read_radiance(path).shape[:2]  # type: ignore[return-value]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path) as image:
                width, height = image.size
                mode = image.mode
    except Exception as error:  # Pillow's decoders raise what they like on damaged files
        raise UnreadableSample(f"{path}: not a readable picture ({one_line(error)})") from None
    if mode not in COLOUR_MODES:
        raise UnreadableSample(f"{path}: pixel mode {mode} is not 8-bit colour")
    return height, width


def read_picture(path: Path) -> Tensor:
    """The picture as uint8 (3, H, W); Radiance and OpenEXR files are tone-mapped by `tone_map`.

    Raises:
        UnreadableSample: the file is missing, truncated, or no picture.
    """
    if path.suffix.lower() in RADIANCE_SUFFIXES:
        pixels = tone_map(read_radiance(path))
    else:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                with Image.open(path) as image:
                    pixels = np.array(image.convert("RGB"))
        except Exception as error:
            raise UnreadableSample(f"{path}: cannot be decoded ({one_line(error)})") from None
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))


def read_radiance(path: Path) -> np.ndarray:
    """Linear radiance, float32 (H, W, 3)."""
    try:
        import cv2
    except ImportError:
        raise UserError(f"{path}: reading {path.suffix} files needs OpenCV: pip install 'salticid[data]'") from None
    pixels = cv2.imread(str(path), cv2.IMREAD_ANYDEPTH | cv2.IMREAD_COLOR)
    if pixels is None or not np.isfinite(pixels).all():
        raise UnreadableSample(f"{path}: cannot be decoded as radiance")
    return pixels[..., ::-1].astype(np.float32)


def tone_map(radiance: np.ndarray) -> np.ndarray:
    """Linear radiance → uint8: the 90th percentile lands at 0.8 of the range, then gamma 2.2 (as in Hypersim)."""
    white = max(float(np.percentile(radiance, 90)), 1e-8)
    return (np.clip(radiance * (0.8**2.2 / white), 0, 1) ** (1 / 2.2) * 255).round().astype(np.uint8)


def one_line(error: Exception) -> str:
    """An exception's message without line breaks, for messages of one line."""
    return " ".join(str(error).split()) or type(error).__name__
