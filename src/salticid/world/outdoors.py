"""Streets, parks, ruins and deserts under a sky."""

import math
from collections.abc import Callable
from random import Random

import torch

from salticid.world import landmarks
from salticid.world.build import Builder
from salticid.world.materials import Colour, hsv, material, scaled
from salticid.world.scene import Light, Motion, Path, Scene, Sky


def make_outdoors(random: Random, name: str) -> Scene:
    sway = (random.uniform(0, 0.25), random.uniform(0, 0.06), random.uniform(-0.25, 0.25))
    b = Builder(random, random.uniform(1.1, 1.8), Path(random.uniform(0.4, 1.5), sway, random.uniform(0.7, 1.6)))
    sky, light = _weather(b)
    random.choice((_street, _street, _park, _ruins, _village))(b)
    _skyline(b)
    _fliers(b)
    return b.scene(name, light, sky)


# light and sky --------------------------------------------------------------------------------------------------


def _weather(b: Builder) -> tuple[Sky, Light]:
    random, phase = b.random, b.random.uniform(0, 40)
    azimuth, kind = random.uniform(-math.pi, math.pi), random.random()
    elevation = math.radians(random.uniform(8, 20) if kind < 0.25 else random.uniform(25, 65))
    if kind < 0.25:  # the sun is low
        zenith, horizon = hsv(random.uniform(0.58, 0.75), 0.55, 0.6), hsv(random.uniform(0.01, 0.1), 0.5, 0.95)
        sun, ambient, cover = (2.0, 1.2, 0.65), 0.75, random.uniform(0.3, 0.6)
    elif kind < 0.45:  # overcast
        grey = random.uniform(0.65, 0.85)
        zenith, horizon = hsv(0.6, 0.12, grey), hsv(0.6, 0.04, grey + 0.1)
        sun, ambient, cover = (0.75, 0.75, 0.72), 1.0, random.uniform(0.7, 1.0)
    else:
        zenith, horizon = hsv(random.uniform(0.55, 0.64), random.uniform(0.6, 0.8), 0.85), hsv(0.55, 0.18, 0.97)
        sun, ambient, cover = (1.8, 1.7, 1.5), 0.7, random.uniform(0.1, 0.6)
    towards = (math.sin(azimuth) * math.cos(elevation), -math.sin(elevation), math.cos(azimuth) * math.cos(elevation))
    ground = hsv(random.uniform(0.08, 0.3), 0.3, 0.55)
    hills = hsv(
        random.choice([0.3, 0.38, 0.55, 0.62, 0.08]) + random.gauss(0, 0.03),
        random.uniform(0.2, 0.5),
        random.uniform(0.35, 0.6),
    )
    sky = Sky(
        torch.tensor(zenith), torch.tensor(horizon), torch.tensor(ground), torch.tensor(hills),
        cover, phase, random.uniform(0.02, 0.16), random.uniform(0.002, 0.008),
    )  # fmt: skip
    above = ambient * (0.5 * torch.tensor(zenith) + 0.5 * torch.tensor(horizon))
    light = Light(
        torch.tensor(towards), True, torch.tensor(sun), above, 0.35 * above + 0.1 * torch.tensor(ground),
        0.3 if kind >= 0.25 and kind < 0.45 else random.uniform(0.03, 0.08),
    )  # fmt: skip
    return sky, light


def _ground(b: Builder, row: list[float]) -> None:
    b.box(0, (0, -0.5, 0), (400, 0.5, 400), b.paint(row))


def _grass(b: Builder) -> list[float]:
    return b.palette.ground(hsv(b.random.uniform(0.2, 0.34), b.random.uniform(0.4, 0.7), b.random.uniform(0.45, 0.7)))


def _sand(b: Builder) -> list[float]:
    return b.palette.ground(hsv(b.random.uniform(0.07, 0.13), b.random.uniform(0.25, 0.5), b.random.uniform(0.7, 0.9)))


def _paving(b: Builder) -> list[float]:
    random, colour = b.random, b.random.choice([b.palette.grey(0.45, 0.7), b.palette.pale(), b.palette.brown()])
    size = random.uniform(0.4, 1.2)
    return material(
        colour, scaled(colour, 0.6), scaled(colour, 0.35), cell_u=size, cell_v=size * random.choice([1, 0.5]), bond=random.choice([0, 0.5]),
        line_width=0.012, pick=random.uniform(0, 1), check=random.choice([0, 0, 0.8]), tint=0.3, grain=0.2, wave_u=3.0, wave_v=3.0,
        warp=2.0, rough=2.0, phase=random.uniform(0, 40),
    )  # fmt: skip


def scatter(
    b: Builder,
    count: int,
    near: float,
    far: float,
    things: list[tuple[Callable[[Builder, int], None], float]],
    inside: Callable[[float, float], bool] = lambda x, z: True,
) -> None:
    """Things with the radius of the circle that each needs, at random in a ring around the rig."""
    random = b.random
    for _ in range(count):
        thing, radius = random.choice(things)
        distance, angle = near + (far - near) * random.random() ** 1.5, random.uniform(-math.pi, math.pi)
        x, z = distance * math.sin(angle), distance * math.cos(angle)
        if inside(x, z) and b.free(x, z, radius, clearance=1.0):
            b.taken.append((x, z, radius))
            thing(b, b.body(x, z, random.uniform(-math.pi, math.pi)))


# places ---------------------------------------------------------------------------------------------------------


def _street(b: Builder) -> None:
    """A road along the camera's way, pavements, houses on both sides, cars."""
    random = b.random
    _ground(b, random.choice([_grass, _paving, _sand])(b))
    half, middle = random.uniform(2.8, 4.5), random.uniform(-4.5, 4.5)
    asphalt = b.palette.asphalt()
    road = b.paint(asphalt)
    body = b.body(middle, 0)
    b.box(body, (0, -0.01, 0), (half, 0.02, 150), road)
    paint = hsv(0.13, random.choice([0, 0.6]), 0.95)
    dash = material(
        (asphalt[0], asphalt[1], asphalt[2]), paint, cell_u=50.0, cell_v=random.uniform(1.2, 2.5), check=1.0
    )
    line = b.paint(material(paint))
    b.box(body, (0, 0, 0), (0.07, 0.014, 150), b.paint(dash))
    kerb = b.paint(_paving(b))
    for side in (-1, 1):
        b.box(body, (side * (half - 0.25), 0, 0), (0.06, 0.014, 150), line)
        b.box(body, (side * (half + 1.1), 0, 0), (1.1, 0.09, 150), kerb)
    _houses(b, middle, half + 2.4)
    for side in (-1, 1):
        _row(
            b,
            middle + side * (half + 0.6),
            landmarks.lamp_post if random.random() < 0.5 else landmarks.tree,
            0.6,
            random.uniform(6, 12),
        )
    scatter(
        b,
        10,
        3,
        14,
        [(landmarks.bench, 0.9), (landmarks.tree, 1.2), (landmarks.barrel, 0.5), (landmarks.person, 0.4)],
        lambda x, z: abs(x - middle) > half + 0.5,
    )
    for _ in range(random.randint(2, 4)):
        lane, z = middle + random.choice([-1, 1]) * half * 0.5, random.uniform(-14, 22)
        ahead = 1 if lane < middle else -1
        moving = random.random() < 0.7
        speed = ahead * random.uniform(0.8, 4.0) if moving else 0.0
        if abs(lane) > 2.2 and all(abs(lane - x) > 1 or abs(z - a) > r + 3 for x, a, r in b.taken):
            b.taken.append((lane, z, 2.3))
            landmarks.car(b, b.body(lane, z, 0.0 if ahead > 0 else math.pi, motion=Motion(velocity=(0, 0, speed))))


def _houses(b: Builder, middle: float, setback: float) -> None:
    random = b.random
    for side in (-1, 1):
        z = -20.0 + random.uniform(0, 5)
        while z < 22:
            wide, deep = random.uniform(2.5, 4.5), random.uniform(2.5, 4.0)
            x = middle + side * (setback + deep + random.uniform(0, 1.5))
            if random.random() < 0.85 and b.free(x, z + wide, max(wide, deep) * 0.9, clearance=1.0):
                b.taken.append((x, z + wide, max(wide, deep)))
                landmarks.house(b, b.body(x, z + wide, -side * math.pi / 2), wide, deep)
            z += 2 * wide + random.uniform(0.4, 3)


def _row(b: Builder, x: float, thing: Callable[[Builder, int], None], radius: float, step: float) -> None:
    z = -18 + b.random.uniform(0, step)
    while z < 24:
        if b.free(x, z, radius, clearance=1.0):
            b.taken.append((x, z, radius))
            thing(b, b.body(x, z, b.random.uniform(-3, 3)))
        z += step


def _park(b: Builder) -> None:
    random = b.random
    _ground(b, _grass(b))
    way = b.paint(random.choice([_sand, _paving])(b))
    b.box(
        b.body(random.uniform(-1, 1), 0, random.uniform(-0.3, 0.3)),
        (0, -0.01, 0),
        (random.uniform(0.8, 1.6), 0.02, 60),
        way,
    )
    if random.random() < 0.6:
        b.box(b.body(0, random.uniform(-8, 12), random.uniform(1.2, 1.9)), (0, -0.012, 0), (1.0, 0.02, 60), way)
    things = [
        (landmarks.tree, 1.5),
        (landmarks.tree, 1.5),
        (landmarks.conifer, 1.3),
        (landmarks.bush, 0.7),
        (landmarks.bench, 0.9),
        (landmarks.rock, 0.8),
        (landmarks.person, 0.4),
        (landmarks.lamp_post, 0.4),
    ]
    if random.random() < 0.5:
        things.append((landmarks.pavilion, 2.8))
    scatter(b, random.randint(16, 26), 2.0, 20, things)
    _walkers(b)


def _ruins(b: Builder) -> None:
    random = b.random
    _ground(b, random.choice([_paving, _paving, _sand, _grass])(b))
    stone = b.paint(random.choice([b.palette.bricks(b.palette.pale()), b.palette.marble(), b.palette.bricks()]))
    count, radius = random.randint(5, 9), random.uniform(6, 11)
    for i in range(count):
        angle = 2 * math.pi * (i + random.uniform(-0.15, 0.15)) / count
        x, z = radius * math.sin(angle), radius * math.cos(angle) + random.uniform(0, 3)
        if b.free(x, z, 0.7, clearance=1.0):
            b.taken.append((x, z, 0.7))
            landmarks.column(b, b.body(x, z, angle), stone)
    things = [
        (landmarks.statue, 0.8),
        (landmarks.rock, 0.8),
        (landmarks.rock, 0.8),
        (landmarks.arch, 1.7),
        (landmarks.wall, 2.0),
        (landmarks.bush, 0.7),
        (landmarks.steps, 1.6),
        (landmarks.barrel, 0.5),
    ]
    scatter(b, random.randint(12, 20), 2.0, 14, things)
    _walkers(b)


def _village(b: Builder) -> None:
    random = b.random
    _ground(b, random.choice([_sand, _sand, _grass])(b))
    for _ in range(random.randint(4, 8)):
        angle, distance = random.uniform(-math.pi, math.pi), random.uniform(7, 20)
        x, z, size = distance * math.sin(angle), distance * math.cos(angle), random.uniform(1.4, 2.8)
        if b.free(x, z, size * 1.4, clearance=1.2):
            b.taken.append((x, z, size * 1.4))
            random.choice([landmarks.hut, landmarks.house, landmarks.tent])(
                b, b.body(x, z, angle + math.pi + random.gauss(0, 0.3)), size, size
            )
    things = [
        (landmarks.cypress, 0.7),
        (landmarks.bush, 0.7),
        (landmarks.barrel, 0.5),
        (landmarks.bale, 0.8),
        (landmarks.rock, 0.8),
        (landmarks.person, 0.4),
        (landmarks.fence, 1.6),
    ]
    scatter(b, random.randint(14, 22), 2.0, 14, things)
    _walkers(b)


# what moves, and what stands far away ---------------------------------------------------------------------------


def _walkers(b: Builder) -> None:
    """Balls and people that go to and fro."""
    random = b.random
    for _ in range(random.randint(2, 4)):
        reach, distance, angle = random.uniform(0.4, 1.2), random.uniform(2.5, 8), random.uniform(-math.pi, math.pi)
        x, z = distance * math.sin(angle), distance * math.cos(angle)
        if not b.free(x, z, 2 * reach + 0.5):
            continue
        b.taken.append((x, z, 2 * reach + 0.5))
        heading = random.uniform(-math.pi, math.pi)
        sine = (reach * math.sin(heading), 0.0, reach * math.cos(heading))
        motion = Motion(
            sine=sine, rate=random.uniform(0.5, 1.5), phase=random.uniform(0, 6), spin=random.uniform(-0.5, 0.5)
        )
        body = b.body(x, z, heading, motion=motion)
        if random.random() < 0.5:
            landmarks.person(b, body)
        else:
            size = random.uniform(0.2, 0.5)
            b.ball(body, (0, size, 0), size, b.paint(b.palette.toy()))


def _fliers(b: Builder) -> None:
    """Balloons."""
    random = b.random
    for _ in range(random.randint(0, 3)):
        distance, angle, height = random.uniform(5, 25), random.uniform(-math.pi, math.pi), random.uniform(3.5, 10)
        motion = Motion(
            velocity=(random.gauss(0, 0.3), -0.05, random.gauss(0, 0.3)),
            sine=(0, 0.15, 0),
            rate=1.3,
            spin=random.uniform(-0.6, 0.6),
        )
        body = b.body(distance * math.sin(angle), distance * math.cos(angle), 0, height, motion)
        landmarks.balloon(b, body, random.uniform(0.4, 1.3))


def _skyline(b: Builder) -> None:
    random = b.random
    if random.random() < 0.4:
        return
    for _ in range(random.randint(3, 9)):
        angle, distance = random.uniform(-math.pi, math.pi), random.uniform(45, 110)
        x, z = distance * math.sin(angle), distance * math.cos(angle)
        landmarks.tower(b, b.body(x, z, random.uniform(0, 1.5)), random.uniform(3, 9), random.uniform(5, 26))


__all__ = ["Colour", "make_outdoors"]
