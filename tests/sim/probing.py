"""The real prober on virtual time: an event loop whose clock is the timeline's, and workers that answer as their seed says.

    controller ── Prober (the real one) ── await ──> VirtualLoop ──> timeline
                     └─ run(command) ──> Answers: yes | no | too late | could not be asked

Checked at each answer and after each turn, ids as in the catalogue:
P-asked   one try at a time, of the instance that runs, in turn (startup before the others), and none while it is being stopped
P-error   a try that could not be made changes nothing
P-ready   ready is only who has answered so, and a pool counts no other
P-dead    who is found dead is stopped
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from reconciler.backends.ask import Answer
from reconciler.resources.pool import Pool
from reconciler.resources.probe import Health, Kind
from reconciler.resources.worker import Process, Worker
from reconciler.store.base import Store
from tests.sim.timeline import Timeline, Violation

SOON_S = 0.001
"""A try that is not wanted any more has ended by then."""

COUNTED_WITHIN_S = 0.2
"""A pool is counted a moment after its workers, for many of them at once."""


class Owner(Protocol):
    """The process in which a loop turns."""

    alive: bool
    frozen_until_us: int


class VirtualLoop(asyncio.AbstractEventLoop):
    """As much of an event loop as coroutines need that only wait; nothing of it happens once its process is dead."""

    def __init__(self, timeline: Timeline, owner: Owner) -> None:
        self._timeline = timeline
        self._owner = owner
        self._tasks: list[asyncio.Task[Any]] = []

    def die(self) -> None:
        """What waits in it is thrown away."""
        for task in self._tasks:
            coroutine = task.get_coro()
            if not task.done() and coroutine is not None:
                coroutine.close()

    @contextmanager
    def running(self) -> Iterator[None]:
        """What is called in it finds this loop as the running one."""
        before = asyncio._get_running_loop()
        asyncio._set_running_loop(self)
        try:
            yield
        finally:
            asyncio._set_running_loop(before)

    def time(self) -> float:
        return self._timeline.now_us / 1e6

    def call_soon(
        self, callback: Callable[..., Any], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._timeline.after(0.0, self._run, handle)
        return handle

    def call_later(
        self, delay: float, callback: Callable[..., Any], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[..., Any], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._timeline.after(when - self.time(), self._run, handle)
        return handle

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Coroutine[Any, Any, Any], **named: Any) -> asyncio.Task[Any]:  # type: ignore[override]
        task = asyncio.Task(coro, loop=self, **named)
        self._tasks.append(task)
        return task

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return self._owner.alive

    def is_closed(self) -> bool:
        return not self._owner.alive

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """It stays on the timeline, and does nothing there."""

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if context["message"].startswith("Task "):
            return  # it was thrown away as it was, with its process or with the whole world
        raise error if isinstance(error, Violation) else Violation(f"I17: {context['message']}: {error!r}")

    def _run(self, handle: asyncio.Handle) -> None:
        left_us = self._owner.frozen_until_us - self._timeline.now_us
        if not self._owner.alive or handle.cancelled():
            return
        if left_us > 0:
            self._timeline.after(left_us / 1e6, self._run, handle)
            return
        with self.running():
            handle._run()


class Nature(Protocol):
    """How the workers answer; drawn anew for each try."""

    def __call__(self, worker: Worker, kind: Kind) -> tuple[str, float]:
        """yes, no, late or error, and after how many seconds."""
        ...


class Answers:
    """The other side of one controller's prober: answers its commands, and checks what it asks and what it makes of it."""

    def __init__(self, timeline: Timeline, owner: Owner, store: Store, nature: Nature) -> None:
        self._timeline = timeline
        self._owner = owner
        self._store = store
        self._nature = nature
        self._answered = 0
        self._under_way: set[tuple[str, str, Kind]] = set()
        self._said: dict[tuple[str, Kind], int] = {}
        """Answers in a row by instance and kind: above 0 so many were yes, below so many no."""
        self._too_many_since_us: dict[str, int] = {}
        """When a pool was first seen to count more than are ready."""
        self._ready_before = {one.status.instance for one in store.all(Worker) if one.status.ready}
        """Found ready by an earlier controller."""

    async def run(self, worker: Worker, kind: Kind, command: list[str], timeout_s: float) -> Answer:
        instance = worker.status.instance
        key = (worker.name, instance, kind)
        self._may_ask(worker, kind, key)
        word, takes_s = self._nature(worker, kind)
        self._under_way.add(key)
        try:
            await asyncio.sleep(timeout_s if word == "late" else min(takes_s, timeout_s))
        finally:
            self._under_way.discard(key)
        self._timeline.say(f"probe {worker.name} {kind} of {instance}: {word}")
        if word == "error":
            self._timeline.after(0.0, self._unchanged, worker.name, instance, self._health(worker.name, instance))
            return Answer(None, "it could not be asked")
        self._answered += 1
        row = self._said.get((instance, kind), 0)
        self._said[instance, kind] = max(row, 0) + 1 if word == "yes" else min(row, 0) - 1
        return Answer(word == "yes", word)

    def turned(self) -> None:
        """After a turn with nothing left to do."""
        for name, instance, kind in sorted(self._under_way):
            worker = self._store.get(Worker, name)
            if worker is None or worker.status.instance != instance or not _runs(worker):
                self._timeline.after(SOON_S, self._is_over, name, instance, kind)
        for worker in self._store.all(Worker):
            self._check(worker)
        for pool in self._store.all(Pool):
            counted = pool.status.ready_replicas
            ready = sum(worker.status.ready for worker in self._store.owned_by(pool.key, Worker))
            if pool.spec.tasks is not None or counted <= ready:
                self._too_many_since_us.pop(pool.name, None)
                continue
            since_us = self._too_many_since_us.setdefault(pool.name, self._timeline.now_us)
            if self._timeline.now_us - since_us > COUNTED_WITHIN_S * 1e6:
                raise Violation(f"P-ready: {pool.key} still counts {counted} as ready, {ready} are")

    def _is_over(self, name: str, instance: str, kind: Kind) -> None:
        left_us = self._owner.frozen_until_us - self._timeline.now_us
        if self._owner.alive and left_us > 0:
            self._timeline.after(left_us / 1e6 + SOON_S, self._is_over, name, instance, kind)
        elif self._owner.alive and (name, instance, kind) in self._under_way:
            raise Violation(f"P-asked: the {kind} probe of {instance} goes on, though it is stopped or does not run")

    def _check(self, worker: Worker) -> None:
        health, status = worker.status.probed, worker.status
        pool = self._store.get(Pool, worker.spec.pool)
        if pool is None or health is None or status.process is not Process.UP:
            return
        if health.dead and status.stopping is None:
            raise Violation(f"P-dead: {worker.key} is left running, though {health.dead}")
        if status.ready and (not health.ready or status.stopping is not None):
            raise Violation(f"P-ready: {worker.key} is called ready, its probes say {health}")
        probe = pool.spec.template.probes.readiness
        if status.ready and probe is not None and probe.notify is None and status.instance not in self._ready_before:
            row = self._said.get((status.instance, Kind.READINESS), 0)
            if row == 0 or row <= -probe.failure_threshold:
                raise Violation(f"P-ready: {worker.key} is called ready after {row} answers in a row")

    def _may_ask(self, worker: Worker, kind: Kind, key: tuple[str, str, Kind]) -> None:
        now = self._store.get(Worker, worker.name)
        health = now.status.probed if now is not None else None
        if now is None or health is None or now.status.instance != worker.status.instance or not _runs(now):
            raise Violation(f"P-asked: {key} is asked, and does not run or is being stopped")
        if health.started == (kind is Kind.STARTUP) or health.dead:
            raise Violation(f"P-asked: {key} is asked out of turn: {health}")
        if key in self._under_way:
            raise Violation(f"P-asked: {key} is asked twice at once")

    def _health(self, name: str, instance: str) -> tuple[int, Health | None]:
        worker = self._store.get(Worker, name)
        same = worker is not None and worker.status.instance == instance
        return self._answered, worker.status.probed if worker is not None and same else None

    def _unchanged(self, name: str, instance: str, before: tuple[int, Health | None]) -> None:
        after = self._health(name, instance)
        if after[0] == before[0] and None not in (after[1], before[1]) and after != before:
            raise Violation(f"P-error: a try that could not be made changed {instance} from {before[1]} to {after[1]}")


def _runs(worker: Worker) -> bool:
    return worker.status.process is Process.UP and worker.status.stopping is None
