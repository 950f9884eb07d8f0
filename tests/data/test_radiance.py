"""Radiance pictures: sizes from headers, tone mapping, values that are not finite."""

import numpy as np
import pytest
import torch

from salticid.data.readers.pictures import picture_size, read_picture
from salticid.data.readers.radiance import read_radiance, tone_map
from salticid.errors import UnreadableSample

cv2 = pytest.importorskip("cv2")


def write_floats(path, pixels):
    """A file of floats: TIFF, told by its content whatever its name."""
    cv2.imwrite(str(path.with_suffix(".tiff")), pixels)
    path.with_suffix(".tiff").rename(path)


def test_radiance_is_tone_mapped(tmp_path):
    radiance = np.linspace(0, 10, 16 * 32 * 3, dtype=np.float32).reshape(16, 32, 3)
    cv2.imwrite(str(tmp_path / "sky.hdr"), radiance)
    picture = read_picture(tmp_path / "sky.hdr")
    assert picture.shape == (3, 16, 32)
    assert picture.dtype == torch.uint8
    brightest = 255 * 0.8 * (10 / np.percentile(radiance, 90)) ** (1 / 2.2)
    assert abs(int(picture.max()) - brightest) <= 2  # the format itself keeps eight bits


def test_the_ninetieth_percentile_lands_at_four_fifths():
    radiance = np.random.default_rng(0).exponential(size=(64, 64, 3)).astype(np.float32)
    level = tone_map(np.full((1, 1, 3), 1.0, np.float32))
    assert level.tolist() == [[[204, 204, 204]]]
    mapped = tone_map(radiance)
    assert abs(np.percentile(mapped, 90) - 204) <= 1


def test_the_size_is_read_from_the_header_alone(tmp_path):
    path = tmp_path / "sky.hdr"
    cv2.imwrite(str(path), np.ones((16, 32, 3), np.float32))
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"+X 32\n") + 6])
    assert picture_size(path) == (16, 32)
    with pytest.raises(UnreadableSample, match="cannot be decoded as radiance"):
        read_radiance(path)
    path.write_bytes(b"not radiance")
    with pytest.raises(UnreadableSample, match="no Radiance header"):
        picture_size(path)
    with pytest.raises(UnreadableSample, match="cannot be read"):
        picture_size(tmp_path / "nowhere.hdr")


def test_an_infinite_sun_is_the_brightest_finite_pixel_and_nan_is_refused(tmp_path):
    pixels = np.ones((4, 8, 3), np.float32)
    pixels[0, 0], pixels[0, 1] = np.inf, 7
    write_floats(tmp_path / "sun.hdr", pixels)
    assert read_radiance(tmp_path / "sun.hdr")[0, :3, 0].tolist() == [7, 7, 1]
    pixels[2, 3] = np.nan
    write_floats(tmp_path / "nan.hdr", pixels)
    with pytest.raises(UnreadableSample, match="NaN"):
        read_radiance(tmp_path / "nan.hdr")
