"""Signals only set a flag: the run ends at the end of a step, with a checkpoint."""

import signal
import threading
from types import FrameType
from typing import Self

_NUMBERS = (signal.SIGTERM, signal.SIGINT)


class StopFlag:
    """While entered, the first SIGTERM or SIGINT sets `raised`; a second one acts as it would have before.

    Outside the main thread, where Python allows no handlers, it stays False.
    """

    def __init__(self) -> None:
        self.raised = False

    def __enter__(self) -> Self:
        self._previous = {}
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._handle) for number in _NUMBERS}
        return self

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.raised = True
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def __exit__(self, *_: object) -> None:
        self._restore()
