"""Which tasks go, which have to end, and what an end means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from reconciler.controllers.base import (
    Begun,
    Continue,
    Dispatch,
    EndTask,
    Expire,
    Lane,
    Mode,
    Overdue,
    Plan,
    Recall,
    Record,
    Suspend,
    Suspension,
    Weigh,
)
from reconciler.controllers.tasks import AHEAD, AHEAD_MS, WEIGH_EVERY_MS, EndedTry, Verdict, after_exit, plan
from reconciler.resources.meta import Intent, Key, Metadata, Wish
from reconciler.resources.pool import Pool, PoolSpec, Retry, revision_hash
from reconciler.resources.task import TaskState
from reconciler.resources.units import from_ms, to_ms
from reconciler.resources.worker import Reason
from reconciler.store.base import TaskRecord

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
NOW_MS = to_ms(NOW)
KEY = Key("Queue", "batch")
EVEN = Retry.model_validate({"maxAttempts": 3, "backoff": {"initial": "10s", "max": "10m", "jitter": 0}})


@dataclass
class World:
    """A pool and its queue, both as values."""

    pool: Pool | None
    ids: list[int] = field(default_factory=list)
    claimed: int = 0
    next_due_ms: int | None = None
    next_deadline_ms: int | None = None
    next_late_ms: int | None = None
    recalling: int = 0
    next_retire_ms: int = 1 << 60
    next_weigh_ms: int | None = None
    late: list[int] = field(default_factory=list)
    not_wanted: list[int] = field(default_factory=list)
    to_end: list[Overdue] = field(default_factory=list)
    mode: Mode = Mode.RUNNING
    waiting: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    ends_ms: list[int] = field(default_factory=list)
    still: int = 0
    standing: Suspension | None = None

    def get(self, model: type[Any], name: str) -> Any:
        return self.pool

    def dependents(self, pool: str) -> list[Pool]:
        return []

    def owned_by(self, owner: Key, model: type[Any]) -> list[Any]:
        return []

    def template(self, pool: str, template_hash: str) -> None:
        return None

    def queue(self, pool: str) -> World:
        return self

    def ready(self, limit: int, now_ms: int) -> Sequence[int]:
        return self.ids[:limit]

    def expired(self, now_ms: int, limit: int) -> Sequence[int]:
        return self.late[:limit]

    def unwanted(self, now_ms: int) -> Sequence[int]:
        return self.not_wanted

    def overdue(self, now_ms: int) -> Sequence[Overdue]:
        return self.to_end

    def suspension(self, limit: int, now_ms: int) -> Suspension | None:
        return self.standing

    def ended_since(self, ms: int) -> int:
        return sum(at >= ms for at in self.ends_ms)


def batch(replicas: int = 4) -> Pool:
    spec = {"replicas": replicas, "template": {"stop": {"signal": "SIGINT"}}, "tasks": {}}
    return Pool(metadata=Metadata(name="batch"), spec=PoolSpec.model_validate(spec))


def test_the_slots_are_filled_and_a_few_more_wait_at_the_launcher() -> None:
    made = plan(KEY, World(batch(), ids=list(range(1, 101))), NOW)
    assert made == Plan((Dispatch("batch", tuple(range(1, 4 + AHEAD + 1))),))


def test_what_is_claimed_already_leaves_less_room() -> None:
    made = plan(KEY, World(batch(), ids=list(range(1, 101)), claimed=4 + AHEAD - 1), NOW)
    assert made.actions == (Dispatch("batch", (1,)),)
    assert plan(KEY, World(batch(), ids=[1], claimed=4 + AHEAD, next_due_ms=NOW_MS + 5), NOW) == Plan()


def test_the_faster_they_end_the_more_of_them_wait_at_the_launcher() -> None:
    ends_ms = [*[NOW_MS - AHEAD_MS - 1] * 9, *[NOW_MS - AHEAD_MS] * 20, *[NOW_MS] * 10]
    made = plan(KEY, World(batch(), ids=list(range(1, 101)), ends_ms=ends_ms), NOW)
    assert made == Plan((Dispatch("batch", tuple(range(1, 4 + 30 + 1))),))


def test_an_idle_queue_sleeps_until_a_waiting_task_is_due() -> None:
    assert plan(KEY, World(batch()), NOW) == Plan()
    assert plan(KEY, World(batch(), next_due_ms=NOW_MS + 500), NOW) == Plan(requeue_at=from_ms(NOW_MS + 500))
    sooner = World(batch(), next_due_ms=NOW_MS + 500, next_deadline_ms=NOW_MS + 100)
    assert plan(KEY, sooner, NOW).requeue_at == from_ms(NOW_MS + 100)


def test_a_pool_without_slots_claims_nothing() -> None:
    assert plan(KEY, World(batch(replicas=0), ids=[1]), NOW) == Plan()


@pytest.mark.parametrize("mode", [Mode.STOPPING, Mode.HURRYING])
def test_while_everything_stops_tasks_only_end(mode: Mode) -> None:
    world = World(batch(), ids=[1, 2], to_end=[Overdue(7, "s.7.1", kill=False)], mode=mode)
    assert plan(KEY, world, NOW).actions == (EndTask("batch", 7, "s.7.1", "SIGINT", tree=False),)


def test_a_deleted_pool_claims_nothing() -> None:
    deleted = batch().changed(metadata=batch().metadata.changed(deleted_at=NOW))
    assert plan(KEY, World(deleted, ids=[1]), NOW) == Plan()
    assert plan(KEY, World(None, ids=[1]), NOW) == Plan()
    assert plan(KEY, World(batch().changed(spec=PoolSpec()), ids=[1]), NOW) == Plan()


def test_a_task_that_has_to_end_gets_the_pools_signal_then_the_kill() -> None:
    world = World(batch(), to_end=[Overdue(7, "s.7.1", kill=False), Overdue(8, "s.8.2", kill=True)])
    assert plan(KEY, world, NOW).actions == (
        EndTask("batch", 7, "s.7.1", "SIGINT", tree=False),
        EndTask("batch", 8, "s.8.2", "SIGKILL", tree=True),
    )


# What an end means.


def record(**fields: Any) -> TaskRecord:
    base: dict[str, Any] = {"id": 7, "pool": "batch", "state": TaskState.RUNNING, "submitted_ms": NOW_MS}
    return TaskRecord(**{**base, "max_attempts": 3, "spec": None, "attempts": 1, "claim": 1, **fields})


def tried(code: int | None = 1, reason: Reason = Reason.EXITED, signal: str | None = None) -> EndedTry:
    return EndedTry(code=code, signal=signal, reason=reason)


def verdict(task: TaskRecord, how: EndedTry) -> Verdict:
    return after_exit(task, how, EVEN, NOW_MS)


def test_exit_code_0_is_success() -> None:
    assert verdict(record(), tried(0)).state is TaskState.SUCCEEDED


def test_a_failed_try_is_repeated_after_a_growing_wait() -> None:
    assert verdict(record(), tried()) == Verdict(TaskState.RETRYING, NOW_MS + 10_000, Reason.EXITED, "exit code 1")
    assert verdict(record(attempts=2), tried()).due_ms == NOW_MS + 20_000


def test_fault_T7_a_poisonous_task_is_put_aside_when_its_attempts_are_spent() -> None:
    assert verdict(record(attempts=3), tried()).state is TaskState.DEAD_LETTERED


def test_with_one_attempt_a_failure_is_final() -> None:
    assert verdict(record(max_attempts=1), tried()).state is TaskState.FAILED


@pytest.mark.parametrize("reason", [Reason.START_FAILED, Reason.SIGNALLED, Reason.OOM_KILLED, Reason.KILLED_EXTERNALLY])
def test_whatever_is_no_success_counts_as_an_attempt(reason: Reason) -> None:
    assert verdict(record(), tried(None, reason)).state is TaskState.RETRYING
    assert verdict(record(attempts=0, claim=3), tried(None, reason)).state is TaskState.DEAD_LETTERED


def test_one_that_ran_too_long_has_failed_even_if_it_ended_politely() -> None:
    assert verdict(record(attempts=3), tried(0, Reason.TIMED_OUT)) == Verdict(
        TaskState.DEAD_LETTERED, 0, Reason.TIMED_OUT, "it ran longer than its timeout (exit code 0)"
    )


@pytest.mark.parametrize("reason", [Reason.EXIT_UNKNOWN, Reason.HOST_REBOOTED])
def test_fault_C16_an_end_that_nobody_saw_is_a_failed_attempt_or_the_end(reason: Reason) -> None:
    assert verdict(record(), tried(None, reason)).state is TaskState.RETRYING
    assert verdict(record(on_unknown_fail=True), tried(None, reason)).state is TaskState.UNKNOWN


@pytest.mark.parametrize("how", [tried(0), tried(1), tried(None, Reason.SIGNALLED, "SIGTERM")])
def test_fault_T13_a_cancel_that_came_while_it_ran_wins_over_its_exit(how: EndedTry) -> None:
    assert verdict(record(cancelling=True), how).state is TaskState.CANCELLED


@pytest.mark.parametrize("state", [state for state in TaskState if state.ended])
def test_fault_T5_an_end_never_changes(state: TaskState) -> None:
    done = record(state=state, reason="Exited", message="as it was")
    assert verdict(done, tried(1)) == Verdict(state, 0, Reason.EXITED, "as it was")


def test_tasks_that_failed_together_are_not_repeated_together() -> None:
    spread = Retry()
    due = {after_exit(record(id=n), tried(), spread, NOW_MS).due_ms for n in range(100)}
    assert len(due) > 80
    assert min(due) >= NOW_MS + 9_000 and max(due) <= NOW_MS + 11_000


def test_an_exit_code_that_a_rule_gives_up_on_is_not_tried_again() -> None:
    rules = [{"exitCodes": {"in": [64]}, "action": "Fail"}, {"reason": "TimedOut", "action": "Fail"}]
    retry = Retry.model_validate({"rules": rules})
    given_up = after_exit(record(), tried(64), retry, NOW_MS)
    assert given_up.state is TaskState.FAILED and "retry.rules[0] (exitCodes in 64: Fail)" in given_up.message
    assert after_exit(record(), tried(0, Reason.TIMED_OUT), retry, NOW_MS).state is TaskState.FAILED
    assert after_exit(record(), tried(1), retry, NOW_MS).state is TaskState.RETRYING


@pytest.mark.parametrize("wish", [Wish.PAUSED, Wish.STOPPED])
def test_a_paused_pool_claims_nothing_and_a_drained_one_goes_on(wish: Wish) -> None:
    def wished(wish: Wish) -> Pool:
        intent = Intent(wish=wish, actor="user me", at=NOW, until=None)
        return batch().changed(metadata=batch().metadata.changed(intent=intent))

    assert plan(KEY, World(wished(wish), ids=[1]), NOW) == Plan()
    assert plan(KEY, World(wished(Wish.DRAINING), ids=[1]), NOW).actions == (Dispatch("batch", (1,)),)


def test_what_is_too_late_expires_and_what_is_not_wanted_at_the_launcher_is_recalled_first() -> None:
    made = plan(KEY, World(batch(replicas=1), ids=[1, 2, 3], late=[2], not_wanted=[8, 9], claimed=AHEAD), NOW)
    assert [type(action) for action in made.actions] == [Expire, Record, Recall, Dispatch]
    assert made.actions[0] == Expire("batch", (2,)) and made.actions[2] == Recall("batch", (8, 9))
    assert made.actions[3] == Dispatch("batch", (1, 3)), "their places are free, though they have not come back yet"


def test_where_the_policy_asks_for_it_the_cpu_time_of_what_runs_is_looked_at_now_and_then() -> None:
    assert plan(KEY, World(batch(), next_weigh_ms=NOW_MS), NOW) == Plan(
        (Weigh("batch"),), from_ms(NOW_MS + WEIGH_EVERY_MS)
    )
    later = plan(KEY, World(batch(), next_weigh_ms=NOW_MS + 700), NOW)
    assert later == Plan((), from_ms(NOW_MS + 700))


def test_a_task_that_stands_still_keeps_its_slot_and_another_is_opened() -> None:
    pool = batch()
    begun = [Begun(number, 1 if number == 2 else 0, False) for number in (1, 2, 3, 4)]
    stood = World(pool, claimed=5, standing=Suspension(True, begun, [0], (), 0))
    said, suspended, lane = plan(KEY, stood, NOW).actions

    assert isinstance(said, Record) and said.event.message.startswith("task/2 has used up its quantum")
    assert (suspended, lane) == (Suspend("batch", (2,)), Lane("batch", 5, revision_hash(pool), 1))

    begun = [begun[0], begun[1]._replace(suspended=True)]
    ended = World(pool, claimed=2, still=1, standing=Suspension(True, begun, [], (), 1))
    assert plan(KEY, ended, NOW).actions == (Continue("batch", (2,)), Lane("batch", 4, revision_hash(pool), 0))


def test_what_an_earlier_controller_may_not_have_stopped_is_stopped_again() -> None:
    begun = [Begun(number, 0, False) for number in (1, 2, 3, 4)] + [Begun(5, 1, True)]
    stood = World(batch(), claimed=5, still=1, standing=Suspension(True, begun, [], (5,), 1))
    assert plan(KEY, stood, NOW).actions == (Suspend("batch", (5,)),)
