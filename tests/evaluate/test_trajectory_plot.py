"""Trajectory pictures: where the lines are, that both axes have one scale, and that the bar has its length."""

import numpy as np
import pytest
import torch

from salticid.errors import UserError
from salticid.evaluate.trajectory_plot import ESTIMATE, INK, MARGIN, TRUTH, round_length, trajectory_picture
from salticid.geometry import se3

SIZE = 300


def poses(points: list[tuple[float, float, float]]) -> torch.Tensor:
    return se3.pose(torch.eye(3).expand(len(points), 3, 3), torch.tensor(points)).double()


def extent(picture: torch.Tensor, colour: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of the pixels of a colour, below the legend."""
    same = (picture == torch.tensor(colour, dtype=torch.uint8)[:, None, None]).all(dim=0)
    same[:MARGIN], same[SIZE - MARGIN // 2 :] = False, False
    rows, columns = (np.flatnonzero(same.any(dim=d)) for d in (1, 0))
    return columns[0], rows[0], columns[-1], rows[-1]


def test_both_axes_have_one_scale_in_both_views():
    # A path 10 m to the right, 20 m forward and 5 m up.
    path = poses([(0, 0, 0), (10, 0, 0), (10, 0, 20), (10, -5, 20)])
    picture = trajectory_picture(path, size=SIZE)
    assert picture.dtype == torch.uint8
    assert picture.shape == (3, SIZE, 2 * SIZE)
    assert picture.is_contiguous()
    scale = (SIZE - 2 * MARGIN) / 20
    top, side = picture[..., :SIZE], picture[..., SIZE:]
    left, upper, right, lower = extent(top, ESTIMATE)
    assert abs(upper - MARGIN) <= 2  # forward is up
    assert abs((lower - upper) - 20 * scale) <= 8
    assert abs((right - left) - 10 * scale) <= 8
    left, upper, right, lower = extent(side, ESTIMATE)
    assert abs((right - left) - 20 * scale) <= 8
    assert abs((lower - upper) - 5 * scale) <= 8
    # In the side view the way goes to the right and then up: above the right end is nothing but the rise.
    middle = side[:, (upper + lower) // 2]
    drawn = np.flatnonzero((middle == torch.tensor(ESTIMATE, dtype=torch.uint8)[:, None]).all(dim=0))
    assert drawn.min() >= right - 4


def test_estimate_and_truth_are_in_one_frame_and_the_start_is_marked():
    truth = poses([(0, 0, 0), (0, 0, 10)])
    picture = trajectory_picture(poses([(0, 0, 0), (5, 0, 5)]), truth, views=("top",), size=SIZE)
    assert picture.shape == (3, SIZE, SIZE)
    assert abs(extent(picture, TRUTH)[1] - MARGIN) <= 2
    assert abs(extent(picture, ESTIMATE)[1] - SIZE // 2) <= 3
    # White inside the start's ring, which both trajectories share.
    scale = (SIZE - 2 * MARGIN) / 10
    x, y = round(SIZE / 2 - 2.5 * scale), round(SIZE / 2 + 5 * scale)
    assert picture[:, y, x].tolist() == [255, 255, 255]


def test_the_bar_is_as_long_as_it_says():
    picture = trajectory_picture(poses([(0, 0, 0), (0, 0, 40)]), views=("top",), size=SIZE)
    bar = (picture[:, SIZE - 10] == torch.tensor(INK, dtype=torch.uint8)[:, None]).all(dim=0)
    assert abs(int(bar.sum()) - 10 * (SIZE - 2 * MARGIN) / 40) <= 2  # 10 m: of 1, 2, 5, 10 … the last below a quarter


@pytest.mark.parametrize(("most", "expected"), [(1, 1), (0.99, 0.5), (4.99, 2), (7, 5), (0.0123, 0.01), (2e3, 2e3)])
def test_round_lengths(most: float, expected: float):
    assert round_length(most) == pytest.approx(expected)


def test_a_camera_that_stands_still_is_a_mark_in_the_middle():
    for still in (poses([(3, 4, 5)]), poses([(3, 4, 5)] * 4)):
        picture = trajectory_picture(still, size=SIZE, unit="")
        left, upper, right, lower = extent(picture[..., :SIZE], ESTIMATE)
        assert abs((left + right) / 2 - SIZE / 2) <= 1
        assert abs((upper + lower) / 2 - SIZE / 2) <= 1
        assert right - left < 12


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(UserError, match=r"estimated trajectory is \(0, 4, 4\)"):
        trajectory_picture(torch.zeros(0, 4, 4))
    broken = poses([(0, 0, 0), (0, 0, float("inf"))])
    with pytest.raises(UserError, match="true trajectory: pose 1 is not finite"):
        trajectory_picture(poses([(0, 0, 0)]), broken)
