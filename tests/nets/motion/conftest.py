"""One small encoder for all tests that do not ask how it came about."""

import pytest
import torch

from salticid.nets.motion import FrameEncoder


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def resnet() -> FrameEncoder:
    """A ResNet-18 of random weights in evaluation mode; not to be changed."""
    torch.manual_seed(0)
    return FrameEncoder().eval()
