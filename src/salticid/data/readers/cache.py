"""Decoded panoramas in memory."""

from collections import OrderedDict
from pathlib import Path

from PIL import Image
from torch import Tensor

from salticid.data.readers.pictures import as_tensor, decode


class DecodedCache:
    """Decoded panoramas, least recently used dropped first. One per process: workers each fill their own.

    Args:
        limit: bytes.
        height: rows that panoramas are reduced to.
    """

    def __init__(self, limit: int, height: int):
        self.limit, self.height, self.size = limit, height, 0
        self.pictures: OrderedDict[Path, Tensor] = OrderedDict()

    def read(self, path: Path) -> Tensor:
        """The panorama as uint8 (3, height, 2·height); smaller files are not enlarged.

        Raises:
            UnreadableSample: the file cannot be decoded.
        """
        if path in self.pictures:
            self.pictures.move_to_end(path)
            return self.pictures[path]
        picture = decode_panorama(path, self.height)
        self.pictures[path] = picture
        self.size += picture.nbytes
        while self.size > self.limit and len(self.pictures) > 1:
            self.size -= self.pictures.popitem(last=False)[1].nbytes
        return picture


def decode_panorama(path: Path, height: int) -> Tensor:
    """uint8 (3, h, 2h), h ≤ `height`: averages of the file's pixels over areas of whole pixels, taken in eight bits,
    for in floats a panorama of 16 384 × 8192 would need 1.6 GB."""
    image = decode(path)
    height = min(height, image.height)
    if image.size != (2 * height, height):
        image = image.resize((2 * height, height), Image.Resampling.BOX)
    return as_tensor(image)
