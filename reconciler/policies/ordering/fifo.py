"""First in, first out: the order of ids, which are given in the order of submission.

    add  ->  | 3 | 4 | x | 6 | 7 |     the line, ascending        x: discarded, skipped when it is met
             | 2 |                     what came back: it takes its old place

Adding a new id and taking the first cost O(1); a discarded one stays in its place until it is met at the head, or until
such places are more than half of all and are swept, so discarding is O(1) amortised too. What comes back is inserted into
a short sorted list.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from heapq import merge
from itertools import islice
from typing import Any

_SWEEP_AT = 64
"""Fewer discarded places than this are not worth a sweep."""


class Fifo:
    """Ids in ascending order; each is in it once at most."""

    __slots__ = ("_back", "_gone", "_line")

    lead_ms = 0
    expires = True
    recalls = False
    remembers = False

    def __init__(self, ids: Iterable[int] = ()) -> None:
        self._line: deque[int] = deque()
        self._gone: set[int] = set()
        self._back: list[int] = []
        for task_id in ids:
            self.add(task_id)

    def __len__(self) -> int:
        return len(self._line) - len(self._gone) + len(self._back)

    def __iter__(self) -> Iterator[int]:
        line = (task_id for task_id in self._line if task_id not in self._gone) if self._gone else iter(self._line)
        return merge(line, self._back) if self._back else line

    def add(self, task_id: int) -> None:
        """A new id, or one that comes back; it must not be in it."""
        if not self._line or task_id > self._line[-1]:
            self._line.append(task_id)
        else:
            insort(self._back, task_id)

    def peek(self, limit: int, now_ms: int = 0) -> list[int]:
        """The first ids, which stay."""
        return list(islice(self, limit))

    @property
    def first(self) -> int:
        """The lowest id; there must be one."""
        return next(iter(self))

    def discard(self, task_id: int) -> None:
        """Out of the order, wherever it stands; it must be in it."""
        at = bisect_left(self._back, task_id)
        if at < len(self._back) and self._back[at] == task_id:
            del self._back[at]
            return
        self._gone.add(task_id)
        while self._line and self._line[0] in self._gone:
            self._gone.remove(self._line.popleft())
        if len(self._gone) > _SWEEP_AT and len(self._gone) * 2 > len(self._line):
            self._line = deque(kept for kept in self._line if kept not in self._gone)
            self._gone.clear()

    take = discard
    put_back = add

    def begin(self, task_id: int) -> None:
        """That changes nothing."""

    def charge(self, task_id: int, cpu_ms: int, ran_ms: int) -> None:
        """What it used changes nothing."""

    def goes_before(self, waiting: int, taken: int) -> bool:
        """Whoever has been taken was first."""
        return False

    def too_late(self, deadline_ms: int, slots: int, now_ms: int) -> bool:
        """How long the others take is not known here."""
        return False

    def unsaved(self) -> dict[str, Any]:
        """Nothing that has ended says anything about what waits."""
        return {}

    def resume(self, known: Mapping[str, Any]) -> None:
        """There is nothing to know."""
