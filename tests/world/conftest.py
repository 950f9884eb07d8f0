from random import Random

import pytest
import torch

from salticid.world.build import Builder
from salticid.world.scene import Light, Path


@pytest.fixture
def builder() -> Builder:
    """An empty place whose ground is 1.5 m below the camera."""
    return Builder(Random("test"), 1.5, Path(1.0, (0.0, 0.0, 0.0), 1.0))


@pytest.fixture
def sun() -> Light:
    return Light(
        position=torch.tensor((0.0, -1.0, 0.0)),
        sun=True,
        colour=torch.ones(3),
        above=torch.full((3,), 0.3),
        below=torch.full((3,), 0.3),
        softness=0.05,
    )
