"""The turn of the controller: write down, plan, carry out, commit, and only then let anything out.

    inbox -> observer -> store           what the launcher said
    work queue -> plan -> executor       what to do about it
    COMMIT                               one transaction, whatever the turn did
    outbox, acknowledgements, waiters    what depends on its being durable

The loop knows neither sockets nor asyncio: the daemon turns it when something has come in, the simulator in virtual time.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from reconciler.backends.base import Host, Link
from reconciler.backends.launch import task_key
from reconciler.clock import Clock
from reconciler.controllers import dependencies
from reconciler.controllers import lock as lock_controller
from reconciler.controllers import pool as pool_controller
from reconciler.controllers import restartpolicy as restartpolicy_controller
from reconciler.controllers import schedulingpolicy as schedulingpolicy_controller
from reconciler.controllers import warm as warm_controller
from reconciler.controllers import worker as worker_controller
from reconciler.controllers.base import Lane, Mode, Plan, World
from reconciler.coordination.tokens import Tokens
from reconciler.crash import crash_point
from reconciler.errors import ReconcilerError
from reconciler.launcher.protocol import PRE_STOP_KIND, Message
from reconciler.resources.event import event
from reconciler.resources.lock import Lock
from reconciler.resources.meta import Key, Object
from reconciler.resources.pool import Pool
from reconciler.resources.restart import RestartPolicy
from reconciler.resources.scheduling import SchedulingPolicy
from reconciler.resources.task import TaskState
from reconciler.resources.units import to_ms
from reconciler.resources.worker import Worker
from reconciler.runtime.budgets import Budgets
from reconciler.runtime.executor import Executor
from reconciler.runtime.locks import Sessions
from reconciler.runtime.observer import Observer
from reconciler.runtime.queues import Queues
from reconciler.runtime.warm import Warm
from reconciler.runtime.workqueue import WorkQueue
from reconciler.runtime.world import StoreWorld
from reconciler.store.base import Store, StoreFull, TaskRecord

log = logging.getLogger("reconciler")

RESYNC = timedelta(seconds=30)
"""So often everything is planned once, which mends what an event missed."""

OWNER_DELAY = timedelta(milliseconds=20)
OWNER_DELAY_EACH = timedelta(microseconds=100)
"""Changes of many workers at once make one plan of their pool: it waits this long, and this much longer a replica."""

COUNTS_DELAY = timedelta(seconds=1)
"""A task pool's status follows its tasks at this distance; its queue is planned at once."""

STORE_RETRY = timedelta(seconds=1)

KEYS_A_TURN = 256

PACE_MS = 40
LONGEST_APART_S, LONGEST_AT_PER_S = 0.01, 1000
"""Turns that only tasks want keep a distance, so that more of them share a commit; it grows with the pace at which tasks
end, up to this much at that pace."""

BEHIND_APART_S = 0.02
"""The distance while tasks wait that could begin: the launcher has enough of them for so long, and a machine that is slow
because it is busy must not be given more turns for it."""

ANSWER_APART_S = 0.002
"""The distance where somebody waits for an answer."""

CONTROLLERS: dict[str, Callable[[Key, World, datetime], Plan]] = {
    "Lock": lock_controller.plan,
    "Pool": pool_controller.plan,
    "RestartPolicy": restartpolicy_controller.plan,
    "SchedulingPolicy": schedulingpolicy_controller.plan,
    "Worker": worker_controller.plan,
    "Queue": warm_controller.plan,
}


class Loop:
    """The controller without its surroundings."""

    def __init__(
        self,
        store: Store,
        link: Link,
        host: Host,
        clock: Clock,
        wake: Callable[[float], None],
        tokens: Tokens | None = None,
    ) -> None:
        """`wake` is told how far from the last turn, in seconds, the next one is to be; 0: it comes at once."""
        self.store = store
        self.queues = Queues(store.tasks, store.id)
        for pool in store.all(Pool):
            if pool.spec.tasks is not None:
                longest_ms = round(pool.spec.tasks.retry.backoff.max_s * 1000)
                self.queues.of(pool.name).retry_by(to_ms(clock.now()) + longest_ms)
        self.work = WorkQueue()
        self.budgets = Budgets(store, clock.now())
        self.sessions = Sessions(store, clock, tokens)
        self.warm = Warm(store, self.queues, self._look_at)
        self.world = StoreWorld(store, self.queues, self.budgets, self.sessions, self.warm)
        for pool in store.all(Pool):
            self._order_queue(pool)
        self.observer = Observer(store, self.queues, self.warm, self._tasks_changed)
        self.executor = Executor(store, self.queues, self.observer, link, host, self.budgets, self.warm)
        self.degraded = ""
        """Why nothing can be made durable now; empty when all is well."""
        self.wants_rescan = False
        self.held = False
        """Whether nothing is planned yet, for what is stored may not be what is declared now; until `release`."""
        self.rest_s = 0.0
        """So long after a turn nothing that the launcher says needs to be heard."""
        self._inbox: list[Sequence[Any]] = []
        self._link = link
        self._clock = clock
        self._wake = wake
        self._apart_s = 0.0
        self._acknowledged = 0
        self._waiters: list[tuple[Callable[[], None], Callable[[StoreFull], None]]] = []
        self._retry_store_at: datetime | None = None
        self._resync_at = clock.now()
        store.on_change(self._object_changed)

    # what comes in

    def receive(self, messages: Sequence[Sequence[Any]]) -> None:
        """Words of the launcher, for the next turn."""
        self._inbox += messages
        apart_s = self._apart_s if all(map(_of_tasks_only, messages)) else 0.0
        if any(message[0] == "said" for message in messages):
            apart_s = min(apart_s, ANSWER_APART_S)  # a warm worker has done what it was given, and waits
        self._wake(apart_s)

    def wake(self) -> None:
        """Something has been staged that changes no object: a turn makes it durable."""
        self._wake(0.0)

    def release(self) -> None:
        """From now on what is stored is planned."""
        if self.held:
            self.held = False
            self._wake(0.0)

    def when_durable(self, done: Callable[[], None], failed: Callable[[StoreFull], None]) -> None:
        """Calls back when everything staged so far is durable, or cannot be made so."""
        self._waiters.append((done, failed))
        self._wake(min(self._apart_s, ANSWER_APART_S))

    def submit(self, pool: str, records: Sequence[TaskRecord]) -> None:
        """New tasks of one pool."""
        self.queues.of(pool).submit(records)
        self._tasks_changed(pool)

    def cancel(self, task_id: int) -> TaskRecord | None:
        """Ends a live task, wherever it stands; None if there is no live one of that number."""
        found = self.queues.find(task_id)
        if found is None:
            return None
        queue, record = found
        if not queue.cancel(record, to_ms(self._clock.now())) and record.state is TaskState.PENDING:
            self._recall([record.id])
        self._tasks_changed(queue.pool)
        return record

    def set_mode(self, mode: Mode) -> None:
        """Stops, or hurries to stop, everything."""
        if self.world.mode is not mode:
            if self.world.mode is Mode.RUNNING:
                for queue in self.queues:
                    self._recall(queue.end_all())
            self.world.mode = mode
            self.held = False  # what is to be stopped is known
            self._plan_everything()
            self._wake(0.0)

    def _recall(self, ids: Sequence[int]) -> None:
        """Takes back claimed tasks that may not have begun: from the outbox, or from the launcher, if it agrees."""
        keys = [task_key(task_id) for task_id in ids]
        unsent = self.executor.withdraw(set(keys)) if self.executor.outbox else set()
        for task_id, key in zip(ids, keys, strict=True):
            found = self.queues.find(task_id) if key in unsent else None
            if found is not None:
                found[0].give_back(found[1], to_ms(self._clock.now()))
        if len(unsent) < len(keys):
            self._link.send([["recall", [key for key in keys if key not in unsent]]])

    # the turn

    def turn(self) -> None:
        """One turn."""
        now = self._clock.now()
        inbox, self._inbox = self._inbox, []
        if self.observer.take(inbox, now, self._clock.wall_ahead_ms() if inbox else 0):
            self.wants_rescan = True
        if self._plans:
            self._settle(now)
            self._plan(now)
        if self.executor.signals:
            signals, self.executor.signals = self.executor.signals, []
            self._link.send(signals)
        self._commit(now)
        self._apart_s = self._distance_s(to_ms(now) - PACE_MS)
        self.rest_s = 0.0 if any(message[0] == "said" for message in inbox) else self._apart_s

    def _distance_s(self, since_ms: int) -> float:
        ended = 0
        for queue in self.queues:
            here = queue.ended_since(since_ms)
            if here and queue.lags:
                return BEHIND_APART_S
            ended += here
        return LONGEST_APART_S * min(1.0, ended * 1000 / PACE_MS / LONGEST_AT_PER_S)

    @property
    def ready(self) -> bool:
        """Whether another turn has something to do now."""
        if self.store.staged and not self.degraded:
            return True  # by who was called back in the last one: a wake during a turn is not heard
        return bool(self._inbox or self._waiters) or (self.work.ready and self._plans)

    @property
    def _plans(self) -> bool:
        """Whether what runs is known, and what is declared."""
        return self.observer.settled and not self.held

    @property
    def next_at(self) -> datetime:
        """When a turn is needed at the latest, even if nothing comes in."""
        if not self._plans:
            return self._clock.now() + RESYNC  # the launcher's list wakes it, or the release
        moments = [self._resync_at]
        if self.work.next_at is not None:
            moments.append(self.work.next_at)
        if self._retry_store_at is not None:
            moments.append(self._retry_store_at)
        return min(moments)

    @property
    def idle(self) -> bool:
        """Whether everything that is wanted now has been planned and is durable."""
        return self._plans and not self.ready and not self.store.staged and not self.degraded

    def _settle(self, now: datetime) -> None:
        """Once after the launcher's list."""
        if self.observer.ask_again:
            workers, self.observer.ask_again = self.observer.ask_again, []
            for worker in workers:
                self.executor.ask_again(worker, self.world, now)
        if self.observer.strangers:
            strangers, self.observer.strangers = self.observer.strangers, []
            for key, instance in strangers:
                self._link.send([["signal", key, instance, 9, "tree"]])
                if key.startswith(("probe/", f"{PRE_STOP_KIND}/")):
                    continue  # of the controller before: nobody reads its answer any more
                log.warning("%s (%s) runs and is not in the store: it is ended", key, instance)
                kind, _, name = key.partition("/")
                about = Key(kind.capitalize(), name)
                message = f"instance {instance} runs and nothing here accounts for it: it is ended"
                self.store.add_event(event(about, "Stranger", message, now, warning=True))

    def _plan(self, now: datetime) -> None:
        if now >= self._resync_at:
            self._resync_at = now + RESYNC
            self.world.recount()
            self._plan_everything()
        for _ in range(KEYS_A_TURN):
            key = self.work.take(now)
            if key is None:
                return
            if key.kind == "Pool" and self.executor.outbox:
                self._commit(now)  # what starts now does not wait for a look at a whole pool
            try:
                plan = CONTROLLERS[key.kind](key, self.world, now)
                self.executor.run(plan.actions, self.world, now)
            except ReconcilerError as error:
                at = self.work.failed(key, now)
                log.warning("%s: %s; again at %s", key, error, at.strftime("%H:%M:%S"))
                continue
            self.work.done(key)
            if any(isinstance(action, Lane) for action in plan.actions):
                self.work.add(Key("Queue", key.name))  # what was due before its lane was known has waited for it
            if plan.requeue_at is not None:
                self.work.add_at(key, plan.requeue_at)

    def _commit(self, now: datetime) -> None:
        """Makes the turn durable and lets out what waited for that."""
        if self._retry_store_at is not None and now < self._retry_store_at and not self._waiters:
            return
        waiters, self._waiters = self._waiters, []
        try:
            self.sessions.tokens.save()
            self.store.commit()
        except StoreFull as error:
            if not self.degraded:
                log.error("%s: what runs goes on, nothing new is accepted", error)
                about = Key("Daemon", "reconciler")  # written as soon as there is room
                self.store.add_event(event(about, error.reason, str(error), now, warning=True))
            self.degraded = str(error)
            self._retry_store_at = now + STORE_RETRY
            refused = self.store.tasks.drop_new()
            for record in refused:
                self.queues.of(record.pool).forget(record)
            self.executor.withdraw({task_key(record.id) for record in refused})
            self.warm.withdraw([record.id for record in refused])
            for _, failed in waiters:
                failed(error)
            return
        if self.degraded:
            log.warning("the state can be written again")
            self.degraded, self._retry_store_at = "", None
        self._let_out()
        for feed in self.warm.feeds(to_ms(now)):
            self._link.send(feed)
        for done, _ in waiters:
            done()

    def _let_out(self) -> None:
        outbox: list[Message] = self.executor.outbox
        if self.observer.acknowledge > self._acknowledged:
            self._acknowledged = self.observer.acknowledge
            crash_point("controller.before-ack")
            outbox.append(["ack", self._acknowledged])
        if outbox:
            self.executor.outbox = []
            crash_point("controller.before-send")
            self._link.send(outbox)
            crash_point("controller.after-send")
            for key, reason in self.executor.starts:
                log.info("start %s (%s)", key, reason)
            self.executor.starts.clear()

    # the feed of the work queue

    def _object_changed(self, old: Object | None, new: Object | None) -> None:
        changed = new if new is not None else old
        assert changed is not None
        self._wake(0.0)
        if isinstance(changed, Worker):
            if new is not None:
                self.work.add(new.key)
            owner = Key("Pool", changed.spec.pool)
            if not isinstance(old, Worker) or not isinstance(new, Worker) or old.status.claims != new.status.claims:
                self._plan_locks(changed)
            if old is None or new is None or old.status != changed.status:
                pool = self.store.get(Pool, owner.name)
                replicas = pool.replicas if pool is not None else 0
                if pool is not None and pool.metadata.deleted_at is not None:
                    self._wake_neighbours(pool)  # what is stopped after this one looks whether it is its turn
                self.work.add_at(owner, self._clock.now() + OWNER_DELAY + replicas * OWNER_DELAY_EACH)
        elif isinstance(changed, Pool):
            spec_changed = old is None or new is None or old.metadata.generation != new.metadata.generation
            deleted = new is not None and new.metadata.deleted_at is not None
            asked = old is None or new is None or old.metadata.intent != new.metadata.intent
            asked = asked or (old is not None and new is not None and old.metadata.rollout != new.metadata.rollout)
            if not isinstance(old, Pool) or not isinstance(new, Pool) or _counts(old) != _counts(new):
                self._wake_neighbours(changed)
            if isinstance(old, Pool) and isinstance(new, Pool):
                asked = asked or old.status.restarts_asked != new.status.restarts_asked or old.replicas != new.replicas
            if not spec_changed and not deleted and not asked:
                return
            self.world.pools_changed()
            self._order_queue(changed)
            self.work.add(changed.key)
            self.work.add(Key("Queue", changed.name))
            if deleted and (old is None or old.metadata.deleted_at is None):
                self._cancel_all(changed.name)
            self._plan_workers(changed)
        elif isinstance(changed, Lock):
            self.sessions.changed(changed)
            self.work.add(changed.key)
            for one in self.store.all(Lock):
                if one.status.deadlock:
                    self.work.add(one.key)  # this may have ended it
            for pool in self.world.pools_with_lock(changed.name):
                self._plan_workers(pool)
                for use in pool.spec.locks:
                    self.work.add(Key("Lock", use.name))
        elif isinstance(changed, RestartPolicy):
            self.work.add(changed.key)
            if old is None or new is None or old.metadata.generation != new.metadata.generation:
                for pool in self.store.all(Pool):
                    if pool.spec.restart.ref == changed.name:
                        self._plan_workers(pool)

        elif isinstance(changed, SchedulingPolicy):
            self.work.add(changed.key)
            for pool in self.store.all(Pool):
                if pool.spec.tasks is not None and pool.spec.tasks.scheduling.ref == changed.name:
                    self._order_queue(pool)
                    self.work.add(Key("Queue", pool.name))

    def _order_queue(self, pool: Pool) -> None:
        if pool.spec.tasks is not None:
            self.queues.of(pool.name).order_by(schedulingpolicy_controller.of_pool(pool, self.world))

    def _plan_locks(self, worker: Worker) -> None:
        """Those that its start holds, held, or wants."""
        pool = self.store.get(Pool, worker.spec.pool)
        names = {use.name for use in pool.spec.locks} if pool is not None else set()
        for name in sorted(names | worker.status.tokens.keys()):
            self.work.add(Key("Lock", name))

    def _plan_workers(self, pool: Pool) -> None:
        for worker in self.store.owned_by(pool.key, Worker):
            self.work.add(worker.key)

    def _wake_neighbours(self, pool: Pool) -> None:
        """Workers that are started after this pool's, or stopped after them."""
        for key in dependencies.neighbours(pool, self.world):
            for worker in self.store.owned_by(key, Worker):
                self.work.add(worker.key)

    def _cancel_all(self, pool: str) -> None:
        """A pool that is wanted gone ends what waits and what runs: it goes when the launcher has nothing of it left."""
        queue, now_ms = self.queues.of(pool), to_ms(self._clock.now())
        held = [record for record in list(queue.live.values()) if not queue.cancel(record, now_ms)]
        self._recall([record.id for record in held if record.state is TaskState.PENDING])

    def _look_at(self, key: Key) -> None:
        """A warm worker's line has changed."""
        if key.kind == "Queue":
            self._tasks_changed(key.name)
        else:
            self.work.add(key)
            self._wake(0.0)

    def _tasks_changed(self, pool: str) -> None:
        self.work.add(Key("Queue", pool))
        declared = self.store.get(Pool, pool)
        if declared is not None and declared.spec.autoscale is not None and not declared.status.desired_replicas:
            self.work.add(declared.key)  # the first slot comes at once
        self.work.add_at(Key("Pool", pool), self._clock.now() + COUNTS_DELAY)
        self._wake(self._apart_s)

    def _plan_everything(self) -> None:
        for lock in self.store.all(Lock):
            self.work.add(lock.key)
        for policy in self.store.all(RestartPolicy):
            self.work.add(policy.key)
        for named in self.store.all(SchedulingPolicy):
            self.work.add(named.key)
        for pool in self.store.all(Pool):
            self.work.add(pool.key)
            self.work.add(Key("Queue", pool.name))
        for worker in self.store.all(Worker):
            self.work.add(worker.key)


def _counts(pool: Pool) -> tuple[int, ...]:
    """What of a pool others may wait for."""
    status = pool.status
    return status.replicas, status.running_replicas, status.ready_replicas, status.available_replicas


def _of_tasks_only(message: Sequence[Any]) -> bool:
    """A worker's word is never kept waiting."""
    match message[0]:
        case "started":
            return all(row[0].startswith("task/") for row in message[1])
        case "exited":
            return all(row[1].startswith("task/") for row in message[1])
        case "said":
            return True
        case _:
            return False
