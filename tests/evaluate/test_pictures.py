"""Pictures for people; and writing them: whole or not at all, and refused in one line."""

import numpy as np
import pytest
import torch
from PIL import Image

from salticid.errors import UserError
from salticid.evaluate.pictures import STRIPE, check_png_path, coverage_picture, save_png

PICTURE = torch.arange(3 * 4 * 5, dtype=torch.uint8).reshape(3, 4, 5)


def test_a_picture_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "new" / "a.png"
    save_png(PICTURE, path)
    assert np.array_equal(np.array(Image.open(path)), PICTURE.permute(1, 2, 0).numpy())
    assert list(path.parent.iterdir()) == [path]
    assert b"iTXt" not in path.read_bytes()


def test_a_folder_is_not_written_over_and_nothing_is_left_beside_it(tmp_path):
    path = tmp_path / "a.png"
    path.mkdir()
    with pytest.raises(UserError, match=r"a\.png: cannot be written \("):
        save_png(PICTURE, path)
    assert list(tmp_path.iterdir()) == [path]


def test_a_path_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot be written \("):
        save_png(PICTURE, tmp_path / "file" / "a.png")


def test_paths_are_checked_before_there_is_a_picture(tmp_path):
    check_png_path(tmp_path / "a.PNG")
    with pytest.raises(UserError, match=r"a\.jpg: .* ends in \.png"):
        check_png_path(tmp_path / "a.jpg")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(UserError, match="is a folder"):
        check_png_path(tmp_path / "folder.png")


def test_what_is_seen_stays_and_the_rest_is_hatched():
    panorama = torch.full((3, 32, 64), 100, dtype=torch.uint8)
    seen = torch.ones(32, 64, dtype=torch.bool)
    assert torch.equal(coverage_picture(panorama, seen), panorama)
    seen[20:] = False
    picture = coverage_picture(panorama, seen)
    assert picture.dtype == torch.uint8
    assert torch.equal(picture[:, :20], panorama[:, :20])
    unseen = picture[:, 20:].int()
    assert (unseen[0] > 140).all(), "reddish"
    assert (unseen[1] < 85).all()
    assert unseen.flatten(1).unique(dim=1).shape[1] == 2, "of two shades: hatched"
    assert torch.equal(unseen[:, 1:, :-1], unseen[:, :-1, 1:]), "the stripes are slanted"


@pytest.mark.parametrize("width", [64, 100])
def test_the_stripes_go_on_across_the_seam(width: int):
    picture = coverage_picture(torch.zeros(3, 5, width, dtype=torch.uint8), torch.zeros(5, width, dtype=torch.bool))
    light = picture[0, 0] < picture[0].float().mean()
    runs = (light != light.roll(1)).nonzero().flatten().tolist()
    lengths = [(after - before) % width for before, after in zip(runs, runs[1:] + runs[:1], strict=True)]
    assert len(runs) == 2 * (width // STRIPE)
    assert max(lengths) - min(lengths) <= 1


def test_dark_and_light_scenes_are_tinted_alike():
    unseen = torch.zeros(16, 32, dtype=torch.bool)
    for level in (0, 255):
        picture = coverage_picture(torch.full((3, 16, 32), level, dtype=torch.uint8), unseen).float()
        assert (picture[0] - picture[1]).min() > 60
