"""Cameras in JSON: angles and matrices say the same, and whatever is wrong is refused by its key."""

import json
import math

import numpy as np
import pytest
import torch

from salticid.data.grids import orbit_camera
from salticid.data.readers.grids.cameras import MAX_BYTES, read_cameras, read_json
from salticid.errors import UserError

from .conftest import matrix

PLACE = {"azimuth": 0, "elevation": 10, "distance": 2.0}
EYE = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 3], [0, 0, 0, 1]]


def angles(cameras):
    return orbit_camera(cameras.poses, cameras.centre, cameras.up)


def test_angles_and_matrices_say_the_same(studio):
    places = [(30, 10, 2.0), (75.5, -20, 1.5), (-100, 60, 3.0), (390, 0, 2.0)]
    by_angle = {str(n): {"azimuth": a, "elevation": e, "distance": d} for n, (a, e, d) in enumerate(places)}
    by_polar = {str(n): {"azimuth": a, "polar": 90 - e, "distance": d} for n, (a, e, d) in enumerate(places)}
    by_matrix = {str(n): {"transform_matrix": matrix(*place)} for n, place in enumerate(places)}
    found = [angles(read_cameras(studio.json("x.json", {"views": v}))) for v in (by_angle, by_polar, by_matrix)]
    expected = [(math.radians(90 - e), math.radians((a - 30) % 360), d) for a, e, d in places]
    for camera in found:
        torch.testing.assert_close(camera, torch.tensor(expected, dtype=torch.float64), atol=1e-9, rtol=0)


def test_centre_and_vertical_may_be_others(studio):
    """The same cameras in a world that was moved and whose y points up."""
    moved = np.array([[0, 1, 0, 1], [0, 0, 1, 2], [1, 0, 0, 3], [0, 0, 0, 1.0]])  # x → z, y → x, z → y
    places = [(0, 10, 2.0), (120, 30, 2.5)]
    here = {str(n): {"transform_matrix": matrix(*place)} for n, place in enumerate(places)}
    there = {str(n): {"transform_matrix": (moved @ matrix(*place)).tolist()} for n, place in enumerate(places)}
    plain = read_cameras(studio.json("x.json", {"views": here}))
    other = read_cameras(studio.json("x.json", {"views": there, "centre": [1, 2, 3], "up": [0, 2, 0]}))
    torch.testing.assert_close(angles(plain), angles(other), atol=1e-9, rtol=0)
    assert (plain.angle, plain.fps) == (None, None)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "not a JSON file"),
        ("[1, 2", "not a JSON file"),
        ("[" * 100_000, "not a JSON file"),
        ("[1, 2]", "expected a mapping at the top"),
        ('{"views": {"a": 1, "a": 2}}', "not a JSON file \\(key 'a' twice\\)"),
        ({}, "views: missing"),
        ({"views": {}}, "views: expected a mapping of 1 to"),
        ({"views": {str(n): {} for n in range(20_001)}}, "views: expected a mapping of 1 to 20000 views"),
        ({"views": {"../a": PLACE}}, "views: '../a' is not the name of a file"),
        ({"views": {"..": PLACE}}, "views: '..' is not the name of a file"),
        ({"views": {"a": 3}}, "views.a: expected a mapping, not 3"),
        ({"views": {"a": PLACE | {"roll": 1}}}, "views.a: unknown key 'roll'"),
        ({"views": {"a": {"azimuth": 0, "distance": 2}}}, "views.a: expected either elevation or polar"),
        ({"views": {"a": PLACE | {"polar": 80}}}, "views.a: expected either elevation or polar"),
        ({"views": {"a": PLACE | {"elevation": 91}}}, "views.a.elevation: expected degrees, −90 to 90, not 91"),
        ({"views": {"a": {"azimuth": 0, "polar": -1, "distance": 2}}}, "views.a.polar: expected degrees, 0 to 180"),
        ({"views": {"a": PLACE | {"distance": 0}}}, "views.a.distance: expected a positive number, not 0"),
        ({"views": {"a": PLACE | {"azimuth": math.nan}}}, "views.a.azimuth: expected a finite number"),
        ({"views": {"a": PLACE | {"azimuth": [1]}}}, "views.a.azimuth: expected a finite number"),
        ({"views": {"a": PLACE}, "camera_angle_x": 40}, "camera_angle_x: expected an angle in radians"),
        ({"views": {"a": PLACE}, "fps": -1}, "fps: expected a positive number"),
        ({"views": {"a": PLACE}, "centre": [0, 0, 0]}, "unknown key 'centre'"),
        ({"views": {"a": PLACE, "b": {"transform_matrix": EYE}}}, "views: expected a transform_matrix in all"),
        ({"views": {"a": {"transform_matrix": EYE, "azimuth": 1}}}, "views.a: unknown key 'azimuth'"),
        ({"views": {"a": {"transform_matrix": EYE[:3]}}}, "views.a.transform_matrix: expected 16 numbers"),
        ({"views": {"a": {"transform_matrix": np.diag((1, 1, -1, 1)).tolist()}}}, "transform_matrix: expected a rot"),
        ({"views": {"a": {"transform_matrix": np.diag((2, 2, 2, 1)).tolist()}}}, "transform_matrix: expected a rot"),
        ({"views": {"a": {"transform_matrix": [*EYE[:3], [0, 0, 1, 1]]}}}, "expected 0, 0, 0, 1 as the last row"),
        ({"views": {"a": {"transform_matrix": EYE}}, "centre": [0, 0, 3]}, "a camera away from the centre"),
        ({"views": {"a": {"transform_matrix": EYE}}, "up": [0, 0, 0]}, "up: expected a direction"),
    ],
)
def test_files_that_say_no_cameras_are_refused_with_one_line(studio, content, message):
    path = studio.json("cameras.json", content)
    with pytest.raises(UserError, match=message) as caught:
        read_cameras(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read_are_refused(studio):
    with pytest.raises(UserError, match="cannot be read"):
        read_json(studio.root / "none.json")
    path = studio.json("large.json", json.dumps({"views": {}}) + " " * MAX_BYTES)
    with pytest.raises(UserError, match="larger than 32 MiB"):
        read_json(path)
