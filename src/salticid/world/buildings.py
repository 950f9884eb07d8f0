"""What is built: houses, tents, columns, arches, in the frame of their body (x right, height up, front towards +z)."""

import math

from salticid.world.build import Builder
from salticid.world.materials import hsv, material, scaled


def house(b: Builder, body: int, wide: float, deep: float) -> None:
    """Walls, a gable roof, a door and windows."""
    random = b.random
    height, pitch = random.uniform(2.4, 5.0), random.uniform(0.8, 1.6)
    wall = b.paint(
        random.choice(
            [
                b.palette.bricks,
                b.palette.bricks,
                b.palette.planks,
                lambda: b.palette.plain(b.palette.pale()),
                lambda: b.palette.plain(b.palette.vivid()),
            ]
        )()
    )
    tile = hsv(random.choice([0.02, 0.05, 0.6, 0.0]), random.uniform(0.2, 0.7), random.uniform(0.3, 0.65))
    roof = b.paint(
        material(
            tile,
            scaled(tile, 0.6),
            scaled(tile, 0.3),
            cell_u=0.3,
            cell_v=0.22,
            bond=0.5,
            line_width=0.012,
            pick=0.6,
            tint=0.4,
        )
    )
    door = b.paint(b.palette.wood(b.palette.vivid()))
    sky, frame = hsv(0.58, 0.3, random.uniform(0.3, 0.6)), b.palette.pale()
    pane = (
        {"cell_u": 1.0, "cell_v": 1.24, "line_width": 0.08}
        if random.random() < 0.5
        else {"cell_u": 0.5, "cell_v": 0.62, "line_width": 0.04}
    )
    glass = b.paint(
        material(
            sky,
            scaled(sky, 1.8),
            frame,
            gloss=1.0,
            marble=0.8,
            wave_u=1.3,
            wave_v=2.1,
            phase=random.uniform(0, 9),
            **pane,
        )
    )
    b.box(body, (0, height / 2, 0), (wide, height / 2, deep), wall)
    overhang = 1.12
    b.slab(
        body,
        (0, height, 0),
        (0, pitch * overhang / 2, deep * overhang / 2),
        (0, pitch * overhang / 2, -deep * overhang / 2),
        (wide * 1.06, 0, 0),
        roof,
    )
    b.box(body, (random.uniform(-0.5, 0.5) * wide, height + pitch * 0.7, -deep * 0.3), (0.25, 0.8, 0.25), wall)
    place = random.uniform(-0.3, 0.3) * wide
    b.box(body, (place, 1.0, deep), (0.5, 1.0, 0.06), door)
    columns = max(2, round(wide))
    for floor in range(1 if height < 3.8 else 2):
        for i in range(columns):
            x = wide * ((2 * i + 1) / columns - 1)
            if floor == 0 and abs(x - place) < 1.0:
                continue
            b.box(body, (x, 1.45 + 2.2 * floor, deep), (0.5, 0.62, 0.05), glass)


def hut(b: Builder, body: int, wide: float, deep: float) -> None:
    """A cube with a dome."""
    random = b.random
    height = random.uniform(2.0, 3.4)
    wall = b.paint(
        random.choice([b.palette.plain(b.palette.pale()), b.palette.plain(b.palette.brown()), b.palette.bricks()])
    )
    dome, dark = b.paint(b.palette.toy()), b.paint(b.palette.wood(hsv(0.07, 0.5, 0.3)))
    b.box(body, (0, height / 2, 0), (wide, height / 2, deep), wall)
    b.ball(body, (0, height, 0), (wide * 0.85, wide * random.uniform(0.5, 0.9), deep * 0.85), dome)
    b.box(body, (0, 0.95, deep), (0.45, 0.95, 0.05), dark)
    for x in (-0.6, 0.6):
        b.box(body, (x * wide, 1.5, deep), (0.22, 0.35, 0.04), dark)


def tent(b: Builder, body: int, wide: float, deep: float) -> None:
    cloth = b.paint(b.random.choice([b.palette.stripes, b.palette.checks, b.palette.art])())
    height = wide * 0.9
    b.slab(body, (0, 0, 0), (wide / 2, height / 2, 0), (-wide / 2, height / 2, 0), (0, 0, deep), cloth)


def tower(b: Builder, body: int, half: float, height: float) -> None:
    """A far block of flats: its windows are its texture."""
    random = b.random
    wall = b.palette.pale() if random.random() < 0.6 else b.palette.grey(0.35, 0.7)
    front = b.paint(
        material(
            hsv(0.58, 0.4, 0.4),
            hsv(0.55, 0.2, 0.75),
            wall,
            cell_u=random.uniform(2, 3),
            cell_v=random.uniform(2.5, 3.2),
            line_width=0.7,
            pick=1.0,
            gloss=0.4,
        )
    )
    b.box(body, (0, height / 2, 0), (half, height / 2, half * random.uniform(0.6, 1.4)), front)


def column(b: Builder, body: int, stone: int) -> None:
    height = b.random.choice([1.0, 2.2, 3.0, 3.4]) * b.random.uniform(0.85, 1.15)
    radius = b.random.uniform(0.22, 0.4)
    b.box(body, (0, 0.12, 0), (radius * 1.5, 0.12, radius * 1.5), stone)
    b.cylinder(body, (0, height / 2, 0), radius, height / 2, stone)
    if height > 1.5:
        b.box(body, (0, height + 0.1, 0), (radius * 1.4, 0.12, radius * 1.4), stone)


def arch(b: Builder, body: int) -> None:
    stone, height = b.paint(b.palette.bricks()), b.random.uniform(2.2, 3.2)
    for side in (-1, 1):
        b.box(body, (side * 1.2, height / 2, 0), (0.3, height / 2, 0.35), stone)
    b.box(body, (0, height + 0.25, 0), (1.6, 0.28, 0.4), stone)
    b.slab(body, (0, height + 0.5, 0), (0.75, 0.35, 0), (-0.75, 0.35, 0), (0, 0, 0.38), stone)


def wall(b: Builder, body: int) -> None:
    stone = b.paint(b.palette.bricks())
    height = b.random.uniform(0.8, 2.0)
    b.box(body, (-0.8, height / 2, 0), (1.1, height / 2, 0.25), stone)
    b.box(body, (1.0, height / 4, 0), (0.8, height / 4, 0.25), stone)


def steps(b: Builder, body: int) -> None:
    stone = b.paint(b.palette.tiles())
    for i in range(b.random.randint(2, 4)):
        size = 1.4 - 0.3 * i
        b.box(body, (0, 0.1 + 0.2 * i, 0), (size, 0.1, size), stone)


def statue(b: Builder, body: int) -> None:
    random = b.random
    stone = b.paint(b.palette.marble(2.0, 6.0))
    b.box(body, (0, 0.4, 0), (0.45, 0.4, 0.45), b.paint(b.palette.bricks(b.palette.pale())))
    height = 0.8
    for _ in range(random.randint(2, 4)):
        half, radius = random.uniform(0.15, 0.45), random.uniform(0.15, 0.38)
        b.ball(
            body,
            (0, height + half, 0),
            (radius, half, random.uniform(0.15, 0.38)),
            stone,
            yaw=random.uniform(0, math.pi),
        )
        height += 1.8 * half


def pavilion(b: Builder, body: int) -> None:
    stone, roof = b.paint(b.palette.marble()), b.paint(b.palette.toy())
    b.cylinder(body, (0, 0.1, 0), 2.4, 0.1, b.paint(b.palette.tiles()))
    for i in range(6):
        angle = i * math.pi / 3
        b.cylinder(body, (2.0 * math.sin(angle), 1.4, 2.0 * math.cos(angle)), 0.14, 1.3, stone)
    b.cylinder(body, (0, 2.75, 0), 2.4, 0.12, stone)
    b.ball(body, (0, 2.85, 0), (2.2, 1.1, 2.2), roof)
