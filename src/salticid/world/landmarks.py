"""What stands outdoors: trees, rocks, cars, people, in the frame of their body (x right, height up, the front towards
+z)."""

from salticid.world.build import Builder
from salticid.world.materials import hsv


def _leaves(b: Builder) -> int:
    hue = b.random.choice([0.25, 0.28, 0.32, 0.36, 0.12, 0.06]) + b.random.gauss(0, 0.02)
    colour = hsv(hue, b.random.uniform(0.45, 0.75), b.random.uniform(0.4, 0.65))
    return b.paint(b.palette.ground(colour, wave_u=5.0, wave_v=5.0, grain=0.4, dot=0.0))


def tree(b: Builder, body: int) -> None:
    random = b.random
    bark, leaf, trunk = b.paint(b.palette.wood(hsv(0.07, 0.4, 0.35))), _leaves(b), random.uniform(1.0, 2.2)
    b.cylinder(body, (0, trunk / 2, 0), random.uniform(0.08, 0.18), trunk / 2, bark)
    for _ in range(random.randint(2, 4)):
        x, z, size = random.gauss(0, 0.35), random.gauss(0, 0.35), random.uniform(0.6, 1.1)
        b.ball(body, (x, trunk + random.uniform(0.1, 0.9), z), (size, size * random.uniform(0.7, 1.1), size), leaf)


def conifer(b: Builder, body: int) -> None:
    leaf, height = _leaves(b), b.random.uniform(1.0, 1.6)
    b.cylinder(body, (0, 0.4, 0), 0.12, 0.4, b.paint(b.palette.wood(hsv(0.06, 0.5, 0.3))))
    for i in range(3):
        size = 1.15 - 0.3 * i
        b.ball(body, (0, 0.9 + i * 0.75 * height, 0), (size, 0.65 * height, size), leaf)


def cypress(b: Builder, body: int) -> None:
    height = b.random.uniform(1.4, 2.8)
    b.ball(body, (0, height * 0.95, 0), (0.5, height, 0.5), _leaves(b))


def bush(b: Builder, body: int) -> None:
    leaf = _leaves(b)
    for _ in range(b.random.randint(1, 3)):
        size = b.random.uniform(0.3, 0.6)
        b.ball(body, (b.random.gauss(0, 0.3), size * 0.6, b.random.gauss(0, 0.3)), (size, size * 0.8, size), leaf)


def rock(b: Builder, body: int) -> None:
    stone = b.paint(b.palette.ground(b.palette.grey(0.45, 0.75), wave_u=3.0, wave_v=3.0, dot=0.0))
    for _ in range(b.random.randint(1, 3)):
        size = b.random.uniform(0.25, 0.7)
        half = (size, size * b.random.uniform(0.4, 0.9), size * b.random.uniform(0.6, 1.2))
        b.ball(
            body, (b.random.gauss(0, 0.3), size * 0.2, b.random.gauss(0, 0.3)), half, stone, yaw=b.random.uniform(0, 3)
        )


def bench(b: Builder, body: int) -> None:
    wood, metal = b.paint(b.palette.planks()), b.paint(b.palette.plain(b.palette.grey(0.1, 0.4)))
    b.box(body, (0, 0.45, 0), (0.8, 0.03, 0.22), wood)
    b.box(body, (0, 0.75, -0.22), (0.8, 0.2, 0.02), wood, pitch=-0.15)
    for side in (-1, 1):
        b.box(body, (side * 0.65, 0.22, 0), (0.04, 0.22, 0.2), metal)


def barrel(b: Builder, body: int) -> None:
    face = b.paint(b.palette.toy())
    b.cylinder(body, (0, 0.45, 0), 0.32, 0.45, face)


def bale(b: Builder, body: int) -> None:
    hay = b.paint(b.palette.ground(hsv(0.12, 0.55, 0.8), wave_u=9.0, wave_v=3.0, dot=0.0))
    b.axle(body, (0, 0.55, 0), 0.55, 0.5, hay)


def lamp_post(b: Builder, body: int) -> None:
    metal, glass = (
        b.paint(b.palette.plain(b.palette.grey(0.1, 0.35), gloss=0.5)),
        b.paint(b.palette.lamp((1.0, 0.95, 0.8), 0.7)),
    )
    height = b.random.uniform(2.4, 3.6)
    b.cylinder(body, (0, height / 2, 0), 0.05, height / 2, metal)
    b.cylinder(body, (0, 0.15, 0), 0.12, 0.15, metal)
    b.ball(body, (0, height + 0.15, 0), 0.2, glass)


def person(b: Builder, body: int) -> None:
    random = b.random
    skin = b.paint(
        b.palette.plain(hsv(random.uniform(0.04, 0.08), random.uniform(0.3, 0.6), random.uniform(0.45, 0.9)))
    )
    coat, legs = b.paint(b.palette.toy()), b.paint(b.palette.plain(b.palette.grey(0.15, 0.5)))
    tall = random.uniform(0.85, 1.05)
    for side in (-1, 1):
        b.cylinder(body, (side * 0.1, 0.4 * tall, 0), 0.08, 0.4 * tall, legs)
    b.ball(body, (0, 1.1 * tall, 0), (0.24, 0.4 * tall, 0.16), coat)
    b.ball(body, (0, 1.6 * tall, 0), 0.13, skin)


def car(b: Builder, body: int) -> None:
    random = b.random
    paint = b.paint(b.palette.plain(b.palette.any_vivid(), gloss=1.0))
    glass, tyre = b.paint(b.palette.plain((0.03, 0.05, 0.08), gloss=1.0)), b.paint(b.palette.plain((0.02, 0.02, 0.02)))
    hub, white, red = (
        b.paint(b.palette.plain(c, gloss=0.6, glow=g))
        for c, g in (((0.5, 0.5, 0.5), 0.0), ((0.9, 0.9, 0.8), 0.5), ((0.8, 0.03, 0.03), 0.4))
    )
    back, roof = random.uniform(-0.6, -0.1), random.uniform(0.65, 1.15)
    b.box(body, (0, 0.55, 0), (0.8, 0.27, 1.9), paint)
    b.slab(
        body, (0, 1.05, back), (0.7, 0, 0), (0, 0.25, -0.12), (0, 0, roof), (glass, glass, paint, paint, glass, glass)
    )
    b.box(body, (0, 1.31, back - 0.12), (0.66, 0.02, roof * 0.95), paint)
    for x in (-0.78, 0.78):
        for z in (-1.2, 1.2):
            b.axle(body, (x, 0.32, z), 0.32, 0.1, (tyre, tyre, hub, hub, tyre, tyre))
    for x in (-0.55, 0.55):
        b.box(body, (x, 0.62, 1.9), (0.15, 0.08, 0.02), white)
        b.box(body, (x, 0.62, -1.9), (0.15, 0.08, 0.02), red)


def fence(b: Builder, body: int) -> None:
    wood = b.paint(b.palette.wood())
    for i in range(4):
        b.box(body, (-1.5 + i, 0.5, 0), (0.05, 0.5, 0.05), wood)
    for height in (0.4, 0.8):
        b.box(body, (0, height, 0), (1.5, 0.06, 0.025), wood)


def balloon(b: Builder, body: int, size: float) -> None:
    b.ball(body, (0, 0, 0), (size, size * 1.2, size), b.paint(b.palette.toy()))
    b.box(body, (0, -size * 1.75, 0), (size * 0.25, size * 0.2, size * 0.25), b.paint(b.palette.wood()))
    b.cylinder(body, (0, -size * 1.4, 0), size * 0.03, size * 0.3, b.paint(b.palette.plain((0.1, 0.08, 0.05))))
