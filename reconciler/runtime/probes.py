"""Asks the workers: one task for each probe of each worker that is up, and what they answer into the worker's health.

    worker up, has probes --> task: wait, ask, count, wait ...   answers -> status.health -> the worker's plan
    worker ends or stops  --> task cancelled, what it runs killed

It decides nothing: when to ask and what an answer means stands in policies/probe. One try at a time; what an ask by
command has started is killed as a whole tree at its timeout, and no next try is made before it is gone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Protocol

from reconciler.backends import ask
from reconciler.backends.ask import Answer
from reconciler.clock import Clock
from reconciler.policies import probe as policy
from reconciler.resources.event import event
from reconciler.resources.meta import Object
from reconciler.resources.notify import Word
from reconciler.resources.pool import Pool
from reconciler.resources.probe import Health, HttpGet, Kind, Notify, Probe, Scheme, TcpSocket
from reconciler.resources.worker import Process, Worker
from reconciler.store.base import Store

log = logging.getLogger("reconciler")

LATE_S = 0.5
"""A try that this process itself has held up for so long says nothing."""


SLACK_S = 0.1
"""A beat may be that much late: it was sent in time and has been read after the look."""


NEWLINE_S = 1.0
"""So often it is looked whether a newline has been written; at first more often."""


class Commands(Protocol):
    """Runs the commands of probes, as their workers are run."""

    async def run(self, worker: Worker, kind: Kind, command: list[str], timeout_s: float) -> Answer:
        """Runs it, kills its tree at the timeout, and returns when nothing of it is left."""
        ...


class Prober:
    """All probes of all workers."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        commands: Commands,
        wake: Callable[[], None],
        said_ready: Callable[[str], bool],
    ) -> None:
        """`wake` has staged events made durable, `said_ready` looks whether an instance has written its newline."""
        self._said_ready = said_ready
        self._store = store
        self._wake = wake
        self._clock = clock
        self._commands = commands
        self._began_at = clock.now()
        self._watches: dict[str, dict[Kind, asyncio.Task[None]]] = {}
        """By worker."""
        self._watched: dict[str, str] = {}
        """The instance that is asked, by worker."""
        self._beats: dict[str, float] = {}
        """When a worker last said that it is alive, by instance."""
        store.on_change(self._object_changed)

    def look_at_all(self) -> None:
        """Once, when it is known what runs."""
        for worker in self._store.all(Worker):
            self._look(worker)

    def notified(self, worker: Worker, said: frozenset[Word]) -> None:
        """A worker has spoken by itself."""
        health = worker.status.probed
        pool = self._store.get(Pool, worker.spec.pool)
        if health is None or pool is None or not pool.spec.template.probes.notify_ways:
            return
        if Word.READY in said and not health.notified:
            self._store.set_status(worker.key, worker.status.changed(health=health.changed(notified=True)))
        if Word.WATCHDOG in said:
            self._beats[worker.status.instance] = self._clock.monotonic()

    def _object_changed(self, old: Object | None, new: Object | None) -> None:
        if isinstance(new, Worker):
            if new.status.health is not None or new.name in self._watches:
                self._look(new)
        elif isinstance(old, Worker):
            self._end(old.name)
        elif isinstance(new, Pool) and isinstance(old, Pool) and _probes(old) != _probes(new):
            for worker in self._store.owned_by(new.key, Worker):
                self._end(worker.name)
                self._look(worker)

    def _look(self, worker: Worker) -> None:
        """Has exactly those asked that are to be asked now."""
        name, health = worker.name, worker.status.probed
        if self._watched.get(name) != worker.status.instance:
            self._end(name)
        wanted = self._asked(worker, health)
        watches = self._watches.get(name, {})
        if wanted == tuple(watches):
            return
        for kind in [kind for kind in watches if kind not in wanted]:
            _cancel(watches.pop(kind))
        for kind in wanted:
            if kind not in watches:
                watches[kind] = asyncio.get_running_loop().create_task(self._watch(name, worker.status.instance, kind))
                watches[kind].add_done_callback(_crash)
        if watches:
            self._watches[name], self._watched[name] = watches, worker.status.instance
        else:
            self._end(name)

    def _asked(self, worker: Worker, health: Health | None) -> tuple[Kind, ...]:
        status = worker.status
        pool = self._store.get(Pool, worker.spec.pool)
        if pool is None or health is None or status.process is not Process.UP or status.stopping is not None:
            return ()
        return policy.asked(pool.spec.template.probes, health)

    def _end(self, name: str) -> None:
        self._beats.pop(self._watched.pop(name, ""), None)
        for watch in self._watches.pop(name, {}).values():
            _cancel(watch)

    async def _watch(self, name: str, instance: str, kind: Kind) -> None:
        """One probe of one start, for as long as it is to be asked."""
        found = self._now(name, instance, kind)
        if found is None:
            return
        worker, probe, _ = found
        if probe.notify is not None:
            await self._listen(worker, kind, probe)
            return
        now = self._clock.now()
        started_at = worker.status.started_at or now
        known = started_at < self._began_at
        at = policy.first_at(probe, kind, started_at, now, instance, known and worker.status.ready)
        tally = policy.Tally()
        while True:
            await self._until(at)
            found = self._now(name, instance, kind)
            if found is None:
                return
            worker, probe, health = found
            at = self._clock.now()
            answer = await self._ask(worker, kind, probe)
            found = self._now(name, instance, kind)
            if found is None:
                return
            worker, probe, health = found
            if answer.ok is None:
                self._said_nothing(worker, kind, answer.text)
                at += timedelta(seconds=probe.period_s)
                continue
            tally = policy.count(tally, probe, kind, answer.ok, at)
            self._learn(worker, probe, kind, health, tally, answer)
            if self._now(name, instance, kind) is None:
                return
            well = policy.good(self._health(name) or health, kind)
            at += timedelta(seconds=policy.wait_s(probe, kind, tally, well))

    async def _listen(self, worker: Worker, kind: Kind, probe: Probe) -> None:
        """Waits for a worker that is to speak by itself to be silent for too long."""
        name, instance = worker.name, worker.status.instance
        now = self._clock.now()
        if probe.notify is Notify.NEWLINE:
            end = policy.silence_ends_at(probe, worker.status.started_at or now) if kind is Kind.STARTUP else None
            if await self._read_newline(name, instance, kind, end):
                return
        elif kind is Kind.STARTUP:
            await self._until(policy.silence_ends_at(probe, worker.status.started_at or now))
        if kind is Kind.STARTUP:
            found = self._now(name, instance, kind)
            if found is not None:
                worker, probe, health = found
                self._store.set_status(worker.key, worker.status.changed(health=policy.silent(probe, health)))
        if kind is not Kind.LIVENESS:
            return  # what it says, it says once: see `notified`
        tally = policy.Tally()
        due = now + timedelta(seconds=probe.initial_delay_s + probe.period_s)
        while True:
            await self._until(due)
            found = self._now(name, instance, kind)
            if found is None:
                return
            worker, probe, health = found
            at = self._clock.now()
            if (at - due).total_seconds() <= LATE_S:  # else this process was held up, and has not listened
                beat_s = self._clock.monotonic() - self._beats.get(instance, float("-inf"))
                answer = Answer(beat_s <= probe.period_s + SLACK_S, f"no WATCHDOG=1 for {probe.period_s:g} s")
                tally = policy.count(tally, probe, kind, bool(answer.ok), at)
                self._learn(worker, probe, kind, health, tally, answer)
            due = at + timedelta(seconds=probe.period_s)

    async def _read_newline(self, name: str, instance: str, kind: Kind, end: datetime | None) -> bool:
        """Looks for the newline until it is there, or the time is over: then false."""
        wait_s = policy.EAGER_S
        while True:
            found = self._now(name, instance, kind)
            if found is None or found[2].notified:
                return True
            worker, _, health = found
            if self._said_ready(instance):
                self._store.set_status(worker.key, worker.status.changed(health=health.changed(notified=True)))
                return True
            now = self._clock.now()
            if end is not None and now >= end:
                return False
            await asyncio.sleep(wait_s)
            wait_s = min(NEWLINE_S, wait_s * 1.5)

    async def _until(self, at: datetime) -> None:
        await asyncio.sleep(max(0.0, (at - self._clock.now()).total_seconds()))

    def _now(self, name: str, instance: str, kind: Kind) -> tuple[Worker, Probe, Health] | None:
        """What is asked and of whom, as it stands now; None: nothing any more."""
        worker = self._store.get(Worker, name)
        if worker is None or worker.status.instance != instance:
            return None
        health = worker.status.probed
        pool = self._store.get(Pool, worker.spec.pool)
        probe = pool.spec.template.probes.of(kind) if pool is not None else None
        if probe is None or health is None or kind not in self._asked(worker, health):
            return None
        return worker, probe, health

    def _health(self, name: str) -> Health | None:
        worker = self._store.get(Worker, name)
        return None if worker is None else worker.status.probed

    def _learn(
        self, worker: Worker, probe: Probe, kind: Kind, health: Health, tally: policy.Tally, answer: Answer
    ) -> None:
        new = policy.after(health, probe, kind, tally, bool(answer.ok), answer.text, self._clock.now())
        if new != health:
            self._store.set_status(worker.key, worker.status.changed(health=new))

    def _said_nothing(self, worker: Worker, kind: Kind, why: str) -> None:
        """The probe itself could not be made: nothing is counted, and people are told."""
        message = f"the {kind} probe could not be made: {why}"
        self._store.add_event(event(worker.key, "ProbeError", message, self._clock.now(), warning=True))
        self._wake()

    async def _ask(self, worker: Worker, kind: Kind, probe: Probe) -> Answer:
        before = self._clock.monotonic()
        if probe.http_get is not None:
            way, port = probe.http_get, _port(worker, probe.http_get)
            headers = [(header.name, header.value) for header in way.http_headers]
            answer = await ask.http(way.host, port, way.path, probe.timeout_s, way.scheme is Scheme.HTTPS, headers)
        elif probe.tcp_socket is not None:
            answer = await ask.tcp(probe.tcp_socket.host, _port(worker, probe.tcp_socket), probe.timeout_s)
        elif probe.exec is not None:
            return await self._commands.run(worker, kind, probe.exec.command, probe.timeout_s)
        else:
            raise AssertionError(f"{worker.key}: a {kind} probe that asks in no way")
        late_s = self._clock.monotonic() - before - probe.timeout_s
        if not answer.ok and late_s > LATE_S:
            return Answer(None, f"this process itself was held up for {late_s:.1f} s")
        return answer


def _probes(pool: Pool) -> object:
    return pool.spec.template.probes


def _port(worker: Worker, way: HttpGet | TcpSocket) -> int:
    """The number it has in this slot."""
    return int(way.port) if way.port.isdigit() else worker.spec.ports.get(way.port, 0)


def _cancel(watch: asyncio.Task[None]) -> None:
    if watch is not asyncio.current_task():  # it looks itself, and returns
        watch.cancel()


def _crash(watch: asyncio.Task[None]) -> None:
    """A defect ends the controller, as everywhere: workers live on."""
    if not watch.cancelled() and (error := watch.exception()) is not None:
        asyncio.get_running_loop().call_exception_handler({"message": "a probe is broken", "exception": error})
