"""Image metrics against scikit-image and closed forms."""

import math

import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from salticid.evaluate.image import eight_bit, latitude_weight, mae, mse, psnr, seam_error, ssim, ws_psnr


@pytest.fixture
def pictures():
    generator = torch.Generator().manual_seed(0)
    a = torch.rand(3, 3, 24, 48, generator=generator)
    b = (a + 0.1 * torch.randn(a.shape, generator=generator)).clamp(0, 1)
    return a.double(), b.double()


def numpy(image):
    return image.permute(1, 2, 0).numpy()


def test_psnr_and_ssim_are_those_of_scikit_image(pictures):
    a, b = pictures
    for i in range(len(a)):
        truth, test = numpy(a[i]), numpy(b[i])
        assert psnr(b, a)[i] == pytest.approx(peak_signal_noise_ratio(truth, test, data_range=1), abs=1e-10)
        expected = structural_similarity(truth, test, channel_axis=2, data_range=1)
        assert ssim(b, a)[i] == pytest.approx(expected, abs=1e-10)


def test_mse_and_mae_of_a_constant_difference(pictures):
    a, _ = pictures
    torch.testing.assert_close(mse(a, a + 0.25), torch.full((3,), 0.0625, dtype=torch.float64))
    torch.testing.assert_close(mae(a, a - 0.25), torch.full((3,), 0.25, dtype=torch.float64))


def test_ws_psnr_weighs_rows_by_the_solid_angle_they_cover():
    height = 32
    truth = torch.zeros(1, 3, height, 2 * height, dtype=torch.float64)
    picture = truth.clone()
    picture[:, :, :4] = 0.5  # an error at the north pole only
    edges = torch.arange(height + 1, dtype=torch.float64) / height * math.pi - math.pi / 2
    share = float((edges[4].sin() - edges[0].sin()) / 2)  # exact share of the sphere north of row 4
    expected = -10 * math.log10(0.25 * share)
    assert ws_psnr(picture, truth).item() == pytest.approx(expected, abs=0.02)
    assert ws_psnr(picture, truth) > psnr(picture, truth)  # poles count less than in plain PSNR


def test_ws_psnr_of_a_mask_sees_nothing_outside_it():
    truth = torch.zeros(1, 3, 8, 16, dtype=torch.float64)
    picture = truth.clone()
    picture[..., 8:] = 0.5
    left = torch.zeros(1, 1, 8, 16, dtype=torch.float64)
    left[..., :8] = 1
    assert ws_psnr(picture, truth, left).item() == math.inf
    assert ws_psnr(picture, truth, 1 - left).item() == pytest.approx(-10 * math.log10(0.25))
    assert ws_psnr(picture, truth, 0 * left).isnan()


def test_latitude_weight_is_symmetric_and_largest_at_the_equator():
    weight = latitude_weight(10)[:, 0]
    torch.testing.assert_close(weight, weight.flip(0))
    assert weight.argmax() in (4, 5)


def test_seam_error_is_zero_for_the_truth_and_the_jump_for_a_broken_seam():
    truth = torch.full((2, 3, 8, 16), 0.5)
    broken = truth.clone()
    broken[..., 0] = 0.75
    torch.testing.assert_close(seam_error(truth, truth), torch.zeros(2, dtype=torch.float64))
    torch.testing.assert_close(seam_error(broken, truth), torch.full((2,), 0.25, dtype=torch.float64))


def test_eight_bit_rounds_as_a_saved_file_would():
    levels = eight_bit(torch.tensor([-2.0, -1.0, 0.0, 1.0, 3.0]))
    torch.testing.assert_close(levels, torch.tensor([0, 0, 128, 255, 255], dtype=torch.float64) / 255)
