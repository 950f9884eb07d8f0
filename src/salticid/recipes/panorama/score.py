"""How good panoramas are, beside what needs no learning: warp-and-blend, and the mean colour."""

import math
from collections.abc import Sequence

from torch import Tensor

from salticid.evaluate.image import eight_bit, mae, mse, psnr, seam_error, ssim, ws_psnr
from salticid.geometry.cameras import Equirectangular
from salticid.geometry.rig import Rig
from salticid.geometry.stitch import stitch

Panorama = tuple[Tensor, Tensor | None]
"""Eight-bit panoramas (B, 3, H, W), and the mask (B or 1, 1, H, W) of what they show of what is seen."""


def score(name: str, image: Tensor, truth: Tensor) -> dict[str, Tensor]:
    """All metrics of eight-bit panoramas (B, 3, H, W), as `metric/name`: (B,)."""
    return {
        f"psnr/{name}": psnr(image, truth),
        f"ws_psnr/{name}": ws_psnr(image, truth),
        f"ssim/{name}": ssim(image, truth),
        f"mse/{name}": mse(image, truth),
        f"mae/{name}": mae(image, truth),
        f"seam/{name}": seam_error(image, truth),
    }


def score_seen(name: str, image: Tensor, truth: Tensor, seen: Tensor) -> dict[str, Tensor]:
    """WS-PSNR apart for what the views see (mask (B or 1, 1, H, W)) and what is made up."""
    seen = seen.double().expand(len(image), -1, -1, -1)
    return {
        f"ws_psnr_seen/{name}": ws_psnr(image, truth, seen),
        f"ws_psnr_unseen/{name}": ws_psnr(image, truth, 1 - seen),
    }


def score_all(made: dict[str, Panorama], truth: Tensor) -> dict[str, Tensor]:
    """All metrics of all panoramas, for what is seen and unseen apart where a mask tells them apart."""
    records: dict[str, Tensor] = {}
    for name, (picture, seen) in made.items():
        records |= score(name, picture, truth)
        if seen is not None:
            records |= score_seen(name, picture, truth, seen)
    return records


def baselines(
    views: Tensor, rig: Rig, truth: Tensor, sphere: Equirectangular, distances: Sequence[float]
) -> dict[str, Panorama]:
    """What needs no learning, as eight-bit panoramas with the mask of what they see: warp-and-blend at each distance,
    `stitch@distance`, and every panorama's own mean colour."""
    made = {f"stitch@{d:g}": stitch(views, rig, sphere, distance=d) for d in distances}
    mean = truth.mean(dim=(2, 3), keepdim=True).expand_as(truth)
    panoramas: dict[str, Panorama] = {name: (eight_bit(blend), seen) for name, (blend, seen) in made.items()}
    return {"mean-colour": (mean, None)} | panoramas


def best_stitch(
    views: Tensor, rig: Rig, truth: Tensor, sphere: Equirectangular, distances: Sequence[float]
) -> tuple[Tensor, float]:
    """Warp-and-blend of a batch at whichever of the distances does best on it by WS-PSNR; the distance."""
    blends = {distance: stitch(views, rig, sphere, distance=distance)[0] for distance in distances or (math.inf,)}
    truth = eight_bit(truth)
    best = max(blends, key=lambda distance: float(ws_psnr(eight_bit(blends[distance]), truth).mean()))
    return blends[best], best


def summarise(
    records: dict[str, Tensor], distances: Sequence[float], whole: dict[str, float] | None = None
) -> dict[str, float]:
    """Means over the samples; what a view leaves unseen, over the samples where it leaves something. `whole`: metrics
    that are of the whole set already.

    Of warp-and-blend, only the single distance that does best by WS-PSNR over all samples, as `metric/stitch`.
    """
    partial = {name for name, values in records.items() if "_seen/" in name or "_unseen/" in name}
    means = {name: float(values.nanmean() if name in partial else values.mean()) for name, values in records.items()}
    means = {name: value for name, value in means.items() if not (name in partial and math.isnan(value))}
    means |= whole or {}
    if not distances:
        return means
    best = max(distances, key=lambda distance: means[f"ws_psnr/stitch@{distance:g}"])
    suffix = f"/stitch@{best:g}"
    stitched = {name.removesuffix(suffix) + "/stitch": value for name, value in means.items() if name.endswith(suffix)}
    kept = {name: value for name, value in means.items() if "/stitch@" not in name}
    return kept | stitched | {"stitch_distance": best}
