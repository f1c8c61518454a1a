"""The whole semantics of a store, without a disk.

    create, update, set_status, remove  ->  objects, owner index, revision + 1, a staged Change, on_change
    tasks.stage                         ->  live records, counts, new or changed
    commit  ->  _write (a log, in a subclass)  ->  watch window, ended tasks leave, on_commit

Reads see what is staged; `changes_since`, `on_commit` and a task's place among the ended ones follow the commit. The
moment and the uids come from callables, so the same calls give the same store.
"""

from __future__ import annotations

import re
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import count
from operator import attrgetter
from typing import Any, TypeVar, cast

from reconciler.errors import Conflict, Gone, NotFound
from reconciler.resources.event import Event
from reconciler.resources.meta import Key, Object
from reconciler.resources.task import TaskState
from reconciler.resources.worker import WorkerSpec
from reconciler.store.base import WATCH_WINDOW, Change, Dropped, TaskRecord

T = TypeVar("T", bound=Object)

EVENTS_KEPT = 10_000
SAME_EVENT_WITHIN = timedelta(minutes=10)

_Place = tuple[str, int, str]


class MemoryStore:
    """A store that forgets; see `base.Store` for what each method promises."""

    def __init__(
        self, now: Callable[[], datetime], new_uid: Callable[[], str] | None = None, id: str = "00000000"
    ) -> None:
        numbers = count(1)
        self.id = id
        self.rebooted = False
        self.tasks: MemoryTasks = MemoryTasks()
        self._now = now
        self._new_uid = new_uid or (lambda: f"{next(numbers):08x}")
        self._revision = 0
        self._objects: dict[str, dict[str, Object]] = {}
        self._places: dict[str, list[_Place]] = {}
        self._owned: dict[tuple[str, str], list[_Place]] = {}
        self._staged: dict[int, Change] = {}
        self._staged_modified: dict[Key, int] = {}
        self._window: deque[Change] = deque()
        self._gone_revision = 0  # changes up to this revision are no longer in the window
        self._events: dict[int, Event] = {}
        self._event_ids: dict[tuple[str, str, str], int] = {}
        self._next_event = 1
        self._new_events: dict[int, Event] = {}
        self._dropped_events: list[int] = []
        self._change_callbacks: list[Callable[[Object | None, Object | None], None]] = []
        self._commit_callbacks: list[Callable[[list[Change]], None]] = []

    @property
    def revision(self) -> int:
        return self._revision

    def get(self, model: type[T], name: str) -> T | None:
        return cast("T | None", self._objects.get(model.__name__, {}).get(name))

    def all(self, model: type[T]) -> list[T]:
        kind = model.__name__
        return self._at(kind, self._places.get(kind, []))

    def owned_by(self, owner: Key, model: type[T]) -> list[T]:
        kind = model.__name__
        return self._at(kind, self._owned.get((str(owner), kind), []))

    def create(self, obj: Object) -> Object:
        kind, name = obj.kind, obj.metadata.name
        if name in self._objects.get(kind, {}):
            raise Conflict(f"{obj.key} exists already", "choose another name, or change the one that is there")
        metadata = obj.metadata.changed(
            uid=self._new_uid(), generation=1, created_at=self._now(), resource_version=self._revision + 1
        )
        new = obj.changed(metadata=metadata)
        self._put(new)
        self._changed("ADDED", None, new)
        return new

    def update(self, obj: Object, expected: int | None = None) -> Object:
        key = obj.key
        old = self._objects.get(key.kind, {}).get(key.name)
        if old is None:
            raise NotFound(f"there is no {key}")
        was = old.metadata
        if expected is not None and expected != was.resource_version:
            raise Conflict(
                f"{key} has changed: it is at revision {was.resource_version}, not {expected}", "read it again"
            )
        same_spec = obj.spec is old.spec or obj.spec == old.spec
        metadata = obj.metadata.changed(
            uid=was.uid, created_at=was.created_at, generation=was.generation, resource_version=was.resource_version
        )
        if same_spec and metadata == was and obj.status == old.status:
            return old
        metadata = metadata.changed(
            generation=was.generation if same_spec else was.generation + 1, resource_version=self._revision + 1
        )
        new = obj.changed(metadata=metadata)
        if metadata.owner == was.owner and _place(new) == _place(old):
            self._objects[key.kind][key.name] = new
        else:
            self._take(old)
            self._put(new)
        self._changed("MODIFIED", old, new)
        return new

    def set_status(self, key: Key, status: Any) -> Object | None:
        objects = self._objects.get(key.kind)
        old = objects.get(key.name) if objects is not None else None
        if objects is None or old is None or old.status is status or old.status == status:
            return old
        metadata = old.metadata.changed(resource_version=self._revision + 1)
        new = old.changed(metadata=metadata, status=status)
        objects[key.name] = new
        self._changed("MODIFIED", old, new)
        return new

    def remove(self, key: Key) -> Object | None:
        old = self._objects.get(key.kind, {}).get(key.name)
        if old is not None:
            self._take(old)
            self._changed("DELETED", old, None)
        return old

    def add_event(self, event: Event) -> None:
        sameness = _sameness(event)
        before = self._event_ids.get(sameness)
        if before is not None:
            old = self._events[before]
            if event.at - old.at < SAME_EVENT_WITHIN:
                event = event.changed(count=old.count + event.count)
                self._drop_event(before)
        self._put_event(self._next_event, event)
        self._new_events[self._next_event] = event
        self._next_event += 1
        if len(self._events) > EVENTS_KEPT:
            self._drop_event(next(iter(self._events)))

    def events(self, object_: str | None = None, limit: int = 1000) -> list[Event]:
        found: list[Event] = []
        for event in reversed(self._events.values()):
            if len(found) >= limit:
                break
            if object_ is None or event.object == object_:
                found.append(event)
        return found[::-1]

    @property
    def staged(self) -> bool:
        return bool(self._staged or self._new_events or self._dropped_events or self.tasks.staged)

    def commit(self) -> None:
        if not self.staged:
            return
        self._write()
        changes = list(self._staged.values())
        self._staged.clear()
        self._staged_modified.clear()
        self._new_events.clear()
        self._dropped_events.clear()
        self.tasks.committed()
        self._window.extend(changes)
        while len(self._window) > WATCH_WINDOW:
            self._gone_revision = self._window.popleft().revision
        for callback in self._commit_callbacks:
            callback(changes)

    def changes_since(self, revision: int) -> list[Change]:
        if revision < self._gone_revision:
            raise Gone(f"changes since revision {revision} are no longer kept", "list again and watch from there")
        if revision > self._revision:
            raise Gone(f"this store has not reached revision {revision}", "list again and watch from there")
        found: list[Change] = []
        for change in reversed(self._window):
            if change.revision <= revision:
                break
            found.append(change)
        return found[::-1]

    def on_change(self, callback: Callable[[Object | None, Object | None], None]) -> None:
        self._change_callbacks.append(callback)

    def on_commit(self, callback: Callable[[list[Change]], None]) -> None:
        self._commit_callbacks.append(callback)

    def close(self) -> None:
        """There is nothing to let go of."""

    def _write(self) -> None:
        """Makes what is staged durable; raises, and leaves everything staged, when it cannot."""

    def _at(self, kind: str, places: list[_Place]) -> list[Any]:
        objects = self._objects.get(kind, {})
        return [objects[name] for _, _, name in places]

    def _put(self, obj: Object) -> None:
        kind, place, owner = obj.kind, _place(obj), obj.metadata.owner
        self._objects.setdefault(kind, {})[obj.metadata.name] = obj
        insort(self._places.setdefault(kind, []), place)
        if owner is not None:
            insort(self._owned.setdefault((owner, kind), []), place)

    def _take(self, obj: Object) -> None:
        kind, place, owner = obj.kind, _place(obj), obj.metadata.owner
        del self._objects[kind][obj.metadata.name]
        _forget(self._places[kind], place)
        if owner is not None:
            owned = self._owned[owner, kind]
            _forget(owned, place)
            if not owned:
                del self._owned[owner, kind]

    def _changed(self, type_: Any, old: Object | None, new: Object | None) -> None:
        """Stages the change. A modification that a later one supersedes before the commit is never seen outside."""
        obj = cast(Object, new or old)
        key = obj.key
        self._revision += 1
        superseded = self._staged_modified.pop(key, None)
        if superseded is not None:
            del self._staged[superseded]
        if type_ == "MODIFIED":
            self._staged_modified[key] = self._revision
        self._staged[self._revision] = Change(self._revision, type_, obj)
        for callback in self._change_callbacks:
            callback(old, new)

    def _put_event(self, number: int, event: Event) -> None:
        self._events[number] = event
        self._event_ids[_sameness(event)] = number

    def _drop_event(self, number: int) -> None:
        event = self._events.pop(number)
        sameness = _sameness(event)
        if self._event_ids.get(sameness) == number:
            del self._event_ids[sameness]
        if self._new_events.pop(number, None) is None:
            self._dropped_events.append(number)


def _sameness(event: Event) -> tuple[str, str, str]:
    """What the same event has again: of tasks there may be thousands a second, so their number is no difference."""
    return event.object, event.reason, _TASK.sub("task/", event.message)


_TASK = re.compile(r"task/\d+")


class MemoryTasks:
    """The task table; ended tasks stay in memory here, for there is no disk to put them on."""

    def __init__(self) -> None:
        self._next_id = 1
        self._live: dict[int, TaskRecord] = {}
        self._states: dict[int, TaskState] = {}  # as counted; Pending ones, of which there are a million, left out
        self._claimed: set[int] = set()  # what runs, and may still be counted as Pending, is among these
        self._keys: dict[tuple[str, str], int] = {}
        self._counts: dict[str, dict[TaskState, int]] = {}
        self._new: dict[int, TaskRecord] = {}
        self._moved: dict[int, TaskRecord] = {}
        self._changed: dict[int, TaskRecord] = {}
        """Changed, and still in the state of the last commit."""
        self._ended: dict[int, TaskRecord] = {}
        self._dropping: dict[str, list[Dropped]] = {}
        self._dropped: dict[str, int] = {}
        self._words: dict[str, dict[str, str]] = {}
        """What the orders of pools have to know after a restart."""
        self._new_words: dict[tuple[str, str], str | None] = {}

    def next_id(self) -> int:
        self._next_id += 1
        return self._next_id - 1

    def stage(self, record: TaskRecord) -> None:
        number = record.id
        if number in self._live:
            before = self._states.get(number, TaskState.PENDING)
            if before is not record.state:
                if before.ended:
                    raise ValueError(f"task {number} has ended as {before}: it cannot become {record.state}")
                self._count(record.pool, before, -1)
                self._count(record.pool, record.state, +1)
            if number in self._new:
                self._new[number] = record
            elif number in self._moved or before is not record.state:
                self._moved[number] = record
                self._changed.pop(number, None)
            else:
                self._changed[number] = record
        else:
            if self._has_ended(number):
                raise ValueError(f"task {number} has ended: it cannot become {record.state}")
            self._new[number] = record
            self._count(record.pool, record.state, +1)
            if record.idempotency_key is not None:
                self._keys[record.pool, record.idempotency_key] = number
        self._live[number] = record
        if record.claim:
            self._claimed.add(number)
        else:
            self._claimed.discard(number)
        if record.state is TaskState.PENDING:
            self._states.pop(number, None)
        else:
            self._states[number] = record.state

    def stage_new(self, pool: str, records: Sequence[TaskRecord]) -> None:
        numbered = {record.id: record for record in records}
        self._live.update(numbered)
        self._new.update(numbered)
        others = [record for record in records if record.state is not TaskState.PENDING]
        self._count(pool, TaskState.PENDING, len(records) - len(others))
        for record in others:
            self._states[record.id] = record.state
            self._count(pool, record.state, +1)
        for record in records:
            if record.idempotency_key is not None:
                self._keys[pool, record.idempotency_key] = record.id

    def drop_new(self) -> list[TaskRecord]:
        dropped = list(self._new.values())
        self._new.clear()
        for record in dropped:
            self._count(record.pool, self._states.pop(record.id, TaskState.PENDING), -1)
            del self._live[record.id]
            self._claimed.discard(record.id)
            if record.idempotency_key is not None:
                del self._keys[record.pool, record.idempotency_key]
        return dropped

    def drop(self, pool: str, before_ms: int, keep: int, limit: int) -> list[Dropped]:
        if pool in self._dropping:
            return []  # the last ones have not been committed
        ended = sum(number for state, number in self.counts(pool).items() if state.ended)
        excess = ended - self._dropped.get(pool, 0) - keep
        if ended <= self._dropped.get(pool, 0):
            return []
        oldest = enumerate(self._oldest(pool, limit))
        found = [row for place, row in oldest if place < excess or row.finished_ms < before_ms]
        if found:
            self._dropping[pool] = found
        return found

    def live(self) -> Iterable[TaskRecord]:
        ended = {number for number, state in self._states.items() if state.ended}
        return [self._live[number] for number in sorted(self._live) if number not in ended]

    def get(self, task_id: int) -> TaskRecord | None:
        return self._live.get(task_id) or self._ended.get(task_id)

    def specs(self, ids: Sequence[int]) -> dict[int, str]:
        found = {number: self.get(number) for number in ids}
        return {number: record.spec for number, record in found.items() if record is not None and record.spec}

    def by_key(self, pool: str, idempotency_key: str) -> TaskRecord | None:
        number = self._keys.get((pool, idempotency_key))
        return None if number is None else self.get(number)

    def query(
        self,
        pool: str | None = None,
        state: TaskState | None = None,
        since_ms: int = 0,
        limit: int = 1000,
        after_id: int = 0,
    ) -> list[TaskRecord]:
        everything = {**self._ended, **self._live}
        found: list[TaskRecord] = []
        for number in sorted(everything):
            record = everything[number]
            if len(found) >= limit:
                break
            if (
                number > after_id
                and (pool is None or record.pool == pool)
                and (state is None or record.state is state)
                and record.submitted_ms >= since_ms
            ):
                found.append(replace(record))
        return found

    def counts(self, pool: str) -> dict[TaskState, int]:
        return dict(self._counts.get(pool, _NONE))

    @property
    def staged(self) -> bool:
        """Whether a commit would write anything."""
        return bool(self._new or self._moved or self._changed or self._dropping or self._new_words)

    def committed(self) -> None:
        """What was staged is durable: ended tasks leave."""
        for records in (self._new, self._moved):
            for record in records.values():
                if record.state.ended:
                    self._leave(record)
            records.clear()
        self._changed.clear()
        for pool, rows in self._dropping.items():
            self._dropped[pool] = self._dropped.get(pool, 0) + len(rows)
            for row in rows:
                self._forget(pool, row)
        self._dropping.clear()
        self._new_words.clear()

    def remember(self, pool: str, words: Mapping[str, str | None]) -> None:
        kept = self._words.setdefault(pool, {})
        for name, text in words.items():
            self._new_words[pool, name] = text
            if text is None:
                kept.pop(name, None)
            else:
                kept[name] = text

    def remembered(self, pool: str) -> dict[str, str]:
        return dict(self._words.get(pool, {}))

    def _oldest(self, pool: str, limit: int) -> list[Dropped]:
        """The first ended tasks by id."""
        ended = sorted((record for record in self._ended.values() if record.pool == pool), key=attrgetter("id"))
        return [Dropped(r.id, r.state, r.attempts, r.finished_ms, r.idempotency_key) for r in ended[:limit]]

    def _forget(self, pool: str, row: Dropped) -> None:
        del self._ended[row.id]
        if row.key is not None:
            del self._keys[pool, row.key]

    def _has_ended(self, number: int) -> bool:
        return number in self._ended

    def _leave(self, record: TaskRecord) -> None:
        del self._live[record.id]
        self._states.pop(record.id, None)
        self._claimed.discard(record.id)
        self._ended[record.id] = record

    def _count(self, pool: str, state: TaskState, by: int) -> None:
        counts = self._counts.get(pool)
        if counts is None:
            counts = self._counts[pool] = dict(_NONE)
        counts[state] += by


_NONE: dict[TaskState, int] = dict.fromkeys(TaskState, 0)


def _place(obj: Object) -> _Place:
    """Where an object stands among its kind: workers by pool and ordinal, others by name."""
    spec = obj.spec
    if isinstance(spec, WorkerSpec):
        return (spec.pool, spec.ordinal, obj.metadata.name)
    return ("", 0, obj.metadata.name)


def _forget(places: list[_Place], place: _Place) -> None:
    del places[bisect_left(places, place)]
