import copy
import math
from typing import NamedTuple

import pytest
import torch
from torch import nn
from toys import Denoiser, Duel, Vectors, settings

from salticid.data.loader import train_batches
from salticid.data.order import Order
from salticid.engine.build import build
from salticid.engine.parallel import Ranks
from salticid.engine.recipe import Clock, Loss
from salticid.engine.step import LossScale, MicroBatch
from salticid.errors import ConfigError

CPU = Ranks(torch.device("cpu"))
CLOCK = Clock(0, 20, 0)


def micro_batches(size, step=0, batch=8):
    loaded = list(train_batches(Vectors(), Order(22, batch, 0), range(step, step + 1), micro_batch=size, seed=0))
    return [MicroBatch(b, int(b["key"][0]), i == len(loaded) - 1) for i, b in enumerate(loaded)]


class Taken(NamedTuple):
    report: object
    grads: dict
    state: object


def take(recipe, size=8, step=0, lr=0.0, **overrides):
    """One step of the first phase; the gradients that its optimiser saw."""
    state = build(recipe, settings(**({"clip": None} | overrides)), CPU, size)
    runner = state.runners[0]
    grads: dict = {}
    inner = runner.optimizer.step

    def record():
        grads.update({name: p.grad.clone() for name, p in runner.parameters.items() if p.grad is not None})
        return inner()

    runner.optimizer.step = record
    report = runner.run(micro_batches(size, step), Clock(step, 20, 0), lr)
    return Taken(report, grads, state)


def assert_same_grads(a, b, **tolerance):
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], **({"rtol": 1e-5, "atol": 1e-7} | tolerance), msg=name)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("size", [1, 3, 4, 8])
def test_accumulation_gives_the_gradient_of_the_whole_batch(weighted, size):
    """The oracle: plain autograd on the loss over the whole batch (or over its valid samples)."""
    recipe = Denoiser(dropout=0.0, weighted=weighted)
    taken = take(copy.deepcopy(recipe), size)
    x = micro_batches(8)[0].batch["x"]
    error = (recipe.up(recipe.down(x)) - recipe.frozen(x)).square().mean(1)
    loss = error[x[:, 0] > 0].mean() if weighted else error.mean()
    loss.backward()
    assert taken.report.loss == pytest.approx(loss.item(), rel=1e-6)
    assert_same_grads(taken.grads, {n: p.grad for n, p in recipe.named_parameters() if p.grad is not None})


def test_clipping_is_that_of_torch():
    whole = take(Denoiser(dropout=0.0), clip=None)
    clipped = take(Denoiser(dropout=0.0), clip=0.01)
    parameters = [nn.Parameter(torch.zeros_like(g)) for g in whole.grads.values()]
    for p, g in zip(parameters, whole.grads.values(), strict=True):
        p.grad = g.clone()
    norm = nn.utils.clip_grad_norm_(parameters, 0.01)
    assert clipped.report.grad_norm == pytest.approx(float(norm), rel=1e-6) == whole.report.grad_norm
    assert_same_grads(clipped.grads, dict(zip(whole.grads, (p.grad for p in parameters), strict=True)))


class NothingValid(Denoiser):
    """A loss over nothing: not a number, with weight zero, where the first number of the first sample says so."""

    def loss(self, phase, batch, clock):
        valid = (batch["x"][:, :1] > self.threshold).float()
        total = (self.up(self.down(batch["x"])).square() * valid).sum() / valid.sum().clamp_min(1)
        return Loss(torch.where(valid.sum() > 0, total, math.nan), {"t": total.detach()}, valid.sum())


def test_a_micro_batch_of_weight_zero_adds_nothing():
    recipe = NothingValid(dropout=0.0)
    x = micro_batches(8)[0].batch["x"][:, 0]
    recipe.threshold = float(x[:4].max())  # nothing valid in the first of two micro-batches
    assert (x[4:] > recipe.threshold).any()
    halves, whole = take(copy.deepcopy(recipe), 4), take(copy.deepcopy(recipe), 8)
    assert halves.report.outcome == "updated"
    assert halves.report.loss == pytest.approx(whole.report.loss, rel=1e-6)
    assert_same_grads(halves.grads, whole.grads)


def test_a_step_of_weight_zero_updates_nothing():
    recipe = NothingValid(dropout=0.0)
    recipe.threshold = 100.0
    before = copy.deepcopy(recipe.state_dict())
    taken = take(recipe, 4, lr=0.1)
    assert taken.report.outcome == "empty"
    assert not taken.grads
    assert all(torch.equal(value, before[name]) for name, value in recipe.state_dict().items())


def test_non_finite_losses_name_their_micro_batch():
    taken = take(Denoiser(trouble={0: "nan"}), 2, lr=0.1)
    assert taken.report.outcome == "nonfinite"
    assert taken.report.suspects == micro_batches(2)[0].batch["id"]
    assert not taken.grads


class Infinite(Denoiser):
    def loss(self, phase, batch, clock):
        wide = self.down(batch["x"]).square().sum()
        return Loss((wide - wide.detach()).sqrt() + 1.0)  # 1, with the gradient of a root at 0


def test_non_finite_gradients_name_the_whole_step():
    taken = take(Infinite(dropout=0.0), 4)
    assert taken.report.outcome == "nonfinite"
    assert taken.report.loss == 1.0
    assert len(taken.report.suspects) == 8


class Detached(Denoiser):
    def loss(self, phase, batch, clock):
        return Loss(super().loss(phase, batch, clock).total.detach())


def test_a_loss_without_gradient_is_refused():
    with pytest.raises(ConfigError, match="phase model depends on none"):
        take(Detached())


def test_dropout_depends_on_the_position_alone():
    first = take(Denoiser(0.5), 2)
    torch.manual_seed(99)
    again = take(Denoiser(0.5), 2)
    assert_same_grads(first.grads, again.grads, rtol=0, atol=0)
    assert take(Denoiser(0.5), 2, step=1).report.loss != first.report.loss


def test_phases_keep_to_their_own_parameters():
    recipe = Duel()
    state = build(recipe, settings(), CPU, 8)
    generator, critic = state.runners
    start = copy.deepcopy(recipe.state_dict())
    generator.run(micro_batches(8), CLOCK, 0.1)
    changed = {name for name, value in recipe.state_dict().items() if not torch.equal(value, start[name])}
    assert changed == set(generator.parameters)
    assert all(p.grad is None and p.requires_grad for p in recipe.parameters())
    middle = copy.deepcopy(recipe.state_dict())
    critic.run(micro_batches(8), CLOCK, 0.1)
    changed = {name for name, value in recipe.state_dict().items() if not torch.equal(value, middle[name])}
    assert changed == set(critic.parameters)
    assert [r.optimizer.param_groups[0]["lr"] for r in state.runners] == [0.1, 0.05]


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_trains_in_float32(precision, monkeypatch):
    monkeypatch.setattr(LossScale, "__init__", lambda self: self.__dict__.update(value=1024.0, clean=0))
    exact, half = take(Denoiser(0.0)), take(Denoiser(0.0), precision=precision)
    assert {g.dtype for g in half.grads.values()} == {torch.float32}
    assert half.report.loss == pytest.approx(exact.report.loss, rel=0.02)
    assert half.report.loss != exact.report.loss
    for name, grad in half.grads.items():
        torch.testing.assert_close(grad, exact.grads[name], rtol=0.1, atol=0.02 * exact.report.grad_norm)


class Steep(Denoiser):
    """A bias gradient of 1.5, which fp16 (up to 65504) can hold at a loss scale of 2¹⁵, but not at 2¹⁶."""

    def loss(self, phase, batch, clock):
        y = self.up(self.down(batch["x"]))
        return Loss(y.half().sum().float() * 1.5 / 8)


def test_the_loss_scale_halves_until_gradients_fit():
    state = build(Steep(0.0), settings(precision="fp16", clip=None), CPU, 8)
    runner = state.runners[0]
    outcomes = []
    for step in range(3):
        report = runner.run(micro_batches(8, step), Clock(step, 20, 0), 0.0)
        runner.settle(report)
        outcomes.append((report.outcome, runner.scale.value))
    assert outcomes == [("overflow", 32768.0), ("updated", 32768.0), ("updated", 32768.0)]
    assert runner.progress()["scale"] == [32768.0, 2]


def test_the_loss_scale_doubles_after_many_updates():
    scale = LossScale()
    for _ in range(2000):
        scale.passed()
    assert (scale.value, scale.clean) == (131072.0, 0)
    scale.passed()
    scale.overflowed()
    assert (scale.value, scale.clean) == (65536.0, 0)
