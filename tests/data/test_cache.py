"""Decoded panoramas: reduced by area, kept up to a limit."""

import numpy as np
import pytest
import torch
from PIL import Image

from salticid.data.readers.cache import DecodedCache, decode_panorama


@pytest.fixture
def paths(tmp_path):
    for i in range(6):
        pixels = np.random.default_rng(i).integers(0, 256, (64, 128, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    return sorted(tmp_path.iterdir())


def test_the_cache_keeps_to_its_limit_and_forgets_the_oldest(paths):
    cache = DecodedCache(limit=2 * 3 * 32 * 64, height=32)
    first = cache.read(paths[0])
    assert cache.read(paths[0]) is first
    for path in paths:
        cache.read(path)
    assert list(cache.pictures) == paths[-2:]
    assert cache.size == 2 * 3 * 32 * 64


@pytest.mark.parametrize("height", [32, 16, 8])
def test_panoramas_are_reduced_to_the_area_average(paths, height):
    pixels = torch.from_numpy(np.array(Image.open(paths[0]))).permute(2, 0, 1).float()
    expected = pixels.unflatten(1, (height, -1)).unflatten(3, (2 * height, -1)).mean(dim=(2, 4))
    assert (decode_panorama(paths[0], height) - expected).abs().max() <= 1.01  # rounded after each axis


def test_small_panoramas_are_not_enlarged(paths):
    assert decode_panorama(paths[0], 256).shape == (3, 64, 128)
