"""What plans see of the lines of tasks before warm workers: read-only views of one moment."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol


class Line(Protocol):
    """One worker's line of tasks, as a plan sees it."""

    @property
    def name(self) -> str:
        """Of the worker."""
        ...

    @property
    def open(self) -> bool:
        """It is ready, and is to stay."""
        ...

    @property
    def expected(self) -> bool:
        """It is there, or will soon be: its keys wait for it."""
        ...

    @property
    def retire(self) -> str:
        """Why it gets no more tasks and is to be stopped; empty if it is to stay."""
        ...

    @property
    def held(self) -> int:
        """Tasks it has been given and not answered."""
        ...

    @property
    def concurrency(self) -> int:
        """How many of those it works on at once."""
        ...

    @property
    def served(self) -> int:
        """Tasks it has answered."""
        ...

    @property
    def started_at(self) -> datetime | None:
        """When its process began."""
        ...

    @property
    def memory_bytes(self) -> int:
        """What it was last seen to use; 0: nobody has looked yet."""
        ...

    def answered_since(self, ms: int) -> int:
        """How many tasks it has answered since that moment, as far as is remembered."""
        ...


class Lines(Protocol):
    """The lines of one pool."""

    @property
    def all(self) -> Sequence[Line]:
        """By ordinal."""
        ...

    def key_of(self, task_id: int) -> str | None:
        """What the task is about."""
        ...

    def holder(self, key: str) -> str | None:
        """The worker that has unanswered tasks of that key."""
        ...
