"""Ensembling against images, finite differences, SciPy on the published objective, and diffusers."""

from functools import partial

import numpy as np
import pytest
import scipy.optimize
import torch

from salticid.errors import ConfigError
from salticid.evaluate.alignment import thinned
from salticid.recipes.marigold import disagreement as module
from salticid.recipes.marigold.bfgs import minimise
from salticid.recipes.marigold.disagreement import Disagreement, Published
from salticid.recipes.marigold.ensemble import Ensemble
from salticid.recipes.marigold.selection import lower_median

SIZE = 48, 64


def scene(size=SIZE):
    """A map of [0, 1] with slopes and steps."""
    y, x = (torch.linspace(0, 1, n) for n in size)
    base = 0.3 + 0.5 * y[:, None] + 0.1 * torch.sin(7 * x)
    base[size[0] // 3 : size[0] // 2, size[1] // 4 : size[1] // 2] = 0.1
    base[size[0] // 2 :, size[1] * 3 // 4 :] = 0.25
    return (base - base.min()) / (base.max() - base.min())


def predictions(count, noise, seed=0, size=SIZE):
    """Members (E, H, W) in [0, 1]: the scene, distorted, with noise, each with a scale and a shift of its own."""
    g = torch.Generator().manual_seed(seed)
    smooth = torch.nn.functional.interpolate(torch.randn(count, 1, 4, 5, generator=g), size, mode="bicubic")[:, 0]
    maps = scene(size) + noise * (smooth + 0.3 * torch.randn(count, *size, generator=g))
    low, high = (f(maps.flatten(1), dim=1)[:, None, None] for f in (torch.amin, torch.amax))
    scale = 0.6 + 0.4 * torch.rand(count, 1, 1, generator=g)
    return (maps - low) / (high - low) * scale + (1 - scale) * torch.rand(count, 1, 1, generator=g)


def parts(point, maps, reduction="median"):
    """The sum of the pairwise RMSE, and the least and greatest reduced value, from the images."""
    count = len(maps)
    scale, shift = np.split(point, 2) if len(point) == 2 * count else (point, np.zeros(count))
    aligned = maps * torch.from_numpy(scale).to(maps)[:, None, None] + torch.from_numpy(shift).to(maps)[:, None, None]
    total = sum((aligned[i] - aligned[j]).square().mean().sqrt().item() for i in range(count) for j in range(i))
    m = aligned.median(dim=0).values if reduction == "median" else aligned.mean(dim=0)
    return total, m.min().item(), m.max().item()


def published(point, maps, reduction="median"):
    """The objective of the reference."""
    total, low, high = parts(point, maps, reduction)
    return total + 0.02 * (abs(low) + abs(1 - high))


def returned(point, maps, reduction="median"):
    """The same of the maps after the last step, which brings the reduced one to [0, 1] (to a maximum of 1)."""
    total, low, high = parts(point, maps, reduction)
    return total / (high - low) if len(point) > len(maps) else (total + 0.02 * abs(low)) / high


def start(maps, shift=True):
    low, high = (f(maps.flatten(1), dim=1).double().numpy() for f in (torch.amin, torch.amax))
    return np.concatenate((1 / (high - low), -low / (high - low))) if shift else 1 / high


def ours(maps, **settings):
    scale, shift = (v[0].numpy() for v in Ensemble(**settings).align(maps[None]))
    return np.concatenate((scale, shift)) if settings.get("shift_invariant", True) else scale


def moments(maps):
    flat = maps.double().flatten(1)
    return Disagreement(flat.mean(dim=1)[None], torch.cov(flat, correction=0)[None])


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 10, 17])
def test_the_median_is_that_of_torch(count):
    values = torch.randn(2, count, 60, 600, generator=torch.Generator().manual_seed(count))
    assert torch.equal(lower_median(values), values.median(dim=1).values)


def test_bfgs_finds_the_minima_of_many_problems_at_once():
    g = torch.Generator().manual_seed(0)
    roots = torch.randn(5, 4, 4, generator=g, dtype=torch.float64)
    hessian = roots @ roots.mT + 0.1 * torch.eye(4)
    centre = torch.randn(5, 4, generator=g, dtype=torch.float64)

    def bowl(x):
        by = (hessian @ (x - centre)[..., None])[..., 0]
        return ((x - centre) * by).sum(dim=1) / 2 + 1, by

    def rosenbrock(x):
        a, b = x.unbind(1)
        by = torch.stack((2 * (a - 1) - 400 * a * (b - a * a), 200 * (b - a * a)), dim=1)
        return (1 - a) ** 2 + 100 * (b - a * a) ** 2, by

    torch.testing.assert_close(minimise(bowl, torch.zeros_like(centre), 100, 0.0), centre, rtol=0, atol=1e-6)
    found = minimise(rosenbrock, torch.tensor([[-1.2, 1.0], [0.0, 0.0]]).double(), 200, 0.0)
    torch.testing.assert_close(found, torch.ones(2, 2).double(), rtol=0, atol=1e-6)
    assert torch.equal(minimise(bowl, centre, 100, 1e-9), centre)


@pytest.mark.parametrize("shift", [True, False])
def test_the_sum_of_pairwise_errors_is_that_of_the_images(shift):
    maps = predictions(5, 0.03).double()
    point = start(maps, shift) * (1 + 0.1 * np.random.default_rng(0).standard_normal(10 if shift else 5))
    total, _ = moments(maps)(torch.from_numpy(point)[None])
    assert total.item() == pytest.approx(parts(point, maps)[0], rel=1e-9)


@pytest.mark.parametrize("reduction", ["median", "mean"])
@pytest.mark.parametrize("shift", [True, False])
@pytest.mark.parametrize("which", ["sum", "by_spread", "published"])
def test_gradients_are_exact(which, shift, reduction):
    maps = predictions(4, 0.05).double()
    whole = maps.flatten(1)[None]
    reduced = Ensemble(reduction=reduction).reduced
    objective = {
        "sum": moments(maps),
        "by_spread": moments(maps).by_spread,
        "published": Published(moments(maps), whole, reduced, reduction == "median"),
    }[which]
    point = torch.from_numpy(start(maps, shift))[None]
    point = point * (1 + 0.1 * torch.randn(point.shape, generator=torch.Generator().manual_seed(5)))
    value, gradient = objective(point)
    if which == "published":
        assert value.item() == pytest.approx(returned(point[0].numpy(), maps, reduction), rel=1e-9)
    for i in range(point.shape[1]):
        step = torch.zeros_like(point)
        step[0, i] = 1e-6
        slope = (objective(point + step)[0] - objective(point - step)[0]) / 2e-6
        assert gradient[0, i].item() == pytest.approx(slope.item(), rel=1e-5, abs=1e-7)


CASES = [(10, 0.003), (10, 0.02), (5, 0.02), (4, 0.05)]


@pytest.mark.parametrize(
    ("count", "noise", "max_iter", "tol"),
    [(*case, 2, 1e-3) for case in CASES] + [(10, 0.02, 6, 1e-6), (4, 0.05, 50, 1e-6), (5, 0.02, 20, 1e-6)],
)
def test_the_objective_is_no_worse_than_what_scipy_reaches_on_the_published_one(count, noise, max_iter, tol):
    """SciPy has differences for gradients, as the reference has; in float32, as there, it stops early, in float64 it
    may be on its way to k = 0."""
    maps = predictions(count, noise)
    mine = returned(ours(maps), maps)
    for data in (maps, maps.double()):
        cost = partial(published, maps=data)
        found = scipy.optimize.minimize(cost, start(maps), method="BFGS", tol=tol, options={"maxiter": max_iter})
        assert mine <= returned(found.x, maps) * (1 + 1e-4)


def test_where_the_published_objective_has_a_minimum_it_is_found():
    maps = predictions(3, 0.001).double()
    cost = partial(published, maps=maps)
    found = scipy.optimize.minimize(cost, start(maps), method="BFGS", tol=1e-8, options={"maxiter": 300})
    _, low, high = parts(found.x, maps)
    assert (low, high) == pytest.approx((0, 1), abs=1e-3)
    point = ours(maps)
    _, low, high = parts(point, maps)
    scale, shift = np.split(point, 2)
    assert published(np.concatenate((scale, shift - low)) / np.r_[[high - low] * 6], maps) <= found.fun * (1 + 1e-4)


def test_elsewhere_the_published_objective_is_least_where_nothing_is_left():
    """Why it is not what is minimised here: shrunk a thousandfold, any alignment beats the solver's."""
    maps = predictions(10, 0.02).double()
    cost = partial(published, maps=maps)
    found = scipy.optimize.minimize(cost, start(maps), method="BFGS", tol=1e-3, options={"maxiter": 3})
    assert cost(ours(maps) / 1000) < 0.03 < cost(start(maps) / 1) / 10
    assert cost(ours(maps) / 1000) < found.fun


@pytest.mark.parametrize(("count", "noise"), CASES)
def test_the_maps_are_those_of_diffusers_within_the_noise(monkeypatch, count, noise):
    from diffusers.pipelines.marigold.pipeline_marigold_depth import MarigoldDepthPipeline

    maps, solved = predictions(count, noise), []
    solve = scipy.optimize.minimize
    monkeypatch.setattr(scipy.optimize, "minimize", lambda *a, **k: solved.append(solve(*a, **k)) or solved[-1])
    theirs, their_spread = MarigoldDepthPipeline.ensemble_depth(maps[:, None], output_uncertainty=True)
    mine, spread = Ensemble()(maps[None])
    assert mine.shape == spread.shape == theirs.shape == (1, 1, *SIZE)
    assert returned(ours(maps), maps) <= returned(solved[0].x, maps) * (1 + 1e-4)
    assert (mine - theirs).abs().mean() < 0.5 * noise
    assert (spread - their_spread).abs().mean() < 0.4 * noise
    assert spread.mean() < 1.02 * their_spread.mean()
    truth = scene()
    assert error_up_to_affine(mine[0, 0], truth) < 1.1 * error_up_to_affine(theirs[0, 0], truth)


def error_up_to_affine(map, truth):
    design = torch.stack((map.flatten(), torch.ones(map.numel())), dim=1).double()
    return (design @ torch.linalg.lstsq(design, truth.flatten().double()).solution - truth.flatten()).square().mean()


def test_without_alignment_needed_the_result_is_that_of_diffusers():
    """With no iteration both reduce the predictions that are brought to [0, 1] one by one."""
    from diffusers.pipelines.marigold.pipeline_marigold_depth import MarigoldDepthPipeline

    maps = predictions(6, 0.02)
    for reduction in ("median", "mean"):
        theirs = MarigoldDepthPipeline.ensemble_depth(maps[:, None], True, True, True, reduction, max_iter=0)
        mine = Ensemble(reduction=reduction, max_iter=0)(maps[None])
        for a, b in zip(mine, theirs, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=2e-6)


@pytest.mark.parametrize("reduction", ["median", "mean"])
@pytest.mark.parametrize("shift", [True, False])
def test_changed_copies_are_brought_together_exactly(shift, reduction):
    base = scene() * 0.9 + 0.1 * (not shift)
    scale = torch.tensor([0.3, 0.9, 0.55, 0.7])[:, None, None]
    copies = base * scale + (torch.tensor([0.5, 0.0, 0.2, 0.1])[:, None, None] if shift else 0)
    found, spread = Ensemble(reduction=reduction, shift_invariant=shift)(copies[None])
    expected = (base - base.min()) / (base.max() - base.min()) if shift else base / base.max()
    torch.testing.assert_close(found[0, 0], expected, rtol=0, atol=2e-6)
    assert spread.max() < 2e-6


def test_copies_with_spoilt_extremes_are_brought_together_all_the_same():
    """Where the start, which looks at the extremes, is far off."""
    copies = scene() * torch.tensor([0.3, 0.6, 0.45, 0.5, 0.4])[:, None, None] + 0.2
    copies[0, 3, 3], copies[1, 7, 8], copies[2, 9, 9] = 1.0, 0.0, 1.0
    found, spread = Ensemble()(copies[None])
    torch.testing.assert_close(found[0, 0], scene(), rtol=0, atol=0.02)
    assert spread.mean() < 0.01
    untouched, _ = Ensemble(max_iter=0)(copies[None])
    assert (found[0, 0] - scene()).abs().mean() < 0.1 * (untouched[0, 0] - scene()).abs().mean()


@pytest.mark.parametrize("noise", [0.01, 0.05])
def test_scales_alone(noise):
    maps = predictions(6, noise) + 0.05
    point = ours(maps, shift_invariant=False)
    cost = partial(published, maps=maps.double())
    for max_iter in (2, 10):
        found = scipy.optimize.minimize(cost, start(maps, False), method="BFGS", options={"maxiter": max_iter})
        assert returned(point, maps) <= returned(found.x, maps) * (1 + 1e-4)
    found, _ = Ensemble(shift_invariant=False)(maps[None])
    assert found.max() == 1
    assert found.min() > 0


def test_pictures_do_not_see_each_other():
    stack = torch.stack([predictions(4, noise, seed) for seed, noise in enumerate((0.01, 0.05, 0.002))])
    together = Ensemble()(stack)
    for i in range(3):
        for a, b in zip(together, Ensemble()(stack[i : i + 1]), strict=True):
            torch.testing.assert_close(a[i], b[0], rtol=0, atol=1e-5)
    assert together[0].amin(dim=(1, 2, 3)).tolist() == [0, 0, 0]
    assert together[0].amax(dim=(1, 2, 3)).tolist() == [1, 1, 1]


def test_large_maps_are_compared_thinned_out():
    maps = predictions(3, 0.02, size=(60, 90))
    small = thinned(maps[None], 45)[0]
    np.testing.assert_allclose(ours(maps, max_resolution=45), ours(small), rtol=1e-12)
    assert Ensemble(max_resolution=45)(maps[None])[0].shape == (1, 1, 60, 90)


def test_more_extremes_hardly_lower_the_objective(monkeypatch):
    """That the range is looked for among some pixels."""
    maps = predictions(10, 0.03, size=(96, 128))
    values = []
    for count in (200, 96 * 128):
        monkeypatch.setattr("salticid.recipes.marigold.ensemble.EXTREMES", count)
        values.append(returned(ours(maps), maps))
    assert values[0] <= values[1] * (1 + 1e-3)


def test_single_and_constant_predictions_are_no_trouble():
    maps = predictions(3, 0.02)
    found, spread = Ensemble()(maps[None, :1])
    torch.testing.assert_close(found[0], (maps[:1] - maps[0].min()) / (maps[0].max() - maps[0].min()))
    assert spread.max() == 0
    for settings in ({}, {"reduction": "mean"}, {"shift_invariant": False}):
        constant = torch.full((2, 3, 8, 9), 0.37)
        constant[1] = 0
        for values in Ensemble(**settings)(constant):
            assert values.isfinite().all()
    one_constant = maps.clone()
    one_constant[1] = 0.4
    found, _ = Ensemble()(one_constant[None])
    assert found.isfinite().all()


def test_absolute_predictions_are_only_reduced():
    maps = 5 * predictions(4, 0.02)
    found, spread = Ensemble(scale_invariant=False, shift_invariant=False)(maps[None])
    assert torch.equal(found[0, 0], maps.median(dim=0).values)
    assert torch.equal(spread[0, 0], (maps - found[0]).abs().median(dim=0).values)
    found, spread = Ensemble("mean", scale_invariant=False, shift_invariant=False)(maps[None])
    torch.testing.assert_close(spread[0, 0], maps.std(dim=0))


def test_settings_without_sense_are_refused():
    with pytest.raises(ConfigError, match="shift_invariant is true without scale_invariant"):
        Ensemble(scale_invariant=False)
    for name, value in (("max_resolution", 0), ("max_iter", -1), ("tol", -1.0)):
        with pytest.raises(ConfigError, match=rf"ensemble.{name} is {value}; expected"):
            Ensemble(**{name: value})


def test_the_constants_are_the_published_ones():
    assert module.REGULARISER == 0.02
    assert Ensemble().max_resolution == 1024
