"""Those who wait until something has changed, and are told after a turn.

    turn -> COMMIT -> turned() -> a task waited for stands elsewhere than when it was looked at: who waits for it looks again
                               -> anything else: all look, at a pace

Contract: nobody is told before the turn's COMMIT. What a turn costs here grows with those who wait for anything at all, who
are told the less often the more they are, and hardly with those who wait for tasks: of these only whom it concerns wakes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection

from reconciler.clock import Clock
from reconciler.resources.task import TaskState
from reconciler.store.base import TaskRecord

TELL_GAP_S = 0.0005
"""Between two looks of those who wait for anything, for each of them: they never slow the turns."""


class Waiting:
    """Waits inside a running event loop. `live_task` gives a task that has not ended."""

    def __init__(self, live_task: Callable[[int], TaskRecord | None], clock: Clock) -> None:
        self._live_task = live_task
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._anything: list[asyncio.Future[None]] = []
        self._tasks: dict[asyncio.Future[None], dict[int, TaskState | None]] = {}
        """Who waits for tasks, and how each stood when he looked."""
        self._telling: asyncio.TimerHandle | None = None
        self._told_at = 0.0

    async def changed(self, tasks: Collection[int] = ()) -> None:
        """Returns soon after the next turn; with `tasks`, only after one in which one of them has changed its state."""
        future: asyncio.Future[None] = self._loop.create_future()
        if not tasks:
            self._anything.append(future)
            await future
            return
        self._tasks[future] = {task_id: self._state(task_id) for task_id in tasks}
        try:
            await future
        finally:
            del self._tasks[future]

    def turned(self) -> None:
        """A turn is over, and durable if it could be made so."""
        for future, seen in self._tasks.items():
            if not future.done() and any(self._state(task_id) is not state for task_id, state in seen.items()):
                future.set_result(None)
        if not self._anything or self._telling is not None:
            return
        wait_s = self._told_at + TELL_GAP_S * len(self._anything) - self._clock.monotonic()
        if wait_s > 0:
            self._telling = self._loop.call_later(wait_s, self._tell)
        else:
            self._tell()

    def _tell(self) -> None:
        self._telling, self._told_at = None, self._clock.monotonic()
        waiting, self._anything = self._anything, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    def _state(self, task_id: int) -> TaskState | None:
        record = self._live_task(task_id)
        return None if record is None else record.state
