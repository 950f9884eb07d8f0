"""Hypersim: as published, and as Marigold's pre-processing leaves it."""

import numpy as np
import pytest
import torch

from salticid.data.readers import Hypersim
from salticid.data.readers.depth.hypersim import read_split, tone_map, z_per_distance
from salticid.errors import ConfigError, UnreadableSample

HEIGHT, WIDTH = 48, 64
HEADER = "scene_name,camera_name,frame_id,included_in_public_release,exclude_reason,split_partition_name"


def geometry(scene, camera="cam_00"):
    return f"{scene}/images/scene_{camera}_geometry_hdf5"


def frame(write, scene, number=0, camera="cam_00", z=4.0, entities=True):
    """A plane at `z` metres, in front of a camera of 60 degrees; nothing is hit in the first row."""
    rng = np.random.default_rng(number)
    radiance = rng.exponential(size=(HEIGHT, WIDTH, 3)).astype(np.float16)
    write.hdf5(f"{scene}/images/scene_{camera}_final_hdf5/frame.{number:04d}.color.hdf5", radiance)
    focal = WIDTH / 2 / np.tan(np.pi / 6)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    ray = np.sqrt((x - (WIDTH - 1) / 2) ** 2 + (y - (HEIGHT - 1) / 2) ** 2 + focal**2) / focal
    distance = (z * ray).astype(np.float32)
    distance[0] = np.nan
    write.hdf5(f"{geometry(scene, camera)}/frame.{number:04d}.depth_meters.hdf5", distance)
    if entities:
        hit = np.where(np.arange(HEIGHT)[:, None] < 2, -1, 7) * np.ones((1, WIDTH), int)
        write.hdf5(f"{geometry(scene, camera)}/frame.{number:04d}.render_entity_id.hdf5", hit.astype(np.int32))
    return radiance, distance


def test_distance_along_the_ray_becomes_z(write):
    _, distance = frame(write, "ai_001_001")
    assert distance[-1, -1] > 1.2 * 4
    data = Hypersim(write.root, split_csv=table(write, "ai_001_001,cam_00,0,True,,val"))
    sample = data.val().sample(0, None)
    assert sample["depth"].shape == (1, HEIGHT, WIDTH)
    assert not sample["valid"][0, :2].any()  # nothing was hit
    assert sample["valid"][0, 2:].all()
    # The published focal length is given to two decimals.
    torch.testing.assert_close(sample["depth"][0, 2:], torch.full((HEIGHT - 2, WIDTH), 4.0), atol=0, rtol=2e-5)
    assert sample["limits"].tolist() == pytest.approx([1e-5, 65])


def test_without_entities_finite_distance_is_valid(write):
    frame(write, "ai_001_001", entities=False)
    data = Hypersim(write.root, split_csv=table(write, "ai_001_001,cam_00,0,True,,val"))
    valid = data.val().sample(0, None)["valid"][0]
    assert not valid[0].any()
    assert valid[1:].all()


def test_the_published_camera_in_its_own_size():
    factor = z_per_distance(768, 1024)
    assert factor[0, 0] == pytest.approx(886.81 / np.sqrt(511.5**2 + 383.5**2 + 886.81**2), rel=1e-6)
    assert np.abs(factor[383:385, 511:513] - 1).max() < 1e-6
    assert np.array_equal(factor, factor[::-1, ::-1])


def table(write, *rows):
    return write.text("metadata_images_split_scene_v1.csv", HEADER, *rows)


def test_the_table_of_the_split_decides_and_lies_in_root_or_above(write):
    for number in range(4):
        frame(write, "raw/ai_001_001", number)
    frame(write, "raw/ai_002_001", 0, camera="cam_01")
    rows = ["ai_001_001,cam_00,0,True,,train", "ai_001_001,cam_00,1,False,broken,train"]
    rows += ["ai_001_001,cam_00,2,True,,test", "ai_002_001,cam_01,0,True,,val", "ai_009_001,cam_00,0,True,,val"]
    table(write, *rows)
    data = Hypersim(write.root / "raw")
    assert [pair.id for pair in data.train_pairs] == ["ai_001_001/images/scene_cam_00_final_hdf5/frame.0000.color.hdf5"]
    assert [pair.id.split("/")[0] for pair in data.val_pairs] == ["ai_002_001"]
    assert data.skipped == {}  # frame 3 is in no part


def test_without_a_table_scenes_are_shared_out(write):
    for scene in range(8):
        for number in range(2):
            frame(write, f"ai_{scene:03d}_001", number)
    data = Hypersim(write.root)
    train, val = ({pair.id.split("/")[0] for pair in pairs} for pairs in (data.train_pairs, data.val_pairs))
    assert len(train) + len(val) == 8
    assert train.isdisjoint(val)
    assert val


def test_a_frame_without_depth_is_skipped_and_damage_is_named(write):
    frame(write, "ai_001_001", 0)
    frame(write, "ai_001_001", 1)
    rows = (f"ai_001_001,cam_00,{number},True,,train" for number in range(2))
    table(write, *rows)
    write.path(f"{geometry('ai_001_001')}/frame.0001.depth_meters.hdf5").unlink()
    data = Hypersim(write.root)
    assert len(data.train_pairs) == 1
    assert next(iter(data.skipped.values())).endswith("frame.0001.depth_meters.hdf5: no such file")
    write.hdf5(f"{geometry('ai_001_001')}/frame.0000.depth_meters.hdf5", np.ones((HEIGHT, 3)))
    with pytest.raises(UnreadableSample, match=r"frame\.0000\.color\.hdf5: colour, depth and entities differ in shape"):
        data.train().sample(0, None)


@pytest.mark.parametrize("content", ["a,b\n1,2", f"{HEADER}\nai,cam_00,one,True,,val", f"{HEADER}\nai,cam_00"])
def test_another_table_is_refused(write, content):
    path = write.text("split.csv", content)
    with pytest.raises(ConfigError, match=r"data\.split_csv: .*split\.csv is not Hypersim's table of frames"):
        read_split(path)
    with pytest.raises(ConfigError, match=r"data\.split_csv: .*none\.csv cannot be read \(No such file"):
        read_split(write.root / "none.csv")


def test_the_ninetieth_percentile_of_brightness_becomes_four_fifths():
    rng = np.random.default_rng(0)
    radiance = rng.exponential(size=(40, 50, 3)).astype(np.float32)
    hit = rng.random((40, 50)) < 0.7
    brightness = radiance[hit].astype(np.float64) @ [0.3, 0.59, 0.11]
    scale = 0.8**2.2 / np.percentile(brightness, 90)
    exact = np.clip(radiance.astype(np.float64) * scale, 0, 1) ** (1 / 2.2) * 255
    made = tone_map(radiance, hit)
    assert made.dtype == np.uint8
    assert np.abs(made - np.floor(exact)).max() <= 1
    assert (made != np.floor(exact)).mean() < 1e-3  # where float32 falls on the other side of a level
    level = np.sort(made[hit][:, 1])
    assert abs(tone_map(np.full((4, 4, 3), 3.0, np.float32), np.ones((4, 4), bool)).astype(int) - 204).max() <= 1
    assert level[-1] == 255


def test_tone_mapping_without_light_or_without_anything_hit():
    dark = np.full((4, 4, 3), 1e-5, np.float32)
    assert not tone_map(dark, np.ones((4, 4), bool)).any()
    level = tone_map(np.full((4, 4, 3), 0.5, np.float32), np.zeros((4, 4), bool))
    assert (level == int(0.5 ** (1 / 2.2) * 255)).all()
    broken = np.ones((4, 4, 3), np.float32)
    broken[0, 0], broken[1, 1] = np.nan, np.inf
    made = tone_map(broken, np.ones((4, 4), bool))
    assert not made[0, 0].any()
    assert (made[2:] >= 203).all()


def test_marigolds_lists_and_sizes(write, depth_values):
    pixels = write.picture("train/ai_003_010/rgb_cam_00_fr0047.png", 768, 1024)
    depth = depth_values(768, 1024) % 66_000 % 65_536
    write.png16("train/ai_003_010/depth_plane_cam_00_fr0047.png", depth)
    line = "ai_003_010/rgb_cam_00_fr0047.png ai_003_010/depth_plane_cam_00_fr0047.png"
    data = Hypersim(write.root, train_list=write.text("lists/train.txt", line))
    sample = data.train().sample(0, None)
    assert sample["image"].shape == (3, 480, 640)
    rows, columns = ((2 * np.arange(n) + 1) * 8 // 10 for n in (480, 640))  # floor((i + 1/2) · 1.6), in integers
    expected = (depth / 1000)[rows][:, columns]
    valid = (expected > 1e-5) & (expected < 65)
    assert np.array_equal(sample["valid"][0], valid)
    assert np.allclose(sample["depth"][0], expected, atol=0, rtol=2e-7)
    assert np.allclose(sample["image"], pixels[rows][:, columns].transpose(2, 0, 1) / 127.5 - 1, atol=1e-6, rtol=0)
    with pytest.raises(ConfigError, match=r"no pair of picture and depth under .*: expected ai_\*/images"):
        Hypersim(write.root)
