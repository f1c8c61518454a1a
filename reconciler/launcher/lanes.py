"""The slots of a pool's tasks, and who waits for one. Pure."""

from __future__ import annotations

from collections import deque
from heapq import heapify, heappop, heappush
from typing import Generic, TypeVar

T = TypeVar("T")


class Lane(Generic[T]):
    """The slots of one lane: the lowest free ordinal first; a shrunken lane takes none until enough have ended."""

    __slots__ = ("free", "slots", "used", "waiting")

    def __init__(self) -> None:
        self.slots = 0
        self.used: set[int] = set()
        self.free: list[int] = []
        self.waiting: deque[T] = deque()

    def resize(self, slots: int) -> None:
        self.slots = slots
        self.free = [ordinal for ordinal in range(slots) if ordinal not in self.used]
        heapify(self.free)

    def ready(self) -> bool:
        return bool(self.waiting and self.free) and len(self.used) < self.slots

    def take(self) -> int:
        ordinal = heappop(self.free)
        self.used.add(ordinal)
        return ordinal

    def give(self, ordinal: int) -> None:
        if ordinal in self.used:
            self.used.remove(ordinal)
            if ordinal < self.slots:
                heappush(self.free, ordinal)

    def hold(self, ordinal: int) -> None:
        """A slot that an adopted child takes, declared or not."""
        self.used.add(ordinal)
        self.resize(self.slots)
