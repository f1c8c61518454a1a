"""The chain of decisions, and what budgets and named policies do to one worker; courses are told in tests/stories."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.controllers.base import Charge, Record, SetStatus, Spawn
from reconciler.controllers.restart import DECISIONS_KEPT
from reconciler.controllers.worker import plan
from reconciler.resources.meta import Metadata, Origin
from reconciler.resources.pool import Pool
from reconciler.resources.restart import RestartPolicy, RestartPolicySpec
from reconciler.resources.worker import Process, Reason, State, WorkerStatus
from tests.controllers.test_worker import KEY, NOW, World, ended, exit_, later, of, pool, worker


class Named(World):
    """A world with one RestartPolicy."""

    policy: RestartPolicy | None = None

    def get(self, model: type[Any], name: str) -> Any:
        return self.policy if model is RestartPolicy else super().get(model, name)


def steady(**spec: Any) -> RestartPolicy:
    return RestartPolicy(metadata=Metadata(name="steady"), spec=RestartPolicySpec.model_validate(spec))


def status_after(world: Any, now: Any = NOW) -> WorkerStatus:
    actions = plan(KEY, world, now).actions
    found = [action.status for action in actions if isinstance(action, SetStatus | Spawn)]
    assert len(found) == 1, actions
    status = found[0]
    assert isinstance(status, WorkerStatus)
    return status


def test_a_pool_follows_the_policy_that_it_names() -> None:
    world = Named(ended(exit_(78)), pool(restart={"ref": "steady"}))
    world.policy = steady(rules=[{"exitCodes": {"in": [78]}, "action": "Fail"}])

    status = status_after(world)

    assert status.state is State.FAILED
    assert status.decisions[-1].action == "Fail"
    assert status.decisions[-1].rule == "restartpolicy/steady: rules[0] (exitCodes in 78: Fail)"


def test_without_the_policy_that_it_names_a_worker_is_restarted_and_the_decision_says_so() -> None:
    status = status_after(Named(ended(exit_(1)), pool(restart={"ref": "steady"})))

    assert status.process is Process.ASKED
    assert "restartpolicy/steady is gone" in status.decisions[-1].rule


def test_a_start_says_where_its_pool_was_declared() -> None:
    declared: Pool = pool()
    origin = Origin(path="web.yaml", line=3, revision="0123456789abcdef", source="/srv")
    declared = declared.changed(metadata=declared.metadata.changed(source=origin, generation=4))

    decision = status_after(World(worker(), declared)).decisions[-1]

    assert (decision.action, decision.because) == ("Start", "missing slot")
    assert decision.declared == "web.yaml:3, revision 0123456789ab, generation 4"


def test_a_plan_made_twice_decides_once() -> None:
    waits = ended(exit_(1), failures=1)
    status = status_after(World(waits, pool()))
    assert [one.action for one in status.decisions] == ["Wait"]

    again = plan(KEY, World(waits.changed(status=status), pool()), later(0.1))

    assert again.actions == ()
    assert again.requeue_at == status.next_start_at


def test_of_a_long_crash_loop_the_latest_decisions_are_kept() -> None:
    now, status = NOW, ended(exit_(1)).status
    for number in range(1, 60):
        status = status.changed(process=Process.NONE, last_exit=exit_(1, at=now, instance=status.instance))
        status = status_after(World(worker().changed(status=status), pool()), now)
        if status.next_start_at is not None:
            now = status.next_start_at
            status = status_after(World(worker().changed(status=status), pool()), now)
        assert status.starts == number + 1
    assert len(status.decisions) == DECISIONS_KEPT
    assert [one.action for one in status.decisions[-2:]] == ["Wait", "Start"]


def test_a_spent_budget_is_charged_once_waited_for_and_said() -> None:
    crashed = ended(exit_(1))
    world = World(crashed, pool(), grants=later(30))
    made = plan(KEY, world, NOW)
    status = of(made.actions, SetStatus).status

    assert of(made.actions, Charge) == Charge("web", later(30))
    assert (status.state, status.next_start_at) == (State.BACKOFF, later(30))
    assert "BudgetSpent" in [action.event.reason for action in made.actions if isinstance(action, Record)]
    assert status.decisions[-1].rule == "the budget is spent"

    waiting = World(crashed.changed(status=status), pool(), grants=later(60))
    assert plan(KEY, waiting, later(10)).actions == ()
    started = plan(KEY, waiting, later(30))
    assert of(started.actions, Spawn).status.restarts == 1
    assert not [action for action in started.actions if isinstance(action, Charge)], "granted once, charged once"


@pytest.mark.parametrize("reason", [Reason.STOPPED, Reason.HOST_REBOOTED])
def test_what_is_nobodys_fault_costs_no_budget(reason: Reason) -> None:
    made = plan(KEY, World(ended(exit_(None, reason)), pool(), grants=later(30)), NOW)

    assert [type(action) for action in made.actions if isinstance(action, Charge | Spawn)] == [Spawn]


def test_an_end_that_a_rule_ignores_counts_neither_for_the_backoff_nor_for_the_limit() -> None:
    rules = {"maxRestarts": 0, "rules": [{"exitCodes": {"in": [5]}, "action": "Ignore"}]}
    crashed = ended(exit_(5, at=later(20)))

    status = status_after(World(crashed, pool(restart=rules)), later(20))

    assert (status.process, status.failures, status.recent_restarts) == (Process.ASKED, 0, ())
