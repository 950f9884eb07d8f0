"""Depth metrics against plain NumPy, sample by sample, and against published numbers of a real prediction."""

import numpy as np
import pytest
import torch

from salticid.evaluate.depth import METRICS, depth_metrics


def by_hand(p: np.ndarray, g: np.ndarray) -> dict[str, float]:
    """The definitions, over vectors of valid pixels."""
    difference = np.log(p) - np.log(g)
    ratio = np.maximum(p / g, g / p)
    return {
        "absrel": np.mean(np.abs(p - g) / g),
        "sqrel": np.mean((p - g) ** 2 / g),
        "rmse": np.sqrt(np.mean((p - g) ** 2)),
        "rmse_log": np.sqrt(np.mean(difference**2)),
        "log10": np.mean(np.abs(np.log10(p / g))),
        "silog": 100 * np.sqrt(np.mean(difference**2) - np.mean(difference) ** 2),
        "delta1": np.mean(ratio < 1.25),
        "delta2": np.mean(ratio < 1.25**2),
        "delta3": np.mean(ratio < 1.25**3),
    }


@pytest.fixture
def maps():
    generator = torch.Generator().manual_seed(0)
    truth = 0.5 + 20 * torch.rand(4, 1, 19, 23, generator=generator)
    prediction = truth * (0.4 * torch.randn(truth.shape, generator=generator)).exp()
    return prediction, truth, torch.rand(truth.shape, generator=generator) < 0.7


def test_every_sample_agrees_with_numpy_whatever_lies_outside_its_mask(maps):
    prediction, truth, mask = maps
    mask[2] = False
    mask[2, 0, 3, 4] = True  # a single pixel
    broken, unknown = (torch.where(mask, values, torch.nan) for values in (prediction, truth))
    found = depth_metrics(broken, unknown, mask)
    assert tuple(found) == METRICS
    for i in range(len(truth)):
        expected = by_hand(*(m[i][mask[i]].double().numpy() for m in (prediction, truth)))
        for name, value in expected.items():
            assert found[name].dtype == torch.float64
            assert found[name][i].item() == pytest.approx(value, rel=1e-10, abs=1e-10), name


def test_a_sample_without_a_valid_pixel_has_no_metrics_and_harms_no_other(maps):
    prediction, truth, mask = maps
    alone = depth_metrics(prediction[1:], truth[1:], mask[1:])
    mask[0] = False
    found = depth_metrics(prediction, truth, mask)
    for name in METRICS:
        assert found[name][0].isnan(), name
        torch.testing.assert_close(found[name][1:], alone[name], rtol=1e-12, atol=0)


def test_the_limit_of_delta_is_strict_and_symmetric():
    prediction = torch.tensor([5.0, 4.0, 4.999]).view(3, 1, 1, 1)
    truth = torch.tensor([4.0, 5.0, 4.0]).view(3, 1, 1, 1)
    found = depth_metrics(prediction, truth, torch.ones_like(truth, dtype=torch.bool))
    assert found["delta1"].tolist() == [0, 0, 1]
    assert found["delta2"].tolist() == [1, 1, 1]


def test_silog_ignores_a_factor(maps):
    _, truth, mask = maps
    found = depth_metrics(3 * truth, truth, mask)
    torch.testing.assert_close(found["silog"], torch.zeros(4, dtype=torch.float64), rtol=0, atol=1e-4)
    torch.testing.assert_close(found["rmse_log"], torch.full((4,), np.log(3.0), dtype=torch.float64), rtol=1e-6, atol=0)


@pytest.mark.parametrize("bad", [0.0, -2.0])
def test_depth_that_is_not_positive_is_infinitely_wrong_in_logarithms_and_never_close(bad: float):
    truth = torch.full((1, 1, 1, 2), 2.0)
    prediction = torch.tensor([[[[2.0, bad]]]])
    found = depth_metrics(prediction, truth, torch.ones_like(truth, dtype=torch.bool))
    assert [found[name].item() for name in ("rmse_log", "log10", "silog")] == [torch.inf] * 3
    assert [found[f"delta{k}"].item() for k in (1, 2, 3)] == [0.5] * 3
    assert found["absrel"].item() == abs(bad - 2) / 4


def test_a_prediction_that_is_not_a_number_is_seen(maps):
    prediction, truth, mask = maps
    mask[1, 0, 0, 0] = True
    prediction[1, 0, 0, 0] = torch.nan
    found = depth_metrics(prediction, truth, mask)
    assert found["absrel"].isnan().tolist() == [False, True, False, False]


def test_a_real_prediction_has_its_published_numbers(real_data):
    folder = real_data / "rgbd/fastdepth_nyu"
    if not folder.is_dir():
        pytest.skip("SALTICID_TEST_DATA has no rgbd/fastdepth_nyu")
    p, g = (torch.from_numpy(np.load(folder / f"{name}.npy").squeeze())[None, None] for name in ("pred", "depth"))
    found = depth_metrics(p, g, g > 0)
    assert [round(found[name].item(), 4) for name in ("rmse", "absrel", "delta1")] == [0.6180, 0.1405, 0.7773]
    expected = by_hand(*(m[g > 0].double().numpy() for m in (p, g)))
    assert {name: value.item() for name, value in found.items()} == pytest.approx(expected, rel=1e-6)
