"""Against splatting in a loop, and occlusions that are known."""

import math

import pytest
import torch
from torch import Tensor

from salticid.losses.splat import consistent, coverage, visible


def random_flow(*shape: int, seed: int = 0, size: float = 6.0) -> Tensor:
    return size * (2 * torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) - 1)


def by_loops(flow: Tensor) -> Tensor:
    """Coverage (H, W) of one flow (2, H, W)."""
    _, height, width = flow.shape
    total = torch.zeros(height, width, dtype=torch.float64)
    for row in range(height):
        for column in range(width):
            x, y = column + flow[0, row, column].item(), row + flow[1, row, column].item()
            for u in (math.floor(x), math.floor(x) + 1):
                for v in (math.floor(y), math.floor(y) + 1):
                    if 0 <= u < width and 0 <= v < height:
                        total[v, u] += (1 - abs(x - u)) * (1 - abs(y - v))
    return total


def test_coverage_is_that_of_a_loop():
    flow = random_flow(2, 2, 11, 14)
    out = coverage(flow)
    assert out.shape == (2, 1, 11, 14)
    for i in range(2):
        torch.testing.assert_close(out[i, 0].double(), by_loops(flow[i]), atol=2e-5, rtol=0)


def test_standing_still_covers_everything_and_leaving_covers_nothing():
    assert bool((coverage(torch.zeros(1, 2, 5, 6)) == 1).all())
    assert bool(visible(torch.zeros(1, 2, 5, 6)).all())
    assert bool((coverage(torch.full((1, 2, 5, 6), 40.0)) == 0).all())


def test_a_shift_uncovers_the_border_alone():
    flow = torch.zeros(1, 2, 5, 8)
    flow[:, 0] = 2.25  # x: to the right
    out = coverage(flow)[0, 0]
    assert out[0].tolist() == [0, 0, 0.75, 1, 1, 1, 1, 1]
    assert bool((out == out[0]).all())
    assert visible(flow)[0, 0, 0].tolist() == [False] * 3 + [True] * 5


def test_what_a_moving_object_hides_is_hidden():
    # Source → target: the columns 2 and 3 move onto 5 and 6; what was there stays, and what they leave is new.
    flow = torch.zeros(1, 2, 4, 9)
    flow[:, 0, :, 2:4] = 3
    out = coverage(flow)[0, 0]
    assert out[0].tolist() == [1, 1, 0, 0, 1, 2, 2, 1, 1]
    assert visible(flow)[0, 0, 0].tolist() == [True, True, False, False, True, True, True, True, True]


def test_broken_and_endless_flow_covers_nothing():
    flow = torch.zeros(1, 2, 3, 4)
    flow[0, 0, 0, 0], flow[0, 1, 1, 1], flow[0, 0, 2, 2] = math.nan, math.inf, -1e30
    out = coverage(flow)
    assert out.sum() == 9
    assert out[0, 0, 0, 0] == out[0, 0, 1, 1] == out[0, 0, 2, 2] == 0


@pytest.mark.gpu
def test_a_gpu_gives_the_same_coverage_every_time():
    flow = random_flow(2, 2, 60, 80, size=30.0).cuda()
    first = coverage(flow)
    assert all(torch.equal(coverage(flow), first) for _ in range(5))
    torch.testing.assert_close(first.cpu(), coverage(flow.cpu()), atol=1e-5, rtol=0)


def bilinear(image: Tensor, x: float, y: float) -> Tensor:
    """(C, H, W) at a point, the border repeated outside."""
    _, height, width = image.shape
    x, y = min(max(x, 0), width - 1), min(max(y, 0), height - 1)
    left, top = min(int(x), width - 2), min(int(y), height - 2)
    a, b = x - left, y - top
    upper = (1 - a) * image[:, top, left] + a * image[:, top, left + 1]
    return (1 - b) * upper + b * ((1 - a) * image[:, top + 1, left] + a * image[:, top + 1, left + 1])


def consistent_by_loops(forward: Tensor, backward: Tensor) -> Tensor:
    _, height, width = forward.shape
    out = torch.zeros(height, width, dtype=torch.bool)
    for row in range(height):
        for column in range(width):
            f = forward[:, row, column]
            x, y = column + f[0].item(), row + f[1].item()
            b = bilinear(backward, x, y)
            inside = -0.5 <= x <= width - 0.5 and -0.5 <= y <= height - 0.5
            limit = 0.01 * (f.square().sum() + b.square().sum()) + 0.5
            out[row, column] = inside and bool((f + b).square().sum() < limit)
    return out


def test_there_and_back_is_that_of_a_loop():
    # Not far from a shift, so that back is about there.
    forward = torch.tensor([2.3, -1.6])[:, None, None] + random_flow(1, 2, 12, 15, size=0.6)
    backward = torch.tensor([-2.3, 1.6])[:, None, None] + random_flow(1, 2, 12, 15, seed=1, size=0.6)
    out = consistent(forward.double(), backward.double())
    expected = consistent_by_loops(forward[0].double(), backward[0].double())
    assert 30 < expected.sum() < 120
    assert torch.equal(out[0, 0], expected)


def test_a_shift_is_consistent_but_where_it_leaves():
    forward = torch.zeros(1, 2, 4, 8)
    forward[:, 0] = 3.0
    out = consistent(forward, -forward)
    assert out.shape == (1, 1, 4, 8)
    assert out[0, 0, 0].tolist() == [True] * 5 + [False] * 3
    assert not bool(consistent(forward, forward).any())
    forward[0, 1, 2, 2] = math.nan
    assert not bool(consistent(forward, -forward)[0, 0, 2, 2])
