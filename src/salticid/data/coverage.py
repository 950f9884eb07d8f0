"""Rigs that leave much of the sphere unseen are refused before anything is trained on them."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from salticid.errors import ConfigError
from salticid.geometry.cameras import UCM
from salticid.geometry.rig import Rig
from salticid.geometry.stitch import coverage

_ROWS = 64
"""Of the grid on which the sphere is measured: within half a percent of it, in 5 ms for four cameras."""
_STEPS = 14
"""Bisections between focal lengths of 1/100 and 1000 image widths: to one part in a thousand."""


def check_coverage(
    rig: Rig,
    least: float,
    focal: float,
    *,
    extremes: Callable[[Rig], Sequence[Rig]] = lambda rig: (),
) -> None:
    """Refuse a rig of which the nominal one or one of its `extremes` sees less than the share `least` of the sphere.

    Args:
        rig: UCM cameras of one size.
        least: share of the sphere by solid angle, 0 to 1; 0 allows every rig.
        focal: the focal length as the configuration states it; the suggestion in the message is in its unit.
        extremes: the rigs at the limits of the jitter around a given one.

    Raises:
        ConfigError: `least` is no share, or the rig sees less; the message says how much it sees and from which
            focal length on it would see enough.
    """
    if not 0 <= least <= 1:
        raise ConfigError(f"data.min_coverage is {least}; expected 0 to 1")
    if least == 0:
        return
    nominal = seen_share(rig)
    worst = min([nominal, *map(seen_share, extremes(rig))])
    if worst >= least:
        return
    shares = f"{100 * nominal:.1f} % of the sphere"
    if worst < nominal:
        shares += f", {100 * worst:.1f} % at the worst jitter"
    factor = largest_factor(rig, least, extremes)
    if factor is None:
        advice = "no focal length sees that much with these data.views, data.xi and jitter"
    else:
        advice = f"expected {rounded_down(focal * factor):g} or less"
    raise ConfigError(
        f"data.focal is {focal:g}: the rig sees {shares}, less than data.min_coverage {least:g}; {advice} "
        "(data.focal_size: picture size that the focal length was stated for; data.min_coverage: 0 allows any rig)"
    )


def seen_share(rig: Rig) -> float:
    """The share of the sphere, by solid angle, that at least one camera sees."""
    return coverage(rig, _ROWS).solid_angle


def largest_factor(rig: Rig, least: float, extremes: Callable[[Rig], Sequence[Rig]]) -> float | None:
    """The largest factor, up to 1, of the focal lengths with which the rig and its extremes see the share `least`;
    None if they never do. Shorter focal lengths see more: their images reach closer to the lens's own limit."""

    def suffices(factor: float) -> bool:
        scaled = zoomed(rig, factor)
        return all(seen_share(each) >= least for each in (*extremes(scaled), scaled))

    camera = rig.cameras[0]
    per_width = float(camera.parameters["fx"]) / camera.width
    low, high = (min(1.0, limit / per_width) for limit in (0.01, 1000))
    if not suffices(low):
        return None
    for _ in range(_STEPS):
        middle = math.sqrt(low) * math.sqrt(high)
        low, high = (middle, high) if suffices(middle) else (low, middle)
    return low


def zoomed(rig: Rig, factor: float) -> Rig:
    """The rig of UCM cameras with their focal lengths multiplied by `factor`."""
    cameras = (
        replace(camera, fx=camera.fx * factor, fy=camera.fy * factor)
        for camera in rig.cameras
        if isinstance(camera, UCM)
    )
    return replace(rig, cameras=tuple(cameras))


def rounded_down(value: float) -> float:
    """The value to three digits, never more than it is."""
    unit = 10.0 ** (math.floor(math.log10(value)) - 2)
    return math.floor(value / unit) * unit
