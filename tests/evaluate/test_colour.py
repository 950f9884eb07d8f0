"""Colours of depth: the published anchors, NumPy's interpolation, OpenCV's Turbo."""

import sys

import cv2
import numpy as np
import pytest
import torch

from salticid.errors import UserError
from salticid.evaluate.colour import SPECTRAL, coloured


def ramp(n):
    return torch.linspace(0, 1, n).view(1, 1, 1, n)


def test_spectral_has_the_published_colours_and_is_linear_between_them():
    assert ["#{:02x}{:02x}{:02x}".format(*colour) for colour in SPECTRAL] == [
        "#9e0142", "#d53e4f", "#f46d43", "#fdae61", "#fee08b", "#ffffbf",
        "#e6f598", "#abdda4", "#66c2a5", "#3288bd", "#5e4fa2",
    ]  # fmt: skip
    found = coloured(ramp(11))[0, :, 0].T
    assert found.tolist() == [list(colour) for colour in SPECTRAL]
    places = np.linspace(0, 1, 777)
    expected = [np.interp(places, np.linspace(0, 1, 11), channel) for channel in np.array(SPECTRAL).T]
    np.testing.assert_allclose(coloured(ramp(777))[0, :, 0], expected, atol=0.51)


def test_turbo_is_that_of_opencv_with_red_for_near():
    table = cv2.applyColorMap(np.arange(255, -1, -1, dtype=np.uint8)[None], cv2.COLORMAP_TURBO)[0, :, ::-1]
    found = coloured(ramp(256), palette="turbo")[0, :, 0].T.numpy()
    np.testing.assert_array_equal(found, table)


def test_turbo_without_opencv_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(UserError, match="palette turbo needs OpenCV"):
        coloured(ramp(4), palette="turbo")
    coloured(ramp(4))


@pytest.mark.parametrize("palette", ["spectral", "turbo"])
def test_near_is_red_and_far_is_blue_within_the_limits_of_each_sample(palette):
    depth = torch.tensor([[1.0, 2.0, 5.0, 9.0], [10.0, 20.0, 50.0, 90.0]]).view(2, 1, 1, 4)
    found = coloured(depth, torch.tensor([[2.0, 5.0], [20.0, 50.0]]), palette=palette)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[..., :2], found[..., :1].expand(-1, -1, -1, 2))
    assert torch.equal(found[..., 2:], found[..., 3:].expand(-1, -1, -1, 2))
    red, _, blue = found[0, :, 0].int()
    assert red[0] > 2 * blue[0]
    assert blue[3] > red[3]
    assert torch.equal(
        coloured(depth, palette=palette), coloured(depth, torch.tensor([[1, 9], [10, 90]]), None, palette)
    )


def test_what_is_not_known_is_black_and_does_not_count():
    depth = torch.tensor([torch.nan, torch.inf, 7.0, 1.0, 2.0, 3.0]).view(1, 1, 1, 6)
    mask = torch.tensor([True, True, False, True, True, True]).view(1, 1, 1, 6)
    found = coloured(depth, mask=mask)
    assert found.dtype == torch.uint8
    assert found[..., :3].max() == 0
    assert torch.equal(found[..., 3:], coloured(depth[..., 3:]))


def test_maps_without_extent_and_without_known_pixels():
    assert coloured(torch.full((1, 1, 2, 2), 3.0))[0, :, 0, 0].tolist() == list(SPECTRAL[0])
    assert coloured(torch.full((1, 1, 2, 2), torch.nan)).max() == 0
