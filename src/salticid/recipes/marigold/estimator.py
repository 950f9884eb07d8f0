"""The depth of one picture after the other, and of the frames of a video so that it does not flicker."""

from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from salticid.diffusion.noise import stable_key
from salticid.errors import UserError
from salticid.recipes.marigold.coding import DepthCoding
from salticid.recipes.marigold.fitting import Fitting
from salticid.recipes.marigold.infer import Estimate, estimate
from salticid.recipes.marigold.settings import Spacing

if TYPE_CHECKING:
    from salticid.recipes.marigold.model import MarigoldModel

Temporal = Literal["none", "shared", "sequential"]
ON_CPU = 2
"""Predictions at a time on a CPU: with ten, their maps no longer fit into its cache (a fifth slower at 240×320)."""
SAME_SCENE = 0.5
"""Correlation of two frames' depth below which there is taken to be a cut between them."""


class Estimator:
    """Makes depth of pictures, with as many predictions at a time as fit into memory.

    Args:
        steps: of DDIM.
        ensemble: predictions of each picture.
        processing: longest side at which pictures are looked at; 0: their own.
        spacing: of the times of sampling; None: the model's.
        batch: predictions of a picture that go through the networks at a time; 0: found by trial, and on
            a CPU two.
        seed: of the noise.

    Raises:
        UserError: a number out of range, or steps that the model was not trained for.
    """

    def __init__(
        self,
        model: "MarigoldModel",
        coding: DepthCoding,
        *,
        steps: int,
        ensemble: int = 1,
        processing: int = 0,
        spacing: Spacing | None = None,
        batch: int = 0,
        seed: int = 0,
    ) -> None:
        for name, value, least in (("ensemble", ensemble, 1), ("processing", processing, 0), ("batch", batch, 0)):
            if value < least:
                raise UserError(f"--{name} is {value}; expected at least {least}")
        if model.start != "gaussian" and (steps > 1 or (spacing or "trailing") != "trailing"):
            raise UserError(f"--steps is {steps}; this model was trained for one, from the last time")
        model.grid(steps, spacing)  # refuses what is no number of steps
        self.model, self.coding, self.steps, self.ensemble = model, coding, steps, ensemble
        self.options = {
            "steps": steps,
            "ensemble": ensemble,
            "processing": processing,
            "spacing": spacing,
            "seed": seed,
        }
        self.device = next(model.parameters()).device
        self.fitting = Fitting(batch or (ON_CPU if self.device.type == "cpu" else 0))

    def __call__(self, picture: Tensor, name: str, start: Tensor | None = None) -> Estimate:
        """The depth of a uint8 picture (3, H, W); its noise is a function of (seed, name).

        Args:
            start: depth latents (1, C, h, w) to start from in place of noise alone, see `MarigoldModel.sample`.

        Raises:
            UserError: it does not fit into the GPU's memory.
        """
        pictures, keys = picture[None].to(self.device).float() / 127.5 - 1, torch.tensor([stable_key(name)])

        def job(at_a_time: int) -> Estimate:
            return estimate(self.model, self.coding, pictures, keys, start=start, batch=at_a_time, **self.options)

        try:
            return self.fitting(job, self.ensemble)
        except torch.OutOfMemoryError:
            size = f"{picture.shape[1]}×{picture.shape[2]}, {self.fitting.most or 1} predictions at a time"
            raise UserError(
                f"{name}: does not fit into the GPU's memory ({size}); expected a smaller processing or batch"
            ) from None


class Frames:
    """Makes depth of the frames of one video, in their order.

    `none`: every frame has noise of its own. `shared`: all have the same. `sequential`: all have the same, a frame
    starts from the depth latents (their mean over the ensemble) of the one before, as `MarigoldModel.sample` does,
    and depth that is known up to scale and shift alone is aligned to that of the frame before. With one step there is
    no time between noise and depth to start at, and only the noise and the alignment are left.
    """

    def __init__(self, estimator: Estimator, name: str, temporal: Temporal) -> None:
        self.estimator, self.name, self.temporal = estimator, name, temporal
        self.count = 0
        self.latents: Tensor | None = None
        self.depth: Tensor | None = None

    def __call__(self, frame: Tensor) -> Tensor:
        """Depth (H, W) of a uint8 frame (3, H, W): about [0, 1], beyond where it was aligned; or metres."""
        name = f"{self.name}/{self.count}" if self.temporal == "none" else self.name
        self.count += 1
        found = self.estimator(frame, name, self.latents)
        depth = found.depth[0, 0]
        if self.temporal != "sequential":
            return depth
        if self.estimator.steps > 1:
            self.latents = found.latents[0].mean(dim=0, keepdim=True)
        if self.depth is not None and not self.estimator.coding.metric:
            depth = aligned(depth, self.depth)
        self.depth = depth
        return depth


def aligned(depth: Tensor, before: Tensor) -> Tensor:
    """Depth (H, W) scaled and shifted to that of the frame before; as it is, where they have too little in common.

    The scale is the geometric mean of two slopes: of the least-squares line to `before`, and of that from it, turned
    round. By the first alone, noise and motion would shrink the scale a little with every frame, until the depth of a
    long video is flat; this one neither shrinks nor grows.
    """
    x, y = depth.double().flatten(), before.double().flatten()
    (xx, xy), (_, yy) = torch.stack([x, y]).cov().tolist()
    if xy <= SAME_SCENE * (xx * yy) ** 0.5:
        return depth
    scale = (yy / xx) ** 0.5
    return ((depth.double() - x.mean()) * scale + y.mean()).to(depth.dtype)
