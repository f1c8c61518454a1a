"""Short work first, without being told which is short: what has used up its quantum of CPU goes behind what has not.

    quanta 100ms 500ms 2s 10s
    level 0   | 7 | 9 |     new work, at the level of its tenant's last task
    level 1   | 3 |         has used 100 ms of CPU
    level 2   |             600 ms
    level 3   | 1 | 2 |     2.6 s and more

The highest level that has some goes first, in the order of submission. Every boost interval all go back to level 0, behind
each other as they stood, and what was counted is forgotten, so that nothing starves and nobody is judged for ever.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, chain, islice
from typing import Any

from reconciler.policies.ordering.base import Live
from reconciler.policies.ordering.fifo import Fifo

_SWEEP_AT = 1024
"""So many tasks that have ended are not worth a sweep."""


BOOST = "boost"


class _Line(Fifo):
    """A part of a level; a boost moves whole lines, so that it costs nothing for each task."""

    __slots__ = ("level",)

    def __init__(self, level: int) -> None:
        super().__init__()
        self.level = level


class MultiLevelFeedback:
    """Lines by level; new ids join the last line of theirs."""

    lead_ms = 0
    expires = True
    recalls = True
    remembers = True

    def __init__(self, live: Live, quanta_s: Sequence[float], boost_s: float) -> None:
        self._live = live
        self._sinks_at_ms = list(accumulate(quantum_s * 1000 for quantum_s in quanta_s[:-1]))
        self._boost_ms = round(boost_s * 1000)
        self._boosted_ms: int | None = None
        self.boosts = 0
        """How often everything has gone back to the first level."""
        self._levels: list[list[_Line]] = [[_Line(level)] for level in range(len(quanta_s))]
        self._line: dict[int, _Line] = {}
        self._taken: dict[int, int] = {}
        self._cpu_ms: dict[int, int] = {}
        self._last: dict[str, int] = {}
        """The level to which the last task of a tenant has come."""
        self._changed: set[int | str] = set()
        """Tasks and tenants, and BOOST."""
        self._saved: set[int | str] = set()

    def __len__(self) -> int:
        return len(self._line)

    def __iter__(self) -> Iterator[int]:
        return iter(self._line)

    def add(self, task_id: int) -> None:
        """To the level that its own tries have earned; the first try to that of its tenant."""
        used_ms = self._cpu_ms.get(task_id)
        if used_ms is not None:
            self._join(task_id, self.level_of(used_ms))
        else:
            self._join(task_id, self._last.get(self._live[task_id].tenant or "", 0))

    def discard(self, task_id: int) -> None:
        """Out of its line."""
        self._line.pop(task_id).discard(task_id)
        self._changed.add(task_id)

    def peek(self, limit: int, now_ms: int) -> list[int]:
        """The first of the highest level that has some; a boost that is due comes before."""
        if self._boosted_ms is None:
            self._boosted_ms = now_ms
            self._changed.add(BOOST)
        elif self._boost_ms and now_ms - self._boosted_ms >= self._boost_ms:
            self._boosted_ms += (now_ms - self._boosted_ms) // self._boost_ms * self._boost_ms
            self._boost()
        return list(islice(chain.from_iterable(chain.from_iterable(self._levels)), limit))

    def take(self, task_id: int) -> None:
        """Its level is kept, should it come back."""
        line = self._line.pop(task_id)
        line.discard(task_id)
        self._taken[task_id] = line.level

    def put_back(self, task_id: int) -> None:
        """To its level; in the order of submission among those that came since the last boost."""
        self._join(task_id, self._taken.pop(task_id, 0))

    def begin(self, task_id: int) -> None:
        """That changes nothing."""

    def charge(self, task_id: int, cpu_ms: int, ran_ms: int) -> None:
        """It, and its tenant, sink to the level that this CPU time leads to."""
        self._taken.pop(task_id, None)
        used_ms = self._cpu_ms.get(task_id, 0) + cpu_ms
        if len(self._cpu_ms) > _SWEEP_AT + 2 * len(self._live):
            self._cpu_ms = {i: ms for i, ms in self._cpu_ms.items() if i in self._live}
        self._cpu_ms[task_id] = used_ms
        self._changed.add(task_id)
        task = self._live.get(task_id)
        if task is not None and task.tenant is not None:
            self._last[task.tenant] = self.level_of(used_ms)
            self._changed.add(f"={task.tenant}")

    def goes_before(self, waiting: int, taken: int) -> bool:
        """A higher level before a lower one."""
        return self._line[waiting].level < self._taken.get(taken, 0)

    def too_late(self, deadline_ms: int, slots: int, now_ms: int) -> bool:
        """How long the others take is not known here."""
        return False

    def level(self, task_id: int) -> int:
        """Of one that waits, or has been taken."""
        line = self._line.get(task_id)
        return line.level if line is not None else self._taken.get(task_id, 0)

    def level_of(self, cpu_ms: float) -> int:
        """The level of a task that has used that much CPU since the last boost."""
        return bisect_right(self._sinks_at_ms, cpu_ms)

    def unsaved(self) -> dict[str, Any]:
        """The CPU time of each task that may come back, the level of each tenant, and when the last boost was."""
        if not self._changed:
            return {}
        found: dict[str, Any] = {}
        for what in self._changed:
            value: Any
            if isinstance(what, int):
                value = self._cpu_ms.get(what) if what in self._live else None
            else:
                value = self._boosted_ms if what == BOOST else self._last.get(what[1:])
            if value is not None:
                self._saved.add(what)
            elif what in self._saved:
                self._saved.remove(what)
            else:
                continue  # nobody has been told of it
            found[str(what)] = value
        self._changed.clear()
        return found

    def resume(self, known: Mapping[str, Any]) -> None:
        """Each to the level that its own tries have earned; what has not been tried to that of its tenant by now."""
        self._boosted_ms = known.get(BOOST)
        for name, value in known.items():
            if name.startswith("="):
                self._last[name[1:]] = value
            elif name != BOOST:
                self._cpu_ms[int(name)] = value
        self._saved = {int(name) if name.isdigit() else name for name in known}
        waiting, self._line = sorted(self._line), {}
        self._levels = [[_Line(level)] for level in range(len(self._levels))]
        for task_id in waiting:
            self.add(task_id)

    def _join(self, task_id: int, level: int) -> None:
        line = self._levels[level][-1]
        line.add(task_id)
        self._line[task_id] = line

    def _boost(self) -> None:
        self.boosts += 1
        lines = [line for level in self._levels for line in level if len(line)]
        if any(line.level for line in lines):
            for line in lines:
                line.level = 0
            self._levels = [[*lines, _Line(0)], *([_Line(level)] for level in range(1, len(self._levels)))]
        self._taken.clear()
        self._cpu_ms.clear()
        self._last.clear()
        self._changed |= self._saved | {BOOST}
