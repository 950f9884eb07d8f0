"""Materials: a row of numbers each, drawn at random in families (brick, tile, wood, marble, …).

Every material is the same two layers, so that one branch-free function (`texture.py`) paints all of them:

- a *grid* of cells (bricks, tiles, planks, checks, window panes, dots) with mortar lines between them;
- a *wave*, a sum of domain-warped sines (grain, marble, clouds of dirt, stripes).

Colours are linear light. Lengths are metres on the surface, wave numbers radians per metre.
"""

import colorsys
from random import Random

Colour = tuple[float, float, float]

FIELDS: dict[str, float] = {
    # first, second and line colour
    **{f"{name}_{channel}": 0.5 for name in ("first", "second", "line") for channel in "rgb"},
    "cell_u": 1.0,  # cell width and height, m
    "cell_v": 1.0,
    "bond": 0.0,  # each row of cells is shifted by this fraction of a cell against the one before
    "random_bond": 0.0,  # … and by this much at random
    "line_width": 0.0,  # half the width of the lines, m
    "check": 0.0,  # how much of the second colour: on every other cell,
    "pick": 0.0,  # by cell at random,
    "marble": 0.0,  # and by the wave
    "dot": 0.0,  # radius of a disc of line colour in every cell, m
    "tint": 0.0,  # random brightness of the cells
    "grain": 0.0,  # brightness that follows the wave
    "wave_u": 1.0,  # wave numbers, rad/m
    "wave_v": 1.0,
    "warp": 1.0,  # how much the octaves of the wave bend each other, rad
    "rough": 1.0,  # weight of the higher octaves
    "phase": 0.0,
    "gloss": 0.0,  # strength of the highlight
    "glow": 0.0,  # 0: lit by the scene; 1: shines by itself
}
"""Fields of a material and their defaults, in the order of the rows of `Scene.materials`."""


def material(
    first: Colour, second: Colour | None = None, line: Colour | None = None, /, **fields: float
) -> list[float]:
    """The row of a material; colours that are not given are the first."""
    row = dict(FIELDS)
    for name, colour in (("first", first), ("second", second or first), ("line", line or first)):
        row |= {f"{name}_{channel}": value for channel, value in zip("rgb", colour, strict=True)}
    unknown = fields.keys() - row.keys()
    if unknown:
        raise ValueError(f"unknown material fields {sorted(unknown)}; known: {sorted(FIELDS)}")
    return list((row | fields).values())


def hsv(hue: float, saturation: float, value: float) -> Colour:
    """Linear-light colour from hue, saturation and display value, each in [0, 1] (hue wraps)."""
    clip = lambda x: min(max(x, 0.0), 1.0)  # noqa: E731
    red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, clip(saturation), clip(value))
    return red * red, green * green, blue * blue


def scaled(colour: Colour, factor: float) -> Colour:
    """The same hue, lighter or darker; at most white."""
    red, green, blue = (min(channel * factor, 1.0) for channel in colour)
    return red, green, blue


class Palette:
    """Random materials of one scene, with hues that go together: a base hue and two or three accents."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.base = random.random()
        scheme = random.choice([(0.0, 0.08, -0.08), (0.0, 0.5, 0.45), (0.0, 0.33, 0.67), (0.0, 0.42, 0.12)])
        self.accents = [self.base + offset for offset in scheme]

    # colours -------------------------------------------------------------------------------------------------

    def vivid(self) -> Colour:
        hue = self.random.choice(self.accents) + self.random.gauss(0, 0.03)
        return hsv(hue, self.random.uniform(0.5, 0.9), self.random.uniform(0.55, 0.95))

    def any_vivid(self) -> Colour:
        return hsv(self.random.random(), self.random.uniform(0.5, 0.95), self.random.uniform(0.5, 1.0))

    def pale(self) -> Colour:
        hue = self.random.choice(self.accents) + self.random.gauss(0, 0.03)
        return hsv(hue, self.random.uniform(0.05, 0.35), self.random.uniform(0.72, 0.95))

    def grey(self, low: float = 0.3, high: float = 0.8) -> Colour:
        return hsv(self.random.uniform(0.05, 0.65), self.random.uniform(0, 0.08), self.random.uniform(low, high))

    def brown(self) -> Colour:
        random = self.random
        return hsv(random.uniform(0.045, 0.1), random.uniform(0.35, 0.7), random.uniform(0.35, 0.8))

    # families ------------------------------------------------------------------------------------------------

    def _wave(self, low: float, high: float, stretch: float = 1.0) -> dict[str, float]:
        """Wave numbers around the same random scale, stretched along a random axis or along u."""
        scale = self.random.uniform(low, high)
        return {"wave_u": scale, "wave_v": scale * stretch, "phase": self.random.uniform(0, 40)}

    def plain(self, colour: Colour, **fields: float) -> list[float]:
        """Paint or plaster: one colour with faint blotches."""
        look = self._wave(2, 6) | {"warp": 1.5, "rough": 1.5, "grain": self.random.uniform(0.04, 0.12)}
        return material(colour, **(look | fields))

    def wood(self, colour: Colour | None = None) -> list[float]:
        colour = colour or self.brown()
        look = self._wave(1.5, 4, self.random.uniform(8, 16)) | {"warp": self.random.uniform(0.8, 2.2)}
        return material(colour, scaled(colour, 0.45), marble=0.9, grain=0.15, rough=0.7, gloss=0.12, **look)

    def planks(self) -> list[float]:
        colour = self.brown()
        cells = {"cell_u": self.random.uniform(0.7, 1.8), "cell_v": self.random.uniform(0.09, 0.22)}
        look = self._wave(2, 4, self.random.uniform(6, 12)) | cells
        return material(
            colour,
            scaled(colour, 0.5),
            scaled(colour, 0.25),
            random_bond=1.0,
            line_width=0.004,
            tint=0.5,
            marble=0.6,
            grain=0.12,
            rough=0.8,
            gloss=0.2,
            pick=0.25,
            **look,
        )

    def bricks(self, colour: Colour | None = None) -> list[float]:
        colour = colour or hsv(
            self.random.uniform(0.0, 0.07), self.random.uniform(0.3, 0.65), self.random.uniform(0.5, 0.8)
        )
        width = self.random.uniform(0.2, 0.45)
        return material(
            colour,
            scaled(colour, 0.55),
            self.grey(0.55, 0.85),
            cell_u=width,
            cell_v=width * self.random.uniform(0.3, 0.5),
            bond=0.5,
            line_width=0.012,
            pick=0.7,
            tint=0.45,
            grain=0.18,
            warp=2.0,
            rough=2.0,
            **self._wave(6, 14),
        )

    def tiles(self) -> list[float]:
        size = self.random.choice([0.15, 0.3, 0.4, 0.6])
        mixing = self.random.choice([{"check": 1.0}, {"pick": 1.0}, {"tint": 0.25}, {"marble": 0.6, "tint": 0.15}])
        first = self.random.choice([self.pale, self.grey, self.vivid])()
        return material(
            first,
            self.random.choice([self.pale(), scaled(first, 0.35), self.vivid()]),
            self.grey(0.3, 0.9),
            cell_u=size,
            cell_v=size * self.random.choice([1.0, 1.0, 0.5]),
            bond=self.random.choice([0, 0, 0.5]),
            line_width=0.006,
            grain=0.05,
            warp=2.5,
            gloss=0.5,
            **mixing,
            **self._wave(2, 7),
        )

    def checks(self, size: float | None = None) -> list[float]:
        size = size or self.random.uniform(0.08, 0.5)
        look = self._wave(3, 9) | {"grain": 0.06, "gloss": self.random.choice([0.0, 0.3])}
        return material(self.vivid(), self.pale(), cell_u=size, cell_v=size, check=1.0, **look)

    def stripes(self, width: float | None = None) -> list[float]:
        width = width or self.random.uniform(0.06, 0.3)
        long = self.random.random() < 0.5
        look = {"cell_u": 1e3 if long else width, "cell_v": width if long else 1e3, "check": 1.0}
        return material(
            self.vivid(), self.random.choice([self.pale, self.vivid])(), grain=0.08, **look, **self._wave(2, 8)
        )

    def dots(self) -> list[float]:
        size = self.random.uniform(0.1, 0.35)
        look = {"cell_u": size, "cell_v": size, "dot": size * self.random.uniform(0.2, 0.38), "bond": 0.5}
        return material(self.pale(), None, self.vivid(), grain=0.05, **look, **self._wave(3, 8))

    def marble(self, low: float = 1.0, high: float = 4.0) -> list[float]:
        look = self._wave(low, high, self.random.uniform(0.6, 1.6)) | {"warp": self.random.uniform(2, 4)}
        second = self.random.choice([self.grey(0.2, 0.5), self.vivid(), self.pale()])
        return material(self.pale(), second, marble=1.0, rough=1.0, gloss=0.5, **look)

    def art(self) -> list[float]:
        """A poster: vivid warped waves, checks, dots or stripes at the scale of a picture."""
        kind = self.random.randrange(4)
        if kind == 0:
            return self.checks(self.random.uniform(0.06, 0.25))
        if kind == 1:
            return self.stripes(self.random.uniform(0.04, 0.15))
        look = self._wave(4, 12, self.random.uniform(0.5, 2)) | {"warp": self.random.uniform(1, 4)}
        size = self.random.uniform(0.15, 0.4)
        spots = {"cell_u": size, "cell_v": size, "dot": size * 0.35} if kind == 2 else {}
        return material(self.any_vivid(), self.any_vivid(), self.any_vivid(), marble=1.0, rough=0.6, **look, **spots)

    def ground(self, colour: Colour, **fields: float) -> list[float]:
        """Grass, earth, sand or leaves: blotches over a fine grain, sometimes with flowers or pebbles."""
        random = self.random
        look = self._wave(0.9, 2.2) | {"marble": 0.9, "grain": random.uniform(0.3, 0.5), "rough": 2.5, "warp": 2.2}
        if random.random() < 0.5:
            cell = random.uniform(0.25, 0.6)
            look |= {"cell_u": cell, "cell_v": cell, "dot": random.uniform(0.012, 0.04), "random_bond": 1.0}
        spots = random.choice([self.pale(), scaled(colour, 0.3), scaled(colour, 1.6)])
        return material(colour, scaled(colour, random.uniform(0.4, 0.65)), spots, **(look | fields))

    def asphalt(self) -> list[float]:
        """Grey slabs with a coarse grain and dark joints."""
        random, colour = self.random, self.grey(0.25, 0.5)
        cells = {"cell_u": random.uniform(1.5, 4), "cell_v": random.uniform(2, 6), "bond": random.choice([0, 0.5])}
        look = self._wave(4, 9) | {
            "grain": 0.3,
            "rough": 2.5,
            "warp": 2.5,
            "marble": 0.5,
            "line_width": 0.02,
            "tint": 0.25,
        }
        return material(colour, scaled(colour, 0.7), scaled(colour, 0.4), **(look | cells))

    def lamp(self, colour: Colour, glow: float = 1.0) -> list[float]:
        return material(colour, glow=glow)

    def toy(self) -> list[float]:
        """Something for a small object: strongly coloured and patterned."""
        families = (self.checks, self.stripes, self.dots, self.marble, self.art, self.wood)
        return (
            self.random.choice(families)() if self.random.random() < 0.75 else self.plain(self.any_vivid(), gloss=0.6)
        )

    def wall(self) -> list[float]:
        """Something for the wall of a room."""
        choice = self.random.random()
        if choice < 0.35:
            return self.plain(self.pale())
        if choice < 0.5:
            return self.bricks(self.random.choice([None, self.pale()]))
        if choice < 0.62:
            return self.tiles()
        if choice < 0.75:
            colour = self.pale()
            look = {"cell_u": self.random.uniform(0.1, 0.4), "cell_v": 1e3, "check": 0.7, "grain": 0.06}
            return material(colour, scaled(colour, 0.7), **look, **self._wave(2, 6))
        if choice < 0.87:
            return self.planks()
        return self.dots() if choice < 0.93 else self.marble()

    def floor(self) -> list[float]:
        """Something to stand on indoors."""
        return self.random.choice([self.planks, self.planks, self.tiles, self.tiles, self.checks, self.marble])()
