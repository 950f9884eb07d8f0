"""From the numbers in a batch to rigs, and from any rig to the one that a model was trained on."""

import torch
import torch.nn.functional as F
from torch import Tensor

from salticid.geometry.cameras import UCM, Equirectangular
from salticid.geometry.rig import Rig, ucm_intrinsics
from salticid.geometry.stitch import Stitcher
from salticid.geometry.views import views_from_panorama


def batch_rig(intrinsics: Tensor, poses: Tensor, size: int) -> Rig:
    """UCM cameras of size² pixels from fx, fy, cx, cy, ξ (B, N, 5) and poses (B, N, 4, 4) camera → rig.

    Where all samples have the same rig, it is that of one sample, so that maps are made once for the batch.
    """
    if (intrinsics == intrinsics[:1]).all() and (poses == poses[:1]).all():
        intrinsics, poses = intrinsics[:1], poses[:1]
    count = intrinsics.shape[1]
    cameras = tuple(UCM(size, size, *intrinsics[:, i].unbind(-1)) for i in range(count))
    return Rig(cameras, poses, tuple(f"view {i}" for i in range(count)))


def views_for(
    pictures: list[Tensor], rig: Rig, intrinsics: Tensor, poses: Tensor, size: int, distance: float
) -> Tensor:
    """What the trained rig (intrinsics (N, 5), poses (N, 4, 4), size² pixels) would have seen: (N, 3, size, size).

    `pictures` (3, h, w) in [−1, 1] are those of `rig`. If both rigs are the same, the pictures are only reduced.
    Otherwise they are stitched at `distance` metres, and the trained rig's views are cut out of the stitch, as of
    a world far away.
    """
    if same_rig(rig, intrinsics, poses, size):
        return torch.cat([F.interpolate(picture[None], (size, size), mode="area") for picture in pictures])
    sphere = Equirectangular(8 * size, 16 * size)
    panorama = Stitcher(rig, sphere, distance=distance)([picture[None] for picture in pictures])[0]
    cameras = _cameras(intrinsics, size)
    return views_from_panorama(panorama, Rig(cameras, poses, tuple(str(i) for i in range(len(cameras)))))


def _cameras(intrinsics: Tensor, size: int) -> tuple[UCM, ...]:
    return tuple(UCM(size, size, *row) for row in intrinsics.tolist())


def same_rig(rig: Rig, intrinsics: Tensor, poses: Tensor, size: int, tolerance: float = 1e-3) -> bool:
    """Whether `rig`, its images reduced to size² pixels, has the given UCM cameras in the given places, with image
    circles that end no earlier and no later."""
    cameras = [camera for camera in rig.cameras if isinstance(camera, UCM)]
    if len(rig) != len(intrinsics) or len(cameras) != len(rig):
        return False
    limits, trained = ([camera.limit for camera in each] for each in (cameras, _cameras(intrinsics, size)))
    return (
        torch.allclose(ucm_intrinsics(rig.resized(size, size)), intrinsics, rtol=tolerance)
        and torch.allclose(rig.poses.float(), poses, atol=tolerance)
        and torch.allclose(torch.tensor(limits), torch.tensor(trained), atol=tolerance)
    )
