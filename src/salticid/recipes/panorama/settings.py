"""Settings of the panorama recipe, and the refusal of values that make no sense."""

import math
from dataclasses import dataclass

from salticid.errors import ConfigError


@dataclass(frozen=True)
class Sampler:
    """Euler steps on the time grid linspace(1, 0, steps + 1) ** power."""

    steps: int = 12
    power: float = 2.0

    def __post_init__(self) -> None:
        require("recipe.sampler.steps", self.steps, self.steps >= 1, "at least 1")
        require("recipe.sampler.power", self.power, positive(self.power), "a number above 0")


@dataclass(frozen=True)
class LossWeights:
    """What the terms of the training loss count."""

    flow: float = 1.0
    image: float = 1.0
    """Squared error of the image head, which draws the panorama from the latent without noise."""
    kl: float = 1e-6
    """KL divergence of a view's latent to N(0, 1), summed over the latent (nats)."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            require(f"recipe.weights.{name}", value, 0 <= value < math.inf, "a number from 0")


def require(key: str, value: object, met: bool, expected: str) -> None:
    """Refuse a value of the configuration."""
    if not met:
        raise ConfigError(f"{key} is {value}; expected {expected}")


def positive(*values: float) -> bool:
    """Whether all are above 0 and finite."""
    return all(0 < value < math.inf for value in values)


def distances(*values: float) -> bool:
    """Whether all are above 0; infinity is a distance."""
    return all(value > 0 for value in values)
