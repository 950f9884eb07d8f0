"""How many predictions at a time fit into a GPU's memory, found by trial."""

from collections.abc import Callable
from typing import TypeVar

import torch

Made = TypeVar("Made")


class Fitting:
    """Calls jobs that can be done in parts, with parts that fit.

    Args:
        at_a_time: a fixed size of parts; 0: all at once, and half as many after each time that a GPU has run out of
            memory. What is found holds for later jobs.
    """

    def __init__(self, at_a_time: int = 0) -> None:
        self.trial, self.most = not at_a_time, at_a_time

    def __call__(self, job: Callable[[int], Made], count: int) -> Made:
        """`job(n)` with the largest n, up to `count`, that fits.

        Raises:
            torch.OutOfMemoryError: not even one does; or a size was given.
        """
        while True:
            size = min(self.most or count, count)
            try:
                return job(size)
            except torch.OutOfMemoryError:
                if not self.trial or size == 1:
                    raise
            # Outside the handler, whose traceback holds on to what did not fit.
            self.most = (size + 1) // 2
            torch.cuda.empty_cache()
