"""Each policy's definition written down as plainly as it can be said: a list of what waits, and the one that goes next.

Slow, without a structure, and sharing no line with the orders that are tried against it.
"""

from __future__ import annotations

from collections.abc import Mapping

from tests.policies.ordering.model import Task

Live = Mapping[int, Task]


class Plain:
    """What waits; `choose` is the definition."""

    def __init__(self, live: Live) -> None:
        self.live = live
        self.waiting: set[int] = set()

    def choose(self, now_ms: int) -> int:
        """FIFO: the one that was submitted first."""
        return min(self.waiting)

    def add(self, task_id: int) -> None:
        self.waiting.add(task_id)

    def discard(self, task_id: int) -> None:
        self.waiting.remove(task_id)

    def take(self, task_id: int) -> None:
        self.waiting.remove(task_id)

    def charge(self, task_id: int, cpu_ms: int, ran_ms: int) -> None:
        pass


class PlainPriority(Plain):
    """Bands strictly; the high one by priority, then all by submission."""

    def choose(self, now_ms: int) -> int:
        def place(task_id: int) -> tuple[int, int]:
            priority = self.live[task_id].priority
            return (-priority if priority >= 200 else -100 if priority >= 100 else 0), task_id

        return min(self.waiting, key=place)


class PlainDeadlines(Plain):
    """The nearest deadline; without one, last."""

    def choose(self, now_ms: int) -> int:
        return min(self.waiting, key=lambda i: (self.live[i].deadline_ms or 1 << 62, i))


class PlainShares(Plain):
    """The tenant that has used least for its weight; an estimate at the start, corrected at the end."""

    def __init__(self, live: Live, weights: Mapping[str, float]) -> None:
        super().__init__(live)
        self.weights = weights
        self.used: dict[str, int] = {}
        self.means: dict[str, float] = {}
        self.mean_of_all: float | None = None
        self.paid: dict[int, int] = {}
        self.virtual = 0

    def who(self, task_id: int) -> str:
        return self.live[task_id].tenant or ""

    def present(self) -> set[str]:
        return {self.who(i) for i in self.waiting} | {self.who(i) for i in self.paid}

    def add(self, task_id: int) -> None:
        who = self.who(task_id)
        if who not in self.present():
            self.used[who] = max(self.used.get(who, 0), self.virtual)
        super().add(task_id)

    def choose(self, now_ms: int) -> int:
        least = min(self.used[self.who(i)] for i in self.waiting)
        return min(i for i in self.waiting if self.used[self.who(i)] == least)

    def take(self, task_id: int) -> None:
        super().take(task_id)
        who = self.who(task_id)
        self.virtual = max(self.virtual, self.used[who])
        fallback = 1000.0 if self.mean_of_all is None else self.mean_of_all
        self.paid[task_id] = round(self.means.get(who, fallback) * 1000 / self.weights.get(who, 1.0))
        self.used[who] += self.paid[task_id]

    def charge(self, task_id: int, cpu_ms: int, ran_ms: int) -> None:
        who = self.who(task_id)
        cpu_ms = max(cpu_ms, 1)
        self.used[who] += round(cpu_ms * 1000 / self.weights.get(who, 1.0)) - self.paid.pop(task_id)
        old = self.means.get(who)
        self.means[who] = cpu_ms if old is None else old + (cpu_ms - old) / 8
        self.mean_of_all = cpu_ms if self.mean_of_all is None else self.mean_of_all + (cpu_ms - self.mean_of_all) / 8


class PlainFeedback(Plain):
    """A list a level; who has used up a quantum sinks, his tenant's next task enters where he stands; boosts lift all."""

    def __init__(self, live: Live, quanta_ms: list[int], boost_ms: int) -> None:
        super().__init__(live)
        self.quanta_ms, self.boost_ms = quanta_ms, boost_ms
        self.began_ms: int | None = None
        self.levels: list[list[tuple[int, int]]] = [[] for _ in quanta_ms]
        """(place, id): 0 for what has come since the last boost, below that what it lifted."""
        self.cpu_ms: dict[int, int] = {}
        self.last: dict[str, int] = {}

    def add(self, task_id: int) -> None:
        super().add(task_id)
        level = self.last.get(self.live[task_id].tenant or "", 0)
        if task_id in self.cpu_ms:
            level = self.level(self.cpu_ms[task_id])
        self.levels[level].append((0, task_id))

    def level(self, cpu_ms: int) -> int:
        level = 0
        while level < len(self.quanta_ms) - 1 and cpu_ms >= sum(self.quanta_ms[: level + 1]):
            level += 1
        return level

    def choose(self, now_ms: int) -> int:
        if self.began_ms is None:
            self.began_ms = now_ms
        while now_ms - self.began_ms >= self.boost_ms:
            self.began_ms += self.boost_ms
            if any(self.levels[1:]):
                # who was lifted stands as it stood, before whoever comes later
                stood = [task_id for level in self.levels for _, task_id in sorted(level)]
                self.levels = [
                    [(-len(stood) + place, i) for place, i in enumerate(stood)],
                    *([] for _ in self.quanta_ms[1:]),
                ]
            self.cpu_ms.clear()
            self.last.clear()
        level = next(level for level in self.levels if level)
        return min(level)[1]

    def take(self, task_id: int) -> None:
        super().take(task_id)
        self.levels = [[pair for pair in level if pair[1] != task_id] for level in self.levels]

    discard = take

    def charge(self, task_id: int, cpu_ms: int, ran_ms: int) -> None:
        self.cpu_ms[task_id] = self.cpu_ms.get(task_id, 0) + cpu_ms
        tenant = self.live[task_id].tenant
        if tenant is not None:
            self.last[tenant] = self.level(self.cpu_ms[task_id])
