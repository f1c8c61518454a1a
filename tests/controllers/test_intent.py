"""An operator's stop and start, as the plans of a worker see them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from reconciler.controllers.base import Signal, Spawn
from reconciler.controllers.worker import plan
from reconciler.resources.meta import Intent, Wish
from reconciler.resources.pool import Pool
from reconciler.resources.worker import LastExit, Process, Reason, State
from tests.controllers.test_worker import KEY, NOW, World, ended, later, of, pool, up


def wishes(wish: Wish, at_s: float = 0, until_s: float | None = None) -> Pool:
    until = later(until_s) if until_s is not None else None
    declared = pool(restart={"maxRestarts": 0})
    intent = Intent(wish=wish, actor="user me", reason="the disk is full", at=later(at_s), until=until)
    return declared.changed(metadata=declared.metadata.changed(intent=intent))


def failed() -> LastExit:
    return LastExit(code=1, reason=Reason.EXITED, at=NOW, instance="abc.1")


def test_what_runs_is_stopped_and_says_by_whom_and_why() -> None:
    made = plan(KEY, World(up(), wishes(Wish.STOPPED)), NOW)
    assert of(made.actions, Signal).reason == "stopped by user me: the disk is full"


def test_nothing_is_started_while_a_stop_stands_and_it_is_looked_at_when_it_ends() -> None:
    stopped = ended(failed(), state=State.PENDING)
    made = plan(KEY, World(stopped, wishes(Wish.STOPPED, until_s=60)), NOW)
    assert not [action for action in made.actions if isinstance(action, Spawn)]
    assert made.requeue_at == later(60)


def test_a_stop_that_has_run_out_is_none() -> None:
    made = plan(KEY, World(up(), wishes(Wish.STOPPED, until_s=-1)), NOW)
    assert not [action for action in made.actions if isinstance(action, Signal)]


@pytest.mark.parametrize(("at_s", "starts"), [(1, True), (-1, False)])
def test_a_start_by_hand_tries_once_more_what_had_failed_before_it(at_s: float, starts: bool) -> None:
    broken = ended(failed(), state=State.FAILED, failures=5, counted="abc.1")
    assert broken.status.process is Process.NONE
    made = plan(KEY, World(broken, wishes(Wish.STARTED, at_s)), NOW + timedelta(seconds=2))
    assert bool([action for action in made.actions if isinstance(action, Spawn)]) is starts
