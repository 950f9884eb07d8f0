"""Scenes: what a path belongs to, and which are kept out."""

from pathlib import Path

import pytest

from salticid.data.readers.scenes import hash_share, kept_out, scene_rule
from salticid.errors import ConfigError

NAMES = {f"place{i}" for i in range(200)}


def test_a_share_is_about_that_share_of_the_scenes():
    assert 0.1 < len(kept_out(NAMES, (), 0.2)) / len(NAMES) < 0.3
    assert kept_out(NAMES, (), 0.0) == set()
    assert kept_out(NAMES, (), 1.0) == NAMES


@pytest.mark.parametrize("share", [1e-9, 0.2, 0.5, 1 - 1e-9])
@pytest.mark.parametrize("count", [2, 3, 10])
def test_a_proper_share_leaves_a_scene_on_each_side(share, count):
    for start in range(20):
        scenes = {f"place{start + i}" for i in range(count)}
        assert 1 <= len(kept_out(scenes, (), share)) <= count - 1


def test_where_no_hash_falls_below_the_share_the_smallest_is_kept_out():
    assert kept_out(NAMES, (), 1e-9) == {min(NAMES, key=hash_share)}


def test_one_scene_cannot_be_shared_out():
    with pytest.raises(ConfigError, match=r"one scene, 'hall'.*data\.scene.*data\.val_share 0 or 1"):
        kept_out({"hall"}, (), 0.2)
    assert kept_out({"hall"}, (), 1.0) == {"hall"}
    assert kept_out({"hall"}, ["hall"], 0.2) == {"hall"}


def test_a_misnamed_scene_is_told_the_nearest():
    with pytest.raises(ConfigError, match="no scene named 'peir'; did you mean 'pier'"):
        kept_out({"hall", "pier"}, ["hall", "peir"], 0.2)


@pytest.mark.parametrize("path", ["lobby.png", "room/.png"])
def test_a_path_in_which_the_pattern_finds_no_scene_is_refused(path):
    rule = scene_rule(r"room(?P<scene>\d+)?/")
    assert rule(Path("room7/a.png")) == "7"
    with pytest.raises(ConfigError, match=f"finds no scene in {path}"):
        rule(Path(path))
