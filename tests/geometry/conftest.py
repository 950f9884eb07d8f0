import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor


@pytest.fixture
def sample_data() -> Path:
    """The folder of real sample pictures; they are not part of the repository."""
    folder = os.environ.get("SALTICID_TEST_DATA")
    if not folder:
        pytest.skip("real pictures: set SALTICID_TEST_DATA to their folder")
    return Path(folder)


@pytest.fixture
def picture(sample_data: Path) -> Callable[[str], Tensor]:
    """Read a picture of the sample data as float32 (1, 3, h, w) in [0, 255]."""

    def read(name: str) -> Tensor:
        if not (sample_data / name).exists():
            pytest.skip(f"real pictures: SALTICID_TEST_DATA has no {name}")
        with Image.open(sample_data / name) as image:
            return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)[None].float()

    return read
