"""Small files in the formats of the data sets."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image


class Writer:
    """Writes below a root; pictures of any kind that Pillow saves, arrays as NPY, HDF5 as `dataset`."""

    def __init__(self, root: Path):
        self.root = root

    def path(self, name: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def picture(self, name, height, width, seed=0, **options):
        """A picture of random pixels, which it returns; lossless if it is a PNG."""
        pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(self.path(name), **options)
        return pixels

    def png16(self, name, values):
        Image.fromarray(np.asarray(values).astype(np.uint16)).save(self.path(name), format="PNG")

    def npy(self, name, values):
        np.save(self.path(name), values)

    def hdf5(self, name, values):
        h5py = pytest.importorskip("h5py")
        with h5py.File(self.path(name), "w") as file:
            file.create_dataset("dataset", data=values)

    def text(self, name, *lines):
        self.path(name).write_text("\n".join(lines), encoding="utf-8")
        return self.path(name)

    def touch(self, *names):
        for name in names:
            self.path(name).touch()


@pytest.fixture
def write(tmp_path) -> Writer:
    return Writer(tmp_path)


@pytest.fixture
def depth_values():
    """Whole numbers (h, w) from 1 up, all different."""

    def make(height, width, start=1):
        return np.arange(start, start + height * width).reshape(height, width)

    return make
