"""Panoramas that other programs know to be panoramas."""

import struct
import zlib
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image

from salticid.errors import UserError
from salticid.evaluate.gpano import NAMESPACE, save_panorama

RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
PANORAMA = torch.arange(3 * 4 * 8, dtype=torch.uint8).reshape(3, 4, 8)


def chunks(content: bytes) -> list[tuple[bytes, bytes]]:
    """Names and contents of a PNG file's chunks, by hand; every checksum is checked."""
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    found, at = [], 8
    while at < len(content):
        length, name = struct.unpack(">I4s", content[at : at + 8])
        data = content[at + 8 : at + 8 + length]
        (checksum,) = struct.unpack(">I", content[at + 8 + length : at + 12 + length])
        assert checksum == zlib.crc32(name + data)
        found.append((name, data))
        at += 12 + length
    return found


def properties(packet: str) -> dict[str, str]:
    description = ElementTree.fromstring(packet).find(f"{RDF}RDF/{RDF}Description")
    assert description is not None
    assert all(item.tag.startswith(f"{{{NAMESPACE}}}") for item in description)
    return {item.tag.partition("}")[2]: item.text or "" for item in description}


EXPECTED = {
    "ProjectionType": "equirectangular",
    "UsePanoramaViewer": "True",
    "CroppedAreaImageWidthPixels": "8",
    "CroppedAreaImageHeightPixels": "4",
    "FullPanoWidthPixels": "8",
    "FullPanoHeightPixels": "4",
    "CroppedAreaLeftPixels": "0",
    "CroppedAreaTopPixels": "0",
    "PoseHeadingDegrees": "0",
}


def test_the_file_says_that_it_is_the_whole_sphere(tmp_path):
    path = tmp_path / "new" / "a.png"
    save_panorama(PANORAMA, path)
    found = chunks(path.read_bytes())
    names = [name for name, _ in found]
    assert names.count(b"iTXt") == 1
    assert names.index(b"iTXt") < names.index(b"IDAT"), "readers of the head alone find it"
    keyword, _, rest = dict(found)[b"iTXt"].partition(b"\0")
    assert keyword == b"XML:com.adobe.xmp"
    assert rest[:4] == b"\0\0\0\0", "not compressed, no language, no translated keyword"
    assert properties(rest[4:].decode("utf-8")) == EXPECTED


def test_pillow_reads_picture_and_metadata(tmp_path):
    save_panorama(PANORAMA, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert np.array_equal(np.array(image), PANORAMA.permute(1, 2, 0).numpy())
        assert properties(image.info["XML:com.adobe.xmp"]) == EXPECTED
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_what_is_no_whole_sphere_is_refused(tmp_path):
    with pytest.raises(UserError, match="twice as wide as high, got 7×4"):
        save_panorama(PANORAMA[..., :7], tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_not_written_over(tmp_path):
    (tmp_path / "a.png").mkdir()
    with pytest.raises(UserError, match=r"a\.png: cannot be written \("):
        save_panorama(PANORAMA, tmp_path / "a.png")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
