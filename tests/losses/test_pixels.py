import pytest
import torch

from salticid.losses.pixels import full_precision, masked_mean


def test_the_mean_is_over_the_pixels_of_a_sample_and_all_channels():
    values = torch.rand(3, 2, 4, 5, generator=torch.Generator().manual_seed(0))
    mask = torch.rand(3, 1, 4, 5, generator=torch.Generator().manual_seed(1)) > 0.5
    mask[2] = False
    out = masked_mean(values, mask)
    for sample in range(2):
        assert out[sample].item() == pytest.approx(values[sample][:, mask[sample, 0]].mean().item(), rel=1e-6)
    assert out[2] == 0
    torch.testing.assert_close(masked_mean(values), values.mean(dim=(1, 2, 3)))


def test_what_is_hidden_may_be_anything():
    values = torch.tensor([[[[1.0, torch.inf, torch.nan, 3.0]]]], requires_grad=True)
    out = masked_mean(values, torch.tensor([[[[True, False, False, True]]]]))
    assert out.item() == 2
    out.sum().backward()
    assert values.grad.flatten().tolist() == [0.5, 0, 0, 0.5]


def test_half_precision_becomes_single_and_double_stays():
    assert [full_precision(torch.ones(1, dtype=t)).dtype for t in (torch.bfloat16, torch.float32, torch.float64)] == [
        torch.float32,
        torch.float32,
        torch.float64,
    ]
