"""Rigs that see too little are refused, with the focal length that would do."""

import re
from functools import partial

import pytest

from salticid.data.coverage import check_coverage, largest_factor, rounded_down, seen_share, zoomed
from salticid.data.readers.jitter import RigJitter, extremes
from salticid.errors import ConfigError
from salticid.geometry.cameras import UCM
from salticid.geometry.rig import Rig

JITTER = RigJitter(xi=0.4, focal=0.1, rotation=3.0)


def ring(focal, views=4, xi=0.85, size=128):
    return Rig.ring(views, UCM.centred(size, size, f=focal, xi=xi))


def test_a_focal_length_of_560_pixels_is_refused_at_128():
    with pytest.raises(ConfigError) as caught:
        check_coverage(ring(220.0), 0.9, 220.0, extremes=partial(extremes, jitter=JITTER))
    message = str(caught.value)
    assert re.match(
        r"data\.focal is 220: the rig sees 33\.7 % of the sphere, 18\.9 % at the worst jitter, less than "
        r"data\.min_coverage 0\.9; expected \d\d\.\d or less \(.*data\.min_coverage: 0 allows",
        message,
    )
    assert "\n" not in message
    check_coverage(ring(220.0), 0.0, 220.0, extremes=partial(extremes, jitter=JITTER))
    check_coverage(ring(220.0 * 128 / 560), 0.9, 220.0, extremes=partial(extremes, jitter=JITTER))


@pytest.mark.parametrize("jitter", [RigJitter(), JITTER])
def test_the_suggested_focal_length_does_and_a_longer_one_does_not(jitter):
    around = partial(extremes, jitter=jitter)
    with pytest.raises(ConfigError) as caught:
        check_coverage(ring(220.0), 0.9, 962.5, extremes=around)  # stated for 560 pixels
    suggestion = float(re.search(r"expected ([\d.]+) or less", str(caught.value))[1])
    pixels = suggestion * 128 / 560
    check_coverage(ring(pixels), 0.9, suggestion, extremes=around)
    with pytest.raises(ConfigError):
        check_coverage(ring(1.02 * pixels), 0.9, suggestion, extremes=around)


def test_where_no_focal_length_does_the_message_says_so():
    with pytest.raises(ConfigError, match="no focal length sees that much"):
        check_coverage(ring(34.0, views=1, xi=0.0), 0.9, 34.0)  # one pinhole camera: half of the sphere at most


def test_without_jitter_no_worst_share_is_named():
    with pytest.raises(ConfigError, match=r"33\.7 % of the sphere, less than") as caught:
        check_coverage(ring(220.0), 0.9, 220.0)
    assert "worst" not in str(caught.value)


@pytest.mark.parametrize("focal", [34.0, 1e12, 1e300])
def test_focal_lengths_of_any_size_are_brought_down_to_what_does(focal):
    factor = largest_factor(ring(focal), 0.9, lambda rig: ())
    assert factor is not None
    assert seen_share(zoomed(ring(focal), factor)) >= 0.9
    assert factor <= 1


@pytest.mark.parametrize(("value", "expected"), [(57.89, 57.8), (100.0, 100.0), (0.012399, 0.0123), (1e6, 1e6)])
def test_suggestions_are_rounded_down(value, expected):
    assert rounded_down(value) == pytest.approx(expected)
    assert rounded_down(value) <= value
