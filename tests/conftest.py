"""One thread a test process (the suite runs two of them); GPU tests only where there is one."""

import os
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)


def pytest_collection_modifyitems(items):
    if torch.cuda.is_available():
        return
    skip = pytest.mark.skip(reason="needs a CUDA device")
    for item in items:
        if "gpu" in item.keywords:
            item.add_marker(skip)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real samples; tests that need it are skipped where SALTICID_TEST_DATA does not name one."""
    folder = os.environ.get("SALTICID_TEST_DATA")
    if not folder:
        pytest.skip("SALTICID_TEST_DATA does not name a folder of real samples")
    return Path(folder)
