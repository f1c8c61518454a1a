"""The one place that reads the time of day.

Decisions take `now` as an argument; only the shell asks a Clock. Waits are measured on the monotonic clock, so that a
step of the wall clock never shortens or stretches them.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Where the shell gets the time from; the simulator has one of its own."""

    def now(self) -> datetime:
        """The moment, aware, UTC; never goes back within one process."""
        ...

    def monotonic(self) -> float:
        """Seconds since some point; never jumps."""
        ...

    def wall_ahead_ms(self) -> int:
        """How far the wall clock, as other processes read it, is ahead of `now`: it has been set, or the host slept."""
        ...


class SystemClock:
    """Wall time anchored once to the monotonic clock, so that `now` advances evenly.

    A step of the wall clock (NTP, an operator) is followed only when `reanchor` is called, which the daemon does when it
    sees a gap; scheduled restarts and time-outs then keep their distance in elapsed time.
    """

    def __init__(self) -> None:
        self._offset_s = 0.0
        self.reanchor()

    def reanchor(self) -> float:
        """Takes over the wall clock as it stands now; returns by how many seconds it had moved."""
        before = self._offset_s
        self._offset_s = time.time() - time.monotonic()
        return self._offset_s - before if before else 0.0

    def now(self) -> datetime:
        return datetime.fromtimestamp(self._offset_s + time.monotonic(), UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    def wall_ahead_ms(self) -> int:
        return round((time.time() - time.monotonic() - self._offset_s) * 1000)
