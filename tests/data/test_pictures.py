"""Picture files: what is read, upright and in eight bits, and what is refused."""

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from salticid.data.readers.pictures import picture_size, read_picture
from salticid.errors import UnreadableSample

PIXELS = np.random.default_rng(0).integers(0, 256, (8, 16, 3), dtype=np.uint8)


@pytest.mark.parametrize("read", [picture_size, read_picture])
def test_16_bit_grey_is_refused_by_name(tmp_path, read):
    Image.fromarray(np.full((8, 16), 40000, np.uint16)).save(tmp_path / "depth.png")
    with pytest.raises(UnreadableSample, match=r"depth\.png: pixel mode I;16.* is not 8-bit colour"):
        read(tmp_path / "depth.png")


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P"])
def test_pictures_of_other_modes_become_colour(tmp_path, mode):
    image = Image.fromarray(PIXELS).convert(mode)
    image.save(tmp_path / "a.png")
    assert picture_size(tmp_path / "a.png") == (8, 16)
    expected = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)
    assert torch.equal(read_picture(tmp_path / "a.png"), expected)


@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        (1, PIXELS),
        (2, PIXELS[:, ::-1]),
        (3, PIXELS[::-1, ::-1]),
        (4, PIXELS[::-1]),
        (5, PIXELS.swapaxes(0, 1)),
        (6, np.rot90(PIXELS, -1)),
        (7, np.rot90(PIXELS, 2).swapaxes(0, 1)),
        (8, np.rot90(PIXELS)),
    ],
)
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_pictures_are_turned_as_exif_says(tmp_path, orientation, upright, suffix):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(PIXELS).save(path, exif=exif)
    picture = read_picture(path)
    assert torch.equal(picture, torch.from_numpy(upright.copy()).permute(2, 0, 1))
    assert picture_size(path) == tuple(picture.shape[1:])


@pytest.mark.parametrize("read", [picture_size, read_picture])
def test_pictures_that_are_too_large_are_said_to_be(tmp_path, monkeypatch, read):
    Image.fromarray(PIXELS).save(tmp_path / "huge.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
    with pytest.raises(UnreadableSample, match=r"huge\.png: too large \(more than 100 pixels\)"):
        read(tmp_path / "huge.png")


def test_truncated_pictures_are_unreadable(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(PIXELS).save(path)
    path.write_bytes(path.read_bytes()[:-100])
    assert picture_size(path) == (8, 16)
    with pytest.raises(UnreadableSample, match=r"a\.png: not a readable picture"):
        read_picture(path)
