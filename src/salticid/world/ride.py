"""Camera paths with a dominant direction, inside the space that scenes keep clear."""

import math
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

import torch

from salticid.geometry import se3
from salticid.world.scene import DURATION, Path

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

_BEYOND = 0.2
"""How far a ride may start before and end after the scene's path, m."""
_ASIDE = (0.1, 0.2)
_ABOVE = (0.05, 0.12)
"""Smallest and largest distance from the scene's path to the side and up or down, m. Scenes keep clear 0.7 m around it
on the ground: on a ride nothing comes nearer than about 0.4 m."""
_YAW = (0.12, 0.3)
_PITCH = (0.05, 0.12)
_ROLL = (0.02, 0.06)
"""Smallest and largest amplitude of turns, rad."""


@dataclass(frozen=True)
class Wave:
    """amplitude · sin(rate · s + phase)"""

    amplitude: float
    rate: float
    phase: float

    def __call__(self, s: float) -> float:
        return self.amplitude * math.sin(self.rate * s + self.phase)


@dataclass(frozen=True)
class Ride:
    """Evenly along the scene's path, in one of its two directions, swaying, looking about slowly."""

    start: float
    """World z of frame 0, m."""
    step: float
    """m a frame."""
    back: bool
    """Towards −z."""
    right: Wave
    down: Wave
    """m, over the way in metres."""
    look: tuple[float, float]
    """Mean yaw and pitch against the way, rad."""
    turns: tuple[Wave, Wave, Wave]
    """Yaw, pitch and roll, rad, over the number of the frame."""

    def pose(self, number: int) -> "Float[Tensor, '4 4']":
        """Camera-to-world pose of frame `number`."""
        way = self.step * number
        yaw, pitch, roll = (turn(number) for turn in self.turns)
        yaw += self.look[0] + (math.pi if self.back else 0.0)
        rotation = se3.yaw_pitch_roll(*torch.tensor((yaw, pitch + self.look[1], roll)))
        along = self.start - way if self.back else self.start + way
        return se3.pose(rotation, torch.tensor((self.right(way), self.down(way), along)))


def draw_ride(
    random: Random,
    path: Path,
    length: int,
    step: tuple[float, float],
    turn: tuple[float, float],
    sideways: float,
    vertical: float,
) -> Ride:
    """A ride of `length` frames along `path`.

    Args:
        step: shortest and longest way between frames, m; both at most what the path has room for.
        turn: slowest and fastest yaw, degrees a frame; pitch turns half and roll a quarter as fast.
        sideways, vertical: standard deviations of the largest slope of the way, to the side and up or down.
    """
    room = path.speed * DURATION + 2 * _BEYOND
    chosen = min(random.uniform(*step), room / max(length - 1, 1))
    start, back = random.uniform(0, room - chosen * (length - 1)) - _BEYOND, random.random() < 0.5
    speed = math.radians(random.uniform(*turn))
    return Ride(
        start=room - 2 * _BEYOND - start if back else start,
        step=chosen,
        back=back,
        right=_wave(random, _ASIDE, random.gauss(0, sideways)),
        down=_wave(random, _ABOVE, random.gauss(0, vertical)),
        look=(random.gauss(0, 0.1), random.gauss(0, 0.06)),
        turns=(
            _wave(random, _YAW, speed),
            _wave(random, _PITCH, speed / 2),
            _wave(random, _ROLL, speed / 4),
        ),
    )


def _wave(random: Random, amplitudes: tuple[float, float], fastest: float) -> Wave:
    """A wave whose slope is at most `fastest`."""
    amplitude = random.uniform(*amplitudes)
    return Wave(amplitude, fastest / amplitude, random.uniform(0, 2 * math.pi))
