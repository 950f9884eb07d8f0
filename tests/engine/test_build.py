import pytest
import torch

from salticid.engine.build import set_arithmetic
from salticid.engine.settings import TrainerConfig


@pytest.mark.parametrize("tf32", [True, False])
def test_tf32_is_for_products_and_convolutions_alike(tf32):
    """The switches of a GPU can be set, and read, where there is none."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    try:
        set_arithmetic(TrainerConfig(tf32=tf32), torch.device("cuda"))
        assert torch.get_float32_matmul_precision() == ("high" if tf32 else "highest")
        assert torch.backends.cudnn.allow_tf32 is tf32
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]
