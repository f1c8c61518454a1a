"""First in, first out, with cancelling anywhere.

    append -> | 9 | 8 | x | 6 | 5 | -> take, peek        x: discarded, skipped when it is met

Every operation costs O(1) amortised (a look at k ids O(k)): a discarded id stays in its place until it is met at the
head, or until such places are more than half of all and are swept.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from itertools import islice

_SWEEP_AT = 64
"""Fewer discarded places than this are not worth a sweep."""


class Fifo:
    """Ids in the order in which they came; each is in it once at most."""

    __slots__ = ("_gone", "_ids")

    def __init__(self, ids: Iterable[int] = ()) -> None:
        self._ids = deque(ids)
        self._gone: set[int] = set()

    def __len__(self) -> int:
        return len(self._ids) - len(self._gone)

    def append(self, task_id: int) -> None:
        """The last in the order; it must not be in it."""
        if task_id in self._gone:
            self._sweep()
        self._ids.append(task_id)

    def put_back(self, ids: Iterable[int]) -> None:
        """To the front, in this order: taken before, and not gone after all. None of them may be in it."""
        back = list(ids)
        if not self._gone.isdisjoint(back):
            self._sweep()
        self._ids.extendleft(reversed(back))

    def peek(self, limit: int) -> list[int]:
        """The first ids, which stay."""
        self._drop_head()
        if not self._gone:
            return list(islice(self._ids, limit))
        gone = self._gone
        return list(islice((task_id for task_id in self._ids if task_id not in gone), limit))

    def take(self, limit: int) -> list[int]:
        """The first ids, which go."""
        taken: list[int] = []
        while len(taken) < limit and self._ids:
            task_id = self._ids.popleft()
            if task_id in self._gone:
                self._gone.remove(task_id)
            else:
                taken.append(task_id)
        return taken

    def discard(self, task_id: int) -> None:
        """Out of the order, wherever it stands; it must be in it."""
        if self._ids and self._ids[0] == task_id and task_id not in self._gone:
            self._ids.popleft()
            return
        self._gone.add(task_id)
        if len(self._gone) > _SWEEP_AT and len(self._gone) * 2 > len(self._ids):
            self._sweep()

    def _drop_head(self) -> None:
        while self._ids and self._ids[0] in self._gone:
            self._gone.remove(self._ids.popleft())

    def _sweep(self) -> None:
        self._ids = deque(task_id for task_id in self._ids if task_id not in self._gone)
        self._gone.clear()
