"""Hits and shadows against closed forms in float64, and against the same without leaving anything out."""

import math

import pytest
import torch

from salticid.geometry.cameras import UCM, Equirectangular
from salticid.geometry.se3 import yaw_pitch_roll
from salticid.world import make_scene, trace
from salticid.world.tiles import tiles

DIRECTIONS = torch.nn.functional.normalize(
    torch.randn(2000, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64), dim=1
)


def hits(scene, directions, origin=(0.0, 0.0, 0.0)):
    rays = directions.float().t()[:, None]
    distance, number = trace.closest(scene.at(0.0), torch.tensor([origin]), rays)
    return distance[0].double(), number[0]


def slab_distance(origin, directions, half):
    """First crossing of the axis-aligned box [−half, half], ∞ for a miss."""
    near = torch.full((len(directions),), -math.inf, dtype=torch.float64)
    far = -near
    for axis in range(3):
        first = (-half[axis] - origin[axis]) / directions[:, axis]
        second = (half[axis] - origin[axis]) / directions[:, axis]
        near, far = near.maximum(first.minimum(second)), far.minimum(first.maximum(second))
    return torch.where((near <= far) & (near > 0), near, math.inf)


def check(distance, expected):
    """Equal to 10 µm, with the same rays missing, silhouettes aside: grazing rays may go either way in float32."""
    missed, should_miss = distance >= trace.FAR, expected.isinf()
    assert (missed != should_miss).sum() <= 1
    both = ~missed & ~should_miss
    assert both.sum() > 20
    torch.testing.assert_close(distance[both], expected[both], rtol=1e-5, atol=1e-5)


def test_ball(builder, sun):
    face = builder.paint(builder.palette.toy())
    builder.ball(builder.body(0.8, 2.0), (0.0, 1.2, 0.0), 0.7, face)
    centre = torch.tensor((0.8, 0.3, 2.0), dtype=torch.float64)
    b = DIRECTIONS @ centre
    square = b * b - centre @ centre + 0.7**2
    expected = torch.where((square >= 0) & (b > 0), b - square.clamp(min=0).sqrt(), math.inf)
    check(hits(builder.scene("ball", sun, None), DIRECTIONS)[0], expected)


def test_turned_box(builder, sun):
    face = builder.paint(builder.palette.toy())
    builder.box(builder.body(-0.5, 1.8, yaw=0.7), (0.2, 1.0, 0.1), (0.6, 0.4, 0.3), face, yaw=0.2, pitch=0.3)
    turn = yaw_pitch_roll(torch.tensor(0.9, dtype=torch.float64), torch.tensor(0.3, dtype=torch.float64))
    body = yaw_pitch_roll(torch.tensor(0.7, dtype=torch.float64))
    centre = torch.tensor((-0.5, 1.5, 1.8), dtype=torch.float64) + body @ torch.tensor((0.2, -1.0, 0.1)).double()
    expected = slab_distance(-turn.T @ centre, DIRECTIONS @ turn, (0.6, 0.4, 0.3))
    check(hits(builder.scene("box", sun, None), DIRECTIONS)[0], expected)


def test_cylinder(builder, sun):
    face = builder.paint(builder.palette.toy())
    builder.cylinder(builder.body(0.0, 1.5), (0.0, 0.8, 0.0), 0.6, 0.5, face)
    x, y, z = DIRECTIONS.unbind(1)
    a, b, c = x * x + z * z, -1.5 * z, 1.5**2 - 0.6**2
    root = (b * b - a * c).clamp(min=0).sqrt()
    side = torch.where(b * b >= a * c, (-b - root) / a, math.inf)
    side = torch.where((side > 0) & ((side * y - 0.7).abs() <= 0.5), side, math.inf)
    caps = [(level / y).where(y * level > 0, math.inf) for level in (0.2, 1.2)]
    caps = [t.where((t * x) ** 2 + (t * z - 1.5) ** 2 <= 0.36, math.inf) for t in caps]
    check(hits(builder.scene("cylinder", sun, None), DIRECTIONS)[0], torch.stack([side, *caps]).amin(0))


def test_room_from_inside(builder, sun):
    wall = builder.paint(builder.palette.wall())
    builder.shell((0.0, 1.5, 0.0), (2.0, 1.5, 3.0), wall, 0.0)
    expected = torch.stack([h / d.abs() for h, d in zip((2.0, 1.5, 3.0), DIRECTIONS.unbind(1), strict=True)]).amin(0)
    check(hits(builder.scene("room", sun, None), DIRECTIONS)[0], expected)


def test_the_nearer_solid_wins(builder, sun):
    face = builder.paint(builder.palette.toy())
    builder.box(builder.body(0.0, 4.0), (0.0, 1.5, 0.0), (3.0, 3.0, 0.1), face)
    builder.ball(builder.body(0.0, 2.0), (0.0, 1.5, 0.0), 0.5, face)
    scene = builder.scene("two", sun, None)
    distance, number = hits(scene, torch.tensor([[0.0, 0.0, 1.0], [0.6, 0.0, 0.8]]))
    assert number.tolist() == [1, 0]
    torch.testing.assert_close(distance, torch.tensor([1.5, 3.9 / 0.8], dtype=torch.float64))


@pytest.mark.parametrize("kind", ["room", "outdoors"])
@pytest.mark.parametrize("camera", [Equirectangular(48, 96), UCM.centred(48, 48, 26.0, xi=0.9), Equirectangular(8, 16)])
def test_leaving_out_changes_nothing(kind, camera, monkeypatch):
    """Bounds of tiles are conservative: hits and shadows are the same, bit by bit, when all pairs are computed."""
    for index in range(4):
        scene = make_scene(3, index, kind)
        solids, rays = scene.at(1.0), tiles([camera.rays()[0]], [scene.path(1.0)])

        def look(scene=scene, solids=solids, rays=rays):
            distance, number = trace.closest(solids, rays.origins, rays.rays)
            points = rays.rays * distance.clamp(max=500) + rays.origins.t()[..., None]
            return distance, number, trace.lit(solids, scene.light, points)

        quick = look()
        with monkeypatch.context() as patch:
            for name in ("_in_view", "_in_beam"):
                patch.setattr(trace, name, lambda s, a, r: torch.ones(r.shape[1], len(s), dtype=torch.bool))
            full = look()
        for mine, theirs in zip(quick, full, strict=True):
            assert torch.equal(mine, theirs)


def test_shadow_under_a_plate(builder, sun):
    """A sun overhead: full dark under the middle of a plate 1 m up, full light beside it, a narrow edge between."""
    face = builder.paint(builder.palette.toy())
    builder.box(builder.body(0.0, 3.0), (0.0, 1.0, 0.0), (0.5, 0.1, 0.5), face)
    scene = builder.scene("plate", sun, None)
    x = torch.tensor((0.0, 0.4, 0.6, 2.0))
    points = torch.stack((x, torch.full_like(x, 1.499), torch.full_like(x, 3.0)))[:, None]
    assert trace.lit(scene.at(0.0), sun, points)[0].tolist() == [0.0, 0.0, 1.0, 1.0]
