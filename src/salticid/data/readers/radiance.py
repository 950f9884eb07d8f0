"""Reading high dynamic range pictures (Radiance HDR) and bringing them into eight bits."""

import re
from pathlib import Path
from typing import Any

import numpy as np

from salticid.errors import UnreadableSample, UserError

HEADER_LIMIT = 65536
RESOLUTION = re.compile(rb"\n\n-Y (\d+) \+X (\d+)\n")


def radiance_size(path: Path) -> tuple[int, int]:
    """(height, width), from the header alone.

    Raises:
        UnreadableSample: not a Radiance picture whose rows run from top to bottom.
    """
    _opencv(path)  # better missed now than when the first sample is read
    try:
        with path.open("rb") as file:
            header = file.read(HEADER_LIMIT)
    except OSError as error:
        raise UnreadableSample(f"{path}: cannot be read ({error.strerror})") from None
    resolution = RESOLUTION.search(header)
    if not header.startswith(b"#?") or resolution is None:
        raise UnreadableSample(f"{path}: no Radiance header with a line “-Y height +X width”")
    return int(resolution[1]), int(resolution[2])


def read_radiance(path: Path) -> np.ndarray:
    """Linear radiance, float32 (H, W, 3). Infinite values, as of a sun, become the largest finite one.

    Raises:
        UnreadableSample: the file is damaged or holds NaN.
    """
    cv2 = _opencv(path)
    pixels = cv2.imread(str(path), cv2.IMREAD_ANYDEPTH | cv2.IMREAD_COLOR)
    if pixels is None:
        raise UnreadableSample(f"{path}: cannot be decoded as radiance")
    if np.isnan(pixels).any():
        raise UnreadableSample(f"{path}: holds pixels that are not numbers (NaN)")
    finite = np.isfinite(pixels)
    if not finite.all():
        pixels = np.clip(pixels, 0, pixels[finite].max(initial=0))
    return pixels[..., ::-1].astype(np.float32)


def tone_map(radiance: np.ndarray) -> np.ndarray:
    """Linear radiance → uint8: the 90th percentile lands at 0.8 of the range, then gamma 2.2 (as in Hypersim)."""
    white = max(float(np.percentile(radiance, 90)), 1e-8)
    return (np.clip(radiance * (0.8**2.2 / white), 0, 1) ** (1 / 2.2) * 255).round().astype(np.uint8)


def _opencv(path: Path) -> Any:
    try:
        import cv2
    except ImportError:
        raise UserError(f"{path}: reading {path.suffix} files needs OpenCV: pip install 'salticid[data]'") from None
    return cv2
