"""The depth of one picture after the other, and of the frames of a video so that it does not flicker."""

from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from salticid.diffusion.noise import stable_key
from salticid.errors import UserError
from salticid.recipes.marigold.infer import Estimate, estimate

if TYPE_CHECKING:
    from salticid.recipes.marigold.recipe import MarigoldRecipe

Temporal = Literal["none", "shared", "sequential"]
SAME_SCENE = 0.5
"""Correlation of two frames' depth below which there is taken to be a cut between them."""


class Estimator:
    """Makes depth of pictures, with as many predictions at a time as fit into memory.

    Args:
        batch: predictions of a picture that go through the networks at a time; 0: the whole ensemble, and half as
            many after each time that a GPU has run out of memory. What is found holds for later pictures.
    """

    def __init__(
        self, recipe: "MarigoldRecipe", *, steps: int, ensemble: int, processing: int, batch: int, seed: int
    ) -> None:
        self.model, self.coding = recipe.model, recipe.coding
        self.steps, self.ensemble, self.processing, self.seed = steps, ensemble, processing, seed
        self.trial, self.batch = not batch, batch or ensemble
        self.device = next(recipe.model.parameters()).device

    def __call__(self, picture: Tensor, name: str, start: Tensor | None = None) -> Estimate:
        """The depth of a uint8 picture (3, H, W); its noise is a function of (seed, name).

        Args:
            start: depth latents (1, C, h, w) to start from in place of noise alone, see `MarigoldModel.sample`.

        Raises:
            UserError: it does not fit into the GPU's memory.
        """
        pictures = picture[None].to(self.device).float() / 127.5 - 1
        keys = torch.tensor([stable_key(name)])
        options = {"steps": self.steps, "ensemble": self.ensemble, "processing": self.processing, "seed": self.seed}
        while True:
            try:
                return estimate(self.model, self.coding, pictures, keys, start=start, batch=self.batch, **options)
            except torch.OutOfMemoryError:
                if not self.trial or self.batch == 1:
                    raise self._too_large(name, picture) from None
            # Outside the handler, whose traceback holds on to what did not fit.
            self.batch = (self.batch + 1) // 2
            torch.cuda.empty_cache()

    def _too_large(self, name: str, picture: Tensor) -> UserError:
        size = f"{picture.shape[1]}×{picture.shape[2]}, {self.batch} predictions at a time"
        return UserError(f"{name}: does not fit into the GPU's memory ({size}); expected a smaller processing or batch")


class Frames:
    """Makes depth of the frames of one video, in their order.

    `none`: every frame has noise of its own. `shared`: all have the same. `sequential`: all have the same, a frame
    starts from the depth latents (their mean over the ensemble) of the one before, as `MarigoldModel.sample` does,
    and depth that is known up to scale and shift alone is aligned to that of the frame before. With one step there is no time
    between noise and depth to start at, and only the noise and the alignment are left.
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
