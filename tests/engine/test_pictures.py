import base64
import io

import numpy as np
import pytest
from PIL import Image

from salticid.engine.pictures import Picture, embed, find_pictures, spread_out


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return Picture(1, "p", path)


def decode(embedded):
    kind, _, data = embedded.address.partition(";base64,")
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    assert kind == f"data:image/{image.format.lower()}"
    return image


@pytest.fixture
def noise():
    return np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)


def test_pictures_are_found_by_name_and_step(tmp_path):
    samples = tmp_path / "samples"
    samples.mkdir()
    for name in ("step-00000002-b.png", "step-00000010-a-c.png", "step-100000000-b.png", "step-00000001-b.png.tmp",
                 "step-x-b.png", "other.png", "step-00000003-.png"):  # fmt: skip
        (samples / name).touch()
    found = find_pictures(tmp_path)
    assert {name: [p.step for p in pictures] for name, pictures in found.items()} == {"a-c": [10], "b": [2, 100000000]}
    assert find_pictures(tmp_path / "nowhere") == {}


def test_small_pictures_stay_as_they_are(tmp_path, noise):
    embedded = embed(save(tmp_path / "a.png", noise), 10**6)
    assert embedded is not None
    assert np.array_equal(np.asarray(decode(embedded)), noise)
    assert (embedded.width, embedded.height) == (300, 200)


@pytest.mark.parametrize("budget", [100_000, 40_000, 10_000, 3_000])
def test_large_pictures_fit_the_budget(tmp_path, noise, budget):
    embedded = embed(save(tmp_path / "a.png", noise), budget)
    assert embedded is not None
    image = decode(embedded)
    assert image.format == "JPEG"
    assert image.size == (embedded.width, embedded.height)
    assert len(embedded.address) <= budget * 4 / 3 + 40
    assert image.width / image.height == pytest.approx(1.5, rel=0.05)


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"<svg onload='alert(1)'/>"])
def test_what_is_no_picture_is_left_out(tmp_path, content, noise):
    path = tmp_path / "a.png"
    path.write_bytes(content)
    assert embed(Picture(1, "p", path), 10**6) is None
    whole = save(tmp_path / "b.png", noise).path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert embed(Picture(1, "p", path), 10**6) is None
    assert embed(Picture(1, "p", tmp_path / "missing.png"), 10**6) is None


def test_spread_out_keeps_first_and_last(tmp_path):
    items = [Picture(i, "p", tmp_path) for i in range(101)]
    assert [p.step for p in spread_out(items, 5)] == [0, 25, 50, 75, 100]
    assert spread_out(items, 200) == items
    assert [p.step for p in spread_out(items, 1)] == [0]
