"""What every order of waiting tasks can do; one class a policy, in the files beside this one.

    submitted, due again -> add -> | the order | -> peek -> take -> begin -> charge
                                        ^  \\-> discard (cancelled, expired)   |
                                        `----------- put_back (never began) <-'

    unsaved -> the table, with the try that changed it        after a restart: add each that waits, then resume

Contract: an order knows ids only, and asks `live` for the rest. It is deterministic: the same calls give the same order.
Each call costs O(log n) at most, and `peek` that for each id it gives. Nothing looks at a clock: the time is handed in.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol


class Waiting(Protocol):
    """What an order may know of a task."""

    submitted_ms: int
    priority: int
    tenant: str | None
    key: str | None
    deadline_ms: int
    """0: it has none."""


Live = Mapping[int, Waiting]


class Ordering(Protocol):
    """An order of ids; each is in it once at most."""

    @property
    def lead_ms(self) -> int:
        """So long before its deadline a task has to begin, or it is too late for it."""
        ...

    @property
    def expires(self) -> bool:
        """Whether what is too late ends."""
        ...

    @property
    def recalls(self) -> bool:
        """Whether a new task may have to go before what has been taken: see `goes_before`.

        An order without is spared `begin` and `charge`: nothing that happens to a task changes who is next.
        """
        ...

    @property
    def remembers(self) -> bool:
        """Whether what has ended says something about what waits: see `unsaved`."""
        ...

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[int]:
        """Every id, in whatever sequence is cheapest."""
        ...

    def add(self, task_id: int) -> None:
        """A new task, or one whose next try is due."""
        ...

    def discard(self, task_id: int) -> None:
        """It ends without having run, wherever it stands."""
        ...

    def peek(self, limit: int, now_ms: int) -> Sequence[int]:
        """The first ids, which stay: what `take` of each in turn would give."""
        ...

    def take(self, task_id: int) -> None:
        """It goes to the launcher."""
        ...

    def begin(self, task_id: int) -> None:
        """What had been taken runs; said once a try at least."""
        ...

    def put_back(self, task_id: int) -> None:
        """It had been taken and never began: it takes its old place."""
        ...

    def charge(self, task_id: int, cpu_ms: int, ran_ms: int) -> None:
        """The try of what had been taken is over: the CPU time it used, and how long it ran."""
        ...

    def goes_before(self, waiting: int, taken: int) -> bool:
        """Whether one that waits has to go before one that has been taken and has not begun."""
        ...

    def too_late(self, deadline_ms: int, slots: int, now_ms: int) -> bool:
        """Whether a new task could not meet that deadline, with what goes before it."""
        ...

    def unsaved(self) -> dict[str, Any]:
        """What has to be known after a restart and has changed since this was asked last, as JSON values by name.

        None: that name is not needed any more. Nothing at all from an order that does not remember.
        """
        ...

    def resume(self, known: Mapping[str, Any]) -> None:
        """All that the same order before a restart has said to be known; what waits has been added."""
        ...
