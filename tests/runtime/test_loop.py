"""What the loop plans, and when it waits with that."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from reconciler.backends.local import LocalHost
from reconciler.clock import SystemClock
from reconciler.controllers.base import Mode, Plan, World
from reconciler.launcher.protocol import Message
from reconciler.resources.meta import Key, Metadata
from reconciler.resources.pool import Pool, PoolSpec
from reconciler.resources.task import TaskState
from reconciler.resources.units import to_ms
from reconciler.resources.worker import Process, Worker
from reconciler.runtime.loop import BEHIND_APART_S, CONTROLLERS, Loop
from reconciler.store.base import TaskRecord
from reconciler.store.memory import MemoryStore

SPEC = '{"command":["true"],"pool":"batch"}'


class Wire:
    """What goes to the launcher."""

    def __init__(self) -> None:
        self.sent: list[Message] = []

    def send(self, messages: Sequence[Message]) -> None:
        self.sent += messages

    def words(self) -> set[str]:
        return {message[0] for message in self.sent}


@pytest.fixture
def place(tmp_path: Path) -> tuple[Loop, Wire]:
    """A loop over a store that holds a pool, held, after the launcher's list."""
    clock, wire = SystemClock(), Wire()
    store = MemoryStore(clock.now)
    spec = PoolSpec.model_validate({"replicas": 1, "template": {"command": ["/bin/serve"]}})
    store.create(Pool(metadata=Metadata(name="web"), spec=spec))
    store.commit()
    loop = Loop(store, wire, LocalHost(str(tmp_path)), clock, _at_will)
    loop.held = True
    loop.receive([["children", []]])
    turn(loop)
    return loop, wire


def turn(loop: Loop) -> None:
    for _ in range(100):
        loop.turn()
        if not loop.ready:
            return
    raise AssertionError("the loop finds no rest")


def tasks_of(loop: Loop, count: int) -> None:
    loop.submit(
        "batch", [TaskRecord(loop.store.tasks.next_id(), "batch", TaskState.PENDING, 1, 1, SPEC) for _ in range(count)]
    )


@pytest.mark.parametrize(("waiting", "apart_s"), [(100, BEHIND_APART_S), (0, 0.0)])
def test_a_busy_machine_gets_no_more_turns_while_tasks_wait(tmp_path: Path, waiting: int, apart_s: float) -> None:
    clock, wire, asked = SystemClock(), Wire(), []
    loop = Loop(MemoryStore(clock.now), wire, LocalHost(str(tmp_path)), clock, asked.append)
    spec = PoolSpec.model_validate({"replicas": 2, "tasks": {"mode": "PerTask"}})
    loop.store.create(Pool(metadata=Metadata(name="batch"), spec=spec))
    loop.receive([["children", []]])
    turn(loop)
    tasks_of(loop, 1 + waiting)
    turn(loop)
    first = next(item for message in wire.sent if message[0] == "spawn" for item in message[1])
    now_ms = to_ms(clock.now())
    loop.receive([["exited", [[1, first[0], first[1], {"code": 0, "at_ms": now_ms, "started_ms": now_ms}]]]])
    turn(loop)
    assert loop.rest_s == pytest.approx(apart_s, abs=0.001)

    asked.clear()
    loop.receive([["started", [["task/2", "x.2.1", 4711, now_ms, 0]]]])
    assert asked == [pytest.approx(apart_s, abs=0.001)]
    asked.clear()
    loop.receive([["exited", [[2, "worker/web-0", "x.1", {"code": 0}]]]])
    assert asked == [0.0]


def _at_will(apart_s: float) -> Any:
    """The test turns it itself."""


def test_nothing_that_is_stored_is_started_before_what_is_declared_now_is_known(place: tuple[Loop, Wire]) -> None:
    loop, wire = place
    assert wire.words() == set()
    assert not loop.idle and not loop.ready

    loop.release()
    turn(loop)
    assert "spawn" in wire.words()


def test_who_is_to_stop_does_not_wait_for_what_is_declared(place: tuple[Loop, Wire]) -> None:
    loop, wire = place
    loop.set_mode(Mode.STOPPING)
    turn(loop)
    assert loop.idle and "spawn" not in wire.words()


def test_what_is_written_while_planning_waits_is_durable_at_once(place: tuple[Loop, Wire]) -> None:
    loop, _ = place
    heard: list[str] = []
    loop.store.set_status(loop.store.all(Pool)[0].key, loop.store.all(Pool)[0].status.changed(restarts_asked=1))
    loop.when_durable(lambda: heard.append("done"), lambda error: heard.append(str(error)))
    assert loop.ready
    turn(loop)
    assert heard == ["done"] and not loop.store.staged


def _started(loop: Loop, wire: Wire) -> str:
    """The instance of web-0, up; of what was said on the wire nothing is left."""
    loop.release()
    turn(loop)
    (instance,) = (row[1] for message in wire.sent if message[0] == "spawn" for row in message[1])
    loop.receive([["started", [["worker/web-0", instance, 4711, 1, None]]]])
    turn(loop)
    wire.sent.clear()
    return str(instance)


@pytest.mark.parametrize("escaped", [0, 2])
def test_the_turn_that_hears_of_an_end_asks_for_the_next_start(place: tuple[Loop, Wire], escaped: int) -> None:
    loop, wire = place
    instance = _started(loop, wire)
    seen: list[Process] = []
    loop.store.on_change(lambda old, new: seen.append(new.status.process) if isinstance(new, Worker) else None)
    ended = [1, "worker/web-0", instance, {"pid": 4711, "signal": 9, "at_ms": 2, "started_ms": 1}]
    loop.receive([["exited", [ended]], ["emptied", [["worker/web-0", instance, escaped]]]])
    loop.turn()
    assert [row[1] != instance for message in wire.sent if message[0] == "spawn" for row in message[1]] == [True]
    assert (Process.EMPTYING in seen) == bool(escaped), "an end that leaves nothing is one change"
    reasons = [event.reason for event in loop.store.events("worker/web-0")]
    assert "KilledExternally" in reasons and ("EscapedChildren" in reasons) == bool(escaped)


def test_a_start_does_not_wait_for_the_look_at_a_whole_pool(
    place: tuple[Loop, Wire], monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, wire = place
    instance = _started(loop, wire)
    asked_before: list[bool] = []
    plan = CONTROLLERS["Pool"]

    def watched(key: Key, world: World, now: datetime) -> Plan:
        asked_before.append("spawn" in wire.words())
        return plan(key, world, now)

    monkeypatch.setitem(CONTROLLERS, "Pool", watched)
    ended = [1, "worker/web-0", instance, {"pid": 4711, "signal": 9, "at_ms": 2, "started_ms": 1}]
    loop.receive([["exited", [ended]], ["emptied", [["worker/web-0", instance, 0]]]])
    loop.work.add_at(Key("Pool", "web"), datetime.min.replace(tzinfo=UTC))
    loop.turn()
    assert asked_before == [True]
