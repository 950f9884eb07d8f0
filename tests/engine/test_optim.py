import math
import sys

import pytest
import torch
from torch import nn

from salticid.engine.optim import OptimizerConfig, ScheduleConfig, evaluation_weights
from salticid.engine.recipe import Phase
from salticid.errors import ConfigError, UserError


def factors(steps, **schedule):
    config = ScheduleConfig(**schedule)
    return [config.factor(step, steps) for step in range(steps + 1)]


def test_schedules_are_those_of_torch():
    """Against torch's schedulers, which carry state; ours are functions of the step."""
    schedulers = {
        "linear": lambda o: torch.optim.lr_scheduler.LinearLR(o, 1.0, 0.1, 50),
        "cosine": lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 50, eta_min=0.1),
        "exponential": lambda o: torch.optim.lr_scheduler.ExponentialLR(o, 0.1 ** (1 / 50)),
        "step": lambda o: torch.optim.lr_scheduler.StepLR(o, 15, 0.1),
    }
    for kind, make in schedulers.items():
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
        scheduler = make(optimizer)
        expected = []
        for _ in range(51):
            expected.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
        drops = {"drop_every": 15} if kind == "step" else {}
        assert factors(50, kind=kind, final_ratio=0.1, **drops) == pytest.approx(expected, rel=1e-9), kind


def test_warmup_rises_to_one_and_the_schedule_follows():
    rates = factors(20, kind="cosine", warmup=4)
    assert rates[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert rates[12] == pytest.approx(0.5)
    assert rates[20] == pytest.approx(0, abs=1e-15)
    assert factors(3, warmup=2) == [0.5, 1, 1, 1]


def test_a_part_of_a_longer_plan():
    assert factors(10, kind="linear", total=20)[10] == 0.5


def test_the_iteration_exponential_schedule_of_marigold():
    """Down by a factor of 100 from step 100 to step 25 000, and level from there to step 30 000."""
    settings = ScheduleConfig(kind="exponential", warmup=100, final_ratio=0.01, total=25_000)
    settings.check(30_000, OptimizerConfig())
    for step in (100, 101, 5_000, 24_999, 25_000, 29_999):
        expected = math.exp(min(1.0, (step - 100) / 24_900) * math.log(0.01))
        assert settings.factor(step, 30_000) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("schedule", "optimizer", "key"),
    [
        ({"warmup": 11}, {}, "schedule.warmup"),
        ({"warmup": -1}, {}, "schedule.warmup"),
        ({"final_ratio": 2}, {}, "schedule.final_ratio"),
        ({"kind": "exponential"}, {}, "schedule.final_ratio"),
        ({"total": 5}, {}, "schedule.total"),
        ({"kind": "cosine"}, {"name": "radam_schedulefree"}, "schedule.kind"),
    ],
)
def test_wrong_schedules_are_named(schedule, optimizer, key):
    with pytest.raises(ConfigError, match=key):
        ScheduleConfig(**schedule).check(10, OptimizerConfig(**optimizer))


@pytest.mark.parametrize(
    ("values", "key"),
    [({"lr": 0}, "lr"), ({"lr": math.nan}, "lr"), ({"betas": (0.9, 1.0)}, "betas")],
)
def test_wrong_optimizers_are_named(values, key):
    with pytest.raises(ConfigError, match=f"optimizer.{key}"):
        OptimizerConfig(**values).check()


def train(optimizer, parameters, steps):
    for step in range(steps):
        for p in parameters.values():
            p.grad = torch.randn(p.shape, generator=torch.Generator().manual_seed(step))
        optimizer.step()


@pytest.mark.parametrize("name", ["adamw", "adam"])
def test_plain_optimizers_are_evaluated_as_they_are(name):
    parameters = {"w": nn.Parameter(torch.randn(5))}
    optimizer = OptimizerConfig(name, lr=0.1, weight_decay=0.1).build(dict.fromkeys(parameters.values(), 1.0))
    reference = {"w": nn.Parameter(parameters["w"].detach().clone())}
    kind = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[name]
    train(optimizer, parameters, 5)
    train(kind(reference.values(), lr=0.1, weight_decay=0.1), reference, 5)
    assert evaluation_weights(optimizer, parameters)["w"] is parameters["w"]
    torch.testing.assert_close(parameters["w"], reference["w"], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", ["adamw_schedulefree", "radam_schedulefree"])
def test_schedule_free_weights_are_those_of_the_package(name):
    parameters = {"w": nn.Parameter(torch.randn(5)), "b": nn.Parameter(torch.randn(3))}
    optimizer = OptimizerConfig(name, lr=0.1).build(dict.fromkeys(parameters.values(), 1.0))
    assert all(torch.equal(value, parameters[k]) for k, value in evaluation_weights(optimizer, parameters).items())
    train(optimizer, parameters, 12)
    before = {k: p.detach().clone() for k, p in parameters.items()}
    ours = evaluation_weights(optimizer, parameters)
    assert all(torch.equal(parameters[k], before[k]) for k in before), "the weights in training are untouched"
    optimizer.eval()
    for k, p in parameters.items():
        torch.testing.assert_close(ours[k], p.detach(), rtol=0, atol=0)
        assert not torch.equal(p, before[k])


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "schedulefree", None)
    with pytest.raises(UserError, match=r"pip install 'salticid\[optim\]'"):
        OptimizerConfig("adamw_schedulefree").build({nn.Parameter(torch.zeros(1)): 1.0})


@pytest.mark.parametrize("values", [{"kind": "step"}, {"drop_every": 5}, {"kind": "step", "drop_every": 0}])
def test_drops_belong_to_the_step_schedule(values):
    with pytest.raises(ConfigError, match=r"schedule\.drop_every"):
        ScheduleConfig(**values).check(10, OptimizerConfig())


def test_parameters_with_the_same_rate_are_a_group():
    a, b, c = (nn.Parameter(torch.zeros(1)) for _ in range(3))
    groups = OptimizerConfig().build({a: 1.0, b: 0.5, c: 1.0}).param_groups
    assert [(group["rate"], len(group["params"])) for group in groups] == [(1.0, 2), (0.5, 1)]


def test_a_phase_gives_rates_to_its_modules():
    phase = Phase("p", ("net",), lr_scale=2.0, lr_scales={"net.head": 10.0})
    assert [phase.rate(name) for name in ("net.head.weight", "net.header.weight", "net.body")] == [20.0, 2.0, 2.0]
