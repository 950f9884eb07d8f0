"""Decoding of the files that data sets keep depth, masks and pictures in. Arrays here are NumPy's, (H, W) or
(H, W, 3)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageOps

from salticid.data.readers.pictures import RADIANCE_SUFFIXES, decode, one_line, opened
from salticid.errors import UnreadableSample, UserError

if TYPE_CHECKING:
    from jaxtyping import Bool, Shaped, UInt8

RASTER_SUFFIXES = frozenset({".png", ".pgm", ".tif", ".tiff"})
ARRAY_SUFFIXES = frozenset({".npy", ".npz"})
DEPTH_SUFFIXES = RASTER_SUFFIXES | ARRAY_SUFFIXES | {".exr", ".pfm"}
SINGLE_CHANNEL = frozenset({"1", "L", "I", "F", "I;16", "I;16B", "I;16L"})
LARGEST = 2**30
"""Bytes of the largest array to unpack from an archive: a few kilobytes of zip can hold terabytes."""
DEPTH_CHANNELS = ("Z", "Y", "depth.Z", "Depth.Z", "depth", "Depth", "V", "R")
"""Channels of an EXR file that may hold depth, the likeliest first."""


@contextmanager
def decoding(path: Path) -> Iterator[None]:
    """Whatever fails in the block is an UnreadableSample that names the file: decoders raise what they like."""
    try:
        yield
    except UserError:
        raise
    except OSError as error:
        raise UnreadableSample(f"{path}: cannot be read ({error.strerror or one_line(error)})") from None
    except Exception as error:
        raise UnreadableSample(f"{path}: not a readable {path.suffix or 'file'} ({one_line(error)})") from None


def needed(module: str, package: str, path: Path) -> Any:
    """An optional package's module. Raises UserError, with what to install, where it is missing."""
    try:
        return import_module(module)
    except ImportError:
        raise UserError(f"{path}: reading it needs {package}: pip install {package.lower()}") from None


def read_colour(path: Path, shape: tuple[int, ...] | None = None) -> UInt8[np.ndarray, "h w 3"]:
    """The picture that belongs to depth of (height, width) `shape`.

    Depth carries no EXIF orientation, and the data sets' depth fits the pixels as they are stored. So they are left
    that way, unless there is a shape that differs: then the picture is turned as EXIF says.

    Raises:
        UnreadableSample: as `pictures.decode`.
    """
    if path.suffix.lower() in RADIANCE_SUFFIXES:
        return np.asarray(decode(path))
    with opened(path) as image:
        image.load()
        if shape and (image.height, image.width) != shape:
            ImageOps.exif_transpose(image, in_place=True)
        return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def fitted(picture: UInt8[np.ndarray, "h w 3"], shape: tuple[int, ...]) -> UInt8[np.ndarray, "H W 3"]:
    """The picture at (height, width) `shape`, by a box filter: every pixel counts towards one new pixel."""
    if picture.shape[:2] == shape:
        return picture
    return np.asarray(Image.fromarray(picture).resize((shape[1], shape[0]), Image.Resampling.BOX))


def read_values(path: Path, key: str | None = None) -> Shaped[np.ndarray, "h w"]:
    """The numbers of a file with one channel, by its ending: PNG, PGM or TIFF of any depth, NPY, NPZ, EXR, PFM.

    Args:
        key: array of an NPZ, channel of an EXR; None: the only one, or of an EXR the likeliest.

    Raises:
        UnreadableSample: missing, damaged, or not one channel.
        UserError: OpenEXR is not installed.
    """
    suffix = path.suffix.lower()
    with decoding(path):
        if suffix in ARRAY_SUFFIXES:
            return _array(path, key)
        if suffix == ".exr":
            return _exr(path, key)
        if suffix == ".pfm":
            return _pfm(path)
        return _raster(path)


def read_mask(path: Path) -> Bool[np.ndarray, "h w"]:
    """Where a file of one channel is neither 0 nor NaN. Raises as `read_values`."""
    values = read_values(path)
    return (values != 0) & (values == values)


def read_hdf5(path: Path, name: str, entry: int | tuple[()] = ()) -> np.ndarray:
    """A data set of an HDF5 file, or one entry of it along its first axis.

    Raises:
        UnreadableSample: the file is missing or damaged, or has no such data set or entry.
        UserError: h5py is not installed.
    """
    h5py = needed("h5py", "h5py", path)
    with decoding(path), h5py.File(path, "r") as file:
        if not isinstance(file.get(name), h5py.Dataset):
            raise UnreadableSample(f"{path}: no data set named {name}")
        return file[name][entry]


def _raster(path: Path) -> np.ndarray:
    # Pillow rather than OpenCV: as fast on pictures of a megapixel, says what is wrong with a damaged file, and libpng
    # does not write to the terminal past us.
    with Image.open(path) as image:
        if image.mode not in SINGLE_CHANNEL:
            raise UnreadableSample(f"{path}: pixel mode {image.mode}; expected one channel")
        return np.asarray(image)


def _array(path: Path, key: str | None) -> np.ndarray:
    # Mapped, so that a header that promises more than the file holds allocates nothing.
    loaded = np.load(path, mmap_mode="r", allow_pickle=False)
    if isinstance(loaded, np.lib.npyio.NpzFile):
        with loaded:
            name = _chosen(path, loaded.files, key, ())
            if (archive := loaded.zip) and archive.getinfo(f"{name}.npy").file_size > LARGEST:
                raise UnreadableSample(f"{path}: {name} has more than {LARGEST} bytes")
            loaded = loaded[name]
    plane = np.asarray(loaded)
    if plane.ndim == 3 and 1 in (plane.shape[0], plane.shape[2]):
        plane = plane[0] if plane.shape[0] == 1 else plane[..., 0]
    if plane.ndim != 2 or plane.dtype.kind not in "biuf":
        raise UnreadableSample(f"{path}: {plane.dtype} of shape {plane.shape}; expected numbers of one channel")
    return plane


def _exr(path: Path, key: str | None) -> np.ndarray:
    if not path.is_file():
        raise FileNotFoundError(2, "No such file or directory")  # OpenEXR's own message has several lines
    with needed("OpenEXR", "OpenEXR", path).File(str(path), separate_channels=True) as file:
        channels = file.channels()
        return channels[_chosen(path, list(channels), key, DEPTH_CHANNELS)].pixels


def _pfm(path: Path) -> np.ndarray:
    """Portable float map. The size of the scale in the header is disregarded, as Middlebury's own tools do."""
    with path.open("rb") as file:
        kind, size, scale = (file.readline(80).strip() for _ in range(3))
        if kind != b"Pf":
            raise UnreadableSample(f"{path}: header {kind.decode(errors='replace')!r}; expected Pf, one channel")
        width, height = map(int, size.split())
        pixels = np.frombuffer(file.read(), "<f4" if float(scale) < 0 else ">f4")
    return pixels.reshape(height, width)[::-1]  # rows go from the bottom to the top


def _chosen(path: Path, names: list[str], key: str | None, likely: tuple[str, ...]) -> str:
    if key is not None and key in names:
        return key
    if key is None:
        candidates = [name for name in likely if name in names] or (names if len(names) == 1 else [])
        if candidates:
            return candidates[0]
    wanted = f"no {key!r}" if key is not None else "several, none chosen by data.key"
    raise UnreadableSample(f"{path}: holds {', '.join(names) or 'nothing'}; {wanted}")
