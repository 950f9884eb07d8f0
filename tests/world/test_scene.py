import pytest
import torch

from salticid.errors import ConfigError
from salticid.geometry.cameras import Equirectangular
from salticid.world import make_scene, render
from salticid.world.materials import FIELDS, Palette, material
from salticid.world.scene import DURATION
from salticid.world.texture import paint


def test_a_scene_is_a_function_of_seed_index_and_kind():
    first, again = make_scene(3, 5), make_scene(3, 5)
    assert first.name == again.name
    for name in ("axes", "centres", "inverse"):
        assert torch.equal(getattr(first.solids, name), getattr(again.solids, name))
    assert torch.equal(first.materials, again.materials)
    for other in (make_scene(4, 5), make_scene(3, 6), make_scene(3, -6)):
        assert first.materials.shape != other.materials.shape or not torch.equal(first.materials, other.materials)


def test_both_kinds_turn_up():
    kinds = [make_scene(0, i).name.split()[0] for i in range(40)]
    assert min(kinds.count("room"), kinds.count("outdoors")) >= 10


def test_unknown_kind_is_refused():
    with pytest.raises(ConfigError, match=r"'sea'.*room, outdoors, studio"):
        make_scene(0, 0, "sea")


@pytest.mark.parametrize("kind", ["room", "outdoors"])
def test_the_camera_path_is_clear_and_leads_forward(kind):
    camera = Equirectangular(16, 32)
    for index in range(20):
        scene = make_scene(9, index, kind)
        torch.testing.assert_close(scene.path(0.0), torch.eye(4))
        end = scene.path(DURATION)[:3, 3]
        assert end[2] > 0.7
        assert end[2] > 2 * end[:2].abs().max()
        for time in (0.0, DURATION / 2, DURATION):
            assert render(scene, camera, scene.path(time), time).distance.min() > 0.5, (scene.name, time)


def test_inverses_undo_axes():
    solids = make_scene(1, 1, "outdoors").at(2.0)
    corners = solids.inverse @ (solids.centres[..., None] + solids.axes) + solids.offsets[..., None]
    torch.testing.assert_close(corners, torch.eye(3).expand_as(corners), atol=1e-3, rtol=0)
    assert (torch.linalg.vector_norm(solids.axes.sum(-1), dim=-1) <= solids.radii + 1e-5).all()


def test_unknown_instance():
    scene = make_scene(0, 0, "studio")
    with pytest.raises(ValueError, match="has no instance 999"):
        scene.bounds(999)


def painted(row, u, v, footprint):
    rows = torch.tensor([row]).t().contiguous()
    return paint(rows, torch.zeros(len(u), dtype=torch.int64), u, v, torch.full_like(u, footprint))[0]


def test_checks_alternate_and_blur_to_their_mean():
    row = material((1.0, 0.0, 0.0), (0.0, 0.0, 1.0), cell_u=0.5, cell_v=0.5, check=1.0)
    u = torch.tensor((0.0, 0.5, 1.0, 0.5))
    v = torch.tensor((0.0, 0.0, 0.0, 0.5))
    torch.testing.assert_close(painted(row, u, v, 1e-3)[0], torch.tensor((1.0, 0.0, 1.0, 1.0)))
    torch.testing.assert_close(painted(row, u, v, 5.0), torch.tensor((0.5, 0.0, 0.5))[:, None].expand(3, 4))


@pytest.mark.parametrize("width", [0.01, 0.05])
def test_lines_cover_their_share_at_every_scale(width):
    """Mean over many points: the same whether lines are resolved, thinner than a pixel, or blurred away."""
    row = material((0.0, 0.0, 0.0), None, (1.0, 1.0, 1.0), cell_u=0.5, cell_v=1e4, line_width=width)
    u = torch.linspace(-5, 5, 20001)[:-1]
    for footprint in (1e-3, 0.04, 0.1, 3.0):
        assert abs(painted(row, u, torch.zeros_like(u), footprint).mean() - 2 * width / 0.5) < 0.01


def test_material_rejects_unknown_fields():
    with pytest.raises(ValueError, match=r"unknown material fields.*shininess"):
        material((0.5, 0.5, 0.5), shininess=1.0)


def test_families_give_full_rows_in_range():
    from random import Random

    palette = Palette(Random(0))
    families = (
        palette.wood,
        palette.planks,
        palette.bricks,
        palette.tiles,
        palette.checks,
        palette.stripes,
        palette.dots,
        palette.marble,
        palette.art,
        palette.toy,
        palette.wall,
        palette.floor,
        palette.asphalt,
    )
    for family in families:
        for _ in range(10):
            row = dict(zip(FIELDS, family(), strict=True))
            assert all(0 <= row[f"{c}_{x}"] <= 1 for c in ("first", "second", "line") for x in "rgb")
            assert row["cell_u"] > 0
            assert row["cell_v"] > 0
            assert row["line_width"] >= 0
