"""Small video UNets whose every layer is alive: a new one begins at zero."""

from dataclasses import replace

import pytest
import torch

from salticid.nets.video import TINY, VideoUNet


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def alive():
    """Gives all weights of a module random values, those that begin at zero among them."""

    def fill(module):
        with torch.no_grad():
            for parameter in module.parameters():
                spread = parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.3
                parameter.add_(torch.randn_like(parameter) * spread * (0.5 if parameter.ndim > 1 else 1))
        return module

    return fill


@pytest.fixture(scope="session")
def svd(alive) -> VideoUNet:
    """Not to be changed."""
    torch.manual_seed(0)
    return alive(VideoUNet(TINY)).eval()


@pytest.fixture(scope="session")
def sv4d(alive) -> VideoUNet:
    """Not to be changed."""
    torch.manual_seed(0)
    return alive(VideoUNet(replace(TINY, reference=4))).eval()
