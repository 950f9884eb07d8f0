import pytest
import torch

from salticid.engine.ema import Ema, EmaConfig
from salticid.errors import ConfigError, UserError


def follow(config, steps):
    """An average over weights that are set to 1, 2, 3 …; returns it and its value after each step."""
    weights = {"w": torch.zeros(3, dtype=torch.float64)}
    ema, values = Ema(config, weights), []
    for step in range(steps):
        weights["w"] += 1
        ema.update(weights, step)
        values.append(float(ema.average["w"][0]))
    return ema, values


def test_it_equals_the_weights_until_its_start():
    ema, values = follow(EmaConfig(0.9, start=5, ramp=False), 5)
    assert values == [1, 2, 3, 4, 5]
    assert ema.updates == 0
    ema, values = follow(EmaConfig(0.9, start=5, ramp=False), 7)
    assert values[5] == pytest.approx(0.9 * 5 + 0.1 * 6, rel=1e-12)
    assert values[6] == pytest.approx(0.9 * values[5] + 0.1 * 7, rel=1e-12)
    assert ema.updates == 2


def test_it_is_the_geometric_mean_of_the_past():
    decay, steps = 0.8, 12
    _, values = follow(EmaConfig(decay, ramp=False), steps)
    closed = sum((1 - decay) * decay ** (steps - i) * i for i in range(1, steps + 1))
    assert values[-1] == pytest.approx(closed, rel=1e-12)


def test_the_ramp_rises_to_the_decay():
    config = EmaConfig(0.99, start=3)
    decays = [config.decay_at(step) for step in range(3, 2000)]
    assert config.decay_at(2) == 0
    assert decays[:3] == [1 / 10, 2 / 11, 3 / 12]
    assert decays == sorted(decays)
    assert decays[-1] == 0.99


def test_an_average_that_has_not_begun_is_not_evaluated():
    ema, _ = follow(EmaConfig(start=5), 5)
    with pytest.raises(UserError, match="no updates yet"):
        ema.weights()
    ema, _ = follow(EmaConfig(start=5), 6)
    assert ema.weights() is ema.average


def test_its_memory_is_its_own():
    weights = {"w": torch.ones(2)}
    ema = Ema(EmaConfig(), weights)
    weights["w"].zero_()
    assert ema.average["w"].tolist() == [1, 1]


@pytest.mark.parametrize(
    ("values", "key"), [({"start": 100}, "start"), ({"start": -1}, "start"), ({"decay": 1}, "decay")]
)
def test_averages_that_never_move_are_refused(values, key):
    with pytest.raises(ConfigError, match=f"ema.{key}"):
        EmaConfig(**values).check(100)
