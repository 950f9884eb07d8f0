"""Frames at the size that is wanted, and targets at which the camera stands still."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from salticid.data.motion import Augmentation
from salticid.data.readers.motion import FrameFolder, frames
from salticid.data.readers.motion.frames import read_frame, scaled_alike
from salticid.data.readers.motion.still import Still
from salticid.errors import ConfigError


def picture(path: Path, size=(1024, 1280), **options) -> np.ndarray:
    """Colours that vary over some 30 pixels, as photos do."""
    noise = np.random.default_rng(0).integers(0, 256, (size[0] // 32, size[1] // 32, 3), dtype=np.uint8)
    image = Image.fromarray(noise).resize(size[::-1], Image.Resampling.BICUBIC)
    image.save(path, **options)
    return np.asarray(image)


@pytest.mark.parametrize("has_lanczos", [True, False])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_png_is_resized_as_pillow_does_by_lanczos(tmp_path, monkeypatch, mode, has_lanczos):
    monkeypatch.setattr(frames, "_TORCH_HAS_LANCZOS", frames._TORCH_HAS_LANCZOS and has_lanczos)
    image = Image.fromarray(picture(tmp_path / "a.png", (96, 160))).convert(mode)
    image.save(tmp_path / "a.png")
    frame = read_frame(tmp_path / "a.png", (26, 43))
    expected = np.asarray(image.resize((43, 26), Image.Resampling.LANCZOS).convert("RGB")).astype(int)
    difference = np.abs(frame.pixels.permute(1, 2, 0).numpy() - expected)
    assert difference.max() <= (1 if has_lanczos else 0)
    assert difference.mean() < 0.05
    assert frame.shape == (96, 160)


def test_a_jpeg_decoded_at_half_its_size_gives_nearly_the_same(tmp_path):
    picture(tmp_path / "a.jpg", quality=92)
    frame = read_frame(tmp_path / "a.jpg", (256, 320))
    whole = Image.open(tmp_path / "a.jpg").resize((320, 256), Image.Resampling.LANCZOS)
    difference = np.abs(frame.pixels.permute(1, 2, 0).numpy().astype(int) - np.asarray(whole).astype(int))
    assert frame.shape == (1024, 1280)
    assert difference.mean() < 1
    assert difference.max() < 16


def test_exif_turns_a_frame_and_its_size(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = picture(tmp_path / "a.jpg", (64, 96), quality=95, exif=exif)
    frame = read_frame(tmp_path / "a.jpg", None)
    assert frame.shape == (96, 64) == tuple(frame.pixels.shape[1:])
    turned = np.rot90(pixels, -1).astype(int)
    assert np.abs(frame.pixels.permute(1, 2, 0).numpy() - turned).mean() < 4
    assert read_frame(tmp_path / "a.jpg", (48, 32)).pixels.shape == (3, 48, 32)


def test_grey_pictures_become_three_equal_channels(tmp_path):
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(tmp_path / "a.png")
    frame = read_frame(tmp_path / "a.png", (4, 4))
    assert torch.equal(frame.pixels[0], frame.pixels[2])


@pytest.mark.parametrize(
    ("shape", "other", "alike"),
    [((375, 1242), (188, 621), True), ((192, 640), (375, 1242), False), ((512, 640), (1024, 1280), True)],
)
def test_sizes_are_alike_to_the_rounding_of_half_a_pixel(shape, other, alike):
    assert scaled_alike(shape, other) is alike


def folder(record, poses=True):
    """Frames 3 and 4 are the same, and so are their poses."""
    for n in range(7):
        record.picture(f"{n}.png", seed=n if n != 4 else 3)
    if poses:
        record.text("poses.txt", *(f"1 0 0 0 0 1 0 0 0 0 1 {n if n != 4 else 3.01}" for n in range(7)))
    return record.root


@pytest.mark.parametrize("still", [Still(distance=0.1), Still(difference=1.0)])
def test_targets_beside_which_the_camera_stands_still_are_left_out(record, still):
    options = {"intrinsics": (60.0, 60.0, 61.5, 18.0), "val_share": 0.0, "trajectory": "poses.txt"}
    data = FrameFolder(folder(record), still=still, **options)
    assert [data.train().sample(i, None)["place"][1].item() for i in range(len(data.train()))] == [1, 2, 5]
    assert {data.skipped[f"{n}.png"] for n in (3, 4)} == {"the camera hardly moves (data.still)"}


def test_distances_need_poses_and_are_not_negative(record):
    with pytest.raises(ConfigError, match=r"data\.still\.distance: .* has neither poses nor speeds"):
        FrameFolder(folder(record, False), intrinsics=(60.0, 60.0, 61.5, 18.0), val_share=0.0, still=Still(0.1))
    with pytest.raises(ConfigError, match=r"data\.still\.difference is -1"):
        Still(difference=-1)


def test_frames_that_are_kept_are_read_once(record):
    data = FrameFolder(
        folder(record), intrinsics=(60.0, 60.0, 61.5, 18.0), val_share=0.0, keep=3, augmentation=Augmentation(1.0)
    )
    source = data.train()
    first = source.sample(0, torch.Generator())
    first["frames"].zero_()
    for n in (0, 1, 2):
        (record.root / f"{n}.png").unlink()
    again = source.sample(0, torch.Generator())
    assert again["frames"].any()
    assert list(source.kept) == ["1.png", "0.png", "2.png"]
