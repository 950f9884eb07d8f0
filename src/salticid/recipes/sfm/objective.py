"""What is learnt from bare video: that a neighbouring frame, moved as depth and motion say, looks like the target."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from salticid.data.source import Batch
from salticid.diffusion.noise import keyed_normal
from salticid.engine.recipe import Clock, Loss
from salticid.geometry.warp import sample
from salticid.losses import smoothness
from salticid.losses.photometric import Target, minimum_reprojection
from salticid.losses.pixels import masked_mean
from salticid.recipes.sfm.frames import Frames
from salticid.recipes.sfm.model import MotionModel, Motions
from salticid.recipes.sfm.settings import Photometric, Weights
from salticid.recipes.sfm.supervision import depth_error, pose_error, travel_error
from salticid.recipes.sfm.synthesis import Synthesis, synthesise, upsampled
from salticid.recipes.sfm.teacher import Teacher

Terms = dict[str, Tensor]
"""Scalars by the name of their weight."""


def weighted(terms: Terms, weights: Weights, extra: Terms | None = None) -> Loss:
    """The sum of terms times their weights; each is logged as it is, without its weight."""
    total = torch.stack([getattr(weights, name) * value for name, value in terms.items()]).sum()
    return Loss(total, {name: value.detach() for name, value in (terms | (extra or {})).items()})


@dataclass
class DepthObjective:
    """Monodepth2's loss (Godard et al. 2019), and terms beside it that have a weight."""

    weights: Weights
    photometric: Photometric
    teacher: Teacher | None = None

    def __call__(self, model: MotionModel, frames: Frames, batch: Batch, clock: Clock) -> Loss:
        maps = model.disparities(frames.seen[:, 0])[: self.photometric.scales]
        motions = model.motions(frames, batch.get("stereo_pose"))
        depth = model.to_depth(upsampled(maps, frames.size)[:, :, 0])
        made = synthesise(frames.sources, depth, motions, model.range.measure)
        matched, automask = self.match(frames, made, batch["key"], clock)
        smooth = disparity_smoothness([model.linear(level) for level in maps], frames.target)
        terms = {"photometric": matched, "smoothness": smooth}
        terms |= self.further(model, frames, depth[:, 0], maps, motions, made, batch)
        return weighted(terms, self.weights, {"automask": automask})

    def match(self, frames: Frames, made: Synthesis, keys: Tensor, clock: Clock) -> tuple[Tensor, Tensor]:
        """The photometric loss, mean over scales, and the share of pixels that teach."""
        scales, sources = made.images.shape[1:3]
        compare = Target(frames.target)
        errors = compare(made.images.flatten(0, 2)).unflatten(1, (scales, sources)).flatten(0, 1)
        valid = made.valid.flatten(0, 1) if self.photometric.valid_only else None
        if not self.photometric.minimum:
            errors, valid = _mean(errors, valid)
        identity = noise = None
        if self.photometric.automask and clock.step >= self.photometric.automask_start * clock.steps:
            identity = compare(frames.sources.flatten(0, 1))  # the same for all scales
            if not self.photometric.minimum:
                identity = identity.mean(dim=1, keepdim=True)
            draws = keyed_normal(keys, identity.shape[1:], seed=clock.seed, stream="automask", device=identity.device)
            identity, noise = (x.repeat_interleave(scales, dim=0) for x in (identity, draws))
        found = minimum_reprojection(errors, identity, noise, valid=valid)
        return found.loss.mean(), found.automask.float().mean()

    def further(
        self,
        model: MotionModel,
        frames: Frames,
        depth: Tensor,
        maps: list[Tensor],
        motions: Motions,
        made: Synthesis,
        batch: Batch,
    ) -> Terms:
        """Supervision and consistency, as far as they have a weight."""
        w, terms = self.weights, {}
        if w.depth:
            terms["depth"] = depth_error(depth, batch["depth"], batch["valid"])
        if w.pose:
            terms["pose"] = pose_error(motions.to_source, batch["poses"])
        if w.velocity:
            terms["velocity"] = travel_error(motions.to_source, batch["travel"])
        if w.consistency:
            terms["consistency"] = self.consistency(model, frames, made)
        if w.distillation and self.teacher is not None:
            terms["distillation"] = self.teacher.error(model.linear(maps[0]), frames.seen[:, 0])
        return terms

    def consistency(self, model: MotionModel, frames: Frames, made: Synthesis) -> Tensor:
        """Mean over samples of their mean |a − b|/(a + b), a the target's depth seen from a source, b the source's own
        (Bian et al. 2019), where a source shows what the target does."""
        sources = frames.seen[:, 1:]
        own = model.to_depth(model.disparities(sources.flatten(0, 1))[0])
        there = sample(own, made.pixels[:, 0].flatten(0, 1))[:, 0].unflatten(0, sources.shape[:2])
        a, valid = made.far[:, 0], made.valid[:, 0]
        apart = (a - there).abs() / (a + there).clamp(min=1e-7)
        # Pixels of all sources of a sample together: (B, 1, K·H, W)
        return masked_mean(apart.flatten(1, 2)[:, None], valid.flatten(1, 2)[:, None]).mean()


def disparity_smoothness(maps: list[Tensor], target: Tensor) -> Tensor:
    """Σ over scales s of smoothness / 2^s, over their number; each against the target in its size."""
    total = torch.zeros((), device=target.device)
    for s, disparity in enumerate(maps):
        picture = target if s == 0 else F.interpolate(target, disparity.shape[-2:], mode="area")
        total = total + smoothness.disparity_smoothness(disparity, picture).mean() / 2**s
    return total / len(maps)


def _mean(errors: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """One candidate, the mean of those that are valid."""
    if valid is None:
        return errors.mean(dim=1, keepdim=True), None
    count = valid.sum(dim=1, keepdim=True)
    return errors.where(valid, 0.0).sum(dim=1, keepdim=True) / count.clamp(min=1), count > 0
