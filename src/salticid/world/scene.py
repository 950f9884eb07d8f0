"""A scene: solids with materials on moving bodies, light, sky and a camera path.

The world's frame is that of the rig at time 0: x right, y down, z forward (the way the camera path leads); metres,
seconds, radians. All motion is a closed form of time.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from salticid.geometry import se3

if TYPE_CHECKING:
    from jaxtyping import Float, Int

DURATION = 4.0
"""Seconds for which the camera path is kept clear of everything."""


@dataclass(frozen=True)
class Motion:
    """offset(t) = velocity·t + sine·(sin(rate·t + phase) − sin phase) + cosine·(cos(…) − cos phase), and a turn about
    the vertical, spin·t."""

    velocity: tuple[float, float, float] = (0.0, 0.0, 0.0)
    sine: tuple[float, float, float] = (0.0, 0.0, 0.0)
    cosine: tuple[float, float, float] = (0.0, 0.0, 0.0)
    rate: float = 1.0
    phase: float = 0.0
    spin: float = 0.0

    def offset(self, time: float) -> tuple[float, ...]:
        angle = self.rate * time + self.phase
        sine, cosine = math.sin(angle) - math.sin(self.phase), math.cos(angle) - math.cos(self.phase)
        parts = zip(self.velocity, self.sine, self.cosine, strict=True)
        return tuple(v * time + s * sine + c * cosine for v, s, c in parts)


@dataclass(frozen=True)
class Body:
    """A rigid group of solids. Body number b has the instance id b + 1."""

    home: tuple[float, float, float]
    """Where its origin is at time 0."""
    yaw: float = 0.0
    motion: Motion | None = None

    def pose(self, time: float) -> "Float[Tensor, '4 4']":
        """Body to world."""
        motion = self.motion or Motion()
        angle = self.yaw + motion.spin * time
        sine, cosine = math.sin(angle), math.cos(angle)
        x, y, z = (h + o for h, o in zip(self.home, motion.offset(time), strict=True))
        return torch.tensor([[cosine, 0, sine, x], [0, 1, 0, y], [-sine, 0, cosine, z], [0, 0, 0, 1]])


@dataclass(frozen=True)
class Light:
    """One lamp at a point, or a sun, with ambient light from above and below."""

    position: "Float[Tensor, '3']"
    """Of a lamp; of a sun the unit vector towards it."""
    sun: bool
    colour: "Float[Tensor, '3']"
    above: "Float[Tensor, '3']"
    below: "Float[Tensor, '3']"
    softness: float
    """Width of penumbras, as a share of the distance from what casts the shadow."""
    reach: float = 4.0
    """Distance at which a lamp's light has fallen to half, m."""


@dataclass(frozen=True)
class Sky:
    """What is seen where nothing is hit: a gradient with a sun, clouds and hills, all infinitely far."""

    zenith: "Float[Tensor, '3']"
    horizon: "Float[Tensor, '3']"
    ground: "Float[Tensor, '3']"
    hills: "Float[Tensor, '3']"
    cover: float
    """Share of clouds, from 0 to 1."""
    phase: float
    relief: float
    """Height of the hills, rad."""
    fog: float
    """Extinction towards the horizon's colour, 1/m."""


@dataclass(frozen=True)
class Path:
    """A camera path with a dominant direction: forward along z, swaying a little; starts at the identity."""

    speed: float
    """m/s"""
    sway: tuple[float, float, float]
    """Amplitudes of the position to the right and down, m, and of the yaw, rad."""
    rate: float
    """rad/s"""

    def __call__(self, time: float) -> "Float[Tensor, '4 4']":
        """Camera-to-world pose. Times between 0 and `DURATION` keep clear of all solids."""
        wave = math.sin(self.rate * time)
        right, down, turn = (amplitude * wave for amplitude in self.sway)
        rotation = se3.yaw_pitch_roll(torch.tensor(turn), torch.tensor(0.3 * turn))
        return se3.pose(rotation, torch.tensor((right, down, self.speed * time)))


@dataclass(frozen=True)
class Solids:
    """All solids at one moment, or at several, each an affine image of a unit solid: `boxes` cubes [−1, 1]³ first, then
    balls and upright cylinders (radius 1, |y| ≤ 1), then, in a room, the cube that it is the inside of."""

    boxes: int
    shell: bool
    axes: "Float[Tensor, 'n 3 3']"
    """Columns: half-axes in the world, m."""
    centres: "Float[Tensor, 'n 3']"
    inverse: "Float[Tensor, 'n 3 3']"
    sizes: "Float[Tensor, 'n 3']"
    """Lengths of the half-axes, m."""
    cylinder: "Float[Tensor, 'n']"
    moments: "Int[Tensor, 'n'] | None" = None
    """At which of several moments a solid is there; −1: at all of them. None: there is but one."""

    def __len__(self) -> int:
        return len(self.centres)

    @property
    def rounds(self) -> slice:
        return slice(self.boxes, len(self) - self.shell)

    @cached_property
    def offsets(self) -> "Float[Tensor, 'n 3']":
        """World to unit solid: inverse · x + offset."""
        return -(self.inverse @ self.centres[..., None])[..., 0]

    @cached_property
    def radii(self) -> "Float[Tensor, 'n']":
        """Of bounding spheres (half-axes are orthogonal but for shear, which the sum of squares bounds)."""
        first, second, third = self.axes.unbind(-1)
        corners = [first + s * second + t * third for s in (-1, 1) for t in (-1, 1)]
        return torch.stack([torch.linalg.vector_norm(corner, dim=-1) for corner in corners]).amax(0)


@dataclass(frozen=True)
class Scene:
    """Everything that a camera can look at. Made by `salticid.world.make_scene`."""

    name: str
    path: Path
    light: Light
    sky: Sky | None
    """None indoors."""
    floor: float
    """Height of the ground (world y), m."""
    bodies: tuple[Body, ...]
    materials: "Float[Tensor, 'f m']"
    faces: "Int[Tensor, 'n 6']"
    """Material of each face, in the order −x +x −y +y −z +z of the unit solid; a round side is face 0."""
    body: "Int[Tensor, 'n']"
    """Body of each solid."""
    solids: Solids
    """In the frames of their bodies."""

    def at(self, time: float) -> Solids:
        """The solids in the world's frame at `time`, s."""
        poses = torch.stack([body.pose(time) for body in self.bodies]).index_select(0, self.body)
        return _placed(self.solids, poses)

    def during(self, times: Sequence[float]) -> "tuple[Scene, Solids]":
        """The solids in the world's frame at several times: those of moving bodies come once for each. And the scene
        whose `faces` and `body` are theirs."""
        moving = torch.tensor([body.motion is not None for body in self.bodies]).index_select(0, self.body)
        copies = torch.where(moving, len(times), 1)
        which = torch.repeat_interleave(copies)
        number = torch.arange(len(which)) - (copies.cumsum(0) - copies)[which]
        begun = [(body, body.pose(times[0])) for body in self.bodies]
        poses = [body.pose(time) if body.motion else pose for time in times for body, pose in begun]
        of_body = torch.stack(poses).unflatten(0, (len(times), -1))
        still = self.solids
        repeated = Solids(
            boxes=int(copies[: still.boxes].sum()),
            shell=still.shell,
            axes=still.axes[which],
            centres=still.centres[which],
            inverse=still.inverse[which],
            sizes=still.sizes[which],
            cylinder=still.cylinder[which],
            moments=torch.where(moving[which], number, -1),
        )
        scene = replace(self, faces=self.faces[which], body=self.body[which])
        return scene, _placed(repeated, of_body[number, scene.body])

    def motion(self, start: float, end: float) -> "Float[Tensor, 'b 4 4']":
        """How each body moves between two times: world to world, exactly the identity for those that rest."""
        moves = [
            se3.compose(b.pose(end), se3.inverse(b.pose(start))) if b.motion else torch.eye(4) for b in self.bodies
        ]
        return torch.stack(moves)

    def bounds(self, instance: int, time: float = 0.0) -> "tuple[Float[Tensor, '3'], float]":
        """Centre and radius of a sphere around the body with that instance id, m."""
        solids = self.at(time)
        members = (self.body == instance - 1).nonzero()[:, 0]
        if not len(members):
            raise ValueError(f"scene {self.name} has no instance {instance}; it has 1 to {len(self.bodies)}")
        centres, radii = solids.centres[members], solids.radii[members]
        middle = ((centres - radii[:, None]).amin(0) + (centres + radii[:, None]).amax(0)) / 2
        reach = torch.linalg.vector_norm(centres - middle, dim=-1) + radii
        return middle, reach.max().item()


def _placed(solids: Solids, poses: "Float[Tensor, 'n 4 4']") -> Solids:
    """Solids in the frames of their bodies, in the world's."""
    rotation = poses[:, :3, :3]
    return replace(
        solids,
        axes=rotation @ solids.axes,
        centres=(rotation @ solids.centres[..., None])[..., 0] + poses[:, :3, 3],
        inverse=solids.inverse @ rotation.transpose(1, 2),
    )
