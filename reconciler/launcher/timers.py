"""Calls for later, each at its moment of the monotonic clock; for the launcher's one thread.

Contract: a call runs once, in the turn that follows its moment; calls of one moment run in the order in which they were asked for.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

now = time.monotonic


class Timers:
    """What is due when."""

    def __init__(self) -> None:
        self._due: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._count = 0

    def later(self, delay_s: float, call: Callable[..., None], *args: Any) -> None:
        self.at(now() + delay_s, call, *args)

    def at(self, due: float, call: Callable[..., None], *args: Any) -> None:
        self._count += 1
        heappush(self._due, (due, self._count, call, args))

    def wait_s(self) -> float:
        """Until the first call is due; -1 when there is none."""
        return max(0.0, self._due[0][0] - now()) if self._due else -1

    def run(self) -> None:
        """Makes the calls that are due."""
        if self._due:
            moment = now()
            while self._due and self._due[0][0] <= moment:
                _, _, call, args = heappop(self._due)
                call(*args)
