"""Videos of a grid whose picture (t, v) is the number 10 t + v."""

import pytest
import torch

from salticid.evaluate.grids import KINDS, grid_features, length, rows


def numbered(frames: int, views: int) -> torch.Tensor:
    number = 10 * torch.arange(frames)[:, None] + torch.arange(views)
    channel = 100 * torch.arange(3)
    return (number + channel[:, None, None])[..., None, None].expand(-1, -1, -1, 2, 4)


EXPECTED = {
    "FVD-F": [[0, 10, 20], [1, 11, 21], [2, 12, 22], [3, 13, 23]],
    "FVD-V": [[0, 1, 2, 3], [10, 11, 12, 13], [20, 21, 22, 23]],
    "FVD-Diag": [[0, 11, 22], [1, 12, 23], [2, 13, 20], [3, 10, 21]],
    "FV4D": [[0, 1, 2, 3, 13, 12, 11, 10, 20, 21, 22, 23]],
}


@pytest.mark.parametrize("kind", KINDS)
def test_videos_of_three_frames_and_four_views(kind):
    videos = rows(numbered(3, 4), kind)
    assert videos[:, 0, :, 0, 0].tolist() == EXPECTED[kind]
    assert videos.shape == (len(EXPECTED[kind]), 3, length(kind, 3, 4), 2, 4)
    assert (videos == videos[:, :1, :, :1, :1] + 100 * torch.arange(3)[:, None, None, None]).all()


def test_more_frames_than_views_go_round_and_every_picture_counts_alike():
    assert rows(numbered(5, 2), "FVD-Diag")[:, 0, :, 0, 0].tolist() == [[0, 11, 20, 31, 40], [1, 10, 21, 30, 41]]
    for kind in KINDS:
        assert sorted(rows(numbered(5, 8), kind)[:, 0, :, 0, 0].flatten().tolist()) == [
            10 * t + v for t in range(5) for v in range(8)
        ]


def test_neighbours_of_the_raster_scan_are_neighbours_in_the_grid():
    scan = rows(numbered(5, 8), "FV4D")[0, 0, :, 0, 0]
    assert scan.shape == (40,)
    assert set(scan.diff().abs().tolist()) == {1, 10}


def test_one_frame_is_an_orbit():
    grid = numbered(1, 4)
    assert rows(grid, "FVD-V")[:, 0, :, 0, 0].tolist() == [[0, 1, 2, 3]]
    assert rows(grid, "FV4D")[:, 0, :, 0, 0].tolist() == [[0, 1, 2, 3]]
    assert rows(grid, "FVD-F").shape == rows(grid, "FVD-Diag").shape == (4, 3, 1, 2, 4)


def test_features_of_a_grid_are_one_record():
    grids = torch.stack([numbered(3, 4), numbered(3, 4) + 1000])

    def first_and_last(videos):
        return videos[:, 0, [0, -1], 0, 0]

    assert grid_features(first_and_last, grids, "FVD-F").tolist() == [
        [0, 20, 1, 21, 2, 22, 3, 23],
        [1000, 1020, 1001, 1021, 1002, 1022, 1003, 1023],
    ]
