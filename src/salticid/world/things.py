"""Furniture, houses, trees and other things, as groups of solids in the frame of their body: x right, height up, and
the front towards +z."""

from collections.abc import Callable
from random import Random

from salticid.world.build import Builder
from salticid.world.materials import hsv, material, scaled

Thing = Callable[[Builder, int], None]


def _legs(b: Builder, body: int, x: float, z: float, top: float, half: float, face: int) -> None:
    for sx in (-1, 1):
        for sz in (-1, 1):
            b.box(body, (sx * (x - half), top / 2, sz * (z - half)), (half, top / 2, half), face)


def _clutter(b: Builder, body: int, half_x: float, half_z: float, top: float, count: int) -> None:
    """Small objects on a surface, side by side."""
    random: Random = b.random
    for i in range(count):
        x = half_x * ((2 * i + 1) / count - 1) * 0.8
        z = random.uniform(-0.4, 0.4) * half_z
        size = min(random.uniform(0.06, 0.16), half_x / count * 0.8)
        face = b.paint(b.palette.toy())
        shape = random.randrange(4)
        if shape == 0:
            b.ball(body, (x, top + size, z), size, face)
        elif shape == 1:
            b.box(body, (x, top + size, z), (size, size, size * 0.7), face, yaw=random.uniform(-1, 1))
        elif shape == 2:
            b.cylinder(body, (x, top + size * 1.4, z), size * 0.6, size * 1.4, face)
        else:
            b.ball(body, (x, top + size * 1.5, z), (size * 0.8, size * 1.5, size * 0.8), face)


def table(b: Builder, body: int) -> None:
    random = b.random
    x, z, height = random.uniform(0.45, 0.9), random.uniform(0.35, 0.5), random.uniform(0.45, 0.8)
    wood = b.paint(random.choice([b.palette.wood, b.palette.wood, b.palette.toy])())
    if random.random() < 0.3:
        b.cylinder(body, (0, height, 0), z * 1.3, 0.025, wood)
        b.cylinder(body, (0, height / 2, 0), 0.06, height / 2, wood)
        _clutter(b, body, z * 0.8, z * 0.8, height + 0.025, 2)
    else:
        b.box(body, (0, height, 0), (x, 0.025, z), wood)
        _legs(b, body, x, z, height, 0.03, wood)
        _clutter(b, body, x, z, height + 0.025, random.randint(1, 4))


def chair(b: Builder, body: int) -> None:
    wood, seat = b.paint(b.palette.wood()), b.paint(b.palette.toy())
    b.box(body, (0, 0.45, 0), (0.22, 0.03, 0.22), seat)
    b.box(body, (0, 0.72, -0.2), (0.22, 0.25, 0.02), seat, pitch=-0.1)
    _legs(b, body, 0.22, 0.22, 0.45, 0.02, wood)


def sofa(b: Builder, body: int) -> None:
    random = b.random
    half = random.uniform(0.5, 1.0)
    cloth = b.paint(
        random.choice([b.palette.plain(b.palette.vivid()), b.palette.stripes(), b.palette.checks(), b.palette.dots()])
    )
    pillow = b.paint(b.palette.toy())
    b.box(body, (0, 0.22, 0), (half, 0.2, 0.4), cloth)
    b.box(body, (0, 0.55, -0.34), (half, 0.32, 0.1), cloth, pitch=-0.12)
    for side in (-1, 1):
        b.box(body, (side * half, 0.35, 0.02), (0.1, 0.3, 0.42), cloth)
        b.box(body, (side * half * 0.55, 0.6, -0.12), (0.19, 0.18, 0.06), pillow, yaw=side * 0.2, pitch=-0.3)


def bed(b: Builder, body: int) -> None:
    wood, sheet, cover = b.paint(b.palette.wood()), b.paint(b.palette.plain(b.palette.pale())), b.paint(b.palette.toy())
    b.box(body, (0, 0.2, 0), (0.75, 0.15, 1.0), wood)
    b.box(body, (0, 0.42, 0), (0.72, 0.1, 0.97), sheet)
    b.box(body, (0, 0.47, 0.25), (0.75, 0.1, 0.74), cover)
    b.box(body, (0, 0.5, -1.0), (0.8, 0.5, 0.04), wood)
    b.ball(body, (-0.33, 0.56, -0.75), (0.28, 0.09, 0.18), sheet)
    b.ball(body, (0.33, 0.56, -0.75), (0.28, 0.09, 0.18), sheet)


def shelf(b: Builder, body: int) -> None:
    random = b.random
    half, boards, step = random.uniform(0.35, 0.7), random.randint(2, 5), random.uniform(0.32, 0.42)
    wood, top = b.paint(b.palette.wood()), boards * step
    b.box(body, (0, top / 2, -0.14), (half, top / 2, 0.01), wood)
    for side in (-1, 1):
        b.box(body, (side * half, top / 2, 0), (0.015, top / 2, 0.15), wood)
    for board in range(boards + 1):
        b.box(body, (0, board * step, 0), (half, 0.015, 0.15), wood)
    books = b.paint(book_spines(b))
    for board in range(boards):
        width = random.uniform(0.3, 0.9) * half
        shift = random.choice([-1, 1]) * (half - width) * 0.9
        height = random.uniform(0.1, 0.13)
        b.box(body, (shift, board * step + height + 0.015, -0.02), (width, height, 0.1), books)
        if width < 0.6 * half:
            size = random.uniform(0.06, 0.11)
            b.ball(body, (-shift, board * step + size + 0.015, 0), size, b.paint(b.palette.toy()))


def book_spines(b: Builder) -> list[float]:
    """Upright stripes, each of a mixture of two colours."""
    look = {"cell_u": b.random.uniform(0.03, 0.05), "cell_v": 10.0, "pick": 1.6, "tint": 0.9, "line_width": 0.002}
    return material(b.palette.any_vivid(), b.palette.any_vivid(), (0.02, 0.02, 0.02), **look)


def cabinet(b: Builder, body: int) -> None:
    random = b.random
    half, height = random.uniform(0.35, 0.8), random.uniform(0.35, 1.0)
    wood = b.paint(random.choice([b.palette.wood, b.palette.planks, lambda: b.palette.plain(b.palette.pale())])())
    knob = b.paint(b.palette.plain(b.palette.grey(0.6, 0.9), gloss=1.0))
    b.box(body, (0, height / 2, 0), (half, height / 2, 0.25), wood)
    for side in (-1, 1):
        b.box(body, (side * half / 2, height / 2, 0.255), (half * 0.46, height * 0.45, 0.01), wood)
        b.ball(body, (side * half * 0.12, height * 0.55, 0.28), 0.02, knob)
    _clutter(b, body, half, 0.2, height, random.randint(0, 3))


def plant(b: Builder, body: int) -> None:
    random = b.random
    pot, leaf = (
        b.paint(b.palette.toy()),
        b.paint(
            b.palette.ground(
                hsv(random.uniform(0.22, 0.4), 0.6, random.uniform(0.35, 0.7)), wave_u=9.0, wave_v=9.0, dot=0.0
            )
        ),
    )
    b.cylinder(body, (0, 0.16, 0), 0.16, 0.16, pot)
    height = random.uniform(0.5, 1.1)
    b.cylinder(body, (0, height / 2, 0), 0.025, height / 2, b.paint(b.palette.wood()))
    for _ in range(random.randint(3, 5)):
        x, z = random.gauss(0, 0.12), random.gauss(0, 0.12)
        b.ball(
            body,
            (x, height + random.gauss(0, 0.15), z),
            (random.uniform(0.1, 0.24), random.uniform(0.08, 0.28), 0.15),
            leaf,
        )


def floor_lamp(b: Builder, body: int) -> None:
    metal = b.paint(b.palette.plain(b.palette.grey(0.1, 0.5), gloss=0.8))
    shade = b.paint(b.palette.lamp(scaled(b.palette.pale(), 1.2), 0.85))
    b.cylinder(body, (0, 0.015, 0), 0.16, 0.015, metal)
    b.cylinder(body, (0, 0.75, 0), 0.015, 0.75, metal)
    b.cylinder(body, (0, 1.55, 0), 0.18, 0.13, shade)


def crates(b: Builder, body: int) -> None:
    random = b.random
    height = 0.0
    for _ in range(random.randint(1, 3)):
        size = random.uniform(0.15, 0.3)
        wood = b.paint(random.choice([b.palette.planks, b.palette.toy, b.palette.wood])())
        b.box(
            body,
            (random.gauss(0, 0.03), height + size, random.gauss(0, 0.03)),
            (size, size, size),
            wood,
            yaw=random.uniform(-0.5, 0.5),
        )
        height += 2 * size
    if random.random() < 0.5:
        b.ball(body, (0, height + 0.12, 0), 0.12, b.paint(b.palette.toy()))


def sculpture(b: Builder, body: int) -> None:
    """A plinth and a stack of round solids."""
    random = b.random
    b.box(body, (0, 0.3, 0), (0.25, 0.3, 0.25), b.paint(b.palette.marble()))
    height, stone = 0.6, b.paint(random.choice([b.palette.marble, b.palette.toy])())
    for _ in range(random.randint(1, 4)):
        half, radius = random.uniform(0.08, 0.25), random.uniform(0.08, 0.24)
        if random.random() < 0.6:
            b.ball(
                body, (0, height + half, 0), (radius, half, random.uniform(0.08, 0.24)), stone, yaw=random.uniform(0, 3)
            )
        else:
            b.cylinder(body, (0, height + half, 0), radius, half, stone)
        height += 1.85 * half


def toys(b: Builder, body: int) -> None:
    """Balls and blocks on the floor."""
    random = b.random
    for i in range(random.randint(2, 4)):
        size = random.uniform(0.07, 0.2)
        x, z = 0.42 * (i % 2) - 0.2 + random.gauss(0, 0.02), 0.42 * (i // 2) - 0.2
        face = b.paint(b.palette.toy())
        if random.random() < 0.6:
            b.ball(body, (x, size, z), size, face)
        else:
            b.box(body, (x, size, z), (size, size, size), face, yaw=random.uniform(0, 3))


def stool(b: Builder, body: int) -> None:
    face = b.paint(b.palette.toy())
    radius, height = b.random.uniform(0.16, 0.35), b.random.uniform(0.3, 0.5)
    b.cylinder(body, (0, height / 2, 0), radius, height / 2, face)


BY_WALL: tuple[tuple[Thing, float, float], ...] = (
    (sofa, 1.1, 0.55),
    (shelf, 0.7, 0.2),
    (shelf, 0.7, 0.2),
    (cabinet, 0.85, 0.3),
    (cabinet, 0.85, 0.3),
    (table, 0.9, 0.55),
    (bed, 0.85, 1.05),
)
"""Furniture to stand with its back to a wall, with half its width and half its depth, m."""

ANYWHERE: tuple[tuple[Thing, float], ...] = (
    (table, 1.0),
    (chair, 0.35),
    (chair, 0.35),
    (plant, 0.35),
    (floor_lamp, 0.2),
    (crates, 0.4),
    (sculpture, 0.35),
    (toys, 0.5),
    (stool, 0.35),
)
"""Furniture to stand freely, with the radius of the circle on the ground that it needs, m."""
