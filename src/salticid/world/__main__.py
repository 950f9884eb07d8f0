"""Contact sheet of the world: `python -m salticid.world OUT.jpg`."""

import argparse
import math
from pathlib import Path

import torch
from torch import Tensor

from salticid.geometry.cameras import UCM, Equirectangular, Pinhole
from salticid.geometry.rig import Rig
from salticid.world import Frame, Scene, flow, make_scene, orbit, render, render_many, render_rig
from salticid.world.studio import CENTRE

_UNIT = 160
"""Height of a row, pixels; panoramas are twice as wide."""
_PANORAMA = Equirectangular(_UNIT, 2 * _UNIT)
_SUPERSAMPLE = 3


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m salticid.world", description="Draw a contact sheet of scenes.")
    parser.add_argument("output", type=Path, help="picture file to write, such as world.jpg")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quality", type=int, default=74, help="of JPEG, 1 to 95 (default %(default)s)")
    arguments = parser.parse_args()
    from PIL import Image

    sheet = contact_sheet(arguments.seed)
    Image.fromarray(sheet.permute(1, 2, 0).numpy()).save(arguments.output, quality=arguments.quality)
    print(f"{arguments.output}: {sheet.shape[2]}×{sheet.shape[1]}, {arguments.output.stat().st_size / 1000:.0f} kB")


def contact_sheet(seed: int) -> Tensor:
    """uint8 (3, h, w). Rows: rooms (two), outdoors (two), the fisheye views of a rig in a room and in a street; one
    scene's colours, distance, instances and flow; an orbit of a moving toy."""
    rows = []
    for kind in ("room", "outdoors"):
        frames = [_look(make_scene(seed, index, kind)).rgb for index in range(8)]
        rows += [frames[:4], frames[4:]]
    rig = Rig.ring(4, UCM.centred(_UNIT, _UNIT, 85.5, xi=0.9), 0.15)
    scenes = make_scene(seed, 8, "room"), make_scene(seed, 8, "outdoors")
    views = [frame.rgb for scene in scenes for frame in render_rig(scene, rig, torch.eye(4), supersample=_SUPERSAMPLE)]
    rows.append(views)
    rows.append(_truth(make_scene(seed, 7, "outdoors")))
    rows.append(_orbit(make_scene(seed, 0, "studio")))
    sheet = torch.cat([torch.cat([_framed(picture) for picture in row], dim=2) for row in rows], dim=1)
    return sheet.add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)


def _framed(picture: Tensor) -> Tensor:
    """White edges, within the picture's own size, that set it apart from its neighbours."""
    picture = picture.clone()
    picture[:, -3:] = picture[:, :, -3:] = 1
    return picture


def _look(scene: Scene, time: float = 0.0) -> Frame:
    return render(scene, _PANORAMA, scene.path(time), time, _SUPERSAMPLE)


def _orbit(scene: Scene) -> list[Tensor]:
    centre = torch.tensor((CENTRE[0], scene.floor - CENTRE[1], CENTRE[2]))
    poses, camera = orbit(centre, 2.4, 8, elevation=0.3), Pinhole.centred(_UNIT, _UNIT, 1.1 * _UNIT)
    return [render_many(scene, [camera], [pose], 0.3 * i, _SUPERSAMPLE)[0].rgb for i, pose in enumerate(poses)]


def _truth(scene: Scene) -> list[Tensor]:
    frame = _look(scene)
    motion = flow(scene, _PANORAMA, scene.path(0.0), 0.0, _PANORAMA, scene.path(0.5), 0.5)
    return [frame.rgb, _distance_colours(frame.distance), _instance_colours(frame.instance), _flow_colours(motion.flow)]


def _hues(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """HSV in [0, 1] to (3, h, w) in [−1, 1], by the piecewise linear hue curve."""
    offset = torch.tensor((5.0, 3.0, 1.0))[:, None, None]
    position = (offset + 6 * hue) % 6
    return 2 * (value - value * saturation * torch.minimum(position, 4 - position).clamp(0, 1)) - 1


def _distance_colours(distance: Tensor) -> Tensor:
    """Near is yellow, far is violet, the sky black."""
    near = (1 / distance.clamp(min=1)).pow(0.4)
    return _hues(0.78 - 0.64 * near, torch.full_like(near, 0.75), (0.25 + 0.75 * near) * distance.isfinite())


def _instance_colours(instance: Tensor) -> Tensor:
    hue = (instance * 0.618034) % 1
    return _hues(hue, torch.full_like(hue, 0.55), 0.55 + 0.4 * ((instance * 0.37) % 1)).where(instance > 0, -1.0)


def _flow_colours(motion: Tensor) -> Tensor:
    """Direction as hue, length as saturation."""
    length = torch.linalg.vector_norm(motion, dim=-1)
    hue = torch.atan2(motion[..., 1], motion[..., 0]) / (2 * math.pi) % 1
    return _hues(hue, (length / length.quantile(0.8)).clamp(0, 1), torch.ones_like(hue))


if __name__ == "__main__":
    main()
