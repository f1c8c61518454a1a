"""Who waits is told of what concerns him, and of nothing else."""

from __future__ import annotations

import asyncio

from reconciler.clock import SystemClock
from reconciler.resources.task import TaskState
from reconciler.runtime.waiting import Waiting
from reconciler.store.base import TaskRecord


async def _settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_who_waits_for_a_task_wakes_when_that_task_has_moved_and_sleeps_while_others_do() -> None:
    async def run() -> None:
        live = {number: TaskRecord(number, "batch", TaskState.PENDING, 0, 3, "{}") for number in (1, 2)}
        waiting = Waiting(live.get, SystemClock())
        first, both = asyncio.create_task(waiting.changed([1])), asyncio.create_task(waiting.changed([1, 2]))
        await _settle()
        waiting.turned()
        await _settle()
        assert not first.done() and not both.done(), "a turn in which neither has moved concerns nobody"
        live[2].state = TaskState.RUNNING
        waiting.turned()
        await _settle()
        assert both.done() and not first.done()
        del live[1]  # it has ended
        waiting.turned()
        await _settle()
        assert first.done()

    asyncio.run(run())


def test_who_gives_up_is_forgotten() -> None:
    async def run() -> None:
        live = {1: TaskRecord(1, "batch", TaskState.PENDING, 0, 3, "{}")}
        waiting = Waiting(live.get, SystemClock())
        one = asyncio.create_task(waiting.changed([1]))
        await _settle()
        one.cancel()
        await _settle()
        live.clear()
        waiting.turned()
        assert one.cancelled()

    asyncio.run(run())


def test_who_waits_for_anything_is_told_after_the_next_turn() -> None:
    async def run() -> None:
        waiting = Waiting({}.get, SystemClock())
        one = asyncio.create_task(waiting.changed())
        await _settle()
        waiting.turned()
        await asyncio.wait_for(one, 30)

    asyncio.run(run())
