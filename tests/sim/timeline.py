"""Virtual time: what happens when, in one order, the same for the same seed.

    at(delay, call)   ->   a heap of (moment, number)   ->   run: the next one, however far away it is

Nothing here or above reads a real clock, and every random choice comes from a stream named after what it decides.
"""

from __future__ import annotations

import hashlib
import heapq
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

BEGIN = datetime(2030, 1, 1, tzinfo=UTC)
BEGIN_S = int(BEGIN.timestamp())


class Violation(AssertionError):
    """An invariant does not hold; its id comes first."""


class Timeline:
    """Events in virtual time, the wall clock of the machine, and the trace of what happened."""

    def __init__(self, seed: int | str) -> None:
        self.seed = seed
        self.now_us = 0
        self.wall_offset_us = 0
        """How far the wall clock has been stepped."""
        self.lines: list[str] = []
        self._heap: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._count = 0
        self._streams: dict[str, random.Random] = {}

    @property
    def now_s(self) -> float:
        return self.now_us / 1e6

    @property
    def wall_ms(self) -> int:
        """What the machine's clock says, as the launcher reads it."""
        return BEGIN_S * 1000 + (self.now_us + self.wall_offset_us) // 1000

    def chance(self, topic: str) -> random.Random:
        """The stream of random numbers of one topic."""
        stream = self._streams.get(topic)
        if stream is None:
            stream = self._streams[topic] = random.Random(f"{self.seed}/{topic}")
        return stream

    def after(self, delay_s: float, call: Callable[..., None], *args: Any) -> None:
        """Calls once so many seconds from now."""
        self._count += 1
        heapq.heappush(self._heap, (self.now_us + max(0, round(delay_s * 1e6)), self._count, call, args))

    def step(self) -> bool:
        """The next event; False when there is none."""
        if not self._heap:
            return False
        self.now_us, _, call, args = heapq.heappop(self._heap)
        call(*args)
        return True

    @property
    def next_us(self) -> int | None:
        return self._heap[0][0] if self._heap else None

    def say(self, text: str) -> None:
        """One line of the trace."""
        self.lines.append(f"{self.now_us / 1e6:11.6f} {text}")

    @property
    def digest(self) -> str:
        """Of the trace: two runs that differ in anything differ in this."""
        return hashlib.sha256("\n".join(self.lines).encode()).hexdigest()[:16]


class ControllerClock:
    """As `reconciler.clock.SystemClock`: the wall clock as it stood when this controller began, then evenly on."""

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self.offset_us = timeline.wall_offset_us

    def now(self) -> datetime:
        return BEGIN + timedelta(microseconds=self._timeline.now_us + self.offset_us)

    def monotonic(self) -> float:
        return self._timeline.now_us / 1e6

    def wall_ahead_ms(self) -> int:
        return (self._timeline.wall_offset_us - self.offset_us) // 1000
