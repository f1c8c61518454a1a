"""Who gets which task in a warm pool, and who is recycled: values in, values out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from reconciler.controllers import warm
from reconciler.controllers.base import Assign, Mode, Plan, Relieve
from reconciler.resources.meta import Key
from reconciler.resources.pool import Pool

NOW = datetime(2026, 11, 24, tzinfo=UTC)


@dataclass
class Line:
    name: str
    held: int = 0
    quick: int = 0
    open: bool = True
    expected: bool = True
    retire: str = ""
    concurrency: int = 1
    served: int = 0
    started_at: datetime | None = NOW
    memory_bytes: int = 0

    def answered_since(self, ms: int) -> int:
        return self.quick


@dataclass
class Lines:
    all: Sequence[Line]
    keys: dict[int, str] = field(default_factory=dict)
    holders: dict[str, str] = field(default_factory=dict)

    def key_of(self, task_id: int) -> str | None:
        return self.keys.get(task_id)

    def holder(self, key: str) -> str | None:
        return self.holders.get(key)


class Queue:
    next_deadline_ms = next_late_ms = next_due_ms = next_weigh_ms = None
    next_retire_ms = 1 << 62
    still = 0

    def __init__(self, count: int) -> None:
        self._ids = list(range(1, count + 1))

    def ready(self, limit: int, now_ms: int) -> Sequence[int]:
        return self._ids[:limit]

    def expired(self, now_ms: int, limit: int) -> Sequence[int]:
        return ()

    def overdue(self, now_ms: int) -> Sequence[Any]:
        return ()


class World:
    mode = Mode.RUNNING

    def __init__(self, pool: Pool, lines: Lines, waiting: int) -> None:
        self._pool, self._lines, self._queue = pool, lines, Queue(waiting)

    def get(self, model: Any, name: str) -> Any:
        return self._pool

    def queue(self, pool: str) -> Any:
        return self._queue

    def lines(self, pool: str) -> Any:
        return self._lines


def plan(lines: Sequence[Line], waiting: int, keyed: Lines | None = None, now: datetime = NOW, **spec: Any) -> Plan:
    template = {"command": ["score"], **spec.pop("template", {})}
    if keyed is not None:
        spec["assignment"] = {"type": "ConsistentHash"}
    body = {"replicas": len(lines), "template": template, "tasks": {"mode": "Warm", **spec}}
    pool = Pool.model_validate({"metadata": {"name": "w"}, "spec": body})
    world: Any = World(pool, keyed or Lines(lines), waiting)
    return warm.plan(Key("Queue", "w"), world, now)


def given(found: Plan) -> list[tuple[int, str]]:
    return [pair for action in found.actions if isinstance(action, Assign) for pair in action.pairs]


def relieved(found: Plan) -> list[str]:
    return [action.key.name for action in found.actions if isinstance(action, Relieve)]


def test_a_worker_whose_pace_is_not_known_is_given_one_task() -> None:
    assert given(plan([Line("w-0"), Line("w-1")], 9)) == [(1, "w-0"), (2, "w-1")]


def test_a_quick_worker_is_given_tasks_ahead_up_to_the_depth_and_a_slow_one_none() -> None:
    found = given(plan([Line("w-0", held=1, quick=100), Line("w-1", held=1)], 50, depth=4))

    assert found == [(1, "w-0"), (2, "w-0"), (3, "w-0")]


def test_the_idlest_goes_first_and_who_is_not_ready_gets_nothing() -> None:
    lines = [Line("w-0", held=3, quick=9), Line("w-1", quick=9, held=1), Line("w-2", open=False)]

    assert [name for _, name in given(plan(lines, 3))] == ["w-1", "w-1", "w-0"]


def test_a_worker_that_works_on_several_at_once_is_given_as_many() -> None:
    assert len(given(plan([Line("w-0", concurrency=4)], 9, depth=1))) == 4


def test_a_key_whose_worker_is_busy_waits_and_lets_others_pass() -> None:
    lines = [Line("w-0", held=1), Line("w-1")]
    keyed = Lines(lines, {1: "a", 2: "a", 3: "b"}, {"a": "w-0", "b": "w-1"})

    assert given(plan(lines, 3, keyed)) == [(3, "w-1")]


def test_tasks_of_a_key_stay_with_who_has_some_of_it_when_the_ring_says_another() -> None:
    lines = [Line("w-0", held=2, quick=9), Line("w-1", quick=9), Line("w-2", quick=9)]

    for key in "abcdefgh":
        keyed = Lines(lines, {1: key, 2: key}, {key: "w-0"})
        assert given(plan(lines, 2, keyed)) == [(1, "w-0"), (2, "w-0")]


def test_keys_wait_for_a_worker_that_will_soon_be_back_and_move_from_one_that_will_not() -> None:
    lines = [Line("w-0"), Line("w-1", open=False)]
    keys = {number: f"key-{number}" for number in range(1, 41)}
    soon = {name for _, name in given(plan(lines, 40, Lines(lines, keys), depth=64))}
    lines[1].expected = False
    lines[0].quick = 64

    assert soon == {"w-0"}
    assert len(given(plan(lines, 40, Lines(lines, keys), depth=64))) == 40


def test_a_hot_key_takes_one_worker_and_no_other_key_waits_for_it_for_ever() -> None:
    lines = [Line(f"w-{number}", quick=64) for number in range(3)]
    hot = Lines(lines, {**dict.fromkeys(range(1, 400), "hot"), **{n: f"key-{n}" for n in range(400, 500)}})

    found = given(plan(lines, 499, hot, depth=64))
    busy = next(name for task_id, name in found if task_id == 1)

    assert all(name != busy for task_id, name in found if task_id >= 400)
    assert {task_id for task_id, _ in found if task_id >= 400} == set(range(400, 500))


def test_one_worker_at_a_time_is_recycled_the_idlest_first() -> None:
    spent = [Line("w-0", served=12, held=2), Line("w-1", served=11, held=1), Line("w-2")]
    recycle = {"template": {"recycle": {"maxTasks": 10}}}

    assert relieved(plan(spent, 0, **recycle)) == ["w-1"]
    spent[1].open = False
    assert relieved(plan(spent, 0, **recycle)) == []


def test_a_worker_is_recycled_for_its_memory_or_its_age() -> None:
    by_memory = plan([Line("w-0", memory_bytes=2 << 30)], 0, template={"recycle": {"maxMemory": "1Gi"}})
    by_age = plan([Line("w-0")], 0, now=NOW + timedelta(hours=2), template={"recycle": {"maxAge": "1h"}})
    young = plan([Line("w-0")], 0, template={"recycle": {"maxAge": "1h"}})

    assert relieved(by_memory) == relieved(by_age) == ["w-0"]
    assert relieved(young) == [] and young.requeue_at == NOW + timedelta(hours=1)
