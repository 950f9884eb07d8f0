"""What tests of several recipes need."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture
def exact() -> Iterator[None]:
    """float32 products without TF32, which would round to 1e-3."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.set_float32_matmul_precision(before[0])
    torch.backends.cudnn.allow_tf32 = before[1]
