import math

import pytest
import torch
from toys import Denoiser, Vectors

from salticid.engine.checkpoint import CheckpointConfig
from salticid.engine.evaluation import Evaluation
from salticid.engine.extremes import GAP, Extremes, extremes_picture, find_extremes


def found(*values, name="psnr"):
    return Evaluation({}, {name: torch.tensor(values, dtype=torch.float64)}, [f"s{i}" for i in range(len(values))])


@pytest.mark.parametrize("metric", ["psnr", "raw/psnr", "ema/psnr"])
def test_the_metric_of_the_best_checkpoint_picks_them_whatever_the_weights(metric):
    extremes = find_extremes(found(3, 1, 4, 1.5, 9, math.inf), CheckpointConfig(best_metric=metric), 2)
    assert extremes == Extremes("psnr", ["s5", "s4"], ["s1", "s3"])
    extremes = find_extremes(found(3, 1, 4, 1.5, 9), CheckpointConfig(best_metric=metric, best_mode="min"), 2)
    assert extremes == Extremes("psnr", ["s1", "s3"], ["s4", "s2"])


def test_names_of_metrics_may_have_variants():
    config = CheckpointConfig(best_metric="ema/psnr/1-step")
    assert find_extremes(found(1, 2, name="psnr/1-step"), config, 4) == Extremes("psnr/1-step", ["s1"], ["s0"])


@pytest.mark.parametrize("metric", [None, "fid", "ema/fid"])
def test_a_metric_that_single_samples_do_not_have_picks_none(metric):
    assert find_extremes(found(1, 2), CheckpointConfig(best_metric=metric), 2) is None


def test_what_is_not_a_number_is_neither():
    config = CheckpointConfig(best_metric="psnr")
    assert find_extremes(found(math.nan, math.nan), config, 2) is None
    assert find_extremes(found(math.nan, 2, math.nan, 1), config, 4) == Extremes("psnr", ["s1"], ["s3"])


class Wide(Denoiser):
    """A picture as wide as the batch is long, with the last digit of each id."""

    def preview(self, batch, *, seed):
        assert not self.training
        self.x = batch["x"]
        row = torch.tensor([int(name[-1]) for name in batch["id"]], dtype=torch.uint8)
        return row.repeat(3, 2, 1)


def test_the_picture_is_of_these_samples_the_best_on_top():
    recipe = Wide()
    extremes = Extremes("error", ["vector-008", "vector-003", "vector-005"], ["vector-002", "vector-001"])
    picture = extremes_picture(recipe, Vectors(), extremes, seed=1)
    assert picture.shape == (3, 2 + GAP + 2, 3)
    assert picture[0, 1].tolist() == [8, 3, 5]
    assert picture[0, -1].tolist() == [2, 1, 255]
    assert (picture[:, 2 : 2 + GAP] == 255).all()
    expected = torch.stack([Vectors().sample(i, None)["x"] for i in (2, 1)])
    assert torch.equal(recipe.x, expected)
    assert extremes_picture(recipe, Vectors(), Extremes("error", ["vector-004"], [])).shape == (3, 2, 1)
