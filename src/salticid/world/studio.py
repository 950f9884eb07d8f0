"""A studio: one articulated toy that moves in the middle of a wide, clear floor. For orbits and novel views."""

import math
from random import Random

import torch

from salticid.world.build import Builder
from salticid.world.materials import scaled
from salticid.world.scene import Light, Motion, Path, Scene

CENTRE = (0.0, 0.9, 3.0)
"""Where the toy stands (world x and z) and how high its middle is above the floor, m."""
CLEAR = 3.0
"""Radius around the toy that nothing else enters, m."""


def make_studio(random: Random, name: str) -> Scene:
    b = Builder(random, 1.2, Path(0.2, (0.0, 0.0, 0.0), 1.0))
    floor, backdrop = (
        b.paint(random.choice([b.palette.planks, b.palette.tiles, b.palette.checks])()),
        b.paint(b.palette.wall()),
    )
    ceiling = b.paint(b.palette.plain(b.palette.pale()))
    b.shell(
        (0.0, 2.5, CENTRE[2]),
        (6.5, 2.5, 6.5),
        (backdrop, backdrop, ceiling, floor, backdrop, backdrop),
        random.uniform(-1, 1),
    )
    _toy(b)
    for i in range(random.randint(5, 9)):
        angle, distance = i + random.random(), random.uniform(4.2, 5.5)
        body = b.body(distance * math.sin(angle), CENTRE[2] + distance * math.cos(angle), angle)
        half = random.uniform(0.2, 1.4)
        b.box(body, (0, half, 0), (random.uniform(0.2, 0.6), half, 0.2), b.paint(b.palette.toy()))
    tint = torch.tensor(scaled(b.palette.pale(), 1.1))
    angle = random.uniform(-math.pi, math.pi)
    lamp = torch.tensor((2.5 * math.sin(angle), b.floor - 4.2, CENTRE[2] + 2.5 * math.cos(angle)))
    light = Light(lamp, False, torch.tensor((2.2, 2.1, 1.9)), 0.5 * tint, 0.45 * tint, random.uniform(0.08, 0.2), 6.0)
    return b.scene(name, light, None)


def _toy(b: Builder) -> None:
    """A trunk on legs with a head, and arms that swing against each other, all swaying and turning as one."""
    random = b.random
    skin, cloth, trim = (b.paint(b.palette.toy()) for _ in range(3))
    spin, rate, phase = random.uniform(-0.8, 0.8), random.uniform(1.0, 2.5), random.uniform(0, 6)
    sway = (random.uniform(-0.3, 0.3), 0.0, random.uniform(-0.3, 0.3))
    tall, wide = random.uniform(0.35, 0.5), random.uniform(0.2, 0.38)

    def part(lift: float = 0.0, swing: float = 0.0) -> int:
        motion = Motion(sine=(sway[0], lift, sway[2]), cosine=(0.0, swing, 0.0), rate=rate, phase=phase, spin=spin)
        return b.body(CENTRE[0], CENTRE[2], 0.0, 0.0, motion)

    trunk = part()
    shape = random.randrange(3)
    if shape == 0:
        b.ball(trunk, (0, 0.9, 0), (wide, tall, wide * 0.8), cloth)
    elif shape == 1:
        b.box(trunk, (0, 0.9, 0), (wide, tall, wide * 0.7), cloth)
    else:
        b.cylinder(trunk, (0, 0.9, 0), wide, tall, cloth)
    legs = random.choice([2, 3, 4])
    for i in range(legs):
        angle = 2 * math.pi * (i + 0.25) / legs
        b.cylinder(trunk, (0.6 * wide * math.sin(angle), 0.3, 0.6 * wide * math.cos(angle)), 0.07, 0.3, trim)
    head, size = part(lift=0.05), random.uniform(0.18, 0.28)
    b.ball(head, (0, 0.95 + tall + size, 0), size, skin)
    for side in (-1, 1):
        b.ball(head, (side * 0.45 * size, 1.0 + tall + size, 0.85 * size), 0.25 * size, trim)
        arm = part(swing=side * 0.12)
        b.ball(arm, (side * (wide + 0.12), 1.0, 0), (0.09, 0.3, 0.09), skin)
        b.ball(arm, (side * (wide + 0.12), 0.68, 0), 0.12, trim)
