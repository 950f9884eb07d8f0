import math

import pytest
import torch

from salticid.data import collate
from salticid.errors import ConfigError
from salticid.geometry.cameras import UCM
from salticid.world import WorldPanoramas, make_scene, render
from salticid.world import __main__ as sheet

SMALL = {"height": 16, "view_size": 20, "focal": 10.0, "val_scenes": 4, "train_scenes": 50}


def test_shapes_ranges_and_names():
    data = WorldPanoramas(**SMALL, views=3)
    train, val = data.train(), data.val()
    assert (len(train), len(val)) == (50, 4)
    assert (train.id(12), val.id(0)) == ("world-train-000012", "world-val-000000")
    batch = collate([train.sample(i, None) for i in range(2)])
    shapes = {name: tuple(value.shape[1:]) for name, value in batch.items()}
    assert shapes == {
        "views": (3, 3, 20, 20),
        "panorama": (3, 16, 32),
        "intrinsics": (3, 5),
        "poses": (3, 4, 4),
        "distance": (1, 16, 32),
    }
    assert all(value.dtype == torch.float32 for value in batch.values())
    for name in ("views", "panorama"):
        assert batch[name].min() >= -1
        assert batch[name].max() <= 1


def test_a_sample_is_a_function_of_its_index():
    data, again = WorldPanoramas(**SMALL), WorldPanoramas(**SMALL)
    first = data.train().sample(7, torch.Generator().manual_seed(1))
    second = again.train().sample(7, None)
    assert all(torch.equal(first[name], second[name]) for name in first)
    other = WorldPanoramas(**SMALL, seed=1).train().sample(7, None)
    assert not torch.equal(first["panorama"], other["panorama"])


def test_validation_scenes_are_never_trained_on():
    data = WorldPanoramas(**SMALL)
    train = torch.stack([data.train().sample(i, None)["panorama"] for i in range(20)])
    val = torch.stack([data.val().sample(i, None)["panorama"] for i in range(4)])
    assert (train[:, None] - val[None]).abs().mean((2, 3, 4)).min() > 0.05


def test_views_are_what_the_stated_cameras_see():
    sample = WorldPanoramas(**SMALL, radius=0.3).train().sample(3, None)
    scene = make_scene(0, 3)
    for view, (fx, fy, cx, cy, xi), pose in zip(*(sample[k] for k in ("views", "intrinsics", "poses")), strict=True):
        camera = UCM(20, 20, fx.item(), fy.item(), cx.item(), cy.item(), xi=xi.item())
        assert abs(pose[:3, 3].norm() - 0.3) < 1e-6
        torch.testing.assert_close(render(scene, camera, pose).rgb, view, atol=0.02, rtol=0)
    assert torch.allclose(sample["intrinsics"][:, 0], torch.tensor(10.0))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"views": 0}, "data.views is 0"),
        ({"radius": 2.0}, "data.radius is 2.0 m; expected 0 to 0.4"),
        ({"focal": -1.0}, "data.focal is -1.0"),
        ({"focal": math.inf}, "data.focal is inf"),
        ({"xi": math.inf}, "data.xi inf"),
        ({"focal_size": -1}, "data.focal_size is -1; expected 0 or more"),
        ({"min_coverage": 1.1}, "data.min_coverage is 1.1; expected 0 to 1"),
        ({"view_size": 128, "focal": 220.0}, r"data.focal is 220: the rig sees 35\.\d % of the sphere"),
    ],
)
def test_impossible_rigs_are_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        WorldPanoramas(**arguments)


def test_a_focal_length_may_be_stated_for_another_size():
    data = WorldPanoramas(view_size=128, focal=220.0, focal_size=560)
    assert data.camera.fx == pytest.approx(220 / 560 * 128)
    assert data.camera.cx == 63.5


def test_a_rig_that_sees_little_can_be_allowed():
    assert WorldPanoramas(view_size=128, focal=220.0, min_coverage=0.3).camera.fx == 220.0


def test_contact_sheet(tmp_path, monkeypatch):
    pytest.importorskip("PIL")
    monkeypatch.setattr(sheet, "_UNIT", 16)
    monkeypatch.setattr(sheet, "_PANORAMA", sheet.Equirectangular(16, 32))
    monkeypatch.setattr(sheet, "_SUPERSAMPLE", 1)
    monkeypatch.setattr("sys.argv", ["world", str(tmp_path / "sheet.jpg")])
    sheet.main()
    assert (tmp_path / "sheet.jpg").stat().st_size > 1000
