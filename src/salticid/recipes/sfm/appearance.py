"""AF-SfMLearner's losses (Shao et al. 2022): optical flow first, then depth and motion where light changes."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from salticid.data.source import Batch
from salticid.engine.recipe import Clock, Loss
from salticid.losses import smoothness
from salticid.losses.appearance import constancy, refine
from salticid.losses.photometric import Target, minimum_reprojection, photometric
from salticid.losses.pixels import masked_mean
from salticid.losses.splat import visible
from salticid.recipes.sfm.frames import Frames
from salticid.recipes.sfm.model import MotionModel
from salticid.recipes.sfm.objective import Terms, disparity_smoothness, weighted
from salticid.recipes.sfm.settings import Weights
from salticid.recipes.sfm.synthesis import moved_by_flow, synthesise, upsampled


@dataclass
class FlowObjective:
    """Stage I: the source that flow moves best looks like the target, and flow is smooth."""

    weights: Weights

    def __call__(self, model: MotionModel, frames: Frames, batch: Batch, clock: Clock) -> Loss:
        count = frames.sources.shape[1]
        maps = model.flows(frames)
        moved = moved_by_flow(frames.sources.flatten(0, 1), upsampled(maps, frames.size))  # (B·K, S, 3, H, W)
        by_scale = moved.unflatten(0, (-1, count)).transpose(1, 2)  # (B, S, K, 3, H, W)
        errors = Target(frames.target)(by_scale.flatten(0, 2)).unflatten(1, (-1, count)).flatten(0, 1)
        terms = {
            "flow": minimum_reprojection(errors).loss.mean(),
            "flow_smoothness": _halved([smoothness.total_variation(flow).mean() for flow in maps]),
        }
        return weighted(terms, self.weights)


class Registered(NamedTuple):
    """Sources that optical flow has moved onto the target; no gradient goes back into the flow."""

    moved: Tensor
    """(B·K, 3, H, W)"""
    visible: Tensor
    """bool (B·K, 1, H, W): the source shows it too."""


@dataclass
class AppearanceObjective:
    """Stage II: depth and motion explain the target as it would look in each source's light.

    No minimum over sources and no auto-mask; half the sum over two sources is the mean over any number of them.
    """

    weights: Weights
    scales: int = 4

    def __call__(self, model: MotionModel, frames: Frames, batch: Batch, clock: Clock) -> Loss:
        count = frames.sources.shape[1]
        found = registered(model, frames)
        target = frames.target.repeat_interleave(count, dim=0)
        changes = upsampled(model.appearances(found.moved, target)[: self.scales], frames.size)  # (B·K, S, 3, H, W)
        maps = model.disparities(frames.seen[:, 0])[: self.scales]
        depth = model.to_depth(upsampled(maps, frames.size)[:, :, 0])
        motions = model.motions(frames, batch.get("stereo_pose"))
        made = synthesise(frames.sources, depth, motions, model.range.measure).images  # (B, S, K, 3, H, W)
        terms: Terms = {name: target.new_zeros(()) for name in ("photometric", "appearance", "appearance_smoothness")}
        for s in range(len(maps)):
            change = changes[:, s]
            refined = refine(target, change, found.visible)
            error = masked_mean(photometric(made[:, s].flatten(0, 1), refined), found.visible)
            terms["photometric"] = terms["photometric"] + error.mean() / len(maps)
            held = constancy(refined, found.moved, found.visible)
            terms["appearance"] = terms["appearance"] + held.mean() / len(maps)
            smooth = smoothness.edge_aware(change, target - found.moved, found.visible)
            terms["appearance_smoothness"] = terms["appearance_smoothness"] + smooth.mean() / len(maps)
        terms["smoothness"] = disparity_smoothness([model.linear(level) for level in maps], frames.target)
        return weighted(terms, self.weights, {"visible": found.visible.float().mean()})


@dataclass
class RefinedFlowObjective:
    """The flow of the alternating stage: the target that it is to match has each source's light, as the appearance
    network has it just then, and its smoothness minds the edges of the picture."""

    weights: Weights

    def __call__(self, model: MotionModel, frames: Frames, batch: Batch, clock: Clock) -> Loss:
        count = frames.sources.shape[1]
        target = frames.target.repeat_interleave(count, dim=0)
        with torch.no_grad():
            found = registered(model, frames)
            refined = refine(target, model.appearances(found.moved, target)[0], found.visible)
        maps = model.flows(frames)
        moved = moved_by_flow(frames.sources.flatten(0, 1), upsampled(maps, frames.size))
        errors = Target(refined)(moved.flatten(0, 1))  # (B·K, S, H, W)
        matched = masked_mean(errors, found.visible).mean()
        smooth = [
            smoothness.edge_aware(flow, F.interpolate(target, flow.shape[-2:], mode="area")).mean() for flow in maps
        ]
        return weighted({"flow": matched, "flow_smoothness": _halved(smooth)}, self.weights)


@torch.no_grad()
def registered(model: MotionModel, frames: Frames) -> Registered:
    flow = model.flows(frames)[0]
    back = model.flows(frames, reverse=True)[0]
    moved = moved_by_flow(frames.sources.flatten(0, 1), flow[:, None])[:, 0]
    return Registered(moved, visible(back))


def _halved(values: list[Tensor]) -> Tensor:
    """Mean over scales s of values / 2^s."""
    return torch.stack([value / 2**s for s, value in enumerate(values)]).mean()
