"""Writing pictures: whole or not at all, and refused in one line."""

import numpy as np
import pytest
import torch
from PIL import Image

from salticid.errors import UserError
from salticid.evaluate.pictures import check_png_path, save_png

PICTURE = torch.arange(3 * 4 * 5, dtype=torch.uint8).reshape(3, 4, 5)


def test_a_picture_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "new" / "a.png"
    save_png(PICTURE, path)
    assert np.array_equal(np.array(Image.open(path)), PICTURE.permute(1, 2, 0).numpy())
    assert list(path.parent.iterdir()) == [path]


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
