"""Whether a worker has got as far as it gets for now."""

from __future__ import annotations

import pytest

from reconciler.controllers.convergence import in_trouble, settled
from reconciler.resources.meta import Intent, Wish
from reconciler.resources.worker import State, Worker
from tests.controllers.test_worker import NOW, later, pool, up, worker

STOPPED = Intent(wish=Wish.STOPPED, actor="me", at=NOW)
AFTER_DB = {"dependsOn": [{"kind": "Pool", "name": "db"}]}


def of(worker: Worker, state: State) -> Worker:
    return worker.changed(status=worker.status.changed(state=state))


@pytest.mark.parametrize("state", [State.READY, State.BACKOFF, State.FAILED, State.COMPLETED, State.UNKNOWN])
def test_well_or_ill_a_worker_settles(state: State) -> None:
    assert settled(of(up(), state), pool(), NOW)


@pytest.mark.parametrize("state", [State.PENDING, State.STARTING, State.STOPPING])
def test_what_is_on_its_way_has_not_settled(state: State) -> None:
    assert not settled(of(up(), state), pool(), NOW)


def test_what_runs_settles_when_it_is_ready_or_has_had_its_time() -> None:
    unready = of(up(), State.RUNNING)
    patient, hasty = pool(), pool(strategy={"progressDeadline": "20s"})
    assert not settled(unready, patient, later(20))
    assert not settled(unready, hasty, later(19))
    assert settled(unready, hasty, later(20))
    assert in_trouble([unready]) == [unready]


def test_a_worker_of_a_stopped_pool_has_settled_once_nothing_of_it_runs() -> None:
    stopped = pool()
    stopped = stopped.changed(metadata=stopped.metadata.changed(intent=STOPPED))
    assert settled(worker(), stopped, NOW)
    assert not settled(of(up(), State.STOPPING), stopped, NOW)


def test_what_waits_for_another_pool_keeps_nobody_waiting() -> None:
    assert settled(of(worker(), State.PENDING), pool(**AFTER_DB), NOW)
    assert not settled(of(worker(), State.PENDING), pool(), NOW)


def test_what_is_wanted_gone_has_not_settled_before_it_is() -> None:
    going = worker()
    going = going.changed(metadata=going.metadata.changed(deleted_at=NOW))
    assert not settled(going, None, NOW)
