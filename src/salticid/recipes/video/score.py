"""How good sampled clips are, beside what can be had without a model."""

import logging
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from salticid.data.source import Batch
from salticid.evaluate.fvd import FEATURES, VideoFeatures, fvd, fvd_remark
from salticid.evaluate.grids import KINDS, grid_features, length
from salticid.evaluate.image import eight_bit
from salticid.evaluate.pictures import to_bytes
from salticid.evaluate.video import clip_metrics, flicker, second_difference, view_consistency
from salticid.losses.lpips import Lpips
from salticid.recipes.video.settings import Scoring

log = logging.getLogger(__name__)

MADE, TRUTH = "made", "truth"


class Score(nn.Module):
    """Metrics of sampled clips (B, places, 3, H, W) in [−1, 1] on a grid (T,) or (T, V)."""

    def __init__(self, settings: Scoring, given: int):
        """`given`: first frames that the model did not have to make."""
        super().__init__()
        self.settings, self.given = settings, given
        self.lpips: Lpips | None = None
        self.features: VideoFeatures | None = None
        self.shape: tuple[int, ...] = ()
        """Of the grids that were last scored, for remarks."""

    def start(self) -> None:
        """Load what is asked for and not loaded yet.

        Raises:
            ConfigError: it cannot be loaded.
        """
        if self.settings.lpips and self.lpips is None:
            self.lpips = Lpips(self.settings.lpips, net="alex", key="recipe.scoring.lpips")
        if self.settings.fvd and self.features is None:
            self.features = VideoFeatures(self.settings.fvd, key="recipe.scoring.fvd")

    def forward(self, made: dict[str, Tensor], truth: Tensor, grid: tuple[int, ...], batch: Batch) -> dict[str, Tensor]:
        """Records `metric/name` of each of `made`, the first of which is the model's: the others are baselines, which
        are compared with the truth alone."""
        self.start()
        self.to(truth.device)
        clips = {name: eight_bit(clip).transpose(1, 2) for name, clip in made.items()}
        true = eight_bit(truth).transpose(1, 2)
        records: dict[str, Tensor] = {}
        for name, clip in clips.items():
            metrics = clip_metrics(clip, true, given=self.given, lpips=self.lpips)
            records |= {f"{metric}/{name}": value for metric, value in metrics.items()}
        model = next(iter(clips))
        if len(grid) == 1 and grid[0] > 2:
            records |= second_difference(clips[model], true)
        return records | self._geometry(clips[model], true, grid, batch) | self._features(made[model], truth, grid)

    def _geometry(self, made: Tensor, truth: Tensor, grid: tuple[int, ...], batch: Batch) -> dict[str, Tensor]:
        """Where the world's exact geometry is known."""
        if len(grid) == 1 and "flow" in batch:
            return flicker(made, truth, batch["flow"], batch["flow_valid"])
        if len(grid) == 2 and "depth" in batch:
            truths = batch["depth"], batch["intrinsics"], batch["poses"]
            return view_consistency(made.unflatten(2, grid), truth.unflatten(2, grid), *truths)
        return {}

    def _features(self, made: Tensor, truth: Tensor, grid: tuple[int, ...]) -> dict[str, Tensor]:
        """What FVDs are computed from: `fvd kind/made` and `…/truth`, (B, n · 400)."""
        if self.features is None:
            return {}
        self.shape = grid
        found = {}
        for name, clip in ((MADE, made), (TRUTH, truth)):
            pixels = to_bytes(clip).transpose(1, 2)
            if len(grid) == 1:
                found[f"FVD/{name}"] = self.features(pixels)
            else:
                grids = pixels.unflatten(2, grid)
                found |= {f"{kind}/{name}": grid_features(self.features, grids, kind) for kind in KINDS}
        return found

    def distances(self, features: dict[str, Tensor]) -> dict[str, float]:
        """FVD, or those of 4D, from the features of all samples."""
        kinds = [name.removesuffix(f"/{MADE}") for name in features if name.endswith(f"/{MADE}")]
        for kind in kinds:
            made = features[f"{kind}/{MADE}"]
            frames = self.shape[0] if kind == "FVD" else length(kind, *self.shape)  # type: ignore[arg-type]
            if remark := fvd_remark(made.numel() // FEATURES, frames):
                log.warning("%s %s", kind, remark)
        return {kind: fvd(features[f"{kind}/{MADE}"], features[f"{kind}/{TRUTH}"]) for kind in kinds}


def sheet(clips: Sequence[Tensor], grid: tuple[int, ...]) -> Tensor:
    """Clips (B, places, 3, H, W) as rows of a sheet: uint8 (samples · clips · frames, places of a row, 3, H, W) for
    `tile`. A film is one row, a grid one row a frame."""
    columns = grid[-1]
    together = torch.stack([to_bytes(clip).cpu() for clip in clips], dim=1)
    return together.flatten(0, 2).unflatten(0, (-1, columns))
