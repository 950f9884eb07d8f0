"""The FVDs of videos from several views (SV4D, Xie et al. 2024): a grid of frames × views, read as videos."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

import torch
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Float, Shaped, UInt8

    from salticid.evaluate.fvd import VideoFeatures

Kind = Literal["FVD-F", "FVD-V", "FVD-Diag", "FV4D"]
KINDS: tuple[Kind, ...] = get_args(Kind)


def rows(grid: Shaped[Tensor, "c t v h w"], kind: Kind) -> Shaped[Tensor, "n c l h w"]:
    """The videos that a grid of T frames × V views holds. All videos of all grids make up one set.

    - `FVD-F`: the frames of each view; V videos of T frames. Motion.
    - `FVD-V`: the views of each frame; T videos of V frames. Shape.
    - `FVD-Diag`: the diagonals, along which time and view go on together; from each view v the pictures
      (t, (v + t) mod V), V videos of T frames. Views are those of an orbit: the first follows on the last.
    - `FV4D`: the whole grid in a bidirectional raster scan, frame by frame, its views from first to last in frames 0,
      2, 4, … and from last to first in the others; one video of T·V frames, whose neighbours are always neighbours in
      time or in view.

    The paper tells the last two in words only (section 4.2); which diagonals and which turn is our reading.
    """
    _, frames, views = grid.shape[:3]
    if kind == "FVD-F":
        return grid.permute(2, 0, 1, 3, 4)
    if kind == "FVD-V":
        return grid.permute(1, 0, 2, 3, 4)
    time, view = torch.arange(frames), torch.arange(views)
    if kind == "FVD-Diag":
        return grid[:, time, (view[:, None] + time) % views].movedim(1, 0)
    there_and_back = torch.where(time[:, None] % 2 == 0, view, views - 1 - view)
    return grid[:, time[:, None], there_and_back].flatten(1, 2)[None]


def length(kind: Kind, frames: int, views: int) -> int:
    """How many frames each of the videos has, for `fvd_remark`."""
    return {"FVD-F": frames, "FVD-V": views, "FVD-Diag": frames, "FV4D": frames * views}[kind]


def grid_features(network: VideoFeatures, grids: UInt8[Tensor, "b 3 t v h w"], kind: Kind) -> Float[Tensor, "b n*400"]:
    """Features of all n videos of each grid, side by side: one record a sample, as evaluation wants it and `fvd` takes
    it."""
    return torch.stack([network(rows(grid, kind)).flatten() for grid in grids])
