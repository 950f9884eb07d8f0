"""Streets, parks, ruins and deserts under a sky."""

import math
from collections.abc import Callable, Sequence
from random import Random

from salticid.world import buildings, landmarks
from salticid.world.build import Builder
from salticid.world.materials import hsv, material, scaled
from salticid.world.scene import Motion, Path, Scene
from salticid.world.weather import make_weather


def make_outdoors(random: Random, name: str) -> Scene:
    sway = (random.uniform(0, 0.25), random.uniform(0, 0.06), random.uniform(-0.25, 0.25))
    b = Builder(random, random.uniform(1.1, 1.8), Path(random.uniform(0.4, 1.5), sway, random.uniform(0.7, 1.6)))
    sky, light = make_weather(b)
    random.choice((_street, _street, _park, _ruins, _village))(b)
    _skyline(b)
    _fliers(b)
    return b.scene(name, light, sky)


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
        colour,
        scaled(colour, 0.6),
        scaled(colour, 0.35),
        cell_u=size,
        cell_v=size * random.choice([1, 0.5]),
        bond=random.choice([0, 0.5]),
        line_width=0.012,
        pick=random.uniform(0, 1),
        check=random.choice([0, 0, 0.8]),
        tint=0.3,
        grain=0.2,
        wave_u=3.0,
        wave_v=3.0,
        warp=2.0,
        rough=2.0,
        phase=random.uniform(0, 40),
    )


def _scatter(
    b: Builder,
    count: int,
    near: float,
    far: float,
    things: Sequence[tuple[Callable[[Builder, int], None], float]],
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
    _scatter(
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
                buildings.house(b, b.body(x, z + wide, -side * math.pi / 2), wide, deep)
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
        things.append((buildings.pavilion, 2.8))
    _scatter(b, random.randint(16, 26), 2.0, 20, things)
    _walkers(b)


def _ruins(b: Builder) -> None:
    random = b.random
    _ground(b, random.choice([_paving, _paving, _sand, _grass])(b))
    stone = b.paint(random.choice([b.palette.bricks(b.palette.pale()), b.palette.marble(), b.palette.bricks()]))
    count, radius = random.randint(6, 10), random.uniform(4, 8)
    for i in range(count):
        angle = 2 * math.pi * (i + random.uniform(-0.15, 0.15)) / count
        x, z = radius * math.sin(angle), radius * math.cos(angle) + random.uniform(0, 3)
        if b.free(x, z, 0.7, clearance=1.0):
            b.taken.append((x, z, 0.7))
            buildings.column(b, b.body(x, z, angle), stone)
    things = [
        (buildings.statue, 0.8),
        (landmarks.rock, 0.8),
        (landmarks.rock, 0.8),
        (buildings.arch, 1.7),
        (buildings.wall, 2.0),
        (landmarks.bush, 0.7),
        (buildings.steps, 1.6),
        (landmarks.barrel, 0.5),
    ]
    _scatter(b, random.randint(16, 24), 1.9, 11, things)
    _walkers(b)


def _village(b: Builder) -> None:
    random = b.random
    _ground(b, random.choice([_sand, _sand, _grass])(b))
    for _ in range(random.randint(4, 8)):
        angle, distance = random.uniform(-math.pi, math.pi), random.uniform(7, 20)
        x, z, size = distance * math.sin(angle), distance * math.cos(angle), random.uniform(1.4, 2.8)
        if b.free(x, z, size * 1.4, clearance=1.2):
            b.taken.append((x, z, size * 1.4))
            random.choice([buildings.hut, buildings.house, buildings.tent])(
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
    _scatter(b, random.randint(16, 24), 1.9, 12, things)
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
        distance, angle, size = random.uniform(5, 25), random.uniform(-math.pi, math.pi), random.uniform(0.4, 1.3)
        height = random.uniform(3.5, 10) + 2 * size
        motion = Motion(
            velocity=(random.gauss(0, 0.3), -0.05, random.gauss(0, 0.3)),
            sine=(0, 0.15, 0),
            rate=1.3,
            spin=random.uniform(-0.6, 0.6),
        )
        body = b.body(distance * math.sin(angle), distance * math.cos(angle), 0, height, motion)
        landmarks.balloon(b, body, size)


def _skyline(b: Builder) -> None:
    random = b.random
    if random.random() < 0.4:
        return
    for _ in range(random.randint(3, 9)):
        angle, distance = random.uniform(-math.pi, math.pi), random.uniform(45, 110)
        x, z = distance * math.sin(angle), distance * math.cos(angle)
        buildings.tower(b, b.body(x, z, random.uniform(0, 1.5)), random.uniform(3, 9), random.uniform(5, 26))
