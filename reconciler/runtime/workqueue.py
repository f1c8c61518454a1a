"""Which keys want a plan, each at most once however often it was asked for.

    add(key)          now                    take(now)   -> the next key, in order of asking
    add_at(key, at)   not before that moment done(key)   -> asked for meanwhile? then it is wanted again, once

The contract of client-go's work queue: a key is never planned twice at once, and any number of events while it runs makes
exactly one more run. No I/O, no clock.
"""

from __future__ import annotations

import heapq
from datetime import datetime, timedelta

from reconciler.resources.meta import Key

FIRST_RETRY_S = 0.05
LONGEST_RETRY_S = 60.0


class WorkQueue:
    """Keys that are wanted now, wanted later, and under way."""

    def __init__(self) -> None:
        self._dirty: dict[Key, None] = {}  # an ordered set
        self._processing: set[Key] = set()
        self._later: list[tuple[datetime, Key]] = []
        self._due: dict[Key, datetime] = {}
        self._failures: dict[Key, int] = {}

    def add(self, key: Key) -> None:
        """Wanted as soon as possible."""
        self._dirty.setdefault(key)

    def add_at(self, key: Key, at: datetime) -> None:
        """Wanted at that moment; an earlier moment already asked for stands, a later one is forgotten."""
        due = self._due.get(key)
        if due is None or at < due:
            self._due[key] = at
            heapq.heappush(self._later, (at, key))

    def take(self, now: datetime) -> Key | None:
        """The next key to plan; it is under way until `done`."""
        while self._later and self._later[0][0] <= now:
            at, key = heapq.heappop(self._later)
            if self._due.get(key) == at:
                del self._due[key]
                self._dirty.setdefault(key)
        for key in self._dirty:
            if key not in self._processing:
                del self._dirty[key]
                self._processing.add(key)
                return key
        return None

    def done(self, key: Key) -> None:
        """Its plan has been carried out."""
        self._processing.discard(key)
        self._failures.pop(key, None)

    def failed(self, key: Key, now: datetime) -> datetime:
        """Its plan failed in a foreseen way: wanted again after a wait that doubles; returns when."""
        self._processing.discard(key)
        count = self._failures[key] = self._failures.get(key, 0) + 1
        at = now + timedelta(seconds=min(LONGEST_RETRY_S, FIRST_RETRY_S * 2 ** min(count - 1, 20)))
        self.add_at(key, at)
        return at

    @property
    def ready(self) -> bool:
        """Whether a key is wanted now."""
        return bool(self._dirty)

    @property
    def next_at(self) -> datetime | None:
        """When the next key becomes wanted."""
        while self._later:
            at, key = self._later[0]
            if self._due.get(key) == at:
                return at
            heapq.heappop(self._later)
        return None

    def __len__(self) -> int:
        return len(self._dirty)
