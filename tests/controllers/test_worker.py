"""What one Worker's plan says; whole courses are told in tests/stories."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.controllers.base import Action, Cleanup, Mode, Plan, Queue, Record, Remove, SetStatus, Signal, Spawn
from reconciler.controllers.worker import plan
from reconciler.policies.budget import Grant
from reconciler.resources.meta import Key, Metadata
from reconciler.resources.pool import Pool, PoolSpec, Template
from reconciler.resources.worker import LastExit, Process, Reason, State, Stopping, Worker, WorkerSpec, WorkerStatus

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
KEY = Key("Worker", "web-0")


@dataclass
class World:
    """One worker and its pool."""

    worker: Worker | None
    pool: Pool | None
    mode: Mode = Mode.RUNNING
    grants: datetime | None = None
    """The moment that the budgets grant; None: at once."""

    def get(self, model: type[Any], name: str) -> Any:
        return {Worker: self.worker, Pool: self.pool}[model]

    def dependents(self, pool: str) -> list[Pool]:
        return []

    def owned_by(self, owner: Key, model: type[Any]) -> list[Any]:
        raise AssertionError("a worker owns nothing")

    def template(self, pool: str, template_hash: str) -> Template | None:
        return None

    def queue(self, pool: str) -> Queue:
        raise AssertionError("a worker has no queue")

    def grant(self, pool: Pool, seed: str, now: datetime) -> Grant:
        return Grant(self.grants or now, "the budget is spent" if self.grants else "")


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def pool(**spec: Any) -> Pool:
    template = {"command": ["./serve"], "stop": {"signal": "SIGINT", "gracePeriod": "10s"}}
    return Pool(
        metadata=Metadata(name="web"),
        spec=PoolSpec.model_validate({"template": template, "restart": {"backoff": {"jitter": 0}}, **spec}),
    )


def worker(**status: Any) -> Worker:
    return Worker(
        metadata=Metadata(name="web-0", uid="abc", owner="pool/web"),
        spec=WorkerSpec(pool="web", ordinal=0, template_hash="t1"),
        status=WorkerStatus(**status),
    )


def up(**status: Any) -> Worker:
    fields = {"process": Process.UP, "state": State.READY, "ready": True, "pid": 7, "started_at": NOW}
    return worker(**{**fields, "instance": "abc.1", "template_hash": "t1", "starts": 1, **status})


def ended(end: LastExit, **status: Any) -> Worker:
    return up(**{"process": Process.NONE, "ready": False, "pid": None, "last_exit": end, **status})


def exit_(
    code: int | None = 1, reason: Reason = Reason.EXITED, at: datetime = NOW, instance: str = "abc.1"
) -> LastExit:
    return LastExit(code=code, reason=reason, at=at, instance=instance)


def of(actions: tuple[Action, ...], kind: type[Any]) -> Any:
    found = [action for action in actions if isinstance(action, kind)]
    assert len(found) == 1, f"expected one {kind.__name__} among {actions}"
    return found[0]


def reasons(made: Plan) -> list[str]:
    return [action.event.reason for action in made.actions if isinstance(action, Record)]


def wanted_gone(gone: Worker) -> Worker:
    return gone.changed(metadata=gone.metadata.changed(deleted_at=NOW))


def test_a_worker_that_is_gone_needs_nothing() -> None:
    assert plan(KEY, World(None, pool()), NOW) == Plan()


def test_a_new_worker_is_started_under_a_name_that_a_second_plan_would_choose_again() -> None:
    world = World(worker(), pool())
    spawn = of(plan(KEY, world, NOW).actions, Spawn)
    assert spawn.instance == "abc.1"
    assert spawn.status.process is Process.ASKED
    assert spawn.status.instance == "abc.1"
    assert spawn == of(plan(KEY, world, NOW).actions, Spawn)


def test_a_start_that_was_asked_for_is_not_asked_for_again() -> None:
    asked = worker(process=Process.ASKED, state=State.STARTING, instance="abc.1", template_hash="t1", starts=1)
    assert plan(KEY, World(asked, pool()), later(3600)) == Plan()


def test_a_start_that_is_no_longer_wanted_is_waited_for() -> None:
    asked = worker(process=Process.ASKED, state=State.STARTING, instance="abc.1", template_hash="t1", starts=1)
    made = plan(KEY, World(wanted_gone(asked), pool()), NOW)
    assert [type(action) for action in made.actions] == [SetStatus]
    assert of(made.actions, SetStatus).status.state is State.STOPPING


def test_a_process_is_ready_as_soon_as_it_runs() -> None:
    made = plan(KEY, World(up(state=State.STARTING, ready=False), pool()), NOW)
    assert of(made.actions, SetStatus).status.state is State.READY
    assert of(made.actions, SetStatus).status.ready
    assert reasons(made) == ["Started"]


def test_an_adopted_one_is_called_adopted() -> None:
    assert reasons(plan(KEY, World(up(state=State.UNKNOWN, adopted=True), pool()), NOW)) == ["Adopted"]


def test_a_healthy_worker_needs_nothing() -> None:
    assert plan(KEY, World(up(), pool()), later(5)) == Plan()


def test_fault_P10_an_end_faster_than_the_bookkeeping_is_an_end() -> None:
    world = World(ended(exit_(0), started_at=None, state=State.STARTING), pool())
    made = plan(KEY, world, NOW)
    assert of(made.actions, Spawn).status.failures == 1
    assert reasons(made) == ["Exited"]


def test_an_end_is_counted_once() -> None:
    first = plan(KEY, World(ended(exit_(), failures=1), pool()), NOW)
    status = of(first.actions, SetStatus).status
    assert (status.failures, status.counted, status.next_start_at) == (2, "abc.1", later(1))
    counted = worker().changed(status=status)
    assert plan(KEY, World(counted, pool()), NOW) == Plan(requeue_at=later(1))


def test_an_end_of_an_older_start_is_not_counted_for_this_one() -> None:
    made = plan(KEY, World(ended(exit_(code=9, instance="abc.0")), pool()), NOW)
    assert reasons(made) == ["ExitUnknown"]


def test_fault_P11_a_wait_survives_whoever_computed_it() -> None:
    waiting = ended(
        exit_(), counted="abc.1", failures=3, state=State.BACKOFF, next_start_at=later(2), message="exit code 1"
    )
    assert plan(KEY, World(waiting, pool()), later(1.9)) == Plan(requeue_at=later(2))
    assert of(plan(KEY, World(waiting, pool()), later(2)).actions, Spawn).status.restarts == 1


def test_fault_P11_a_clock_set_back_does_not_stretch_the_wait() -> None:
    waiting = ended(exit_(), counted="abc.1", failures=3, state=State.BACKOFF, next_start_at=later(86400))
    made = plan(KEY, World(waiting, pool()), NOW)
    assert made.requeue_at == later(60)
    assert of(made.actions, SetStatus).status.next_start_at == later(60)


def test_a_failed_start_waits_from_the_first_time_on() -> None:
    failed = exit_(None, Reason.START_FAILED).changed(message="exec: ./serve: No such file or directory (ENOENT)")
    made = plan(KEY, World(ended(failed, started_at=None), pool()), NOW)
    assert of(made.actions, SetStatus).status.next_start_at == later(1)
    assert reasons(made) == ["StartFailed", "BackOff"]


def test_a_changed_template_is_not_made_to_wait() -> None:
    waiting = ended(exit_(), counted="abc.1", failures=9, state=State.BACKOFF, next_start_at=later(60))
    changed = waiting.changed(spec=waiting.spec.changed(template_hash="t2"))
    spawn = of(plan(KEY, World(changed, pool()), NOW).actions, Spawn)
    assert (spawn.template_hash, spawn.status.failures, spawn.status.restarts) == ("t2", 0, 0)


def test_a_running_worker_whose_template_changed_is_stopped_first() -> None:
    changed = up().changed(spec=up().spec.changed(template_hash="t2"))
    made = plan(KEY, World(changed, pool()), NOW)
    assert of(made.actions, Signal).signal == "SIGINT"
    assert made.requeue_at == later(10)
    assert not of(made.actions, SetStatus).status.ready


def test_a_stop_is_asked_for_once() -> None:
    first = plan(KEY, World(wanted_gone(up()), pool()), NOW)
    asked = wanted_gone(up()).changed(status=of(first.actions, SetStatus).status)
    assert plan(KEY, World(asked, pool()), later(9)) == Plan(requeue_at=later(10))


def test_fault_P13_what_ignores_the_stop_signal_is_killed_with_its_tree_at_the_deadline() -> None:
    asked = up(stopping=Stopping(reason="deleted", since=NOW, deadline=later(10), signalled=True), state=State.STOPPING)
    made = plan(KEY, World(wanted_gone(asked), pool()), later(10))
    kill = of(made.actions, Signal)
    assert (kill.signal, kill.tree) == ("SIGKILL", True)
    assert reasons(made) == ["Killed"]
    assert made.requeue_at == later(15)


def test_a_second_request_to_end_leaves_no_grace_and_kills_once() -> None:
    first = plan(KEY, World(up(), pool(), Mode.HURRYING), NOW)
    assert of(first.actions, Signal).signal == "SIGKILL"
    killed = up().changed(status=of(first.actions, SetStatus).status)
    assert plan(KEY, World(killed, pool(), Mode.HURRYING), later(1)) == Plan(requeue_at=later(5))


def test_without_a_grace_period_it_is_killed_at_once() -> None:
    at_once = pool(template={"stop": {"gracePeriod": "0s"}})
    assert of(plan(KEY, World(wanted_gone(up()), at_once), NOW).actions, Signal).signal == "SIGKILL"


def test_a_stop_that_has_begun_is_carried_through_even_if_it_is_wanted_again() -> None:
    asked = up(
        stopping=Stopping(reason="shutdown", since=NOW, deadline=later(10), signalled=True), state=State.STOPPING
    )
    assert of(plan(KEY, World(asked, pool()), later(10)).actions, Signal).signal == "SIGKILL"


def test_a_shorter_grace_period_applies_to_a_stop_under_way() -> None:
    asked = up(stopping=Stopping(reason="shutdown", since=NOW, deadline=later(600), signalled=True))
    made = plan(KEY, World(asked, pool()), NOW)
    assert made.requeue_at == later(10)


@pytest.mark.parametrize("reason", [Reason.EXITED, Reason.SIGNALLED, Reason.EXIT_UNKNOWN])
def test_an_end_that_was_asked_for_blames_nobody(reason: Reason) -> None:
    stopping = Stopping(reason="shutdown", since=NOW, deadline=later(10), signalled=True)
    made = plan(KEY, World(ended(exit_(1, reason), stopping=stopping), pool(), Mode.STOPPING), later(1))
    status = of(made.actions, SetStatus).status
    assert status.last_exit.reason is Reason.STOPPED
    assert (status.failures, status.next_start_at, status.stopping, status.state) == (0, None, None, State.PENDING)


def test_what_has_done_its_work_stays_done() -> None:
    done = ended(exit_(0), counted="abc.1", state=State.COMPLETED, message="it has done its work")
    assert plan(KEY, World(done, pool(restart={"policy": "OnFailure"})), later(10_000)) == Plan()


def test_a_policy_changed_to_always_starts_what_has_done_its_work() -> None:
    done = ended(exit_(0), counted="abc.1", state=State.COMPLETED, message="it has done its work")
    of(plan(KEY, World(done, pool()), later(10_000)).actions, Spawn)


def test_its_files_go_before_it_is_started_again() -> None:
    files = pool(template={"cleanup": {"files": ["/run/web.sock"]}})
    made = plan(KEY, World(ended(exit_()), files), NOW)
    kinds = [type(action) for action in made.actions]
    assert of(made.actions, Cleanup).files == ("/run/web.sock",)
    assert kinds.index(Cleanup) < kinds.index(Spawn)


def test_a_deleted_worker_goes_when_nothing_of_it_lives() -> None:
    assert of(plan(KEY, World(wanted_gone(ended(exit_(), counted="abc.1")), pool()), NOW).actions, Remove).key == KEY
    for process in (Process.UP, Process.ASKED, Process.EMPTYING, Process.BLOCKED):
        made = plan(KEY, World(wanted_gone(up(process=process)), pool()), NOW)
        assert not any(isinstance(action, Remove) for action in made.actions), process


def test_a_worker_without_its_pool_is_stopped_and_goes() -> None:
    assert of(plan(KEY, World(up(), None), NOW).actions, Signal).signal == "SIGTERM"
    assert of(plan(KEY, World(ended(exit_(), counted="abc.1"), None), NOW).actions, Remove).key == KEY


def test_fault_P18_nothing_is_started_while_something_of_the_tree_may_live() -> None:
    emptying = up(process=Process.EMPTYING, ready=False, last_exit=exit_())
    made = plan(KEY, World(emptying, pool()), NOW)
    assert [type(action) for action in made.actions] == [SetStatus]


def test_a_slot_that_may_be_taken_says_so_once() -> None:
    made = plan(KEY, World(up(process=Process.BLOCKED), pool()), NOW)
    assert reasons(made) == ["Blocked"]
    said = up().changed(status=of(made.actions, SetStatus).status)
    assert plan(KEY, World(said, pool()), later(100)) == Plan()


def test_what_cannot_be_killed_says_so_once() -> None:
    stuck = up(
        stuck=True,
        state=State.STOPPING,
        stopping=Stopping(reason="deleted", since=NOW, deadline=later(15), signalled=True, killed=True),
    )
    made = plan(KEY, World(wanted_gone(stuck), pool()), later(12))
    assert reasons(made) == ["StopStuck"]
    said = wanted_gone(stuck.changed(status=of(made.actions, SetStatus).status))
    assert plan(KEY, World(said, pool()), later(13)) == Plan(requeue_at=later(15))


def test_fault_C16_after_a_reboot_it_starts_at_once() -> None:
    made = plan(KEY, World(ended(exit_(None, Reason.HOST_REBOOTED), failures=5), pool()), NOW)
    assert of(made.actions, Spawn).status.failures == 5


def test_health_clears_the_count() -> None:
    assert plan(KEY, World(up(failures=4), pool()), later(1)) == Plan(requeue_at=later(600))
    assert of(plan(KEY, World(up(failures=4), pool()), later(600)).actions, SetStatus).status.failures == 0


# Any order of events, doubled and lost ones: the plan is made from what is so.

_EVENTS = (
    "started",
    "exit 0",
    "exit 1",
    "start failed",
    "emptied",
    "rebooted",
    "template",
    "delete",
    "stop",
    "run",
    "hurry",
)


@given(st.lists(st.tuples(st.sampled_from(_EVENTS), st.floats(0, 40)), max_size=60))
@settings(max_examples=150, deadline=None, derandomize=True)
def test_fault_C33_whatever_happens_in_whatever_order(course: list[tuple[str, float]]) -> None:
    world = World(worker(), pool())
    now, not_before = NOW, NOW
    for happens, after_s in course:
        now += timedelta(seconds=after_s)
        _happen(world, happens, now)
        for _ in range(10):
            made = plan(KEY, world, now)
            if not made.actions:
                break
            before = world.worker.status if world.worker is not None else None
            for action in made.actions:
                match action:
                    case Spawn(status=status):
                        assert before is not None and before.process is Process.NONE, "I1: a slot is started twice"
                        assert before.template_hash != status.template_hash or now >= not_before, "I6: too early"
                        assert status.instance != before.instance
                        world.worker = world.worker and world.worker.changed(status=status)
                    case SetStatus(status=status):
                        not_before = status.next_start_at or NOW
                        world.worker = world.worker and world.worker.changed(status=status)
                    case Remove():
                        assert before is not None and before.process is Process.NONE
                        world.worker = None
            assert made.requeue_at is None or made.requeue_at > now
        else:
            raise AssertionError(f"the plan never comes to rest after {happens}: {made}")


def _happen(world: World, happens: str, now: datetime) -> None:
    if happens in ("stop", "run", "hurry"):
        world.mode = {"stop": Mode.STOPPING, "run": Mode.RUNNING, "hurry": Mode.HURRYING}[happens]
        return
    if world.worker is None:
        return
    status = world.worker.status
    alive = status.process in (Process.ASKED, Process.UP)
    if happens == "template":
        other = "t2" if world.worker.spec.template_hash == "t1" else "t1"
        world.worker = world.worker.changed(spec=world.worker.spec.changed(template_hash=other))
    elif happens == "delete":
        world.worker = wanted_gone(world.worker)
    elif happens == "started" and alive:
        world.worker = world.worker.changed(status=status.changed(process=Process.UP, pid=7, started_at=now))
    elif happens in ("exit 0", "exit 1") and alive:
        end = exit_(int(happens[-1]), at=now, instance=status.instance)
        changed = status.changed(process=Process.EMPTYING, ready=False, last_exit=end)
        world.worker = world.worker.changed(status=changed)
    elif (happens == "start failed" and status.process is Process.ASKED) or (happens == "rebooted" and alive):
        reason = Reason.START_FAILED if happens == "start failed" else Reason.HOST_REBOOTED
        end = exit_(None, reason, now, status.instance)
        world.worker = world.worker.changed(status=status.changed(process=Process.NONE, ready=False, last_exit=end))
    elif happens == "emptied" and status.process is Process.EMPTYING:
        world.worker = world.worker.changed(status=status.changed(process=Process.NONE, pid=None))
