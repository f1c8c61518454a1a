"""What `why` answers about workers, pools and tasks."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from small_daemon import NOW

from reconciler.api import views
from reconciler.api.why import of_task
from reconciler.cli.why import page
from reconciler.controllers.tasks import EndedTry, after_exit, tries_with
from reconciler.errors import Invalid, NotFound, QueueFull, Refused
from reconciler.resources.lock import Holder, Lock, LockSpec, LockStatus, Waiter
from reconciler.resources.meta import Key, Metadata, Status, set_condition
from reconciler.resources.pool import PoolStatus, Retry
from reconciler.resources.task import TaskState
from reconciler.resources.units import to_ms
from reconciler.resources.worker import Decision, LastExit, Reason, State
from reconciler.store.base import TaskRecord


def put(house: Any, state: State, **status: Any) -> Any:
    def build() -> None:
        house.daemon.add_pool("web")
        house.daemon.add_worker("web", 0, state=state, **status)

    house.within(build)
    return why(house, "workers", "web-0")


def why(house: Any, kind: str, name: str) -> Any:
    with house.client() as client:
        return client.why(kind, name)


def test_a_crash_looping_worker_tells_its_decisions_and_its_next_start(house: Any) -> None:
    wait = Decision(at=NOW, action="Wait", message="next start in 4s", because="exit code 3", rule="policy Always")

    found = put(
        house, State.BACKOFF, message="exit code 3", next_start_at=NOW + timedelta(seconds=4), decisions=(wait,)
    )

    assert (found["object"], found["state"], found["message"]) == ("worker/web-0", "Backoff", "exit code 3")
    assert found["chain"][0]["rule"] == "policy Always"
    assert found["next"] == {"what": "it is started again", "at": "2026-11-23T18:10:04.000Z"}


def test_a_failed_worker_tells_what_would_start_it(house: Any) -> None:
    found = put(house, State.FAILED, last_exit=LastExit(code=78, reason=Reason.EXITED, at=NOW))

    assert "reconciler start pool/web" in found["next"]["what"]
    assert "at" not in found["next"]


def test_a_worker_that_has_recovered_tells_when_its_failures_are_forgotten(house: Any) -> None:
    found = put(house, State.READY, failures=2, started_at=NOW - timedelta(seconds=60))

    assert found["next"] == {"what": "2 failures are forgotten", "at": "2026-11-23T18:19:00.000Z"}


def test_a_pool_names_its_workers_in_trouble_and_the_next_start(house: Any) -> None:
    put(house, State.BACKOFF, next_start_at=NOW + timedelta(seconds=4))

    found = why(house, "pools", "web")

    assert [one["object"] for one in found["workers"]] == ["worker/web-0"]
    assert found["next"] == {"what": "a worker is started again", "at": "2026-11-23T18:10:04.000Z"}


def test_a_task_tells_its_end(house: Any) -> None:
    house.within(lambda: house.daemon.add_pool("batch", tasks=True))
    with house.client() as client:
        task = client.submit("batch", {"command": ["false"]})["metadata"]["name"]
    waiting = why(house, "tasks", task)
    house.within(lambda: house.daemon.end_task(int(task), TaskState.FAILED, exit_code=1, reason="Exited"))
    over = why(house, "tasks", task)

    assert waiting["next"]["what"] == "it waits for a free slot"
    assert [one["action"] for one in over["chain"]] == ["Submit", "Failed"]
    assert over["next"]["what"] == "nothing: it has ended"


def test_a_task_tells_each_of_its_tries_with_its_end_and_the_wait_after_it(house: Any) -> None:
    began = to_ms(NOW)
    record = TaskRecord(7, "batch", TaskState.RETRYING, began, 3, '{"pool":"batch","command":["a"]}')
    retry = Retry.model_validate({"backoff": {"initial": "10s", "jitter": 0}})
    for number, code in ((1, 4), (2, 9)):
        record.attempts, record.started_ms, ended_ms = number, began + 100_000 * number, began + 100_000 * number + 1000
        verdict = after_exit(record, EndedTry(code, None, Reason.EXITED), retry, ended_ms)
        record.tries, record.due_ms = tries_with(record, verdict, ended_ms), verdict.due_ms
        record.exit_code, record.reason, record.message = code, "Exited", verdict.message

    house.within(lambda: house.daemon.add_pool("batch", tasks=True))
    answer = of_task(record, house.daemon.store, NOW)
    assert [(step["action"], step["message"], step["because"]) for step in answer["chain"]] == [
        ("Submit", "to pool/batch", ""),
        ("Start", "try 1 of 3", ""),
        ("Wait", "try 2 of 3 in 10s", "Exited, exit code 4"),
        ("Start", "try 2 of 3", ""),
        ("Wait", "try 3 of 3 in 20s", "Exited, exit code 9"),
    ]
    assert answer["message"] == "Exited, exit code 9"
    assert answer["next"] == {"what": "it may start", "at": views.moment(record.due_ms)}


def test_a_task_of_a_pool_that_is_stopped_says_so_and_what_ends_that(house: Any) -> None:
    house.within(lambda: house.daemon.add_pool("batch", tasks=True))
    with house.client() as client:
        task = client.submit("batch", {"command": ["true"]})["metadata"]["name"]
        client.stop("batch", reason="the disk is full")
    said = why(house, "tasks", task)["next"]["what"]
    assert said.startswith("pool/batch is stopped by user ")
    assert said.endswith(": the disk is full; `reconciler start pool/batch` ends that")


def test_a_pool_whose_rollout_is_paused_says_so_and_what_ends_that(house: Any) -> None:
    def build() -> None:
        pool = house.daemon.add_pool("web")
        ready = set_condition((), "Ready", Status.TRUE, "AllReady", "", NOW)
        words = "paused by user ann; a change of the template waits"
        status = PoolStatus(conditions=set_condition(ready, "Progressing", Status.FALSE, "RolloutPaused", words, NOW))
        house.daemon.store.set_status(pool.key, status)
        house.daemon.store.commit()

    house.within(build)
    found = why(house, "pools", "web")
    assert (found["state"], found["message"]) == ("RolloutPaused", "paused by user ann; a change of the template waits")
    assert found["next"] == {"what": "`reconciler rollout resume pool/web` ends that"}


def test_what_is_not_there_has_no_reasons(house: Any) -> None:
    with pytest.raises(NotFound):
        why(house, "workers", "web-9")


def test_a_restart_policy_in_use_is_not_deleted(house: Any) -> None:
    policy = {"apiVersion": "reconciler/v1", "kind": "RestartPolicy", "metadata": {"name": "steady"}, "spec": {}}
    web = {
        "apiVersion": "reconciler/v1",
        "kind": "Pool",
        "metadata": {"name": "web"},
        "spec": {"template": {"command": ["sleep", "1"]}, "restart": {"ref": "steady"}},
    }
    with house.client() as client:
        with pytest.raises(Invalid, match="1 problem"):
            client.create("pools", web)
        client.create("restartpolicies", policy)
        with pytest.raises(Invalid, match="the object is a Pool"):
            client.create("restartpolicies", web)
        assert client.create("pools", web)["spec"]["restart"] == {"ref": "steady"}

        with pytest.raises(Refused, match="restartpolicy/steady is used by pool/web"):
            client.delete("restartpolicies", "steady")

        house.within(lambda: house.daemon.store.remove(Key("Pool", "web")))
        assert "deletedAt" in client.delete("restartpolicies", "steady")["metadata"]


def test_a_worker_in_trouble_is_told_what_kind_of_fault_it_is_and_the_mend(house: Any) -> None:
    found = put(house, State.FAILED, last_exit=LastExit(signal="SIGKILL", reason=Reason.OOM_KILLED, at=NOW))

    assert found["fault"]["type"] == "ResourcesExhausted"
    assert found["fault"]["mend"].startswith("raise resources.limits.memory")


@pytest.mark.parametrize(("instance", "words"), [("u.2", "worker/web-0"), ("u.3", "worker/web-0 --previous")])
def test_the_mend_names_the_command_that_shows_the_last_words(house: Any, instance: str, words: str) -> None:
    ended = LastExit(code=3, reason=Reason.EXITED, at=NOW, instance="u.2")
    found = put(house, State.STARTING, instance=instance, last_exit=ended)
    assert found["fault"]["mend"] == f"its last words: `reconciler logs {words}`"


def test_a_full_queue_leaves_one_event_however_often_it_refuses(house: Any) -> None:
    house.within(lambda: house.daemon.add_pool("batch", tasks=True, queue_limit=1))
    with house.client() as client:
        client.submit("batch", {"command": ["true"]})
        for _ in range(3):
            with pytest.raises(QueueFull):
                client.submit("batch", {"command": ["true"]})
        found = [one for one in client.events("pool/batch")["items"] if one["reason"] == "QueueFull"]

    assert [(one["type"], one["count"]) for one in found] == [("Warning", 1)]


def test_a_lock_tells_who_has_it_since_when_with_which_token_and_who_is_next(house: Any) -> None:
    def put_lock(status: LockStatus) -> str:
        house.within(lambda: house.daemon.store.set_status(Key("Lock", "deploy"), status))
        return page(why(house, "locks", "deploy"), NOW)

    house.within(lambda: house.daemon.store.create(Lock(metadata=Metadata(name="deploy"), spec=LockSpec())))
    holder = Holder(id="a", name="eva: ./deploy.sh", since=NOW - timedelta(seconds=30), token=7)
    waiting = tuple(Waiter(id=id, name=f"{id}: ./check.sh", since=NOW - timedelta(seconds=5)) for id in ("bob", "ida"))

    assert put_lock(LockStatus(token=7, holders=(holder,), waiting=waiting)) == (
        "lock/deploy is held: the last token was 7, 2 waiters are in line\n\n"
        "2026-11-23T18:09:30.000Z  (30s ago)  Held: by eva: ./deploy.sh with token 7\n"
        "2026-11-23T18:09:55.000Z  (5s ago)  Wait: bob: ./check.sh has place 1 in line\n"
        "2026-11-23T18:09:55.000Z  (5s ago)  Wait: ida: ./check.sh has place 2 in line\n"
        "\nnext: bob: ./check.sh gets it when a holder gives it back, ends or loses its lease\n"
    )
    assert put_lock(LockStatus(token=7)) == (
        "lock/deploy is free: the last token was 7, 0 waiters are in line\n\nnext: the next who asks gets it\n"
    )
