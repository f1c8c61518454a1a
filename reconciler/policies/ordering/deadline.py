"""The nearest deadline goes first; what has none goes last, in the order of submission.

    12:00:03 | 7 |
    12:00:10 | 2 |      a task takes 4 s on average: at 12:00:06 this one is too late, and ends Expired
    none     | 1 | 5 |

How long a task runs is what the policy says, or the average so far.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from sortedcontainers import SortedList

from reconciler.policies.ordering.base import Live

SMOOTHING = 8
"""One end moves the average by an eighth of the difference."""

_NEVER_MS = 1 << 62


class EarliestDeadlineFirst:
    """Ids by deadline."""

    recalls = True
    remembers = True

    def __init__(self, live: Live, expires: bool, estimate_s: float | None) -> None:
        self._live = live
        self.expires = expires
        self._learns = estimate_s is None
        self._estimate_ms = (estimate_s or 0.0) * 1000
        self._seen = self._moved = False
        self._taken: set[int] = set()
        self._places = SortedList()

    @property
    def lead_ms(self) -> int:
        """So long before its deadline a task has to begin."""
        return round(self._estimate_ms)

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[int]:
        return (task_id for _, task_id in self._places)

    def add(self, task_id: int) -> None:
        """To its place by deadline."""
        self._places.add((self._deadline_ms(task_id), task_id))

    def discard(self, task_id: int) -> None:
        """Out of its place."""
        self._places.remove((self._deadline_ms(task_id), task_id))

    def peek(self, limit: int, now_ms: int) -> list[int]:
        """The nearest deadlines."""
        return [task_id for _, task_id in islice(self._places, limit)]

    def take(self, task_id: int) -> None:
        """Out of its place; it takes a slot."""
        self.discard(task_id)
        self._taken.add(task_id)

    def put_back(self, task_id: int) -> None:
        """As if it had never been taken."""
        self._taken.discard(task_id)
        self.add(task_id)

    def begin(self, task_id: int) -> None:
        """That changes nothing."""

    def charge(self, task_id: int, cpu_ms: int, ran_ms: int) -> None:
        """How long it ran moves the average."""
        self._taken.discard(task_id)
        if self._learns:
            moved_ms = (ran_ms - self._estimate_ms) / SMOOTHING
            self._estimate_ms = self._estimate_ms + moved_ms if self._seen else float(ran_ms)
            self._seen = self._moved = True

    def goes_before(self, waiting: int, taken: int) -> bool:
        """An earlier deadline before a later one."""
        return self._deadline_ms(waiting) < self._deadline_ms(taken)

    def too_late(self, deadline_ms: int, slots: int, now_ms: int) -> bool:
        """Whether those that go before it leave too little time, each as long as the average."""
        before: int = self._places.bisect_left((deadline_ms, _NEVER_MS)) + len(self._taken)
        return now_ms + (before // max(1, slots) + 1) * self._estimate_ms > deadline_ms

    def unsaved(self) -> dict[str, Any]:
        """The average."""
        moved, self._moved = self._moved, False
        return {"average": self._estimate_ms} if moved else {}

    def resume(self, known: Mapping[str, Any]) -> None:
        """The average goes on from where it was."""
        if self._learns and "average" in known:
            self._estimate_ms, self._seen = known["average"], True

    def _deadline_ms(self, task_id: int) -> int:
        return self._live[task_id].deadline_ms or _NEVER_MS
