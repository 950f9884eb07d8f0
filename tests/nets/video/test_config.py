"""Sizes of video UNets."""

import pytest

from salticid.nets.video import VideoUNetConfig


def test_levels_that_do_not_agree_are_refused():
    with pytest.raises(ValueError, match="widths, attention and heads are of 4, 3 and 4 levels"):
        VideoUNetConfig(attention=(True, True, False))


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ValueError, match="7 heads do not divide the width 320"):
        VideoUNetConfig(heads=(7, 10, 20, 20))
