"""From tensors to pictures that a person looks at."""

from contextlib import suppress
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from salticid.errors import UserError

TINT = 255.0, 40.0, 120.0
"""Colour of what no view sees: pink, which hardly any scene has."""
STRIPE = 8
"""Pixels from one stripe to the next."""


def to_bytes(image: Tensor) -> Tensor:
    """Float images in [−1, 1] → uint8 of the same shape."""
    return ((image.detach().float() + 1) * 127.5).round().clamp(0, 255).byte()


def tile(pictures: Tensor, gap: int = 2) -> Tensor:
    """uint8 pictures (rows, columns, 3, H, W) → one sheet (3, rows·(H+gap) − gap, columns·(W+gap) − gap), white
    between them."""
    rows, columns, channels, height, width = pictures.shape
    sheet = torch.full((channels, rows * (height + gap) - gap, columns * (width + gap) - gap), 255, dtype=torch.uint8)
    for r in range(rows):
        for c in range(columns):
            top, left = r * (height + gap), c * (width + gap)
            sheet[:, top : top + height, left : left + width] = pictures[r, c]
    return sheet


def fit(picture: Tensor, height: int, width: int) -> Tensor:
    """A uint8 picture (3, h, w) scaled to fit into height × width, on white."""
    scale = min(height / picture.shape[1], width / picture.shape[2])
    size = round(picture.shape[1] * scale), round(picture.shape[2] * scale)
    scaled = F.interpolate(picture[None].float(), size, mode="bilinear", antialias=True)[0].round().byte()
    top, left = (height - size[0]) // 2, (width - size[1]) // 2
    return F.pad(scaled, (left, width - size[1] - left, top, height - size[0] - top), value=255)


def coverage_picture(panorama: Tensor, seen: Tensor) -> Tensor:
    """A panorama in which people see what is made up: what no view sees is tinted and hatched.

    Args:
        panorama: uint8 (3, H, W), equirectangular.
        seen: bool (H, W), true where at least one view sees the pixel; there the picture stays as it is.

    Returns:
        uint8 (3, H, W), on the panorama's device.
    """
    height, width = seen.shape
    rows, columns = (torch.arange(size, device=panorama.device) for size in (height, width))
    # A whole number of stripes, so that they go on across the seam.
    stripes = max(width // STRIPE, 1)
    dark = (rows[:, None] * stripes + columns * stripes) % width < width // 2
    share = torch.where(dark, 0.7, 0.35)
    tint = torch.tensor(TINT, device=panorama.device)[:, None, None]
    hatched = (panorama + share * (tint - panorama.float())).round().byte()
    return torch.where(seen.to(panorama.device), panorama, hatched)


def save_png(image: Tensor, path: Path, xmp: str | None = None) -> None:
    """Write a uint8 picture (3, H, W); the file appears complete or not at all.

    Args:
        xmp: metadata, an XMP packet that goes into the file as it is.

    Raises:
        UserError: `path` is a folder or cannot be written.
    """
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    metadata = PngInfo()
    if xmp is not None:
        metadata.add_itxt("XML:com.adobe.xmp", xmp)  # uncompressed, as the XMP specification asks
    aside = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.permute(1, 2, 0).cpu().numpy()).save(aside, format="PNG", pnginfo=metadata)
        aside.replace(path)
    except OSError as error:
        with suppress(OSError):
            aside.unlink()
        raise UserError(f"{path}: cannot be written ({error.strerror or error})") from None


def check_png_path(path: Path) -> None:
    """Refuse early what `save_png` could not write, or what would not be what its name says.

    Raises:
        UserError: the name does not end in .png, or is that of a folder.
    """
    if path.suffix.lower() != ".png":
        raise UserError(f"{path}: pictures are written as PNG; expected a name that ends in .png")
    if path.is_dir():
        raise UserError(f"{path}: is a folder; expected the name of a picture file")
