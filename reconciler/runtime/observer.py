"""Writes down what the launcher says: what runs, how it ended, what is gone.

    started  -> process Up                exited -> last exit, Emptying (or None); a task's verdict
    emptied  -> process None              children -> after a restart of either side: what is so now

Every word from a process carries its instance; one of an older instance changes nothing. There is no other recovery code:
after any death the launcher's list is written down like any other news, and every key is planned once.
"""

from __future__ import annotations

import json
import signal as signals
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from reconciler.controllers.tasks import EndedTry
from reconciler.launcher.protocol import PRE_STOP_KIND, PRE_STOP_MARK, Exit
from reconciler.policies import start_failure
from reconciler.resources.event import event
from reconciler.resources.meta import Key
from reconciler.resources.pool import Pool, Template
from reconciler.resources.revision import Revision, revision_name
from reconciler.resources.units import from_ms, to_ms
from reconciler.resources.worker import LastExit, PreStopState, Process, Reason, Worker, WorkerStatus
from reconciler.runtime.queues import Queues, TaskQueue
from reconciler.runtime.tries import conclude
from reconciler.runtime.warm import Warm
from reconciler.store.base import Store, TaskRecord

_SIGNAL_NAMES = {number.value: number.name for number in signals.Signals}


class Observer:
    """The only writer of what is known of processes."""

    def __init__(self, store: Store, queues: Queues, warm: Warm, queue_changed: Callable[[str], None]) -> None:
        self._store = store
        self._queues = queues
        self._warm = warm
        self._queue_changed = queue_changed
        self._settled = False
        self._rebooted = store.rebooted
        """As it was at the start: what is committed before the list must not hide it."""
        self.acknowledge = 0
        """Exit records up to this number are written down; they may be forgotten after the next commit."""
        self.adopted = self.unknown = 0
        """Of the list that came first: processes taken over, ends that nobody saw."""
        self.terminations = 0
        """How often the launcher was asked to end."""
        self.ask_again: list[Worker] = []
        """Workers whose start is recorded and which the launcher has never heard of."""
        self.strangers: list[tuple[str, str]] = []
        """(key, instance) of children that nothing here accounts for."""
        self.launcher: dict[str, Any] = {}
        """What the launcher said of itself."""
        self.socket_failures: dict[str, str] = {}
        self.beside: Callable[[str, str, str, Any], None] | None = None
        """Told (word, key, instance, detail) of commands that run beside workers."""
        self._now = datetime.min
        self._now_ms = 0
        self._wall_ahead_ms = 0
        self._touched: set[str] = set()
        self._left_nothing: set[str] = set()
        """Instances of which these same messages say that they have ended alone: their end is one change, not two."""

    @property
    def settled(self) -> bool:
        """Whether the launcher's list has been written down: before that nothing may be planned."""
        return self._settled

    def take(self, messages: Sequence[Sequence[Any]], now: datetime, wall_ahead_ms: int = 0) -> bool:
        """Writes the messages of a turn down; True when one of them was a request to look at the sources again."""
        self._now, self._now_ms, self._wall_ahead_ms = now, to_ms(now), wall_ahead_ms
        rescan = False
        children: list[Any] | None = None
        over = {row[2] for message in messages if message[0] == "exited" for row in message[1]}
        self._left_nothing = {
            row[1] for message in messages if message[0] == "emptied" for row in message[1] if not row[2]
        }
        for message in messages:
            match message[0]:
                case "exited":
                    for seq, key, instance, exit_ in message[1]:
                        self.acknowledge = max(self.acknowledge, seq)
                        self._exited(key, instance, exit_)
                case "started":
                    for key, instance, pid, started_ms, slot in message[1]:
                        if instance not in over or not key.startswith("task/"):  # a task's end says of its start too
                            self._started(key, instance, pid, started_ms, slot, adopted=False)
                case "emptied":
                    for key, instance, escaped in message[1]:
                        self._emptied(key, instance, escaped)
                case "stuck":
                    for key, instance, _pid in message[1]:
                        self._worker_process(key, instance, stuck=True)
                case "blocked":
                    _, key, instance, why = message
                    self._blocked(key, instance, why)
                case "recalled":
                    for key in message[1]:
                        self._recalled(key)
                case "socketFailed":
                    _, name, errno, text = message
                    self._socket_failed(name, errno, text)
                case "unenforced":
                    _, template, lacking = message
                    self._unenforced(template, lacking)
                case "said":
                    for key, instance, upto, text in message[1]:
                        self._warm.said(key, instance, upto, text, now)
                case "channels":
                    for key, instance, note in message[1]:
                        self._warm.channel(key, instance, note)
                case "children":
                    children = message[1]
                case "hello":
                    self.launcher = message[2]
                case "terminate":
                    self.terminations = max(self.terminations, message[1])
                case "rescan":
                    rescan = True
        if children is not None:  # after the exits of the same list: what is in neither has never begun
            self._settle(children)
        for pool in sorted(self._touched):
            self._queue_changed(pool)
        self._touched.clear()
        return rescan

    def start_failed(self, worker: str, instance: str, step: str, errno: int, text: str, now_ms: int) -> None:
        """A start that could not even be asked for."""
        self._exited(f"worker/{worker}", instance, {"failed": [step, errno, text], "at_ms": now_ms})

    # workers and tasks, by key

    def _started(self, key: str, instance: str, pid: int, started_ms: int, slot: int, adopted: bool) -> None:
        kind, _, name = key.partition("/")
        if kind == "probe":
            self._beside("started", key, instance, pid)
            return
        if kind == PRE_STOP_KIND:
            return
        started_ms = self._our_ms(started_ms)
        if kind == "task":
            found = self._task(name, instance)
            if found is not None:
                queue, record = found
                queue.began(record, pid, slot, started_ms)
                self._touched.add(queue.pool)
            return
        worker = self._worker(name, instance)
        if worker is not None and worker.status.process in (Process.ASKED, Process.UP, Process.BLOCKED):
            self._set(
                worker,
                worker.status.changed(
                    process=Process.UP, pid=pid, started_at=from_ms(started_ms), adopted=adopted, stuck=False
                ),
            )
            self._warm.started(worker, listed=not self._settled)

    def _exited(self, key: str, instance: str, exit_: Exit) -> None:
        kind, _, name = key.partition("/")
        if kind == "probe":
            self._beside("exited", key, instance, exit_)
            return
        if kind == PRE_STOP_KIND:
            self._pre_stop_ended(name, instance, exit_)
            return
        if not self._settled and "unknown" in exit_:
            self.unknown += 1
        if "at_ms" in exit_:
            moved_ms = self._our_ms(exit_["at_ms"]) - exit_["at_ms"]
            if moved_ms:
                exit_ = {**exit_, "at_ms": exit_["at_ms"] + moved_ms}
                if "started_ms" in exit_:
                    exit_["started_ms"] += moved_ms
        if kind == "task":
            self._task_exited(name, instance, exit_)
        else:
            self._worker_exited(name, instance, exit_)

    def _our_ms(self, ms: int) -> int:
        """A moment of the launcher's on our clock: it reads the wall clock, which may have been set since we began."""
        now_ms = self._now_ms
        if self._wall_ahead_ms:  # was it read before the clock was set, or after?
            after_ms = ms - self._wall_ahead_ms
            ms = ms if abs(now_ms - ms) < abs(now_ms - after_ms) else after_ms
        return min(ms, now_ms)

    def _worker_exited(self, name: str, instance: str, exit_: Exit) -> None:
        worker = self._worker(name, instance)
        if worker is None or worker.status.process is Process.NONE:
            return
        if worker.status.process is Process.EMPTYING:
            return
        status = worker.status
        ended = how(exit_, asked=status.stopping is not None)
        self._warm.ended(worker, ended, self._now)
        last = LastExit(
            code=ended.code,
            signal=ended.signal,
            reason=ended.reason,
            message=ended.message,
            at=from_ms(exit_.get("at_ms", 0)),
            instance=instance,
        )
        if "failed" in exit_:
            step, errno, _ = exit_["failed"]
            why = self._why_no_start(worker.spec.pool, status.template_hash, exit_["failed"])
            last = last.changed(message=why, step=step, errno=errno or None)
        nothing_lives = "failed" in exit_ or exit_.get("unknown") == "reboot" or instance in self._left_nothing
        changes: dict[str, Any] = {
            "process": Process.NONE if nothing_lives else Process.EMPTYING,
            "pid": None if nothing_lives else status.pid,
            "ready": False,
            "stuck": status.stuck and not nothing_lives,
            "last_exit": last,
            "previous_instance": instance,
        }
        if exit_.get("started_ms") and status.process is Process.ASKED:
            changes["started_at"] = from_ms(exit_["started_ms"])
        self._set(worker, status.changed(**changes))

    def _task_exited(self, name: str, instance: str, exit_: Exit) -> None:
        found = self._task(name, instance)
        if found is None:
            return
        queue, record = found
        queue.saw_end(self._now_ms)
        queue.began(
            record, exit_.get("pid", 0), exit_.get("slot", record.slot), exit_.get("started_ms") or record.started_ms
        )
        at_ms = exit_.get("at_ms", 0)
        ended = how(exit_, asked=False)
        if "failed" in exit_:
            ended = ended._replace(message=self._why_no_task(record, exit_["failed"]))
        elif record.id in queue.overran:
            ended = ended._replace(reason=queue.overran[record.id])
        conclude(self._store, queue, record, ended, at_ms, self._now, exit_.get("cpu_ms"))
        self._touched.add(queue.pool)

    def _emptied(self, key: str, instance: str, escaped: int) -> None:
        kind, _, name = key.partition("/")
        if kind == "probe":
            self._beside("emptied", key, instance, escaped)
        if kind != "worker":
            return
        worker = self._worker(name, instance)
        if worker is None or worker.status.process is Process.NONE:
            return
        self._set(worker, worker.status.changed(process=Process.NONE, pid=None, stuck=False))
        if escaped:
            message = f"{escaped} processes had left the group of {worker.name} and were killed after its end"
            self._store.add_event(event(worker.key, "EscapedChildren", message, self._now, warning=True))

    def _blocked(self, key: str, instance: str, why: str) -> None:
        kind, _, name = key.partition("/")
        if kind == "probe":
            self._beside("blocked", key, instance, why)
        if kind == PRE_STOP_KIND:
            self._pre_stop_ended(name, instance, {"unknown": why})
        if kind != "worker":
            return  # the try stays claimed: it may run, and the launcher says how it ended once that can be known
        worker = self._worker(name, instance)
        if worker is not None:
            self._set(worker, worker.status.changed(process=Process.BLOCKED, message=why))

    def _pre_stopping(self, name: str, instance: str) -> Worker | None:
        """The worker whose command before the stop signal that is."""
        worker = self._worker(name, instance.removesuffix(PRE_STOP_MARK))
        return worker if worker is not None and worker.status.pre_stops else None

    def pre_stop_failed(self, name: str, instance: str, step: str, errno: int, text: str, now: datetime) -> None:
        """A command before a stop signal that could not even be asked for."""
        self._now = now
        self._pre_stop_ended(name, instance, {"failed": [step, errno, text]})

    def _pre_stop_ended(self, name: str, instance: str, exit_: Exit) -> None:
        worker = self._pre_stopping(name, instance)
        if worker is None or worker.status.stopping is None:
            return
        stopping = worker.status.stopping.changed(pre_stop=PreStopState.OVER)
        self._set(worker, worker.status.changed(stopping=stopping))
        if exit_.get("code") != 0:
            ended = how(exit_, asked=False)
            words = ended.message or (f"exit code {ended.code}" if ended.signal is None else ended.signal)
            pool = self._store.get(Pool, worker.spec.pool)
            declared = pool.spec.template.stop.pre_stop if pool is not None else None
            if pool is not None and declared is not None and "failed" in exit_:
                command, directory = declared.exec.command[0], pool.spec.template.working_dir
                step, errno, text = exit_["failed"]
                words = start_failure.explain(step, errno, text, command, directory)
            message = f"preStop: {words}; the stop goes on"
            self._store.add_event(event(worker.key, "PreStopFailed", message, self._now, warning=True))

    def _beside(self, word: str, key: str, instance: str, detail: Any) -> None:
        if self.beside is not None:
            self.beside(word, key, instance, detail)

    def _worker_process(self, key: str, instance: str, **changes: Any) -> None:
        worker = self._worker(key.partition("/")[2], instance)
        if worker is not None:
            self._set(worker, worker.status.changed(**changes))

    def _recalled(self, key: str) -> None:
        name = key.partition("/")[2]
        found = self._queues.find(int(name)) if name.isdigit() else None
        if found is not None and found[1].claim:
            queue, record = found
            queue.give_back(record, self._now_ms)
            self._touched.add(queue.pool)

    def _socket_failed(self, name: str, errno: int, text: str) -> None:
        pool, _, socket = name.partition("/")
        self.socket_failures[name] = text
        message = f"socket {socket} cannot be opened: {text} (errno {errno})"
        self._store.add_event(event(Key("Pool", pool), "SocketFailed", message, self._now, warning=True))

    def _unenforced(self, template: str, lacking: Mapping[str, str]) -> None:
        pool = template.partition("@")[0]
        for limit, why in lacking.items():
            message = f"this machine does not enforce the limit of {limit}: {why}"
            self._store.add_event(event(Key("Pool", pool), "LimitNotEnforced", message, self._now, warning=True))

    def _why_no_start(self, pool: str, template_hash: str, failed: Sequence[Any]) -> str:
        step, errno, text = failed
        revision = self._store.get(Revision, revision_name(pool, template_hash))
        template = revision.spec.template if revision is not None else Template()
        return start_failure.explain(step, errno, text, (template.command or [""])[0], template.working_dir)

    def _why_no_task(self, record: TaskRecord, failed: Sequence[Any]) -> str:
        step, errno, text = failed
        spec = record.spec or self._store.tasks.specs([record.id]).get(record.id) or "{}"
        pool = self._store.get(Pool, record.pool)
        directory = pool.spec.template.working_dir if pool is not None else "/"
        return start_failure.explain(step, errno, text, json.loads(spec).get("command", [""])[0], directory)

    # after a restart of either side

    def _settle(self, children: Sequence[Sequence[Any]]) -> None:
        """The launcher's list against what is written here; afterwards plans may run."""
        known: set[tuple[str, str]] = set()
        for key, instance, pid, started_ms, slot, adopted, state in children:
            known.add((key, instance))
            kind, _, name = key.partition("/")
            if kind == "task":
                if self._task(name, instance) is None:
                    self.strangers.append((key, instance))
                    continue
            elif kind == PRE_STOP_KIND:
                if self._pre_stopping(name, instance) is None:
                    self.strangers.append((key, instance))
                continue
            elif self._worker(name, instance) is None:
                self.strangers.append((key, instance))
                continue
            self.adopted += state == "up"
            if state == "up":
                self._started(key, instance, pid, started_ms, slot, bool(adopted))
            elif state == "blocked":
                self._blocked_child(key, instance)
        for worker in self._store.all(Worker):
            status = worker.status
            hook = (f"{PRE_STOP_KIND}/{worker.name}", status.instance + PRE_STOP_MARK)
            if status.pre_stops and status.stopping is not None and hook not in known:  # it has never been asked for
                status = status.changed(stopping=status.stopping.changed(pre_stop=PreStopState.WANTED))
                self._set(worker, status)
            if status.process is Process.NONE or (f"worker/{worker.name}", status.instance) in known:
                continue
            if status.process is Process.ASKED:
                self.ask_again.append(worker)
            elif status.process is Process.EMPTYING:
                self._set(worker, status.changed(process=Process.NONE, pid=None, stuck=False))
            else:  # it ran, and the launcher has neither the child nor its end
                self._worker_exited(worker.name, status.instance, self._gone)
                self._emptied(f"worker/{worker.name}", status.instance, 0)
        self._warm.settle(self._rebooted, self._now)
        for queue in self._queues:
            for record in list(queue.live.values()):
                if record.claim and (f"task/{record.id}", queue.instance(record)) not in known:
                    if self._warm.has(record.id):
                        continue  # its worker lives, and has it or is given it
                    if self._rebooted:  # the launcher's journal is never synced: it may have begun
                        self._task_exited(str(record.id), queue.instance(record), self._gone)
                    else:
                        queue.give_back(record, self._now_ms)
            self._touched.add(queue.pool)
        self._settled = True

    @property
    def _gone(self) -> Exit:
        """The end of what the launcher knows nothing of any more."""
        return {"unknown": "reboot" if self._rebooted else "lost", "at_ms": self._now_ms}

    def _blocked_child(self, key: str, instance: str) -> None:
        why = "a process that may be this worker's can neither be identified nor proven dead; see `reconciler describe`"
        self._blocked(key, instance, why)

    def _worker(self, name: str, instance: str) -> Worker | None:
        """The worker, if the word is about its present instance."""
        worker = self._store.get(Worker, name)
        return worker if worker is not None and worker.status.instance == instance else None

    def _task(self, name: str, instance: str) -> tuple[TaskQueue, TaskRecord] | None:
        """The task, if the word is about the try that is claimed."""
        found = self._queues.find(int(name)) if name.isdigit() else None
        if found is None or not found[1].claim or found[0].instance(found[1]) != instance:
            return None
        return found

    def _set(self, worker: Worker, status: WorkerStatus) -> None:
        self._store.set_status(worker.key, status)


_LIMIT_OF: dict[int, str] = {
    signals.SIGXFSZ: "FileSizeLimit: a file beyond rlimits.fsize",
    signals.SIGXCPU: "CPUTimeLimit: more than rlimits.cpu",
}


_FINE = EndedTry(0, None, Reason.EXITED)


def how(exit_: Exit, asked: bool) -> EndedTry:
    """How a process ended, in the words people see; `asked`: we had told it to."""
    if exit_.get("code") == 0 and not asked:
        return _FINE  # as nearly all tasks do
    if "failed" in exit_:
        step, errno, text = exit_["failed"]
        return EndedTry(None, None, Reason.START_FAILED, f"{step}: {text}" + (f" [errno {errno}]" if errno else ""))
    if "unknown" in exit_:
        reason = Reason.HOST_REBOOTED if exit_["unknown"] == "reboot" else Reason.EXIT_UNKNOWN
        return EndedTry(None, None, reason, f"nobody saw its end ({exit_['unknown']})")
    oom = exit_.get("oom", 0)
    if (
        oom and not asked and (exit_.get("signal") == 9 or exit_.get("code") == 128 + 9)
    ):  # a shell says 137 of its child
        name = "SIGKILL" if "signal" in exit_ else None
        return EndedTry(exit_.get("code"), name, Reason.OOM_KILLED, "the kernel killed it: out of memory")
    if "signal" in exit_:
        number = exit_["signal"]
        reason = Reason.STOPPED if asked else Reason.KILLED_EXTERNALLY if number == 9 else Reason.SIGNALLED
        name = _SIGNAL_NAMES.get(number, f"SIG{number}")
        return EndedTry(None, name, reason, "core dumped" if exit_.get("core") else _LIMIT_OF.get(number, ""))
    return EndedTry(exit_["code"], None, Reason.STOPPED if asked else Reason.EXITED)
