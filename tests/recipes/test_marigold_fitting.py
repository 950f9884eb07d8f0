"""Parts that fit into memory."""

import pytest
import torch

from salticid.recipes.marigold.fitting import Fitting


def job(limit: int, tried: list[int]):
    def run(size: int) -> int:
        tried.append(size)
        if size > limit:
            raise torch.OutOfMemoryError("out of memory")
        return size

    return run


def test_halves_until_it_fits_and_remembers():
    fitting, tried = Fitting(), []
    assert fitting(job(3, tried), 10) == 3
    assert fitting(job(3, tried), 10) == 3
    assert fitting(job(3, tried), 2) == 2
    assert tried == [10, 5, 3, 3, 2]


@pytest.mark.parametrize(("given", "limit"), [(0, 0), (4, 3)])
def test_what_cannot_fit_is_raised(given, limit):
    with pytest.raises(torch.OutOfMemoryError):
        Fitting(given)(job(limit, []), 8)
