"""The tenant that has used least CPU, for its weight, goes next.

    used / weight     ads       | 3 | 8 | 9 |   1200     <- next
                      research  | 1 | 2 |       1350
                      (none)    | 5 |           2000

A task is charged at its start with what its tenant's tasks took on average, and that is corrected at its end. A tenant
with nothing waiting or running who comes back begins where the tenants that were served meanwhile stand: absence earns
nothing (start-time fair queueing: the virtual time is what the tenant of the latest to begin had used before).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from heapq import heappop, heappush
from itertools import chain, islice
from typing import Any, Literal, NamedTuple

from sortedcontainers import SortedList

from reconciler.policies.ordering.base import Live
from reconciler.policies.ordering.fifo import Fifo

FIRST_ESTIMATE_MS = 1000.0
"""What a task is thought to use before any has ended."""

LEAST_MS = 1
"""A start costs about that much: who floods the queue with tasks that do nothing is served no more often than others."""

SMOOTHING = 8
"""One end moves the average by an eighth of the difference."""

_SWEEP_AT = 4096
"""So many absent tenants are not worth a sweep."""

_Place = tuple[int, int, str]
"""What has been used for the weight, the first task, who."""


class _Taken(NamedTuple):
    """A task at the launcher: whose, what its tenant had used before it, and what it was charged."""

    who: str
    stood: int
    cost: int


class FairShare:
    """A line a tenant, and the tenants that have something waiting by what they have used."""

    lead_ms = 0
    expires = True
    recalls = True
    remembers = True

    def __init__(
        self, live: Live, by: Literal["tenant", "key"], weights: Mapping[str, float], default_weight: float
    ) -> None:
        self._live = live
        self._by = by
        self._weights = weights
        self._default_weight = default_weight
        self._lines: dict[str, Fifo] = {}
        self._used: dict[
            str, int
        ] = {}  # weighted microseconds: whole numbers, so that what is taken back leaves no trace
        self._places = SortedList()
        self._place: dict[str, _Place] = {}
        self._taken: dict[int, _Taken] = {}
        self._running: dict[str, int] = {}
        self._mean: dict[str, float] = {}
        self._mean_of_all: float | None = None
        self._virtual = 0
        self._estimated: dict[str, int] = {}
        """How much of what a tenant has used is the estimate of what has been taken: no other controller knows of that."""
        self._changed: set[str] = set()

    def __len__(self) -> int:
        return sum(map(len, self._lines.values()))

    def __iter__(self) -> Iterator[int]:
        return chain.from_iterable(self._lines.values())

    def add(self, task_id: int) -> None:
        """To its tenant's line; one who was absent is brought to where the others are."""
        who = self._who(task_id)
        if who not in self._lines and who not in self._running:
            self._used[who] = max(self._used.get(who, 0), self._virtual)
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
                heappush(touched, (used + self._cost(who, self._estimate_ms(who)), after, who))
        return found

    def take(self, task_id: int) -> None:
        """Its tenant is charged with the estimate."""
        who = self._who(task_id)
        taken = _Taken(who, self._used[who], self._cost(who, self._estimate_ms(who)))
        self._used[who] += taken.cost
        self._estimated[who] = self._estimated.get(who, 0) + taken.cost
        self._taken[task_id] = taken
        self._running[who] = self._running.get(who, 0) + 1
        self._leave(who, task_id)

    def begin(self, task_id: int) -> None:
        """Who comes now stands where this one stood."""
        taken = self._taken.get(task_id)
        if taken is not None:
            self._virtual = max(self._virtual, taken.stood)

    def put_back(self, task_id: int) -> None:
        """Its tenant gets the estimate back."""
        taken = self._taken.pop(task_id, None)
        if taken is None:  # it was taken under another policy, or by another controller
            self.add(task_id)
            return
        self._used[taken.who] -= taken.cost
        self._ended(taken)
        self._join(taken.who, task_id)

    def charge(self, task_id: int, cpu_ms: int, ran_ms: int) -> None:
        """The estimate is corrected by what it really used."""
        cpu_ms = max(cpu_ms, LEAST_MS)
        taken = self._taken.pop(task_id, None)
        who = taken.who if taken is not None else self._who(task_id)
        paid = taken.cost if taken is not None else 0
        self._used[who] = self._used.get(who, self._virtual) + self._cost(who, cpu_ms) - paid
        mean = self._mean.get(who)
        self._mean[who] = float(cpu_ms) if mean is None else mean + (cpu_ms - mean) / SMOOTHING
        mean = self._mean_of_all
        self._mean_of_all = float(cpu_ms) if mean is None else mean + (cpu_ms - mean) / SMOOTHING
        self._changed.add(who)
        if taken is not None:
            self._ended(taken)
        self._move(who)
        if len(self._used) > _SWEEP_AT + 2 * (len(self._lines) + len(self._running)):
            self._forget_absent()

    def goes_before(self, waiting: int, taken: int) -> bool:
        """Whether it would have been chosen before it, had both been waiting."""
        who, other = self._who(waiting), self._taken.get(taken)
        if other is None or other.who == who:
            return False
        return (self._used[who], waiting) < (other.stood, taken)

    def too_late(self, deadline_ms: int, slots: int, now_ms: int) -> bool:
        """How long the others take is not known here."""
        return False

    def unsaved(self) -> dict[str, Any]:
        """What each tenant has used, by its name behind an equals sign; and where all stand."""
        if not self._changed:
            return {}
        found: dict[str, Any] = {"all": [self._virtual, self._mean_of_all]}
        for who in self._changed:
            used = self._used.get(who)
            settled = None if used is None else [used - self._estimated.get(who, 0), self._mean.get(who)]
            found[f"={who}"] = settled
        self._changed.clear()
        return found

    def resume(self, known: Mapping[str, Any]) -> None:
        """Who waits was there before, so nobody is brought to where the others are."""
        self._virtual, self._mean_of_all = known.get("all", (0, None))
        self._used = dict.fromkeys(self._lines, self._virtual)
        for name, settled in known.items():
            if name.startswith("="):
                self._used[name[1:]], mean = settled
                if mean is not None:
                    self._mean[name[1:]] = mean
        for who in self._lines:
            self._move(who)

    def _who(self, task_id: int) -> str:
        task = self._live[task_id]
        return (task.tenant if self._by == "tenant" else task.key) or ""

    def _cost(self, who: str, cpu_ms: float) -> int:
        return round(cpu_ms * 1000 / self._weights.get(who, self._default_weight))

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

    def _ended(self, taken: _Taken) -> None:
        who = taken.who
        left = self._running[who] - 1
        if left:
            self._running[who] = left
            self._estimated[who] -= taken.cost
        else:
            del self._running[who], self._estimated[who]

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
        """The half of the absent that has used least is as good as new: what they had ahead of the others was little."""
        kept = self._lines.keys() | self._running.keys()
        absent = sorted(self._used.keys() - kept, key=lambda who: (self._used[who], who))
        for who in absent[: len(absent) // 2]:
            del self._used[who]
            self._changed.add(who)
        self._mean = {who: mean for who, mean in self._mean.items() if who in self._used}
