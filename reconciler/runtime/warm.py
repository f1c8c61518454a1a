"""The lines of tasks before warm workers: what each has been given, what it answers, what becomes of it when it ends.

    Assign -> claimed -> COMMIT -> feed (+ note) -> launcher -> worker
    worker -> launcher -> said -> answers -> COMMIT -> heard

    note {"r": ready, "c": concurrency, "n": served, "t": [[id, began_ms], ...]}    what the next controller has to know

Contract: what is not in the note has not been fed, for the launcher takes both or neither; so after a death of this
process it is fed then, once. An answer counts for the try that is claimed and no other. A worker works through its line in
order, `concurrency` at a time: when it dies, those tries count, and the rest go back to the queue as if never given.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from itertools import islice
from typing import Any

from reconciler.controllers.base import WorkerLine
from reconciler.controllers.tasks import EndedTry
from reconciler.launcher.protocol import Message
from reconciler.resources.event import event
from reconciler.resources.meta import Key
from reconciler.resources.pool import Pool
from reconciler.resources.units import format_moment, from_ms, shown, to_ms
from reconciler.resources.worker import Process, Reason, State, Worker
from reconciler.runtime.queues import Queues, TaskQueue
from reconciler.runtime.tries import conclude
from reconciler.store.base import Store, TaskRecord

FRAME_BYTES = 4 << 20
"""So much is fed in one frame, or a little more."""

MAX_RESULT_BYTES = 512 << 10
"""What is longer is not kept: a result of that size belongs into a file."""

ENDS_REMEMBERED = 1024

_AWAY = (State.BACKOFF, State.FAILED, State.COMPLETED, State.STOP_STUCK, State.UNKNOWN)
"""Workers that may not come back soon: their keys go to others meanwhile."""

_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode
_decode = json.JSONDecoder().decode


class WarmLine:
    """One start of one worker."""

    def __init__(self, pool: str, name: str, slot: int, instance: str) -> None:
        self.pool, self.name, self.slot, self.instance = pool, name, slot, instance
        self.open = self.expected = False
        """As the latest plan was told."""
        self.ready = False
        self.concurrency = 1
        self.served = 0
        self.retire = ""
        self.at_once = self.kill = self.fault = False
        self.started_at: datetime | None = None
        self.memory_bytes = 0
        self.tasks: dict[int, TaskRecord] = {}
        """In the order in which they are, or will be, fed."""
        self.fresh: list[TaskRecord] = []
        """Claimed, and fed with the next commit."""
        self.upto = 0
        """So much of its answers has been written down."""
        self.listed = False
        """The launcher has its channel."""
        self.dirty = False
        self._answered: deque[int] = deque(maxlen=ENDS_REMEMBERED)

    @property
    def held(self) -> int:
        """Tasks it has been given and not answered."""
        return len(self.tasks)

    def answered(self, now_ms: int) -> None:
        """One more."""
        self.served += 1
        self._answered.append(now_ms)

    def answered_since(self, ms: int) -> int:
        """How many tasks it has answered since that moment, as far as is remembered."""
        count = 0
        for at_ms in reversed(self._answered):
            if at_ms < ms:
                break
            count += 1
        return count

    def end(self, why: str, at_once: bool = False, kill: bool = False, fault: bool = False) -> None:
        """It gets no more tasks and is to be stopped; the first reason stays, what is more urgent is added."""
        self.retire = self.retire or why
        self.at_once, self.kill, self.fault = self.at_once or at_once, self.kill or kill, self.fault or fault

    def note(self) -> str:
        """For the next controller."""
        given = [[record.id, record.started_ms if record.claim == record.attempts else 0] for record in self.given()]
        return _encode({"r": self.ready, "c": self.concurrency, "n": self.served, "t": given})

    def given(self) -> Iterator[TaskRecord]:
        """What it has been fed, in order."""
        return islice(self.tasks.values(), len(self.tasks) - len(self.fresh))

    def read(self, note: str, claims: dict[int, TaskRecord]) -> None:
        """Takes over what the controller before has left, and what is claimed for it by the table."""
        found = _decode(note) if note else {}
        self.ready, self.concurrency = found.get("r", False), found.get("c", 1)
        self.served = found.get("n", 0)
        for task_id, began_ms in found.get("t", ()):
            record = claims.pop(task_id, None)
            if record is not None:
                record.started_ms = began_ms
                self.tasks[task_id] = record
        self.fresh = [claims[task_id] for task_id in sorted(claims)]
        self.tasks.update((record.id, record) for record in self.fresh)
        claims.clear()
        self.listed = self.dirty = True


class PoolLines:
    """The lines of one pool, as a plan sees them."""

    def __init__(self, lines: Sequence[WarmLine], queue: TaskQueue) -> None:
        self.all = lines
        self._queue = queue
        self._holders: dict[str, str] | None = None

    def key_of(self, task_id: int) -> str | None:
        """What the task is about."""
        return self._queue.live[task_id].key

    def holder(self, key: str) -> str | None:
        """The worker that has unanswered tasks of that key."""
        if self._holders is None:
            self._holders = {r.key: line.name for line in self.all for r in line.tasks.values() if r.key is not None}
        return self._holders.get(key)


class Warm:
    """Every line; the observer tells what happens, the executor what is wanted."""

    def __init__(self, store: Store, queues: Queues, planned: Callable[[Key], None]) -> None:
        """`planned` has a key looked at in this turn or the next."""
        self._store = store
        self._queues = queues
        self._planned = planned
        self._lines: dict[str, WarmLine] = {}
        self._of_task: dict[int, WarmLine] = {}
        self.memory: Callable[[str, int], int] = lambda worker, pid: 0
        """What that process of a worker was last seen to use."""
        self._claims: dict[tuple[str, int], dict[int, TaskRecord]] = {}
        """From an earlier life of the controller, until the launcher has told what lives."""
        for pool in store.all(Pool):
            queue = queues.of(pool.name)
            if pool.spec.warm and queue.claimed:
                for record in queue.live.values():
                    if record.claim:
                        self._claims.setdefault((pool.name, record.slot), {})[record.id] = record

    # what plans see

    def of(self, pool: str) -> PoolLines:
        """The lines of a pool, by ordinal."""
        found = []
        for worker in self._store.owned_by(Key("Pool", pool), Worker):
            line, status = self._lines.get(worker.name), worker.status
            if line is None or line.instance != status.instance:
                line = WarmLine(pool, worker.name, worker.spec.ordinal, status.instance)
            up = status.process is Process.UP and status.stopping is None and worker.metadata.deleted_at is None
            stays = status.template_hash == worker.spec.template_hash and not line.retire
            line.open = up and stays and line.ready and status.ready
            line.expected = worker.metadata.deleted_at is None and status.state not in _AWAY
            line.started_at = status.started_at
            line.memory_bytes = self.memory(worker.name, status.pid or 0)
            found.append(line)
        return PoolLines(found, self._queues.of(pool))

    def line(self, worker: str) -> WorkerLine | None:
        """How a warm worker stands to its tasks."""
        found = self._lines.get(worker)
        if found is None:
            return None
        return WorkerLine(found.ready, found.held, found.retire, found.at_once, found.kill, found.fault)

    def has(self, task_id: int) -> bool:
        """Whether a worker has been given this task."""
        return task_id in self._of_task

    # what is wanted

    def assign(self, pool: str, pairs: Sequence[tuple[int, str]]) -> None:
        """Claims tasks for workers; they are fed after the commit."""
        queue = self._queues.of(pool)
        for task_id, name in pairs:
            line = self._lines[name]
            record = queue.claim(task_id)
            record.slot, record.started_ms = line.slot, 0
            line.tasks[task_id] = record
            line.fresh.append(record)
            line.dirty = True
            self._of_task[task_id] = line

    def withdraw(self, ids: Sequence[int]) -> None:
        """Of these nothing could be made durable."""
        for task_id in ids:
            line = self._of_task.pop(task_id, None)
            if line is not None:
                line.tasks.pop(task_id, None)
                line.fresh = [record for record in line.fresh if record.id != task_id]

    def retire(self, worker: str, why: str) -> None:
        """It gets no more tasks and is stopped when it has none."""
        line = self._lines.get(worker)
        if line is not None:
            line.end(why)
            self._planned(Key("Worker", worker))

    def end_task(self, task_id: int, overran: bool) -> bool:
        """Ends the worker that has this task: what it does cannot be ended otherwise. False: no worker has it."""
        line = self._of_task.get(task_id)
        if line is None:
            return False
        why = f"task/{task_id} has run longer than it may" if overran else f"task/{task_id} is to be ended"
        line.end(why, at_once=True, kill=overran)
        self._planned(Key("Worker", line.name))
        return True

    def feeds(self, now_ms: int) -> Iterator[list[Message]]:
        """What to tell the launcher after a commit, in frames."""
        rows: list[tuple[str, int, str, str]] = []
        size_bytes = 0
        for line in self._lines.values():
            if not line.dirty or not line.listed:
                continue
            fresh, line.fresh, line.dirty = line.fresh, [], False
            text = self._frames(fresh) if fresh else ""
            self._begin(line, now_ms)
            rows.append((line.instance, line.upto, line.note(), text))
            size_bytes += len(text)
            if size_bytes > FRAME_BYTES:
                yield [["feed", rows]]
                rows, size_bytes = [], 0
        if rows:
            yield [["feed", rows]]

    def _frames(self, records: Sequence[TaskRecord]) -> str:
        missing = [record.id for record in records if record.spec is None]
        specs = self._store.tasks.specs(missing) if missing else {}
        frames = []
        for record in records:
            payload = _payload(record.spec or specs[record.id], record.pool)
            key = "null" if record.key is None else _encode(record.key)
            deadline = f'"{format_moment(from_ms(record.deadline_ms))}"' if record.deadline_ms else "null"
            frames.append(
                f'{{"id":"{record.id}","attempt":{record.claim},"payload":{payload},"key":{key},"deadline":{deadline}}}'
            )
        return (f"[{','.join(frames)}]" if len(frames) > 1 else frames[0]) + "\n"

    def _begin(self, line: WarmLine, now_ms: int) -> None:
        """The first of the line are what it works on."""
        queue = self._queues.of(line.pool)
        for record in islice(line.given(), line.concurrency):
            if record.attempts != record.claim:
                queue.began(record, 0, line.slot, record.started_ms or now_ms)
                if record.timeout_ms or record.deadline_ms or record.cancelling:
                    self._planned(Key("Queue", line.pool))

    # what happens

    def started(self, worker: Worker, listed: bool) -> None:
        """Its process runs. `listed`: it ran when this controller came, and its channel has been told of if it has one."""
        line, pool = self._lines.get(worker.name), self._store.get(Pool, worker.spec.pool)
        if pool is None or not pool.spec.warm or (line is not None and line.instance == worker.status.instance):
            return
        line = WarmLine(worker.spec.pool, worker.name, worker.spec.ordinal, worker.status.instance)
        self._lines[worker.name] = line
        line.listed = not listed
        if listed:  # what it has cannot be known any more, and nothing can be said to it
            claims = self._claims.pop((line.pool, line.slot), {})
            line.tasks = claims
            self._of_task.update((task_id, line) for task_id in claims)
            line.end("its channel ended with the launcher that held it", at_once=True)

    def channel(self, key: str, instance: str, note: str) -> None:
        """The launcher has the channel of this start."""
        worker = self._store.get(Worker, key.partition("/")[2])
        if worker is None or worker.status.instance != instance:
            return
        line = WarmLine(worker.spec.pool, worker.name, worker.spec.ordinal, instance)
        self._lines[worker.name] = line
        line.read(note, self._claims.pop((line.pool, line.slot), {}))
        self._of_task.update((task_id, line) for task_id in line.tasks)

    def said(self, key: str, instance: str, upto: int, text: str | None, now: datetime) -> None:
        """Lines of a worker's stdout, up to that byte; None: it has closed it."""
        line = self._lines.get(key.partition("/")[2])
        if line is None or line.instance != instance:
            return
        now_ms = to_ms(now)
        line.upto, line.dirty = upto, True
        if text is None:
            self._broken(line, "it has closed its channel and lives", now)
            return
        for written in text.split("\n"):
            if written and not line.fault:
                try:
                    found = _decode(written)
                    for frame in found if isinstance(found, list) else (found,):
                        self._frame(line, frame, now, now_ms)
                except (ValueError, TypeError, KeyError, RecursionError):
                    self._broken(line, f"it wrote {shown(written[:200])}", now)
        if text and not text.endswith("\n"):
            self._broken(line, f"it wrote a line of more than {len(text)} characters", now)
        self._begin(line, now_ms)
        if not line.tasks:
            self._planned(Key("Worker", line.name))  # if it is to be stopped, this is the moment
        self._planned(Key("Queue", line.pool))

    def _frame(self, line: WarmLine, frame: dict[str, Any], now: datetime, now_ms: int) -> None:
        """Raises ValueError, TypeError or KeyError for one that makes no sense."""
        if frame.get("ready") is True:
            concurrency = frame.get("concurrency", 1)
            if type(concurrency) is not int or not 1 <= concurrency <= 1024:
                raise ValueError(f"a concurrency of {concurrency!r}")
            line.ready, line.concurrency = True, concurrency
            self._planned(Key("Worker", line.name))
            return
        task_id, ok = int(frame["id"]), frame["ok"]
        if type(ok) is not bool:
            raise ValueError(f"ok is {ok!r}")
        record = line.tasks.pop(task_id, None)
        if record is None:
            message = f"an answer to task/{task_id}, which it did not have: ignored"
            self._store.add_event(event(Key("Worker", line.name), "UnknownAnswer", message, now, warning=True))
            return
        del self._of_task[task_id]
        line.answered(now_ms)
        queue = self._queues.of(line.pool)
        overran = queue.overran.get(task_id)
        if record.attempts != record.claim:
            queue.began(record, 0, line.slot, now_ms)
        queue.saw_end(now_ms)
        if overran is not None:
            conclude(self._store, queue, record, EndedTry(None, None, overran), now_ms, now)
        elif ok:
            record.result = _result(frame.get("result"))
            conclude(self._store, queue, record, EndedTry(0, None, Reason.EXITED), now_ms, now)
        else:
            ended = EndedTry(1, None, Reason.EXITED, str(frame.get("error") or "it failed")[:4096])
            conclude(self._store, queue, record, ended, now_ms, now, final=frame.get("retry") is not True)

    def _broken(self, line: WarmLine, what: str, now: datetime) -> None:
        if not line.fault:
            message = f"{what}: no word of the protocol of warm workers"
            self._store.add_event(event(Key("Worker", line.name), Reason.PROTOCOL_ERROR, message, now, warning=True))
            line.end(message, at_once=True, kill=True, fault=True)
            line.retire = message
        self._planned(Key("Worker", line.name))

    def ended(self, worker: Worker, ended: EndedTry, now: datetime) -> None:
        """Its process is over: what it worked on has failed, and what it had not begun goes back."""
        line = self._lines.pop(worker.name, None)
        if line is None or line.instance != worker.status.instance:
            claims = self._claims.pop((worker.spec.pool, worker.spec.ordinal), None)
            if not claims:
                return
            line = WarmLine(worker.spec.pool, worker.name, worker.spec.ordinal, worker.status.instance)
            line.tasks = claims
        queue = self._queues.of(line.pool)
        self._planned(Key("Queue", line.pool))
        begun = line.concurrency if line.listed else len(line.tasks)
        given = list(line.given())
        for record in line.tasks.values():
            self._of_task.pop(record.id, None)
        for record in [*given[begun:], *line.fresh]:
            queue.give_back(record, to_ms(now))
        for record in given[:begun]:
            self._failed(queue, line, record, ended, now)

    def _failed(self, queue: TaskQueue, line: WarmLine, record: TaskRecord, ended: EndedTry, now: datetime) -> None:
        now_ms = to_ms(now)
        if record.attempts != record.claim:
            queue.began(record, 0, line.slot, record.started_ms or now_ms)
        overran = queue.overran.get(record.id)
        reason = ended.reason if line.listed or ended.reason is Reason.HOST_REBOOTED else Reason.EXIT_UNKNOWN
        if line.fault:
            reason = Reason.PROTOCOL_ERROR
        how = ended.signal or (f"exit code {ended.code}" if ended.code is not None else ended.message)
        message = f"its worker {line.name} ended before it answered ({line.retire or how or ended.reason})"
        code = ended.code if ended.code else None  # a worker that leaves without an answer has not succeeded
        conclude(self._store, queue, record, EndedTry(code, ended.signal, overran or reason, message), now_ms, now)

    def settle(self, rebooted: bool, now: datetime) -> None:
        """The launcher has told what lives: what is claimed for anybody else ended with the one that had it."""
        claims, self._claims = self._claims, {}
        reason = Reason.HOST_REBOOTED if rebooted else Reason.EXIT_UNKNOWN
        for (pool, slot), records in claims.items():
            line = WarmLine(pool, f"{pool}-{slot}", slot, "")
            for record in records.values():
                self._failed(self._queues.of(pool), line, record, EndedTry(None, None, reason), now)
            self._planned(Key("Queue", pool))


def _payload(spec: str, pool: str) -> str:
    """The JSON of what the task is given: most specs are it and the name of the pool, which need not be read for that."""
    if spec.startswith(_HEAD) and spec.endswith(tail := f',"pool":"{pool}"}}'):
        return spec[len(_HEAD) : -len(tail)]
    return _encode(_decode(spec).get("payload"))


_HEAD = '{"payload":'


def _result(result: Any) -> str | None:
    """A result as it is kept."""
    if result is None:
        return None
    text = _encode(result)
    if len(text) > MAX_RESULT_BYTES:
        return _encode({"truncated": True, "bytes": len(text), "head": text[:1024]})
    return text
