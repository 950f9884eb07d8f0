"""Rooms: four textured walls with windows, doors and pictures, furniture, a lamp and things that move."""

import math
from random import Random

import torch

from salticid.world import things
from salticid.world.build import Builder
from salticid.world.materials import hsv, material, scaled
from salticid.world.scene import DURATION, Light, Motion, Path, Scene


def make_room(random: Random, name: str) -> Scene:
    path = Path(
        random.uniform(0.2, 0.45),
        (random.uniform(0, 0.12), random.uniform(0, 0.05), random.uniform(-0.25, 0.25)),
        random.uniform(0.7, 1.6),
    )
    b = Builder(random, random.uniform(1.0, 1.6), path)
    room = _Room(b)
    room.fittings()
    room.furnish()
    _movers(b, room)
    return b.scene(name, room.light(), None)


class _Room:
    """The shell and its frame: `yaw` and `centre` in the world."""

    def __init__(self, b: Builder) -> None:
        self.b, random = b, b.random
        self.half_x, self.half_z = random.uniform(1.9, 3.8), random.uniform(1.9, 3.8)
        self.height = max(random.uniform(2.3, 3.2) + 0.12 * (self.half_x + self.half_z - 4), b.floor + 1.0)
        self.yaw = random.uniform(-math.pi, math.pi)
        self.centre = self._settle(random)
        wall = [b.paint(b.palette.wall())]
        walls = [random.choice(wall) if random.random() < 0.5 else b.paint(b.palette.wall()) for _ in range(4)]
        floor = b.paint(b.palette.floor())
        ceiling = b.paint(
            random.choice(
                [lambda: b.palette.plain(b.palette.pale()), b.palette.planks, b.palette.tiles, b.palette.wall]
            )()
        )
        faces = (walls[0], walls[1], ceiling, floor, walls[2], walls[3])
        half = (self.half_x, self.height / 2, self.half_z)
        b.shell((self.centre[0], self.height / 2, self.centre[1]), half, faces, self.yaw)
        self.walls: list[list[tuple[float, float]]] = [[], [], [], []]

    def _settle(self, random: Random) -> tuple[float, float]:
        """A centre of the room such that the whole camera path is a metre or more from the walls."""
        length = self.b.path.speed * DURATION
        for attempt in range(60):
            x, z = random.uniform(-1, 1) * (self.half_x - 1), random.uniform(-1, 1) * (self.half_z - 1)
            end_x, end_z = x - math.sin(self.yaw) * length, z + math.cos(self.yaw) * length
            if attempt == 59:
                x, z = math.sin(self.yaw) * length / 2, -math.cos(self.yaw) * length / 2
            elif abs(end_x) > self.half_x - 1 or abs(end_z) > self.half_z - 1:
                continue
            break
        c, s = math.cos(self.yaw), math.sin(self.yaw)
        return -(c * x + s * z), -(-s * x + c * z)

    def world(self, x: float, z: float) -> tuple[float, float]:
        c, s = math.cos(self.yaw), math.sin(self.yaw)
        return self.centre[0] + c * x + s * z, self.centre[1] - s * x + c * z

    def wall(self, side: int) -> tuple[float, float, float]:
        """Distance from the middle, half the length and yaw (its normal is the body's +z) of wall `side`."""
        turn = (math.pi / 2, -math.pi / 2, 0.0, math.pi)[side]
        far, half = (self.half_x, self.half_z) if side < 2 else (self.half_z, self.half_x)
        return far, half, turn

    def on_wall(self, side: int, along: float, out: float) -> tuple[float, float, float]:
        """World x, z and yaw of a place `along` wall `side`, `out` metres from it."""
        far, _, turn = self.wall(side)
        c, s = math.cos(turn), math.sin(turn)
        x, z = c * along + s * (out - far), -s * along + c * (out - far)
        return (*self.world(x, z), self.yaw + turn)

    def reserve(self, side: int, half: float) -> float | None:
        """A free stretch of a wall for something flat of half-width `half`: where its middle is."""
        length = self.wall(side)[1]
        for _ in range(8):
            along = self.b.random.uniform(-1, 1) * max(length - half - 0.15, 0)
            if half + 0.15 < length and all(abs(along - a) > half + h + 0.08 for a, h in self.walls[side]):
                self.walls[side].append((along, half))
                return along
        return None

    # ---------------------------------------------------------------------------------------------------------

    def fittings(self) -> None:
        """Windows, doors, pictures, skirting, beams and a rug."""
        b, random = self.b, self.b.random
        for _ in range(random.randint(1, 2)):
            self._door()
        for _ in range(random.randint(0, 3)):
            self._window()
        for _ in range(random.randint(2, 6)):
            self._picture()
        trim = b.paint(random.choice([b.palette.wood(), b.palette.plain(b.palette.pale())]))
        if random.random() < 0.7:
            for side in range(4):
                x, z, yaw = self.on_wall(side, 0, 0.015)
                b.box(b.body(x, z, yaw), (0, 0.06, 0), (self.wall(side)[1], 0.06, 0.015), trim)
        if random.random() < 0.45:
            self._beams()
        if random.random() < 0.6:
            rug = b.paint(random.choice([b.palette.art, b.palette.checks, b.palette.stripes, b.palette.dots])())
            x, z = self.world(random.uniform(-0.4, 0.4) * self.half_x, random.uniform(-0.4, 0.4) * self.half_z)
            body = b.body(x, z, self.yaw + random.choice([0, 0, random.uniform(-0.5, 0.5)]))
            if random.random() < 0.3:
                b.cylinder(body, (0, 0.006, 0), random.uniform(0.7, 1.3), 0.006, rug)
            else:
                b.box(body, (0, 0.006, 0), (random.uniform(0.7, 1.4), 0.006, random.uniform(0.5, 1.0)), rug)

    def _beams(self) -> None:
        b, random = self.b, self.b.random
        wood, count, half = b.paint(b.palette.wood()), random.randint(2, 5), random.uniform(0.05, 0.12)
        for i in range(count):
            x, z = self.world(0, self.half_z * ((2 * i + 1) / count - 1))
            b.box(b.body(x, z, self.yaw), (0, self.height - half, 0), (self.half_x, half, half), wood)

    def _door(self) -> None:
        b, random = self.b, self.b.random
        side, half, height = random.randrange(4), random.uniform(0.4, 0.5), random.uniform(0.97, 1.05)
        along = self.reserve(side, half + 0.1)
        if along is None:
            return
        x, z, yaw = self.on_wall(side, along, 0)
        body = b.body(x, z, yaw)
        frame = b.paint(random.choice([b.palette.wood(), b.palette.plain(b.palette.pale())]))
        leaf = b.paint(random.choice([b.palette.wood, b.palette.planks, lambda: b.palette.plain(b.palette.vivid())])())
        b.box(body, (0, height, 0), (half + 0.08, height + 0.06, 0.03), frame)
        b.box(body, (0, height, 0.02), (half, height, 0.025), leaf)
        for level in (0.55, 1.4):
            b.box(body, (0, height * level, 0.04), (half * 0.7, height * 0.3, 0.015), leaf)
        b.ball(body, (half * 0.85, height, 0.07), 0.035, b.paint(b.palette.plain(hsv(0.12, 0.5, 0.8), gloss=1.0)))

    def _window(self) -> None:
        b, random = self.b, self.b.random
        side, half, height = random.randrange(4), random.uniform(0.4, 1.0), random.uniform(0.4, 0.6)
        along = self.reserve(side, half + 0.1)
        if along is None:
            return
        x, z, yaw = self.on_wall(side, along, 0)
        body, middle = b.body(x, z, yaw), random.uniform(1.3, 1.6)
        frame = b.paint(b.palette.plain(random.choice([b.palette.pale(), b.palette.brown()])))
        sky = hsv(random.uniform(0.5, 0.62), random.uniform(0.1, 0.5), 1.0)
        cell = random.uniform(0.3, 0.6)
        pane = material(
            sky,
            hsv(0.6, 0.05, 1.0),
            (0.5, 0.47, 0.44),
            glow=1.0,
            marble=0.8,
            wave_u=1.5,
            wave_v=3.0,
            warp=2.0,
            cell_u=cell,
            cell_v=cell,
            line_width=0.018,
            phase=random.uniform(0, 40),
        )
        b.box(body, (0, middle, 0), (half + 0.07, height + 0.07, 0.04), frame)
        b.box(body, (0, middle, 0.02), (half, height, 0.025), b.paint(pane))
        b.box(body, (0, middle - height - 0.08, 0.06), (half + 0.12, 0.02, 0.1), frame)

    def _picture(self) -> None:
        b, random = self.b, self.b.random
        side, half, height = random.randrange(4), random.uniform(0.2, 0.6), random.uniform(0.2, 0.45)
        along = self.reserve(side, half + 0.05)
        if along is None:
            return
        x, z, yaw = self.on_wall(side, along, 0)
        body, middle = b.body(x, z, yaw), random.uniform(1.25, 1.7)
        if random.random() < 0.7:
            b.box(body, (0, middle, 0), (half + 0.04, height + 0.04, 0.025), b.paint(b.palette.wood()))
        b.box(body, (0, middle, 0.01), (half, height, 0.025), b.paint(b.palette.art()))

    def furnish(self) -> None:
        b, random = self.b, self.b.random
        for _ in range(random.randint(5, 9)):
            thing, half, deep = random.choice(things.BY_WALL)
            side = random.randrange(4)
            along = random.uniform(-1, 1) * max(self.wall(side)[1] - half - 0.1, 0)
            x, z, yaw = self.on_wall(side, along, deep + 0.03)
            radius = max(half, deep) * 0.95
            if b.free(x, z, radius):
                b.taken.append((x, z, radius))
                thing(b, b.body(x, z, yaw))
        for _ in range(random.randint(6, 12)):
            thing, radius = random.choice(things.ANYWHERE)
            x, z = self.world(
                random.uniform(-1, 1) * (self.half_x - radius), random.uniform(-1, 1) * (self.half_z - radius)
            )
            if b.free(x, z, radius):
                b.taken.append((x, z, radius))
                thing(b, b.body(x, z, self.yaw + random.uniform(-math.pi, math.pi)))

    def light(self) -> Light:
        b, random = self.b, self.b.random
        x, z = self.world(random.uniform(-0.5, 0.5) * self.half_x, random.uniform(-0.5, 0.5) * self.half_z)
        warmth = random.uniform(-0.6, 1.0)
        colour = torch.tensor([1.0 + 0.25 * warmth, 1.0 + 0.05 * warmth, 1.0 - 0.3 * warmth])
        body = b.body(x, z)
        drop = min(random.uniform(0.06, 0.5), self.height - b.floor - 0.8)
        cord, glass = b.paint(b.palette.plain((0.05, 0.05, 0.05))), b.paint(b.palette.lamp((1.0, 0.95, 0.8)))
        b.cylinder(body, (0, self.height - drop / 2, 0), 0.012, drop / 2, cord)
        b.ball(body, (0, self.height - drop, 0), (0.16, 0.07, 0.16), glass)
        strength = random.uniform(1.0, 1.7) * (0.7 + 0.1 * (self.half_x + self.half_z))
        ambient = random.uniform(0.34, 0.55)
        tint = torch.tensor(scaled(b.palette.pale(), 1.1))
        return Light(
            position=torch.tensor([x, b.floor - self.height + drop + 0.12, z]),
            sun=False,
            colour=colour * strength,
            above=ambient * tint,
            below=ambient * 0.9 * torch.tensor(b.palette.pale()),
            softness=random.uniform(0.06, 0.25),
            reach=random.uniform(3.0, 5.0),
        )


def _movers(b: Builder, room: _Room) -> None:
    """A rolling ball, a hovering toy or a small robot."""
    random = b.random
    wanted = random.randint(1, 3)
    for _ in range(30):
        if wanted == 0:
            return
        radius, reach = random.uniform(0.1, 0.28), random.uniform(0.15, 0.5)
        around = 1.5 * radius + 2 * reach  # it goes there and turns
        x, z = room.world(random.uniform(-0.8, 0.8) * room.half_x, random.uniform(-0.8, 0.8) * room.half_z)
        inside = all(
            abs(v) < limit - around for v, limit in zip(_relative(room, x, z), (room.half_x, room.half_z), strict=True)
        )
        if not inside or not b.free(x, z, around, clearance=0.6):
            continue
        b.taken.append((x, z, around))
        wanted -= 1
        angle, rate = random.uniform(0, 6.28), random.uniform(0.6, 2.0)
        kind, face = random.randrange(3), b.paint(b.palette.toy())
        lift = random.uniform(0.03, 0.2) if kind == 1 else 0.0
        motion = Motion(
            sine=(reach * math.sin(angle), lift, reach * math.cos(angle)),
            cosine=(-reach * math.cos(angle), 0.0, reach * math.sin(angle))
            if random.random() < 0.5
            else (0.0, 0.0, 0.0),
            rate=rate,
            phase=random.uniform(0, 6.28),
            spin=random.uniform(-1.5, 1.5),
        )
        height = random.uniform(0.7, 1.4) if kind == 1 else 0.0
        body = b.body(x, z, angle, height, motion)
        if kind == 0:
            b.ball(body, (0, radius, 0), radius, face)
        elif kind == 1:
            b.ball(body, (0, 0, 0), (radius, radius * 0.6, radius), face)
            b.cylinder(body, (0, 0, 0), radius * 1.5, radius * 0.08, b.paint(b.palette.toy()))
        else:
            b.cylinder(body, (0, 0.12, 0), radius, 0.1, face)
            b.box(body, (0, 0.4, 0), (radius * 0.6, 0.2, radius * 0.5), b.paint(b.palette.toy()))
            b.ball(body, (0, 0.7, 0), radius * 0.5, face)


def _relative(room: _Room, x: float, z: float) -> tuple[float, float]:
    dx, dz = x - room.centre[0], z - room.centre[1]
    c, s = math.cos(room.yaw), math.sin(room.yaw)
    return c * dx - s * dz, s * dx + c * dz
