"""The tenant that has used least CPU, for its weight, goes next.

    used / weight     ads       | 3 | 8 | 9 |   1200     <- next
                      research  | 1 | 2 |       1350
                      (none)    | 5 |           2000

A task is charged at its start with what its tenant's tasks took on average, and that is corrected at its end. A tenant
with nothing waiting or running who comes back begins where the tenants that were served meanwhile stand: absence earns
nothing (start-time fair queueing: the virtual time is what the latest to be taken had used).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from heapq import heappop, heappush
from itertools import chain, islice
from typing import Literal

from sortedcontainers import SortedList

from reconciler.policies.ordering.base import Live
from reconciler.policies.ordering.fifo import Fifo

FIRST_ESTIMATE_MS = 1000.0
"""What a task is thought to use before any has ended."""

SMOOTHING = 8
"""One end moves the average by an eighth of the difference."""

_SWEEP_AT = 4096
"""So many absent tenants are not worth a sweep."""

_Place = tuple[float, int, str]
"""What has been used for the weight, the first task, who."""


class FairShare:
    """A line a tenant, and the tenants that have something waiting by what they have used."""

    lead_ms = 0
    expires = True
    recalls = True

    def __init__(
        self, live: Live, by: Literal["tenant", "key"], weights: Mapping[str, float], default_weight: float
    ) -> None:
        self._live = live
        self._by = by
        self._weights = weights
        self._default_weight = default_weight
        self._lines: dict[str, Fifo] = {}
        self._used: dict[str, float] = {}
        self._places = SortedList()
        self._place: dict[str, _Place] = {}
        self._taken: dict[int, tuple[str, float]] = {}
        self._running: dict[str, int] = {}
        self._mean: dict[str, float] = {}
        self._mean_of_all: float | None = None
        self._virtual = 0.0

    def __len__(self) -> int:
        return sum(map(len, self._lines.values()))

    def __iter__(self) -> Iterator[int]:
        return chain.from_iterable(self._lines.values())

    def add(self, task_id: int) -> None:
        """To its tenant's line; one who was absent is brought to where the others are."""
        who = self._who(task_id)
        if who not in self._lines and who not in self._running:
            self._used[who] = max(self._used.get(who, 0.0), self._virtual)
        self._join(who, task_id)

    def discard(self, task_id: int) -> None:
        """Out of its line."""
        self._leave(self._who(task_id), task_id)

    def peek(self, limit: int, now_ms: int) -> list[int]:
        """The first ids, as if each were charged with its estimate when it is taken."""
        untouched = iter(self._places)
        following: _Place | None = next(untouched, None)
        touched: list[_Place] = []
        rest: dict[str, Iterator[int]] = {}
        found: list[int] = []
        while len(found) < limit and (touched or following is not None):
            if touched and (following is None or touched[0] < following):
                used, task_id, who = heappop(touched)
            else:
                assert following is not None
                used, task_id, who = following
                following = next(untouched, None)
                rest[who] = islice(self._lines[who], 1, None)
            found.append(task_id)
            after = next(rest[who], None)
            if after is not None:
                heappush(touched, (used + self._estimate_ms(who) / self._weight(who), after, who))
        return found

    def take(self, task_id: int) -> None:
        """Its tenant is charged with the estimate."""
        who, estimate_ms = self._who(task_id), self._estimate_ms(self._who(task_id))
        self._virtual = max(self._virtual, self._used[who])
        self._used[who] += estimate_ms / self._weight(who)
        self._taken[task_id] = who, estimate_ms
        self._running[who] = self._running.get(who, 0) + 1
        self._leave(who, task_id)

    def put_back(self, task_id: int) -> None:
        """Its tenant gets the estimate back."""
        taken = self._taken.pop(task_id, None)
        if taken is None:  # it was taken under another policy, or by another controller
            self.add(task_id)
            return
        who, estimate_ms = taken
        self._used[who] -= estimate_ms / self._weight(who)
        self._ended(who)
        self._join(who, task_id)

    def charge(self, task_id: int, cpu_ms: int, ran_ms: int) -> None:
        """The estimate is corrected by what it really used."""
        who, estimate_ms = self._taken.pop(task_id, None) or (self._who(task_id), None)
        self._used[who] = self._used.get(who, self._virtual) + (cpu_ms - (estimate_ms or 0.0)) / self._weight(who)
        mean = self._mean.get(who)
        self._mean[who] = float(cpu_ms) if mean is None else mean + (cpu_ms - mean) / SMOOTHING
        mean = self._mean_of_all
        self._mean_of_all = float(cpu_ms) if mean is None else mean + (cpu_ms - mean) / SMOOTHING
        if estimate_ms is not None:
            self._ended(who)
        self._move(who)
        if len(self._used) > _SWEEP_AT + 2 * (len(self._lines) + len(self._running)):
            self._forget_absent()

    def goes_before(self, waiting: int, taken: int) -> bool:
        """Whether it would have been chosen before it, had both been waiting."""
        one, (other, estimate_ms) = self._who(waiting), self._taken.get(taken, ("", 0.0))
        if one == other or taken not in self._taken:
            return False
        return (self._used[one], waiting) < (self._used[other] - estimate_ms / self._weight(other), taken)

    def too_late(self, deadline_ms: int, slots: int, now_ms: int) -> bool:
        """How long the others take is not known here."""
        return False

    def _who(self, task_id: int) -> str:
        task = self._live[task_id]
        return (task.tenant if self._by == "tenant" else task.key) or ""

    def _weight(self, who: str) -> float:
        return self._weights.get(who, self._default_weight)

    def _estimate_ms(self, who: str) -> float:
        mean = self._mean.get(who, self._mean_of_all)
        return FIRST_ESTIMATE_MS if mean is None else mean

    def _join(self, who: str, task_id: int) -> None:
        line = self._lines.get(who)
        if line is None:
            line = self._lines[who] = Fifo()
        line.add(task_id)
        self._move(who)

    def _leave(self, who: str, task_id: int) -> None:
        line = self._lines[who]
        line.discard(task_id)
        if not len(line):
            del self._lines[who]
        self._move(who)

    def _ended(self, who: str) -> None:
        left = self._running[who] - 1
        if left:
            self._running[who] = left
        else:
            del self._running[who]

    def _move(self, who: str) -> None:
        """Its place among the tenants, of what it has used and its first task."""
        line, old = self._lines.get(who), self._place.get(who)
        new = (self._used[who], line.first, who) if line is not None else None
        if new == old:
            return
        if old is not None:
            self._places.remove(old)
            del self._place[who]
        if new is not None:
            self._places.add(new)
            self._place[who] = new

    def _forget_absent(self) -> None:
        """Who is absent and would be brought up to the others anyway is as good as new."""
        kept = self._lines.keys() | self._running.keys()
        self._used = {who: used for who, used in self._used.items() if who in kept or used > self._virtual}
        self._mean = {who: mean for who, mean in self._mean.items() if who in self._used}
