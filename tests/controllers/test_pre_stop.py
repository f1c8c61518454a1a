"""What is run before a worker's stop signal: once, within the grace period, and a hindrance to nothing."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.controllers.base import EndPreStop, Mode, Plan, PreStop, Record, SetStatus, Signal, Spawn
from reconciler.controllers.convergence import nothing_runs
from reconciler.controllers.worker import plan
from reconciler.resources.pool import Pool
from reconciler.resources.worker import PreStopState, Process, Reason, State, Worker
from tests.controllers.test_worker import KEY, NOW, World, exit_, later, of, pool, reasons, up, wanted_gone

DRAIN = {"exec": {"command": ["./drain", "now"]}}


def draining(grace: str = "10s") -> Pool:
    stop = {"signal": "SIGINT", "gracePeriod": grace, "preStop": DRAIN}
    return pool(template={"command": ["./serve"], "workingDir": "/srv", "stop": stop})


def kinds(made: Plan) -> set[type[Any]]:
    return {type(action) for action in made.actions}


def drains() -> Worker:
    first = plan(KEY, World(wanted_gone(up()), draining()), NOW)
    return wanted_gone(up()).changed(status=of(first.actions, SetStatus).status)


def drained(worker: Worker) -> Worker:
    stopping = worker.status.stopping
    assert stopping is not None
    over = stopping.changed(pre_stop=PreStopState.OVER)
    return worker.changed(status=worker.status.changed(stopping=over))


def test_the_command_comes_before_the_signal_and_the_grace_period_runs_already() -> None:
    made = plan(KEY, World(wanted_gone(up()), draining()), NOW)
    assert of(made.actions, PreStop) == PreStop(KEY, "abc.1", ("./drain", "now"))
    assert Signal not in kinds(made)
    status = of(made.actions, SetStatus).status
    assert (status.state, status.ready, made.requeue_at) == (State.STOPPING, False, later(10))
    assert status.decisions[-1].message == "preStop, SIGINT, and SIGKILL after 10s"


def test_the_command_is_asked_for_once() -> None:
    assert plan(KEY, World(drains(), draining()), later(9)) == Plan(requeue_at=later(10))


def test_a_command_that_the_launcher_has_never_heard_of_is_asked_for_again() -> None:
    asked = drains()
    assert asked.status.stopping is not None
    lost = asked.status.stopping.changed(pre_stop=PreStopState.WANTED)
    again = plan(KEY, World(asked.changed(status=asked.status.changed(stopping=lost)), draining()), later(1))
    assert of(again.actions, PreStop).instance == "abc.1"


def test_the_signal_follows_the_end_of_the_command_and_the_rest_of_the_grace_period_is_the_workers() -> None:
    made = plan(KEY, World(drained(drains()), draining()), later(3))
    assert (of(made.actions, Signal).signal, made.requeue_at) == ("SIGINT", later(10))


def test_after_a_command_that_took_nearly_all_of_it_two_seconds_are_left() -> None:
    made = plan(KEY, World(drained(drains()), draining()), later(9.5))
    assert (of(made.actions, Signal).signal, made.requeue_at) == ("SIGINT", later(11.5))


def test_a_command_that_does_not_end_is_killed_and_the_worker_gets_its_two_seconds_once() -> None:
    asked = drains()
    made = plan(KEY, World(asked, draining()), later(10))
    assert of(made.actions, EndPreStop).instance == "abc.1"
    assert (of(made.actions, Signal).signal, made.requeue_at) == ("SIGINT", later(12))
    late = plan(KEY, World(drains(), draining()), later(10.001))
    assert "has not ended within 10s and is killed" in of(late.actions, Record).event.message
    assert reasons(made) == ["PreStopFailed"]
    told = asked.changed(status=of(made.actions, SetStatus).status)
    assert plan(KEY, World(told, draining()), later(11)) == Plan(requeue_at=later(12))
    assert of(plan(KEY, World(told, draining()), later(12)).actions, Signal).signal == "SIGKILL"


def test_who_is_in_a_hurry_waits_for_no_command() -> None:
    made = plan(KEY, World(up(), draining(), Mode.HURRYING), NOW)
    assert (PreStop in kinds(made), of(made.actions, Signal).signal) == (False, "SIGKILL")
    made = plan(KEY, World(drains(), draining(), Mode.HURRYING), later(1))
    assert (EndPreStop in kinds(made), of(made.actions, Signal).signal) == (True, "SIGKILL")


def test_a_worker_that_ends_by_itself_is_not_replaced_while_its_command_runs() -> None:
    asked = drains()
    gone = asked.changed(
        metadata=asked.metadata.changed(deleted_at=None),
        status=asked.status.changed(process=Process.NONE, pid=None, last_exit=exit_(0, Reason.STOPPED)),
    )
    assert plan(KEY, World(gone, draining()), later(3)) == Plan(requeue_at=later(10))
    assert not nothing_runs([gone], 0)
    assert Spawn in kinds(plan(KEY, World(drained(gone), draining()), later(3)))
    late = plan(KEY, World(gone, draining()), later(10))
    assert kinds(late) >= {EndPreStop, SetStatus}
    over = gone.changed(status=of(late.actions, SetStatus).status)
    assert Spawn in kinds(plan(KEY, World(over, draining()), later(10)))


@pytest.mark.parametrize("reason", [Reason.EXITED, Reason.EXIT_UNKNOWN])
def test_a_worker_that_ends_by_itself_and_was_not_stopped_has_no_command_run(reason: Reason) -> None:
    ended = up(process=Process.NONE, pid=None, last_exit=exit_(1, reason))
    assert PreStop not in kinds(plan(KEY, World(ended, draining()), NOW))
