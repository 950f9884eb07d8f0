"""How good videos are, alone or in a grid of views, beside the truth: per-sample metrics of clips (B, 3, T, H, W) with
values in [0, 1], to which `image.eight_bit` was applied first, as papers do.

Metrics are float64 (B,) by name, NaN for a sample in which nothing can be compared. A grid (B, 3, T, V, H, W) is a
clip of T·V frames: `flatten(2, 3)`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from salticid.data.motion import lens_of
from salticid.evaluate.image import psnr, ssim
from salticid.geometry import se3
from salticid.geometry.cameras import pixel_grid
from salticid.geometry.warp import reproject, sample

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Float64

    from salticid.losses.lpips import Lpips

OCCLUSION = 0.02
"""A point is hidden where the other view's depth differs from its own there by more than this share."""


def clip_metrics(
    made: Float[Tensor, "b 3 t h w"], truth: Float[Tensor, "b 3 t h w"], *, given: int = 0, lpips: Lpips | None = None
) -> dict[str, Float64[Tensor, " b"]]:
    """`psnr` (dB), `ssim` and, with its network, `lpips`: of each frame, then the mean over frames.

    Args:
        given: so many first frames are left out: an image-to-video model did not have to make them.
    """
    metrics: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"psnr": psnr, "ssim": ssim}
    if lpips is not None:
        metrics["lpips"] = lambda a, b: lpips(2 * a.float() - 1, 2 * b.float() - 1)
    return {name: _over_frames(metric, made, truth, given) for name, metric in metrics.items()}


def _over_frames(metric: Callable[[Tensor, Tensor], Tensor], made: Tensor, truth: Tensor, given: int) -> Tensor:
    # Frame by frame: a clip at once in float64 would take gigabytes.
    frames = [metric(made[:, :, t], truth[:, :, t]).double() for t in range(given, made.shape[2])]
    return torch.stack(frames).mean(dim=0) if frames else made.new_full((len(made),), torch.nan, dtype=torch.float64)


def second_difference(
    made: Float[Tensor, "b 3 t h w"], truth: Float[Tensor, "b 3 t h w"]
) -> dict[str, Float64[Tensor, " b"]]:
    """`second_difference`: mean |x(t − 1) − 2 x(t) + x(t + 1)| relative to that of the truth, where no flow is known.

    1 is as unsteady as the truth, more flickers, less is frozen or blurred: a clip that stands still has 0. Infinite
    where the truth stands still and the clip does not.
    """

    def unsteady(clip: Tensor) -> Tensor:
        return clip.double().diff(n=2, dim=2).abs().flatten(1).mean(dim=1)

    return {"second_difference": unsteady(made) / unsteady(truth)}


class Link(NamedTuple):
    """Where the pixels of one frame of a clip are in another one."""

    source: int
    target: int
    pixels: Float[Tensor, "b h w 2"]
    """(x, y) in the frame `target`."""
    seen: Bool[Tensor, "b 1 h w"]
    """In both frames."""


def mismatch(clip: Float[Tensor, "b 3 n h w"], links: Sequence[Link]) -> Float64[Tensor, " b"]:
    """Mean absolute difference of colours over all linked pixels, in units of the image range."""
    total = clip.new_zeros(len(clip), dtype=torch.float64)
    count = torch.zeros_like(total)
    for link in links:
        there = sample(clip[:, :, link.target], link.pixels)
        difference = (clip[:, :, link.source] - there).abs().mean(dim=1, keepdim=True)
        total += torch.where(link.seen, difference, 0.0).sum(dim=(1, 2, 3), dtype=torch.float64)
        count += link.seen.sum(dim=(1, 2, 3))
    return total / count


def flicker(
    made: Float[Tensor, "b 3 t h w"],
    truth: Float[Tensor, "b 3 t h w"],
    flow: Float[Tensor, "b t-1 2 h w"],
    flow_valid: Bool[Tensor, "b t-1 1 h w"],
) -> dict[str, Float64[Tensor, " b"]]:
    """`flicker`: mean |frame t − frame t + 1 warped to it by the true flow|, over pixels seen in both; lower is
    better. `flicker/truth` is that of the truth: what bilinear sampling, light and shadow leave over.

    It judges the motion too: what moves otherwise than in the truth is compared with something else.

    Args:
        flow: from frame t to t + 1, (x, y) pixels; outside `flow_valid` anything.
        flow_valid: seen in both frames.
    """
    links = _flow_links(flow, flow_valid)
    return {"flicker": mismatch(made, links), "flicker/truth": mismatch(truth, links)}


def _flow_links(flow: Tensor, valid: Tensor) -> list[Link]:
    grid = pixel_grid(flow.shape[-2], flow.shape[-1]).to(flow)
    moved = torch.where(valid, flow, 0.0).movedim(2, -1) + grid
    return [Link(t, t + 1, moved[:, t], valid[:, t]) for t in range(flow.shape[1])]


def view_consistency(
    made: Float[Tensor, "b 3 t v h w"],
    truth: Float[Tensor, "b 3 t v h w"],
    depth: Float[Tensor, "b t v h w"],
    intrinsics: Float[Tensor, "b p"],
    poses: Float[Tensor, "b v 4 4"],
) -> dict[str, Float64[Tensor, " b"]]:
    """`view_consistency`: mean |view v − the next view reprojected to it by the true depth|, over pixels seen in both;
    lower is better. `view_consistency/truth` is that of the truth: what sampling, highlights and edges leave over.

    The view after the last is the first; where views do not close an orbit, those two share few pixels or none. A
    pixel is seen where its depth in the other camera is that of the other view's map within 2 %.

    Args:
        depth: z, 0 where not known.
        intrinsics: as in `salticid.data.motion`, of H × W pixels.
        poses: camera to world.
    """
    links = _view_links(depth, intrinsics, poses)
    names = {"view_consistency": made, "view_consistency/truth": truth}
    return {name: mismatch(grid.flatten(2, 3), links) for name, grid in names.items()}


def _view_links(depth: Tensor, intrinsics: Tensor, poses: Tensor) -> list[Link]:
    """From every view to the next one of the same frame; of frames in the order of `flatten(2, 3)`."""
    frames, views, height, width = depth.shape[1:]
    lens = lens_of(intrinsics, height, width)
    links = []
    for v in range(views if views > 1 else 0):
        following = (v + 1) % views
        motion = se3.compose(se3.inverse(poses[:, following]), poses[:, v])
        for t in range(frames):
            there = reproject(depth[:, t, v, None], lens, motion, lens, measure="depth")
            nearest = sample(depth[:, t, following, None], there.pixels, mode="nearest")
            seen = there.valid & ((nearest - there.distance_b).abs() <= OCCLUSION * there.distance_b)
            links.append(Link(t * views + v, t * views + following, there.pixels, seen))
    return links


def repeat_first(frame: Float[Tensor, "b c h w"], frames: int) -> Float[Tensor, "b c t h w"]:
    """The least that an image-to-video model has to beat: the given frame, standing still."""
    return frame[:, :, None].expand(-1, -1, frames, -1, -1)
