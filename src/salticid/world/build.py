"""Puts scenes together: bodies, solids and materials, and the room that they take on the ground.

Things are described in their own frame with heights above the ground, as one would draw them; `Builder` turns these
into the tensors of `Scene`.
"""

import math
from random import Random

import torch

from salticid.world.materials import Palette
from salticid.world.scene import DURATION, Body, Light, Motion, Path, Scene, Sky, Solids

Vector = tuple[float, float, float]
Faces = int | tuple[int, int, int, int, int, int]
"""One material, or one for each face: −x +x top bottom −z +z (a cylinder's side is the first)."""


class Builder:
    """A scene in the making. Body 0 is the room or the ground; `random` is the only source of chance."""

    def __init__(self, random: Random, floor: float, path: Path) -> None:
        self.random = random
        self.palette = Palette(random)
        self.floor = floor
        self.path = path
        self.bodies = [Body((0.0, floor, 0.0))]
        self.materials: list[list[float]] = []
        self.taken: list[tuple[float, float, float]] = []
        self._boxes: list[_Solid] = []
        self._rounds: list[_Solid] = []
        self._shell: list[_Solid] = []

    def paint(self, material: list[float]) -> int:
        """Register a material; its number."""
        self.materials.append(material)
        return len(self.materials) - 1

    # where things stand --------------------------------------------------------------------------------------

    def free(self, x: float, z: float, radius: float, clearance: float = 0.7) -> bool:
        """Whether a circle on the ground is clear of the camera's path (by `clearance`, m) and of all other things."""
        along = min(max(z, 0.0), self.path.speed * DURATION)
        if math.hypot(x, z - along) < radius + clearance + self.path.sway[0]:
            return False
        return all(math.hypot(x - a, z - b) >= radius + r for a, b, r in self.taken)

    def body(self, x: float, z: float, yaw: float = 0.0, height: float = 0.0, motion: Motion | None = None) -> int:
        """A new body whose origin stands `height` metres above the ground."""
        self.bodies.append(Body((x, self.floor - height, z), yaw, motion))
        return len(self.bodies) - 1

    # solids: centre is (right, height, forward) in the body's frame --------------------------------------------

    def box(self, body: int, centre: Vector, half: Vector, faces: Faces, yaw: float = 0.0, pitch: float = 0.0) -> None:
        """A box of half-sizes (right, up, forward), turned by `pitch` about its right axis, then by `yaw`."""
        c, s = math.cos(yaw), math.sin(yaw)
        cp, sp = math.cos(pitch), math.sin(pitch)
        a, b, d = half
        columns = ((a * c, 0.0, -a * s), (b * s * sp, b * cp, b * c * sp), (d * s * cp, -d * sp, d * c * cp))
        self._boxes.append(_Solid(body, centre, columns, faces))

    def slab(self, body: int, centre: Vector, first: Vector, second: Vector, third: Vector, faces: Faces) -> None:
        """A parallelepiped with the given half-axes (right, height, forward)."""
        columns = tuple((x, -h, z) for x, h, z in (first, second, third))
        self._boxes.append(_Solid(body, centre, columns, faces))

    def ball(self, body: int, centre: Vector, half: Vector | float, face: Faces, yaw: float = 0.0) -> None:
        """An ellipsoid."""
        self._rounds.append(_Solid(body, centre, _upright(half, yaw), face))

    def cylinder(self, body: int, centre: Vector, radius: float, half: float, faces: Faces) -> None:
        """An upright cylinder of half-height `half`."""
        self._rounds.append(_Solid(body, centre, _upright((radius, half, radius), 0.0), faces, cylinder=True))

    def axle(self, body: int, centre: Vector, radius: float, half: float, faces: Faces) -> None:
        """A cylinder lying along the body's right axis: a wheel, a log."""
        columns = ((0.0, radius, 0.0), (half, 0.0, 0.0), (0.0, 0.0, radius))
        self._rounds.append(_Solid(body, centre, columns, faces, cylinder=True))

    def shell(self, centre: Vector, half: Vector, faces: Faces, yaw: float) -> None:
        """The room: a box seen from inside."""
        self._shell = [_Solid(0, centre, _upright(half, yaw), faces)]

    # the whole -----------------------------------------------------------------------------------------------

    def scene(self, name: str, light: Light, sky: Sky | None) -> Scene:
        solids = self._boxes + self._rounds + self._shell
        axes = torch.tensor([solid.columns for solid in solids]).transpose(1, 2)
        faces = [(solid.faces,) * 6 if isinstance(solid.faces, int) else solid.faces for solid in solids]
        return Scene(
            name=name,
            path=self.path,
            light=light,
            sky=sky,
            floor=self.floor,
            bodies=tuple(self.bodies),
            materials=torch.tensor(self.materials).t().contiguous(),
            faces=torch.tensor(faces),
            body=torch.tensor([solid.body for solid in solids]),
            solids=Solids(
                boxes=len(self._boxes),
                shell=bool(self._shell),
                axes=axes,
                centres=torch.tensor([(x, -height, z) for x, height, z in (solid.centre for solid in solids)]),
                inverse=torch.linalg.inv(axes),
                sizes=torch.linalg.vector_norm(axes, dim=1),
                cylinder=torch.tensor([float(solid.cylinder) for solid in solids]),
            ),
        )


class _Solid:
    def __init__(self, body: int, centre: Vector, columns: tuple, faces: Faces, cylinder: bool = False) -> None:
        self.body, self.centre, self.columns, self.faces, self.cylinder = body, centre, columns, faces, cylinder


def _upright(half: Vector | float, yaw: float) -> tuple[Vector, Vector, Vector]:
    a, b, d = (half, half, half) if isinstance(half, float) else half
    c, s = math.cos(yaw), math.sin(yaw)
    return (a * c, 0.0, -a * s), (0.0, b, 0.0), (d * s, 0.0, d * c)
