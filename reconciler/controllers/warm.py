"""Hands tasks to warm workers, keeps the tasks of one key together, and has workers replaced that have served enough.

    ready ids --Assign--> claimed, durable, then fed to the worker: one at first, more to those that are quick
    served, grown or aged --Relieve--> gets no more tasks and is stopped once it has none; one worker after another

Reads:   the Pool, a view of its queue and of its workers' lines.
Writes:  claims, ends, retirements.
Wakes:   as the queue of any task pool; when a worker gets ready, or old.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from reconciler.controllers import tasks
from reconciler.controllers.base import Action, Assign, Continue, Mode, Plan, Queue, Relieve, World
from reconciler.controllers.lines import Line, Lines
from reconciler.coordination.ring import ring_of
from reconciler.resources.meta import Key, Wish
from reconciler.resources.pool import Assignment, Pool, Recycle
from reconciler.resources.units import format_duration, from_ms, to_ms

PACE_MS = 40
"""A worker is given one task, and as many ahead as it has answered within this time: what is long waits here, where any
worker can take it, and what is short waits where its worker has it at once."""

WINDOW = 512
"""So many waiting tasks are looked at for one whose worker has room."""

FLOOR = 64
"""No worker is thought to have too much with so many tasks before it, whatever the others have."""

MEMORY_LOOK_S = 10.0


def plan(key: Key, world: World, now: datetime) -> Plan:
    """What the queue of the pool `key.name` hands on and ends now."""
    pool = world.get(Pool, key.name)
    if pool is None or pool.spec.tasks is None or not pool.spec.warm:
        return tasks.plan(key, world, now)
    queue, lines, now_ms = world.queue(key.name), world.lines(key.name), to_ms(now)
    actions: list[Action] = tasks.ends(key.name, pool, queue, now_ms)
    wake_ms = [queue.next_deadline_ms, queue.next_late_ms]
    if expired := queue.expired(now_ms, tasks.EXPIRE_AT_ONCE):
        actions += tasks.expire(key.name, expired, now)
    actions += tasks.retired(pool, queue, now_ms)
    if queue.still and (seen := queue.suspension(0, now_ms)):  # of the time when the pool was none of warm workers
        actions.append(Continue(key.name, tuple(task.id for task in seen.begun if task.suspended)))
    wake_at: datetime | None = None
    if world.mode is Mode.RUNNING and pool.metadata.deleted_at is None:
        recycle = pool.spec.template.recycle
        if recycle is not None:
            retired, wake_at = _recycled(pool, recycle, lines.all, now)
            actions += retired
        standing = pool.metadata.standing(now)
        if standing is None or standing.wish not in (Wish.STOPPED, Wish.PAUSED):
            leaving = {action.key.name for action in actions if isinstance(action, Relieve)}
            pairs = _assigned(pool, queue, lines, leaving, frozenset(expired), now_ms)
            if pairs:
                actions.append(Assign(key.name, pairs))
            wake_ms.append(queue.next_due_ms)
    moments = [from_ms(ms) for ms in wake_ms if ms is not None] + ([wake_at] if wake_at is not None else [])
    return Plan(tuple(actions), min(moments) if moments else None)


class _Desk:
    """One open line while tasks are given out."""

    __slots__ = ("held", "name", "room")

    def __init__(self, name: str, held: int, room: int) -> None:
        self.name, self.held, self.room = name, held, room


def _assigned(
    pool: Pool, queue: Queue, lines: Lines, leaving: set[str], expired: frozenset[int], now_ms: int
) -> tuple[tuple[int, str], ...]:
    assert pool.spec.tasks is not None
    depth, assignment = pool.spec.tasks.depth, pool.spec.tasks.assignment
    desks: dict[str, _Desk] = {}
    room = 0
    for line in lines.all:
        if line.open and line.name not in leaving:
            allowed = min(max(depth, line.concurrency), line.concurrency + line.answered_since(now_ms - PACE_MS))
            desk = desks[line.name] = _Desk(line.name, line.held, max(0, allowed - line.held))
            room += desk.room
    if not room:
        return ()
    if assignment is not None:
        ids = [i for i in queue.ready(max(room, WINDOW), now_ms) if i not in expired]
        members = tuple(line.name for line in lines.all if line.expected)
        return _by_key(ids, desks, members, assignment, lines)
    ids = [i for i in queue.ready(room + len(expired), now_ms) if i not in expired][:room]
    pairs = []
    for task_id in ids:
        idle = _idlest(desks)
        assert idle is not None, "there are no more tasks than room"
        _give(idle)
        pairs.append((task_id, idle.name))
    return tuple(pairs)


def _by_key(
    ids: Sequence[int], desks: dict[str, _Desk], members: tuple[str, ...], how: Assignment, lines: Lines
) -> tuple[tuple[int, str], ...]:
    """Each task to the worker of its key. What has to wait lets others pass, but none of its own key."""
    ring = ring_of(members, how.virtual_nodes)
    loads = {line.name: line.held for line in lines.all}
    placed: dict[str, str | None] = {}
    blocked: set[str] = set()
    pairs = []
    for task_id in ids:
        key = lines.key_of(task_id)
        if key is None:
            desk = _idlest(desks)
        else:
            if key not in placed:  # who has some of it answers them first, also when the ring says another by now
                placed[key] = lines.holder(key) or ring.bounded(key, loads, how.load_factor, FLOOR)
            owner = placed[key]
            if owner is None:
                continue
            desk = desks.get(owner) if key not in blocked else None
            if desk is None or not desk.room:
                blocked.add(key)
                loads[owner] = loads.get(owner, 0) + 1
                continue
            loads[owner] = loads.get(owner, 0) + 1
        if desk is not None:
            _give(desk)
            pairs.append((task_id, desk.name))
    return tuple(pairs)


def _idlest(desks: dict[str, _Desk]) -> _Desk | None:
    return min((desk for desk in desks.values() if desk.room), key=lambda desk: desk.held, default=None)


def _give(desk: _Desk) -> None:
    desk.held += 1
    desk.room -= 1


class _Spent(NamedTuple):
    line: Line
    why: str


def _recycled(
    pool: Pool, recycle: Recycle, lines: Sequence[Line], now: datetime
) -> tuple[list[Relieve], datetime | None]:
    """Whom to retire now, and when to look again: nobody while another worker is not there."""
    look_at = now + timedelta(seconds=MEMORY_LOOK_S) if recycle.max_memory_bytes is not None else None
    if recycle.max_age_s is not None:
        ages = [line.started_at for line in lines if line.started_at is not None]
        due = [at + timedelta(seconds=recycle.max_age_s) for at in ages]
        look_at = min((at for at in (*due, look_at) if at is not None and at > now), default=None)
    if len(lines) < pool.spec.replicas or not all(line.open for line in lines):
        return [], look_at
    spent = [_Spent(line, why) for line in lines if (why := _why(line, recycle, now))]
    if not spent:
        return [], look_at
    first = min(spent, key=lambda one: one.line.held)
    return [Relieve(Key("Worker", first.line.name), first.why)], look_at


def _why(line: Line, recycle: Recycle, now: datetime) -> str:
    if recycle.max_tasks is not None and line.served >= recycle.max_tasks:
        return f"recycled: it has done {line.served} tasks, maxTasks is {recycle.max_tasks}"
    if recycle.max_memory_bytes is not None and line.memory_bytes > recycle.max_memory_bytes:
        return f"recycled: it uses {line.memory_bytes >> 20} MiB, maxMemory is {recycle.max_memory_bytes >> 20} MiB"
    max_age_s, since = recycle.max_age_s, line.started_at
    if max_age_s is not None and since is not None and now - since >= timedelta(seconds=max_age_s):
        return f"recycled: it has been up for {format_duration(max_age_s)}, its maxAge"
    return ""
