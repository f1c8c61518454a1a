"""When the loop turns, on an asyncio loop: as soon as something wants it, at the distance it asks for, and at the latest when due.

    wake(apart) -> one turn is planned, the earliest wins -> turn -> `after`

One turn at a time; what wakes it during a turn is seen by the turn itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from reconciler.clock import Clock
from reconciler.runtime.loop import Loop


class Turns:
    """Turns the loop that `drive` names."""

    _loop: Loop
    _after: Callable[[], None]
    _before: Callable[[], None] | None

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._asyncio = asyncio.get_running_loop()
        self._next: asyncio.Handle | None = None
        self._next_at = 0.0
        self._turning = False
        self._turned_at = 0.0
        self._due: asyncio.TimerHandle | None = None

    def drive(self, loop: Loop, after: Callable[[], None], before: Callable[[], None] | None = None) -> None:
        """Names the loop that wakes turn; `before` and `after` are called around each. Before the first await after a wake."""
        self._loop, self._after, self._before = loop, after, before

    def wake(self, apart_s: float = 0.0) -> None:
        """Plans a turn, unless an earlier one is planned already; `apart_s`: its distance from the last one."""
        if self._turning:
            return  # a turn looks itself whether another one is needed
        at = self._turned_at + apart_s
        if self._next is not None:
            if at >= self._next_at:
                return
            self._next.cancel()
        self._next_at = at
        wait_s = at - self._clock.monotonic() if apart_s else 0.0
        if wait_s > 0:
            self._next = self._asyncio.call_later(wait_s, self._turn)
        else:
            self._next = self._asyncio.call_soon(self._turn)

    def _turn(self) -> None:
        self._next = None
        if self._due is not None:
            self._due.cancel()
            self._due = None
        loop = self._loop
        self._turning = True
        if self._before is not None:
            self._before()
        loop.turn()
        self._turning = False
        self._turned_at = self._clock.monotonic()
        self._after()
        if loop.ready:
            self.wake()
        else:
            wait_s = (loop.next_at - self._clock.now()).total_seconds()
            self._due = self._asyncio.call_later(max(0.0, wait_s), self.wake)
