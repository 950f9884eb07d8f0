"""The panorama folder reader: what it takes, what it leaves out and says so, and what its samples hold."""

import math
import os

import numpy as np
import pytest
import torch
from PIL import Image

from salticid.data.readers.jitter import RigJitter
from salticid.data.readers.panoramas import PanoramaFolder
from salticid.errors import ConfigError, UnreadableSample
from salticid.geometry.cameras import Equirectangular


def rainbow(height, seed=0):
    """A smooth picture without a seam: the ray of every pixel as a colour."""
    rays, _ = Equirectangular(height, 2 * height).rays()
    phase = np.random.default_rng(seed).uniform(0, 2 * math.pi, 3)
    colour = 0.5 + 0.4 * np.sin(2 * rays.numpy() + phase)
    return (colour * 255).astype(np.uint8)


def write(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def folder(tmp_path):
    for i in range(6):
        write(tmp_path / "up" / f"place{i}.png", rainbow(64, i))
        write(tmp_path / "down" / f"place{i}.png", rainbow(64, i + 10))
    return tmp_path


def reader(root, **options):
    return PanoramaFolder(root, **{"height": 32, "view_size": 32, "focal": 9.0, **options})


def test_a_scene_lies_on_one_side_of_the_split(folder):
    data = reader(folder)
    train = {path.stem for path in data.train_files}
    val = {path.stem for path in data.val_files}
    assert train.isdisjoint(val)
    assert len(train | val) == 6
    assert len(data.train()) + len(data.val()) == 12  # both of an up/down pair


def test_the_split_of_a_scene_does_not_change_when_others_are_added(folder):
    before = set(reader(folder, val_share=0.4).val_files)
    write(folder / "up" / "newcomer.png", rainbow(64))
    assert before <= set(reader(folder, val_share=0.4).val_files)


def test_scenes_can_be_kept_out_by_name_and_misnamed_ones_are_refused(folder):
    data = reader(folder, val_scenes=["place3"])
    assert [p.as_posix() for p in data.val_files] == ["down/place3.png", "up/place3.png"]
    with pytest.raises(ConfigError, match="no scene named 'place99'"):
        reader(folder, val_scenes=["place99"])


@pytest.mark.parametrize(("share", "empty"), [(0.0, "val_files"), (1.0, "train_files")])
def test_all_scenes_may_lie_on_one_side(folder, share, empty):
    data = reader(folder, val_share=share)
    assert getattr(data, empty) == []
    assert len(data.train()) + len(data.val()) == 12


def test_a_scene_can_be_a_folder_or_a_pattern(folder):
    assert {p.parent.name for p in reader(folder, scene="folder", val_scenes=["up"]).val_files} == {"up"}
    by_number = reader(folder, scene=r"place(?P<scene>\d)", val_scenes=["4"])
    assert len(by_number.val_files) == 2
    with pytest.raises(ConfigError, match="no group named scene"):
        reader(folder, scene="place")


def test_files_that_do_not_fit_are_named_and_counted(folder, caplog):
    write(folder / "square.png", np.zeros((50, 50, 3), np.uint8))
    Image.fromarray(np.zeros((32, 64), np.uint16)).save(folder / "depth.png")
    (folder / "broken.jpg").write_bytes(b"not a picture")
    (folder / "notes.txt").write_text("ignored")
    data = reader(folder)
    assert set(data.skipped) == {"square.png", "depth.png", "broken.jpg"}
    assert "50×50 is not 2:1" in data.skipped["square.png"]
    assert "broken.jpg" in caplog.text


def test_excluded_files_are_not_looked_at(folder):
    (folder / "up" / "mask.png").write_bytes(b"")
    assert reader(folder, exclude=["*mask*"]).skipped == {}


def test_an_exclusion_that_matches_nothing_is_said(folder, caplog):
    reader(folder, exclude=["up/*", "masks/*"])
    assert "'masks/*'" in caplog.text
    assert "'up/*'" not in caplog.text
    with pytest.raises(ConfigError, match=r"data\.exclude: a pattern is empty"):
        reader(folder, exclude=[""])


def test_a_name_that_is_not_utf8_is_skipped_and_named(folder):
    try:
        write(folder / os.fsdecode(b"caf\xe9.png"), rainbow(64))
    except OSError:
        pytest.skip("this file system takes UTF-8 names alone")
    data = reader(folder)
    assert set(data.skipped) == {r"caf\udce9.png"}
    assert "not UTF-8" in data.skipped[r"caf\udce9.png"]
    assert len(data.train_files) + len(data.val_files) == 12


def test_an_empty_or_missing_folder_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="is not a folder"):
        reader(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="no usable 2:1 panorama"):
        reader(tmp_path)


def test_a_file_that_breaks_after_the_scan_is_an_unreadable_sample(folder):
    data = reader(folder)
    victim = folder / data.train_files[0]
    victim.write_bytes(victim.read_bytes()[:200])
    with pytest.raises(UnreadableSample, match=victim.name):
        data.train().sample(0, None)


def test_samples_follow_the_contract_and_are_pure(folder):
    data = reader(folder, jitter=RigJitter(xi=0.4, focal=0.1, rotation=3.0), gain=0.2)
    source = data.train()
    a = source.sample(1, torch.Generator().manual_seed(5))
    b = source.sample(1, torch.Generator().manual_seed(5))
    c = source.sample(1, torch.Generator().manual_seed(6))
    assert {name: tuple(value.shape) for name, value in a.items()} == {
        "views": (4, 3, 32, 32),
        "panorama": (3, 32, 64),
        "intrinsics": (4, 5),
        "poses": (4, 4, 4),
    }
    for name in a:
        assert torch.equal(a[name], b[name])
        assert not torch.equal(a[name], c[name])
    assert a["views"].min() >= -1
    assert a["views"].max() <= 1


def test_the_gain_is_one_for_all_views_and_the_target(folder):
    still = {"turn": False, "flip": False}
    plain, bright = reader(folder, **still).train(), reader(folder, gain=0.1, **still).train()
    before = plain.sample(0, torch.Generator().manual_seed(3))
    after = bright.sample(0, torch.Generator().manual_seed(3))
    assert torch.equal(before["panorama"], plain.sample(0, None)["panorama"])  # off unless asked for
    gain = ((after["panorama"] + 1) / (before["panorama"] + 1)).median(dim=2)[0].median(dim=1)[0]
    assert (gain - 1).abs().max() > 0.01
    assert gain.unique().numel() == 3
    for name in ("panorama", "views"):
        expected = ((before[name] + 1) * gain[:, None, None]).clamp(max=2) - 1
        torch.testing.assert_close(after[name], expected, atol=1e-5, rtol=0)


def test_the_rig_of_a_calibration_at_another_size(folder):
    data = reader(folder, view_size=128, focal=220.0, focal_size=560)
    assert data.rig.cameras[0].fx == pytest.approx(220 / 560 * 128)
    assert data.val().sample(0, None)["intrinsics"][0, :4].tolist() == pytest.approx([50.2857, 50.2857, 63.5, 63.5])


def test_a_rig_that_sees_too_little_at_its_worst_jitter_is_refused(folder):
    options = {"view_size": 64, "focal": 34.0, "jitter": RigJitter(xi=0.4, focal=0.1, rotation=3.0)}
    reader(folder, **options | {"jitter": None})
    with pytest.raises(ConfigError, match=r"the rig sees 98\.\d % of the sphere, 8\d\.\d % at the worst jitter"):
        reader(folder, **options)
    assert len(reader(folder, **options, min_coverage=0.8).rig) == 4


def test_without_augmentation_the_target_is_the_area_average_of_the_file(folder):
    data = reader(folder)
    sample = data.val().sample(0, None)
    pixels = torch.from_numpy(np.array(Image.open(folder / data.val_files[0]))).permute(2, 0, 1).float()
    expected = pixels.unflatten(1, (32, 2)).unflatten(3, (64, 2)).mean(dim=(2, 4)) / 127.5 - 1
    torch.testing.assert_close(sample["panorama"], expected, atol=1e-5, rtol=0)


def test_the_front_view_sees_the_middle_of_the_panorama(folder):
    sample = reader(folder).val().sample(0, None)
    centre_of_view = sample["views"][0][:, 15:17, 15:17].mean(dim=(1, 2))
    centre_of_panorama = sample["panorama"][:, 15:17, 31:33].mean(dim=(1, 2))
    torch.testing.assert_close(centre_of_view, centre_of_panorama, atol=0.02, rtol=0)


@pytest.mark.parametrize(
    ("key", "values"),
    {
        "height": [0, -1],
        "view_size": [0],
        "views": [0],
        "source_height": [-1],
        "cache_mb": [-1],
        "focal_size": [-1],
        "min_coverage": [-0.1, 1.1, math.nan],
        "focal": [0.0, -5.0, math.nan, math.inf],
        "xi": [-0.1, math.nan, math.inf],
        "val_share": [-0.1, 1.1, math.nan],
        "gain": [-0.1, 1.1, math.nan],
        "jitter.xi": [-0.1, 1.0, math.nan],
        "jitter.focal": [-0.1, math.nan, math.inf],
        "jitter.rotation": [-1.0, math.nan, math.inf],
    }.items(),
)
def test_values_out_of_range_are_refused(folder, key, values):
    name, _, field = key.partition(".")
    for value in values:
        with pytest.raises(ConfigError, match=rf"^data\.{key} is {value}; expected "):
            reader(folder, **{name: RigJitter(**{field: value}) if field else value})
