"""Panoramas as PNG files that viewers of 360° pictures open as what they are."""

from pathlib import Path

from torch import Tensor

from salticid.errors import UserError
from salticid.evaluate.pictures import save_png

NAMESPACE = "http://ns.google.com/photos/1.0/panorama/"
"""Of the "Photo Sphere" properties (GPano), which phones, browsers' viewers and photo sites look for."""


def save_panorama(image: Tensor, path: Path) -> None:
    """Write an equirectangular uint8 picture (3, H, 2H) of the whole sphere as PNG, with metadata (XMP) that says so;
    the file appears complete or not at all.

    Raises:
        UserError: the picture is not twice as wide as high, or the file cannot be written.
    """
    height, width = image.shape[-2:]
    if width != 2 * height:
        raise UserError(f"{path}: a picture of the whole sphere is twice as wide as high, got {width}×{height}")
    save_png(image, path, xmp=whole_sphere(height, width))


def whole_sphere(height: int, width: int) -> str:
    """The XMP packet of an equirectangular picture, in pixels, whose centre column looks ahead (heading 0°)."""
    properties = {
        "ProjectionType": "equirectangular",
        "UsePanoramaViewer": "True",
        "CroppedAreaImageWidthPixels": width,
        "CroppedAreaImageHeightPixels": height,
        "FullPanoWidthPixels": width,
        "FullPanoHeightPixels": height,
        "CroppedAreaLeftPixels": 0,
        "CroppedAreaTopPixels": 0,
        "PoseHeadingDegrees": 0,
    }
    lines = "\n".join(f"   <GPano:{name}>{value}</GPano:{name}>" for name, value in properties.items())
    # The id is the same in every XMP packet; the byte order mark tells readers the encoding.
    return f"""<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about="" xmlns:GPano="{NAMESPACE}">
{lines}
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="r"?>"""
