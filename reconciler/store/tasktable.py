"""The task table in SQLite: live tasks in memory, ended ones on the disk only.

    submit -> _new | changes -> _moved, _changed | drop -> _dropping      --write-->  the store's transaction

A million tasks are the measure: what is read at a start is half of each row, and what is written is one statement a kind.
"""

from __future__ import annotations

import gc
import heapq
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields, replace
from itertools import chain, islice
from operator import attrgetter
from typing import Any, Protocol

from reconciler.errors import StoreBroken
from reconciler.resources.task import TaskState
from reconciler.resources.worker import Reason
from reconciler.store.base import Dropped, TaskRecord
from reconciler.store.memory import MemoryTasks

_COLUMNS = tuple(field.name for field in fields(TaskRecord) if field.name != "pid")
_SAID = _COLUMNS.index("attempts")
"""So many columns say what was submitted; those behind them, what became of it."""
_MUTABLE = ("state", *_COLUMNS[_SAID:])
_MAY_BE_NONE = {"idempotency_key", "digest", "tenant", "key", "exit_code", "signal", "reason", "result", "tries"}
_VALUE = {name: "NULLIF(?, '')" if name in _MAY_BE_NONE else "?" for name in _COLUMNS}
"""What is not there is handed over as an empty text, which none of these is: SQLite's module asks all but numbers and texts
how they want to be adapted, which costs more than the rest of the row."""
_INTO = f"INSERT INTO task ({', '.join(_COLUMNS)}) VALUES "
_INSERT = f"{_INTO}({', '.join(_VALUE.values())})"
_UNTOUCHED = tuple(
    "" if field.default is None else field.default for field in fields(TaskRecord) if field.name in _COLUMNS[_SAID:]
)
"""`_became` of a task to which nothing has happened yet."""
_NOTHING = ", ".join(
    "NULL" if name in _MAY_BE_NONE else repr(value) for name, value in zip(_COLUMNS[_SAID:], _UNTOUCHED, strict=True)
)
_AT_ONCE = 64
"""Rows in one statement: binding and stepping each for itself costs twice as much. Within the 999 values of old SQLites."""
_INSERT_UNTOUCHED = _INTO + ", ".join(
    [f"({', '.join(_VALUE[name] for name in _COLUMNS[:_SAID])}, {_NOTHING})"] * _AT_ONCE
)
_UPDATE = f"UPDATE task SET {', '.join(f'{name} = {_VALUE[name]}' for name in _MUTABLE)} WHERE id = ?"
_UPDATE_IN_STATE = f"UPDATE task SET {', '.join(f'{name} = {_VALUE[name]}' for name in _MUTABLE[1:])} WHERE id = ?"
"""Leaves the index alone."""
_CLAIM = "UPDATE task SET claim = 1 WHERE id BETWEEN ? AND ?"
"""First claims of tasks that nothing else has happened to: nearly all claims are, and follow one another."""
_CLAIMED = tuple(1 if name == "claim" else value for name, value in zip(_COLUMNS[_SAID:], _UNTOUCHED, strict=True))
_SUCCEED = (
    f"UPDATE task SET state = '{TaskState.SUCCEEDED.value}', attempts = 1, claim = 0, started_ms = ?, finished_ms = ?,"
    f" exit_code = 0, reason = '{Reason.EXITED.value}', slot = ?, result = ? WHERE id = ?"
)
"""The end of a task that has gone well at once, as nearly all do: of its row only this is another than when it was claimed."""
_SELECT = f"SELECT {', '.join(_COLUMNS)} FROM task"
_SELECT_TRIED = f"SELECT {', '.join(_COLUMNS).replace('spec', 'NULL')} FROM task"
_LIVE = "FROM task WHERE pool = ? AND state = ?"
_FRESH = (
    "attempts = 0 AND claim = 0 AND due_ms = 0 AND started_ms = 0 AND finished_ms = 0 AND exit_code IS NULL"
    " AND signal IS NULL AND reason IS NULL AND message = '' AND slot = -1 AND cancelling = 0 AND result IS NULL"
    " AND tries IS NULL"
)
"""Every column that changes is as TaskRecord has it from the start."""
_SELECT_LIVE = (
    f"SELECT {_FRESH}, id, submitted_ms, max_attempts, timeout_ms, idempotency_key, digest, on_unknown_fail, priority,"
    f" tenant, key, deadline_ms {_LIVE} ORDER BY id"
)
_STATES = {state.value: state for state in TaskState}
_IDS_A_READ = 500
_GAPS = 20
"""Up to so many numbers for each live task, looking them up one after another is cheaper than looking through all."""
_QUERY = f"{_SELECT} WHERE pool = ? AND state = ? AND id > ? AND submitted_ms >= ? ORDER BY id LIMIT ?"
_OLDEST = "SELECT id, state, attempts, finished_ms, idempotency_key FROM task WHERE pool = ? AND state = ? ORDER BY id LIMIT ?"
_DROPPED = (
    "INSERT INTO dropped VALUES (?, ?, ?) ON CONFLICT (pool, state) DO UPDATE SET number = number + excluded.number"
)
_BY_KEY = f"{_SELECT} WHERE pool = ? AND idempotency_key = ?"
_succeeded = attrgetter("started_ms", "finished_ms", "slot", "result", "id")
_well = attrgetter(
    "state", "attempts", "claim", "exit_code", "reason", "message", "signal", "tries", "due_ms", "cancelling"
)
_WELL = (TaskState.SUCCEEDED, 1, 0, 0, Reason.EXITED.value, "", None, None, 0, False)


def _said(record: TaskRecord) -> tuple[Any, ...]:
    """What was submitted, in the order of the columns; numbers for yes and no, and "" for None: see `_VALUE`."""
    return (
        record.id, record.pool, record.state._value_, record.submitted_ms, record.max_attempts, record.spec,
        record.timeout_ms, record.idempotency_key or "", record.digest or "", 1 if record.on_unknown_fail else 0,
        record.priority, record.tenant or "", record.key or "", record.deadline_ms,
    )  # fmt: skip


def _became(record: TaskRecord) -> tuple[Any, ...]:
    """The columns behind those."""
    return (
        record.attempts, record.claim, record.due_ms, record.started_ms, record.finished_ms,
        "" if record.exit_code is None else record.exit_code, record.signal or "", record.reason or "",
        record.message, record.slot, 1 if record.cancelling else 0, record.result or "", record.tries or "",
    )  # fmt: skip


class Rows(Protocol):
    """What the table asks of its store."""

    def rows(self, sql: str, values: Sequence[Any] = ()) -> Iterator[tuple[Any, ...]]:
        """Committed rows, one after another, to be read to the end."""
        ...

    def read(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Committed rows, all at once."""
        ...

    def not_ours(self, name: str, why: str) -> StoreBroken:
        """The error for what this version cannot understand."""
        ...


class SqliteTasks(MemoryTasks):
    """The task table: live tasks in memory, without their specs after opening; ended ones on the disk only."""

    def __init__(self, store: Rows) -> None:
        super().__init__()
        self._store = store
        self._newest_written = 0

    @property
    def next_unused(self) -> int:
        """The number `next_id` gives next."""
        return self._next_id

    def load(self, next_id: int) -> None:
        """Counts all tasks and takes the live ones into memory: a million in seconds."""
        self._next_id = next_id
        self._newest_written = next_id - 1
        collecting = gc.isenabled()
        gc.disable()  # nothing here is garbage, and looking for some would cost a third of the time
        try:
            parts = 0
            for pool, word, number in self._store.read("SELECT pool, state, count(*) FROM task GROUP BY pool, state"):
                state = _STATES.get(word)
                if state is None:
                    raise self._store.not_ours(f"a task of pool/{pool}", f"there is no state {word}")
                self._count(pool, state, number)
                if not state.ended:
                    self._load_live(pool, state)
                    parts += 1
            for pool, word, number in self._store.read("SELECT pool, state, number FROM dropped"):
                self._count(pool, _STATES[word], number)
                self._dropped[pool] = self._dropped.get(pool, 0) + number
            for pool, name, text in self._store.read("SELECT pool, name, text FROM remembered"):
                self._words.setdefault(pool, {})[name] = text
            if parts > 1:
                self._live = {number: self._live[number] for number in sorted(self._live)}
        finally:
            if collecting:
                gc.enable()

    def _load_live(self, pool: str, state: TaskState) -> None:
        # most of a long queue has never been tried: half of its columns need not be read, its pool's name is one string
        words: dict[str, str] = {}
        live, tried = self._live, []
        for row in self._store.rows(_SELECT_LIVE, (pool, state.value)):
            fresh, number, submitted_ms, most, timeout_ms, name, digest, fails, priority, tenant, key, deadline_ms = row
            if not fresh:
                tried.append(number)
            live[number] = record = TaskRecord(
                number, pool, state, submitted_ms, most, None, timeout_ms, name, digest, fails == 1, priority
            )
            if tenant is not None:
                record.tenant = words.setdefault(tenant, tenant)  # a million tasks, a few tenants
            if key is not None:
                record.key = key
            if deadline_ms:
                record.deadline_ms = deadline_ms
            if name is not None:
                self._keys[pool, name] = number
            if state is not TaskState.PENDING:
                self._states[number] = state
        for row in self._read_many(_SELECT_TRIED, tried):
            live[row[0]] = record = _record(row)
            if record.claim:
                self._claimed.add(record.id)

    def _read_many(self, sql: str, ids: Sequence[int]) -> Iterator[tuple[Any, ...]]:
        """What `sql` finds of these, some of them at a time."""
        for start in range(0, len(ids), _IDS_A_READ):
            part = ids[start : start + _IDS_A_READ]
            yield from self._store.read(f"{sql} WHERE id IN ({', '.join('?' * len(part))})", part)

    def write(self, db: sqlite3.Connection) -> None:
        """What is staged, within the caller's transaction."""
        if self._new:
            _insert(db, self._new.values())
        if self._moved:
            plain: list[TaskRecord] = []
            others: list[TaskRecord] = []
            for record in self._moved.values():
                (plain if _well(record) == _WELL else others).append(record)
            if others:
                db.executemany(_UPDATE, ((r.state._value_, *_became(r), r.id) for r in others))
            db.executemany(_SUCCEED, map(_succeeded, plain))
        if self._changed:
            stayed = [(*_became(record), record.id) for record in self._changed.values()]
            claimed = [row[-1] for row in stayed if row[:-1] == _CLAIMED]
            if len(claimed) < len(stayed):
                db.executemany(_UPDATE_IN_STATE, [row for row in stayed if row[:-1] != _CLAIMED])
            db.executemany(_CLAIM, _ranges(claimed))
        for (pool, name), text in self._new_words.items():
            if text is None:
                db.execute("DELETE FROM remembered WHERE pool = ? AND name = ?", (pool, name))
            else:
                db.execute("INSERT OR REPLACE INTO remembered VALUES (?, ?, ?)", (pool, name, text))
        for pool, rows in self._dropping.items():
            db.executemany("DELETE FROM task WHERE id = ?", [(row.id,) for row in rows])
            for state, number in Counter(row.state for row in rows).items():
                db.execute(_DROPPED, (pool, state.value, number))

    def get(self, task_id: int) -> TaskRecord | None:
        record = self._live.get(task_id)
        if record is None:
            rows = self._store.read(f"{_SELECT} WHERE id = ?", (task_id,)) if 0 < task_id < self._next_id else []
            return _record(rows[0]) if rows else None
        if record.spec is None:
            record.spec = self.specs([task_id])[task_id]
        return record

    def specs(self, ids: Sequence[int]) -> dict[int, str]:
        found: dict[int, str] = {}
        missing: list[int] = []
        for number in ids:
            record = self._live.get(number)
            if record is not None and record.spec is not None:
                found[number] = record.spec
            else:
                missing.append(number)
        found.update((number, spec) for number, spec in self._read_many("SELECT id, spec FROM task", missing))
        return found

    def by_key(self, pool: str, idempotency_key: str) -> TaskRecord | None:
        number = self._keys.get((pool, idempotency_key))
        if number is not None:
            return self.get(number)
        rows = self._store.read(_BY_KEY, (pool, idempotency_key))
        return _record(rows[0]) if rows else None

    def query(
        self,
        pool: str | None = None,
        state: TaskState | None = None,
        since_ms: int = 0,
        limit: int = 1000,
        after_id: int = 0,
    ) -> list[TaskRecord]:
        wanted = [state] if state is not None else list(TaskState)
        bounds = (after_id, since_ms, limit)
        # one read of the index for each pool and end, each in the order of ids; what has not ended is true in memory only
        parts: list[Iterable[TaskRecord]] = [
            map(_record, self._store.read(_QUERY, (one_pool, one_state.value, *bounds)))
            for one_pool in ([pool] if pool is not None else list(self._counts))
            for one_state in wanted
            if one_state.ended
        ]
        live = (
            record
            for record in self._live_after(after_id, wanted, pool)
            if record.id not in self._new  # nobody has been told of it
            and record.submitted_ms >= since_ms
            and record.state in wanted
            and (pool is None or record.pool == pool)
        )
        found = list(islice(heapq.merge(*parts, live, key=attrgetter("id")), limit))
        specs = self.specs([record.id for record in found if record.spec is None])
        return [replace(record, spec=record.spec or specs.get(record.id)) for record in found]

    def _live_after(self, after_id: int, wanted: Sequence[TaskState], pool: str | None) -> Iterable[TaskRecord]:
        """Those of higher numbers that may be meant, by number: a page of a million tasks looks at little more than it shows."""
        live = self._live
        pools = [pool] if pool is not None else self._counts
        if not any(n for name in pools for state, n in self._counts.get(name, {}).items() if not state.ended):
            return ()
        if TaskState.PENDING not in wanted:
            return (live[number] for number in sorted(self._claimed.union(self._states)) if number > after_id)
        if not live or next(iter(live)) > after_id:
            return live.values()  # by number: they are given rising, and loaded so
        if self._next_id - after_id < _GAPS * len(live):
            return filter(None, map(live.get, range(after_id + 1, self._next_id)))
        return (record for number, record in live.items() if number > after_id)

    def committed(self) -> None:
        self._newest_written = max((self._newest_written, *self._new))
        super().committed()

    def _oldest(self, pool: str, limit: int) -> list[Dropped]:
        counts = self._counts.get(pool, {})
        rows = heapq.merge(
            *(
                self._store.read(_OLDEST, (pool, state.value, limit))
                for state, number in counts.items()
                if state.ended and number
            )
        )
        return [Dropped(id_, _STATES[word], *more) for id_, word, *more in islice(rows, limit)]

    def _forget(self, pool: str, row: Dropped) -> None:
        """Nothing of it is in memory."""

    def _has_ended(self, number: int) -> bool:
        return number <= self._newest_written and bool(self._store.read("SELECT 1 FROM task WHERE id = ?", (number,)))

    def _leave(self, record: TaskRecord) -> None:
        del self._live[record.id]
        self._states.pop(record.id, None)
        self._claimed.discard(record.id)
        if record.idempotency_key is not None:
            del self._keys[record.pool, record.idempotency_key]


def _insert(db: sqlite3.Connection, records: Iterable[TaskRecord]) -> None:
    """Many that nothing has happened to yet go together, without the columns that say so."""
    fresh, others = [], []
    for record in records:
        became = _became(record)
        if became == _UNTOUCHED:
            fresh.append(_said(record))
        else:
            others.append((*_said(record), *became))
    whole = len(fresh) - len(fresh) % _AT_ONCE
    for start in range(0, whole, _AT_ONCE):
        db.execute(_INSERT_UNTOUCHED, list(chain.from_iterable(fresh[start : start + _AT_ONCE])))
    db.executemany(_INSERT, [*((*said, *_UNTOUCHED) for said in fresh[whole:]), *others])


def _ranges(ids: Sequence[int]) -> list[tuple[int, int]]:
    """Numbers that follow one another as (first, last)."""
    found: list[tuple[int, int]] = []
    for number in sorted(ids):
        if found and found[-1][1] == number - 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return found


def _record(row: Sequence[Any]) -> TaskRecord:
    record = TaskRecord(*row)
    record.state = _STATES[row[2]]
    record.on_unknown_fail = bool(record.on_unknown_fail)
    record.cancelling = bool(record.cancelling)
    return record
