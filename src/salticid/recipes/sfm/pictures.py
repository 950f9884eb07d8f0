"""What can be seen of a run: depth, where it teaches, what it puts together, and what the networks look at."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from salticid.data.source import Batch
from salticid.evaluate.colour import coloured
from salticid.evaluate.flow import flow_picture
from salticid.evaluate.pictures import tile
from salticid.geometry.cameras import pixel_grid
from salticid.losses.photometric import Target, minimum_reprojection
from salticid.recipes.sfm.frames import Frames
from salticid.recipes.sfm.model import MotionModel
from salticid.recipes.sfm.synthesis import moved_by_flow, synthesise


class Reconstruction(NamedTuple):
    """The target as its sources show it."""

    image: Tensor
    """(B, 3, H, W), from the source before all others."""
    error: Tensor
    """(B, 1, H, W), photometric, of the best source."""
    automask: Tensor
    """bool (B, 1, H, W)"""
    flow: Tensor
    """(B, 2, H, W), to the first source, pixels."""


def reconstructed(model: MotionModel, frames: Frames, batch: Batch, maps: list[Tensor] | None) -> Reconstruction:
    """By depth and motion; by optical flow, where there are no disparities `maps`."""
    if maps is None:
        flow = model.flows(frames)[0]
        images = moved_by_flow(frames.sources.flatten(0, 1), flow[:, None])[:, 0].unflatten(0, frames.sources.shape[:2])
        flow = flow.unflatten(0, frames.sources.shape[:2])
    else:
        depth = model.to_depth(maps[0])
        motions = model.motions(frames, batch.get("stereo_pose"))
        made = synthesise(frames.sources, depth, motions, model.range.measure)
        images, flow = made.images[:, 0], displacement(made.pixels[:, 0])
    compare = Target(frames.target)
    errors, still = compare(images.flatten(0, 1)), compare(frames.sources.flatten(0, 1))
    automask = minimum_reprojection(errors, still).automask
    return Reconstruction(images[:, 0], errors.amin(dim=1, keepdim=True), automask, flow[:, 0])


def displacement(pixels: Tensor) -> Tensor:
    """Flow (…, 2, H, W) of where pixels (…, H, W, 2) lie."""
    return (pixels - pixel_grid(pixels.shape[-3], pixels.shape[-2], pixels.device)).movedim(-1, -3)


def preview(model: MotionModel, frames: Frames, batch: Batch) -> Tensor:
    """A row a sample; see `legend`."""
    maps = None if model.depth is None else model.disparities(frames.seen[:, 0])
    made = reconstructed(model, frames, batch, maps)
    columns = [_bytes(frames.target)]
    if maps is not None:
        columns += [_disparity(level, frames.size) for level in (maps[0], maps[3])]
        if "depth" in batch:
            truth = F.interpolate(batch["depth"], frames.size, mode="nearest")
            known = F.interpolate(batch["valid"].float(), frames.size, mode="nearest").bool()
            columns.append(_disparity(1 / truth.where(known, 1.0), frames.size, known))
    columns += [_bytes(made.image), _bytes(made.error.expand(-1, 3, -1, -1) * 3), flow_picture(made.flow)]
    columns.append(_bytes(made.automask.float().expand(-1, 3, -1, -1)))
    encoder = model.flow.encoder if model.depth is None else model.depth.encoder  # type: ignore[union-attr]
    seen = frames.seen[:, :2].flatten(1, 2) if model.depth is None else frames.seen[:, 0]
    columns += [_feature(level, frames.size) for level in encoder(seen)[:2]]
    return tile(torch.stack([column.cpu() for column in columns], dim=1))


def legend(model: MotionModel) -> str:
    depth = "disparity (near is red), at scale 0 and 3 · true disparity, if known · " if model.depth is not None else ""
    return (
        f"columns: picture · {depth}the first source moved onto it · error of the best source, three times as bright · "
        "flow to the first source · pixels that teach (white) · means of the encoder's first and second map"
    )


def _bytes(images: Tensor) -> Tensor:
    return images.mul(255).round().clamp(0, 255).byte()


def _disparity(disparity: Tensor, size: tuple[int, int], mask: Tensor | None = None) -> Tensor:
    """In colours from its 2 % to its 98 % quantile."""
    fitting = F.interpolate(disparity.float(), size, mode="nearest")
    known = fitting if mask is None else fitting.where(mask, torch.nan)
    ends = known.flatten(1).nanquantile(fitting.new_tensor([0.02, 0.98]), dim=1).T
    return coloured(-fitting, -ends.flip(1), mask)


def _feature(level: Tensor, size: tuple[int, int]) -> Tensor:
    """The mean over channels, from its least to its greatest value, in grey."""
    mean = level.float().mean(dim=1, keepdim=True)
    low, high = mean.amin(dim=(2, 3), keepdim=True), mean.amax(dim=(2, 3), keepdim=True)
    grey = (mean - low) / (high - low).clamp(min=1e-9)
    return _bytes(F.interpolate(grey, size, mode="nearest").expand(-1, 3, -1, -1))
