"""Making the views of a rig from a panorama, fast enough to do it anew for every training sample."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from salticid.geometry.cameras import Equirectangular
from salticid.geometry.rig import Rig
from salticid.geometry.se3 import compose
from salticid.geometry.warp import resample

if TYPE_CHECKING:
    from jaxtyping import Float, UInt8


def views_from_panorama(
    panorama: "UInt8[Tensor, '3 h w'] | Float[Tensor, '3 h w']",
    rig: Rig,
    rotation: "Float[Tensor, '3 3'] | None" = None,
    *,
    supersample: int = 1,
) -> "Float[Tensor, 'n 3 h_view w_view']":
    """What the cameras of `rig` (all of one size) see of a panorama, as of a world infinitely far away, with the rig
    turned by `rotation` (rig to panorama). uint8 becomes float32 in [−1, 1]; float keeps its range."""
    if panorama.dtype == torch.uint8:
        panorama = panorama.float() / 127.5 - 1
    sphere = Equirectangular(*panorama.shape[-2:])
    views = []
    for camera, turn in zip(rig.cameras, rig.poses[:, :3, :3], strict=True):
        turn = turn if rotation is None else compose(rotation.to(turn), turn)
        views.append(resample(panorama[None], sphere, camera, turn, supersample=supersample)[0][0])
    return torch.stack(views)
