"""Carries plans out: one `match` over Action, each arm one effect. It decides nothing.

What leaves the process is held in `outbox` until the turn's COMMIT; signals go before it, for they need no record.
"""

from __future__ import annotations

import logging
import signal as signals
from collections.abc import Sequence
from datetime import datetime
from typing import assert_never

from reconciler.backends.base import Host, Link
from reconciler.backends.demotion import nice_of
from reconciler.backends.launch import (
    StartError,
    Starts,
    pre_stop_instance,
    pre_stop_key,
    socket_name,
    task_key,
    task_log,
    worker_key,
    worker_log,
)
from reconciler.controllers.base import (
    Action,
    Assign,
    Charge,
    Cleanup,
    Continue,
    Create,
    Delete,
    Dispatch,
    EndPreStop,
    EndTask,
    Expire,
    Lane,
    Overdue,
    PreStop,
    Recall,
    Record,
    Relieve,
    Remove,
    Retire,
    SetSpec,
    SetStatus,
    Signal,
    Spawn,
    Suspend,
    Weigh,
    World,
)
from reconciler.launcher.protocol import Message
from reconciler.resources.event import event
from reconciler.resources.kinds import STORED
from reconciler.resources.meta import Key
from reconciler.resources.pool import Pool
from reconciler.resources.revision import Revision
from reconciler.resources.task import TaskState
from reconciler.resources.units import to_ms
from reconciler.resources.worker import Worker, WorkerSpec
from reconciler.runtime.budgets import Budgets
from reconciler.runtime.observer import Observer
from reconciler.runtime.queues import Queues, TaskQueue
from reconciler.runtime.warm import Warm
from reconciler.store.base import Store

log = logging.getLogger("reconciler")


RETIRE_AT_ONCE = 1000
"""So many ended tasks are dropped in one turn at most."""


class Executor:
    """The only one that acts on plans."""

    def __init__(
        self, store: Store, queues: Queues, observer: Observer, link: Link, host: Host, budgets: Budgets, warm: Warm
    ) -> None:
        self.outbox: list[Message] = []
        """What the launcher is told once this turn is durable."""
        self.signals: list[Message] = []
        """What the launcher is told before that: a signal needs no record."""
        self.starts: list[tuple[Key, str]] = []
        """What of it are workers, and why each is started: to be logged when it has been said."""
        self.started = 0
        """Starts of workers so far."""
        self._store = store
        self._queues = queues
        self._observer = observer
        self._link = link
        self._host = host
        self._budgets = budgets
        self._warm = warm
        self._starts = Starts(host)

    def run(self, actions: Sequence[Action], world: World, now: datetime) -> None:
        """Carries the actions out in order."""
        for action in actions:
            self._act(action, world, now)

    def ask_again(self, worker: Worker, world: World, now: datetime) -> None:
        """Asks for a start that is recorded and of which the launcher has never heard: the same instance, so harmless."""
        self._ask(worker, worker.status.instance, worker.status.template_hash, world, now)

    def beside(
        self, worker: Worker, world: World, key: str, instance: str, command: Sequence[str], log: str | None = None
    ) -> list[Message]:
        """The messages that start a command as the worker runs. Raises StartError."""
        template = world.template(worker.spec.pool, worker.status.template_hash)
        if template is None:
            raise StartError("expand", 0, f"revision {worker.status.template_hash} of pool/{worker.spec.pool} is gone")
        return self._starts.beside(worker.spec.pool, worker, key, instance, template, command, log)

    def withdraw(self, keys: set[str]) -> set[str]:
        """Takes back starts that have not been let out, because they could not be made durable; returns whose."""
        taken: set[str] = set()
        for message in self.outbox:
            if message[0] == "spawn":
                taken |= {item[0] for item in message[1]} & keys
                message[1][:] = [item for item in message[1] if item[0] not in keys]
        return taken

    def _act(self, action: Action, world: World, now: datetime) -> None:
        match action:
            case Create(object=obj, free_ports=names):
                self._store.create(obj.changed(spec=self._with_ports(obj.spec, names)) if names else obj)
            case Delete(key=key, reason=reason):
                current = self._store.get(STORED[key.kind], key.name)
                if current is not None and current.metadata.deleted_at is None:
                    log.info("delete %s (%s)", key, reason)
                    self._store.update(current.changed(metadata=current.metadata.changed(deleted_at=now)))
            case Remove(key=key):
                gone = self._store.remove(key)
                if isinstance(gone, Worker) and gone.status.instance:
                    self._host.remove_logs(worker_log(gone.status.instance))
                if isinstance(gone, Revision):
                    self._close_sockets(gone)
            case SetSpec(key=key, spec=spec, reason=reason, free_ports=names):
                current = self._store.get(STORED[key.kind], key.name)
                if current is not None:
                    log.info("change %s (%s)", key, reason)
                    self._store.update(current.changed(spec=self._with_ports(spec, names) if names else spec))
            case SetStatus(key=key, status=status):
                self._store.set_status(key, status)
            case Spawn(key=key, instance=instance, template_hash=template_hash, status=status, reason=reason):
                self._store.set_status(key, status)
                worker = self._store.get(Worker, key.name)
                if worker is not None:
                    self.started += 1
                    self.starts.append((key, reason))
                    self._ask(worker, instance, template_hash, world, now)
            case Signal(key=key, instance=instance, signal=name, tree=tree, reason=reason):
                log.info("%s %s (%s)", "kill" if tree else f"send {name} to", key, reason)
                self._signal(worker_key(key.name), instance, name, tree)
            case PreStop(key=key, instance=instance, command=command):
                self._pre_stop(key, instance, command, world, now)
            case EndPreStop(key=key, instance=instance):
                hook = pre_stop_key(key.name)
                if hook not in self.withdraw({hook}):
                    self._signal(hook, pre_stop_instance(instance), "SIGKILL", tree=True)
            case Cleanup(key=key, files=files):
                for problem in self._clean(key, files, world):
                    self._store.add_event(event(key, "CleanupFailed", problem, now, warning=True))
            case Lane(pool=pool, slots=slots, template_hash=template_hash, still=still):
                self._lane(pool, slots, template_hash, world, now)
                self._queues.of(pool).standstill.lane = still
            case Suspend(pool=pool, ids=ids) | Continue(pool=pool, ids=ids):
                self._stop_or_go(self._queues.of(pool), ids, isinstance(action, Suspend))
            case Dispatch(pool=pool, ids=ids):
                self._dispatch(pool, ids, now)
            case Expire(pool=pool, ids=ids):
                for task_id in ids:
                    self._queues.of(pool).expire(task_id, to_ms(now))
            case Retire(pool=pool, before_ms=before_ms, keep=keep):
                dropped = self._store.tasks.drop(pool, before_ms, keep, RETIRE_AT_ONCE)
                self._host.remove_output([task_log(one.id, n) for one in dropped for n in range(1, one.attempts + 1)])
                self._queues.of(pool).retired(to_ms(now), more=len(dropped) == RETIRE_AT_ONCE)
            case Weigh(pool=pool):
                self._weigh(pool, now)
            case Recall(pool=pool, ids=ids):
                for task_id in ids:
                    self._queues.of(pool).recalled(task_id)
                self.signals.append(["recall", [task_key(task_id) for task_id in ids]])
            case Assign(pool=pool, pairs=pairs):
                self._warm.assign(pool, pairs)
            case Relieve(key=key, reason=reason):
                log.info("relieve %s (%s)", key, reason)
                self._warm.retire(key.name, reason)
            case EndTask(pool=pool, id=task_id, instance=instance, signal=name, tree=tree):
                queue = self._queues.of(pool)
                queue.step_done(Overdue(task_id, instance, tree), to_ms(now))
                if not self._warm.end_task(task_id, task_id in queue.overran):
                    self._signal(task_key(task_id), instance, name, tree)
            case Charge(pool=pool, at=at):
                self._budgets.charge(pool, at)
            case Record(event=happened):
                self._store.add_event(happened)
            case _:
                assert_never(action)

    def _with_ports(self, spec: WorkerSpec, names: Sequence[str]) -> WorkerSpec:
        return spec.changed(ports={**spec.ports, **{name: self._host.free_port() for name in names}})

    def _ask(self, worker: Worker, instance: str, template_hash: str, world: World, now: datetime) -> None:
        pool = worker.spec.pool
        template = world.template(pool, template_hash)
        live = world.get(Pool, pool)
        try:
            if template is None:
                raise StartError("expand", 0, f"revision {template_hash} of pool/{pool} is gone")
            if live is not None:  # these apply without a restart, so the newest ones hold
                template = template.changed(stop=live.spec.template.stop, probes=live.spec.template.probes)
            channel = live is not None and live.spec.warm
            self.outbox += self._starts.worker(pool, worker, instance, template_hash, template, channel)
        except StartError as error:
            self._observer.start_failed(worker.name, instance, error.step, error.errno, error.message, to_ms(now))

    def _pre_stop(self, key: Key, instance: str, command: Sequence[str], world: World, now: datetime) -> None:
        worker = self._store.get(Worker, key.name)
        if worker is None or worker.status.instance != instance:
            return
        log.info("run preStop of %s: %s", key, command[0])
        hook = pre_stop_instance(instance)
        try:
            self.outbox += self.beside(worker, world, pre_stop_key(key.name), hook, command, worker_log(instance))
        except StartError as error:
            self._observer.pre_stop_failed(key.name, hook, error.step, error.errno, error.message, now)

    def _close_sockets(self, gone: Revision) -> None:
        """Sockets that no other revision of the pool has are held no longer."""
        pool = gone.spec.pool
        kept = {
            socket.name
            for revision in self._store.owned_by(Key("Pool", pool), Revision)
            for socket in revision.spec.template.sockets
        }
        for socket in gone.spec.template.sockets:
            if socket.name not in kept:
                self.outbox.append(["unsocket", socket_name(pool, socket.name)])
        self._starts.forget(pool, gone.spec.template_hash)

    def _clean(self, key: Key, files: Sequence[str], world: World) -> list[str]:
        worker = world.get(Worker, key.name)
        template = world.template(worker.spec.pool, worker.status.template_hash) if worker is not None else None
        if worker is None or template is None:
            return [f"nothing is known of what {key} ran: {', '.join(files)} may be left"]
        if template.sandbox.private_tmp:
            self._host.remove_temporary(worker.status.instance)
        try:
            return self._host.remove_files(self._starts.files(worker.spec.pool, worker, template, files))
        except StartError as error:
            return [error.message]

    def _lane(self, pool: str, slots: int, template_hash: str, world: World, now: datetime) -> None:
        template = world.template(pool, template_hash)
        if template is None:
            return
        queue = self._queues.of(pool)
        queue.grace_ms = round(template.stop.grace_period_s * 1000)
        try:
            self.outbox += self._starts.lane(pool, slots, template, template_hash)
        except StartError as error:
            self._store.add_event(event(Key("Pool", pool), "StartFailed", error.message, now, warning=True))

    def _dispatch(self, pool: str, ids: Sequence[int], now: datetime) -> None:
        queue = self._queues.of(pool)
        if not self._starts.knows_lane(pool):
            return
        records = [queue.claim(task_id) for task_id in ids]
        missing = [record.id for record in records if record.spec is None]
        specs = self._store.tasks.specs(missing) if missing else {}
        starts = [
            (record.id, record.claim, queue.instance(record), record.spec or specs.get(record.id, ""))
            for record in records
        ]
        self.outbox += self._starts.tasks(pool, starts)

    def _stop_or_go(self, queue: TaskQueue, ids: Sequence[int], stop: bool) -> None:
        for task_id in ids:
            record = queue.live.get(task_id)
            if record is None or record.state is not TaskState.RUNNING:
                continue  # its end came first
            log.info("%s %s", "suspend" if stop else "continue", task_key(task_id))
            if stop:
                queue.standstill.begin(record)
            else:
                queue.standstill.end(record)
            self._signal(task_key(task_id), queue.instance(record), "SIGSTOP" if stop else "SIGCONT", tree=False)

    def _weigh(self, pool: str, now: datetime) -> None:
        queue = self._queues.of(pool)
        for record in list(queue.running):
            used_ms = self._host.cpu_ms(record.pid) if record.pid else None
            level = queue.sinks(record, used_ms) if used_ms is not None else 0
            if level and not queue.policy.suspends:
                log.info("%s has used %d ms of CPU: it yields (level %d)", task_key(record.id), used_ms, level)
                try:
                    self._host.renice(record.pid, nice_of(level, len(queue.policy.quanta)))
                except OSError as error:
                    message = f"a task that has used up its quantum cannot be given less CPU: {error}"
                    self._store.add_event(event(Key("Pool", pool), "DemotionFailed", message, now, warning=True))
        queue.weighed(to_ms(now))

    def _signal(self, key: str, instance: str, name: str, tree: bool) -> None:
        number = signals.Signals[name].value
        self.signals.append(["signal", key, instance, number, "tree" if tree else "group"])
