"""What the depth stage compares: candidates of a pixel, fisheyes, velocity, consistency of depths."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tests.recipes.films import CLOCK, OFFSETS, SIZE, batch_of, films
from tests.recipes.test_sfm import plain_photometric
from torch import Tensor

from salticid.data.source import collate
from salticid.geometry import se3
from salticid.recipes.sfm.frames import Frames
from salticid.recipes.sfm.model import Motions
from salticid.recipes.sfm.objective import DepthObjective
from salticid.recipes.sfm.settings import Photometric, Weights
from salticid.recipes.sfm.supervision import travel_error
from salticid.recipes.sfm.synthesis import Synthesis, synthesise


@pytest.fixture(scope="module")
def batch() -> dict:
    return batch_of(films())


# ---- velocity and consistency


def test_velocity_makes_the_translation_as_long_as_the_way():
    """Mean |‖t‖ − way|, and its derivative: ± t/‖t‖ over the number of motions."""
    moves = torch.eye(4).repeat(1, 2, 1, 1)
    moves[0, :, :3, 3] = torch.tensor([[0.3, 0.0, 0.4], [0.0, 0.6, 0.8]])
    moves.requires_grad_()
    loss = travel_error(moves, torch.tensor([[0.2, 1.5]]))
    assert loss.item() == pytest.approx((0.3 + 0.5) / 2)
    loss.backward()
    expected = torch.tensor([[0.6, 0.0, 0.8], [0.0, -0.6, -0.8]]) / 2
    torch.testing.assert_close(moves.grad[0, :, :3, 3], expected)
    assert moves.grad[0, :, :3, :3].abs().max() == 0
    # A partner, which comes last, has no way.
    more = torch.cat([moves.detach(), 9 * torch.eye(4).expand(1, 1, 4, 4)], dim=1)
    assert travel_error(more, torch.tensor([[0.2, 1.5]])).item() == pytest.approx(0.4)


def consistency(far: Tensor, frames: Frames, own: Tensor, motions: Motions) -> float:
    """Of depths (B, 1, H, W) of the target and (B·K, 1, H, W) of its sources."""
    model = SimpleNamespace(disparities=lambda images: [own], to_depth=lambda disparity: disparity)
    made_ = synthesise(frames.sources, far, motions, "depth")
    objective = DepthObjective(Weights(), Photometric())
    return objective.consistency(model, frames, made_).item()  # type: ignore[arg-type]


def test_true_depths_of_neighbours_agree():
    """Three frames of a film, each with its true depth: they agree but where one hides something."""
    source = films(sequence=5, flow="always").val()
    before, middle, after = (source.sample(i, None) for i in range(3))
    batch = collate([middle])
    frames = Frames.of(batch, OFFSETS)
    own = torch.stack([before["depth"], after["depth"]])
    motions = Motions(se3.inverse(batch["poses"][:, 1:]), batch["intrinsics"])
    true = consistency(batch["depth"], frames, own, motions)
    assert 0 < true < 0.02
    turned = Motions(batch["poses"][:, 1:], batch["intrinsics"])
    assert consistency(batch["depth"], frames, own, turned) > 1.5 * true
    assert consistency(batch["depth"], frames, 1.5 * own, motions) == pytest.approx(0.2, abs=0.02)  # 0.5/2.5


def test_consistency_is_a_mean_over_samples_of_what_is_seen(batch):
    """Standing still before walls at 2 m, of which sources think that they are at 6 m and at 2 m."""
    frames = Frames.of(batch, OFFSETS)
    still = Motions(torch.eye(4).expand(2, 2, 4, 4), batch["intrinsics"])
    far, own = torch.full((2, 1, *SIZE), 2.0), torch.full((4, 1, *SIZE), 2.0)
    own[0] = 6.0
    assert consistency(far, frames, own, still) == pytest.approx((4 / 8 / 2 + 0) / 2, rel=1e-5)
    away = torch.eye(4).repeat(2, 2, 1, 1)
    away[0, 1, 2, 3] = -9.0  # behind the camera of this source, which therefore does not count
    assert consistency(far, frames, own, Motions(away, batch["intrinsics"])) == pytest.approx(4 / 8 / 2, rel=1e-5)


# ---- what is compared


def loss_and_synthesis(batch, measure: str, options: Photometric) -> tuple[float, Synthesis, Frames]:
    """The photometric loss of true depth, at one scale, with true motion."""
    frames = Frames.of(batch, OFFSETS)
    motions = Motions(se3.inverse(batch["poses"][:, 1:]), batch["intrinsics"])
    far = batch["depth"].where(batch["valid"], 1.0)
    made_ = synthesise(frames.sources, far, motions, measure)  # type: ignore[arg-type]
    loss, _ = DepthObjective(Weights(), options).match(frames, made_, batch["key"], CLOCK)
    return loss.item(), made_, frames


@pytest.mark.parametrize("valid_only", [False, True])
@pytest.mark.parametrize("minimum", [False, True])
def test_candidates_of_a_pixel_are_joined_as_told(minimum, valid_only):
    """Minimum or mean over sources; with `valid_only` of those that show it, over the pixels that any shows. A fisheye
    of 165° whose points are found by the UCM's own formula."""
    batch = batch_of(films(camera="ucm", measure="distance", view=(160.0, 165.0), step=(0.2, 0.3)))
    options = Photometric(minimum=minimum, valid_only=valid_only, automask=False)
    loss, made_, frames = loss_and_synthesis(batch, "distance", options)
    samples = []
    for b in range(2):
        errors, seen = [], []
        for k in range(2):
            x, y = in_the_source(batch, b, k)
            seen.append((x >= -0.5) & (x <= SIZE[1] - 0.5) & (y >= -0.5) & (y <= SIZE[0] - 0.5))
            np.testing.assert_allclose(made_.pixels[b, 0, k][seen[-1]], np.stack([x, y], -1)[seen[-1]], atol=2e-3)
            errors.append(plain_photometric(made_.images[b, :, k], frames.target[b : b + 1])[0, 0].numpy())
        samples.append((np.stack(errors), np.stack(seen)))
    expected = []
    for errors, seen in samples:
        counted = seen if valid_only else np.ones_like(seen)
        any_, best = counted.any(axis=0), np.where(counted, errors, np.inf).min(axis=0)
        mean = np.where(counted, errors, 0).sum(axis=0) / np.maximum(counted.sum(axis=0), 1)
        expected.append((best if minimum else mean)[any_].mean())
    assert 0.5 < np.mean([seen for _, seen in samples]) < 0.999
    assert loss == pytest.approx(np.mean(expected), abs=1e-5)


def in_the_source(batch, b: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Where source k shows the points of target b: the UCM (Mei & Rives 2007), forth and back."""
    fx, fy, cx, cy, xi = batch["intrinsics"][b].double().tolist()
    v, u = np.meshgrid(np.arange(SIZE[0]), np.arange(SIZE[1]), indexing="ij")
    mx, my = (u - cx) / fx, (v - cy) / fy
    square = mx**2 + my**2
    eta = (xi + np.sqrt(1 + (1 - xi**2) * square)) / (1 + square)
    rays = np.stack([eta * mx, eta * my, eta - xi], axis=-1)
    points = rays * batch["depth"][b, 0].where(batch["valid"][b, 0], 1.0).double().numpy()[..., None]
    pose = np.linalg.inv(batch["poses"][b, 1 + k].double().numpy())
    x, y, z = np.moveaxis(points @ pose[:3, :3].T + pose[:3, 3], -1, 0)
    down = z + xi * np.sqrt(x**2 + y**2 + z**2)
    return fx * x / down + cx, fy * y / down + cy


def test_pixels_that_no_source_shows_do_not_teach():
    """The camera goes back far: the border of the target is beyond that of the sources."""
    batch = batch_of(films())
    frames = Frames.of(batch, OFFSETS)
    moves = torch.eye(4).repeat(2, 2, 1, 1)
    moves[:, :, 2, 3] = -0.5  # towards the points: they move outwards
    depth = torch.full((2, 1, *SIZE), 2.0, requires_grad=True)
    made_ = synthesise(frames.sources, depth, Motions(moves, batch["intrinsics"]), "depth")
    DepthObjective(Weights(), Photometric(valid_only=True, automask=False)).match(frames, made_, batch["key"], CLOCK)[
        0
    ].backward()
    shown = made_.valid[:, 0].any(dim=1)
    assert 0.4 < shown.float().mean() < 0.7
    # An SSIM window reaches one pixel beyond what is shown.
    near = F.max_pool2d(shown[:, None].float(), 3, stride=1, padding=1)[:, 0] > 0
    assert depth.grad[:, 0][~near].abs().max() == 0
    assert (depth.grad[:, 0][shown] != 0).float().mean() > 0.9
