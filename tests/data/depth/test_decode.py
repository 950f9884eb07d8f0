"""Every format that depth may come in, whole and damaged."""

import io
import struct
import zipfile

import numpy as np
import pytest
from PIL import Image

from salticid.data.readers.depth.decode import fitted, read_colour, read_hdf5, read_mask, read_values
from salticid.errors import UnreadableSample


@pytest.fixture
def metres():
    return np.random.default_rng(0).uniform(0.5, 9, (6, 8)).astype(np.float32)


def test_integers_of_a_raster_are_read_as_they_are(tmp_path):
    values = np.random.default_rng(1).integers(0, 65536, (6, 8)).astype(np.uint16)
    for name in ("a.png", "a.tif", "a.pgm"):
        Image.fromarray(values).save(tmp_path / name)
        assert np.array_equal(read_values(tmp_path / name), values), name
    Image.fromarray((values >> 8).astype(np.uint8)).save(tmp_path / "b.png")
    assert np.array_equal(read_values(tmp_path / "b.png"), values >> 8)


def test_sixteen_bit_pngs_agree_with_opencv(tmp_path):
    cv2 = pytest.importorskip("cv2")
    values = np.random.default_rng(2).integers(0, 65536, (30, 40)).astype(np.uint16)
    cv2.imwrite(str(tmp_path / "a.png"), values)
    assert np.array_equal(read_values(tmp_path / "a.png"), values)


def test_floats_of_a_tiff_and_arrays(tmp_path, metres):
    Image.fromarray(metres).save(tmp_path / "a.tiff")
    np.save(tmp_path / "a.npy", metres[..., None])  # DIODE's arrays have a channel
    np.savez_compressed(tmp_path / "a.npz", metres)
    for name in ("a.tiff", "a.npy", "a.npz"):
        assert np.array_equal(read_values(tmp_path / name), metres), name


def test_an_archive_of_several_arrays_needs_a_key(tmp_path, metres):
    np.savez(tmp_path / "a.npz", depth=metres, confidence=metres > 1)
    assert np.array_equal(read_values(tmp_path / "a.npz", "depth"), metres)
    with pytest.raises(UnreadableSample, match=r"a\.npz: holds depth, confidence; several, none chosen by data\.key"):
        read_values(tmp_path / "a.npz")
    with pytest.raises(UnreadableSample, match=r"a\.npz: holds depth, confidence; no 'z'"):
        read_values(tmp_path / "a.npz", "z")


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_float_map_runs_from_the_bottom_and_its_scale_is_a_byte_order(tmp_path, metres, order):
    scale = b"-0.003922" if order == "<" else b"1.0"
    body = metres[::-1].astype(f"{order}f4").tobytes()
    (tmp_path / "a.pfm").write_bytes(b"Pf\n8 6\n" + scale + b"\n" + body)
    assert np.array_equal(read_values(tmp_path / "a.pfm"), metres)
    (tmp_path / "b.pfm").write_bytes(b"PF\n8 6\n-1\n" + body)
    with pytest.raises(UnreadableSample, match="expected Pf, one channel"):
        read_values(tmp_path / "b.pfm")


def test_channels_of_an_exr(tmp_path, metres):
    OpenEXR = pytest.importorskip("OpenEXR")
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    colour = np.zeros((6, 8), np.float16)
    OpenEXR.File(header, {"Z": metres, "R": colour, "G": colour, "B": colour}).write(str(tmp_path / "a.exr"))
    assert np.array_equal(read_values(tmp_path / "a.exr"), metres)
    assert np.array_equal(read_values(tmp_path / "a.exr", "G"), colour)
    OpenEXR.File(header, {"left": metres, "right": metres}).write(str(tmp_path / "b.exr"))
    with pytest.raises(UnreadableSample, match=r"b\.exr: holds left, right; several, none chosen"):
        read_values(tmp_path / "b.exr")
    (tmp_path / "c.exr").write_bytes((tmp_path / "a.exr").read_bytes()[:100])
    with pytest.raises(UnreadableSample, match=r"c\.exr: not a readable \.exr"):
        read_values(tmp_path / "c.exr")


def test_files_that_hold_no_numbers_are_refused_in_one_line(tmp_path, metres):
    Image.fromarray(np.zeros((6, 8, 3), np.uint8)).save(tmp_path / "colour.png")
    np.save(tmp_path / "objects.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    np.save(tmp_path / "volume.npy", np.zeros((2, 3, 4)))
    np.save(tmp_path / "complex.npy", metres * 1j)
    (tmp_path / "text.npy").write_text("metres")
    (tmp_path / "short.pfm").write_bytes(b"Pf\n8 6\n-1\n" + metres.tobytes()[:20])
    Image.fromarray(np.ones((60, 80), np.uint16)).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:60])
    names = "colour.png", "objects.npy", "volume.npy", "complex.npy", "text.npy", "short.pfm", "cut.png"
    for name in (*names, "none.png", "none.npy", "none.npz", "none.exr", "none.pfm"):
        with pytest.raises(UnreadableSample, match=name.replace(".", r"\.")) as refusal:
            read_values(tmp_path / name)
        assert "\n" not in str(refusal.value)
        assert ("no such file" in str(refusal.value).lower()) == name.startswith("none")


def test_a_header_that_promises_more_than_the_file_holds_takes_no_memory(tmp_path):
    header = repr({"descr": "<f4", "fortran_order": False, "shape": (10**6, 10**7)}).encode()
    content = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(64)
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(UnreadableSample, match=r"a\.npy"):
        read_values(tmp_path / "a.npy")


def test_an_archive_that_unpacks_to_more_than_a_gibibyte_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr("salticid.data.readers.depth.decode.LARGEST", 10_000)
    array = io.BytesIO()
    np.save(array, np.zeros((100, 100), np.float32))
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("depth.npy", array.getvalue())
    with pytest.raises(UnreadableSample, match="more than 10000 bytes"):
        read_values(tmp_path / "a.npz")


def test_masks_are_what_is_neither_zero_nor_nan(tmp_path):
    np.save(tmp_path / "a.npy", np.array([[0, 1.0, np.nan]]))
    assert read_mask(tmp_path / "a.npy").tolist() == [[False, True, False]]
    Image.fromarray(np.array([[0, 255, 1]], np.uint8)).save(tmp_path / "a.png")
    assert read_mask(tmp_path / "a.png").tolist() == [[False, True, True]]


def test_hdf5_without_the_data_set_or_the_entry(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file.create_dataset("dataset", data=np.arange(6).reshape(2, 3))
        file.create_group("group")
    assert read_hdf5(tmp_path / "a.hdf5", "dataset", 1).tolist() == [3, 4, 5]
    for name in ("depth", "group"):
        with pytest.raises(UnreadableSample, match=f"no data set named {name}"):
            read_hdf5(tmp_path / "a.hdf5", name)
    with pytest.raises(UnreadableSample, match=r"a\.hdf5"):
        read_hdf5(tmp_path / "a.hdf5", "dataset", 7)
    (tmp_path / "b.hdf5").write_bytes((tmp_path / "a.hdf5").read_bytes()[:500])
    for name in ("b.hdf5", "none.hdf5"):
        with pytest.raises(UnreadableSample, match=name):
            read_hdf5(tmp_path / name, "dataset")


def test_orientation_is_followed_only_where_the_stored_pixels_do_not_fit(write):
    pixels = write.picture("a.png", 4, 6)
    turned = Image.fromarray(pixels)
    exif = turned.getexif()
    exif[0x0112] = 6  # to be turned clockwise
    turned.save(write.path("b.png"), exif=exif)
    assert np.array_equal(read_colour(write.path("b.png"), (4, 6)), pixels)
    assert np.array_equal(read_colour(write.path("b.png")), pixels)
    assert np.array_equal(read_colour(write.path("b.png"), (6, 4)), np.rot90(pixels, -1))
    assert np.array_equal(read_colour(write.path("a.png"), (6, 4)), pixels)  # nothing says that it is to be turned


def test_pictures_are_fitted_by_averages():
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    expected = pixels.reshape(3, 2, 4, 2, 3).mean(axis=(1, 3))
    assert np.abs(fitted(pixels, (3, 4)) - expected).max() <= 1  # eight bits, rounded once per axis
    assert fitted(pixels, (6, 8)) is pixels
