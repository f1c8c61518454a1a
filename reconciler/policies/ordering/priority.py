"""Higher bands first: the urgent by priority, the normal and the low in the order of submission.

    high    255 | 7 |            one line a priority
            201 | 3 | 9 |
    normal  100..199 | 1 | 4 |   one line
    low     0..99    | 2 | 8 |   one line

With aging the heads of the lines compare by `submitted - priority x aging`: who has waited long enough goes before a
higher band. The lines of the high band take part one by one, or what is urgent could starve behind the more urgent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from heapq import merge
from itertools import chain, islice
from typing import Any

from reconciler.policies.ordering.base import Live
from reconciler.policies.ordering.fifo import Fifo
from reconciler.resources.scheduling import Aging, Bands


class Priority:
    """Lines by priority; the number of a line is the lowest priority in it."""

    lead_ms = 0
    expires = True
    recalls = True
    remembers = False

    def __init__(self, live: Live, bands: Bands, aging: Aging | None) -> None:
        self._live = live
        self._bands = bands
        self._point_ms = aging.every_s * 1000 / aging.points if aging is not None else 0.0
        self._lines: dict[int, Fifo] = {}

    def __len__(self) -> int:
        return sum(map(len, self._lines.values()))

    def __iter__(self) -> Iterator[int]:
        return chain.from_iterable(self._lines.values())

    def add(self, task_id: int) -> None:
        """To its line."""
        number = self._line_of(task_id)
        line = self._lines.get(number)
        if line is None:
            line = Fifo()
            self._lines[number] = line
            lines = [*self._lines.items(), (number, line)]
            self._lines = dict(sorted(lines, key=lambda item: item[0], reverse=True))  # 58 at most, each made once
        line.add(task_id)

    def discard(self, task_id: int) -> None:
        """Out of its line."""
        self._lines[self._line_of(task_id)].discard(task_id)

    take = discard
    put_back = add

    def peek(self, limit: int, now_ms: int = 0) -> list[int]:
        """The first of the highest line that has some; with aging, the head of all heads."""
        if self._point_ms:
            return list(islice(merge(*self._lines.values(), key=self._age), limit))
        return list(islice(chain.from_iterable(self._lines.values()), limit))

    def begin(self, task_id: int) -> None:
        """That changes nothing."""

    def charge(self, task_id: int, cpu_ms: int, ran_ms: int) -> None:
        """What it used changes nothing."""

    def goes_before(self, waiting: int, taken: int) -> bool:
        """A higher line before a lower one."""
        one, other = self._line_of(waiting), self._line_of(taken)
        if one == other:
            return False
        return self._age(waiting) < self._age(taken) if self._point_ms else one > other

    def too_late(self, deadline_ms: int, slots: int, now_ms: int) -> bool:
        """How long the others take is not known here."""
        return False

    def unsaved(self) -> dict[str, Any]:
        """Nothing that has ended says anything about what waits."""
        return {}

    def resume(self, known: Mapping[str, Any]) -> None:
        """There is nothing to know."""

    def _line_of(self, task_id: int) -> int:
        priority = self._live[task_id].priority
        if priority >= self._bands.high:
            return priority
        return self._bands.normal if priority >= self._bands.normal else 0

    def _age(self, task_id: int) -> tuple[float, int]:
        task = self._live[task_id]
        return task.submitted_ms - task.priority * self._point_ms, task_id
