"""Restart policies, budgets and their explanation on real processes, over deaths of the controller."""

from __future__ import annotations

import json
import os
import signal

from tests.real.house import House, eventually, worker

STEADY = """\
apiVersion: reconciler/v1
kind: RestartPolicy
metadata: {name: steady}
spec:
  policy: OnFailure
  backoff: {initial: 200ms, max: 30s, jitter: 0}
  rules:
    - {exitCodes: {in: [78]}, action: Fail}
    - {signals: [SIGTERM], action: Stop}
"""


def test_a_rule_by_exit_code_keeps_a_worker_from_being_tried_again(house: House) -> None:
    house.write("steady.yaml", STEADY)
    house.manifest("bad", worker("exit-n", 78), restart={"ref": "steady"})
    house.up()

    assert eventually(lambda: house.worker("bad-0").get("state") == "Failed")
    house.kill_controller()
    eventually(house.serving)

    found = house.get("workers", "bad-0")["status"]
    assert (found["state"], found["starts"], found["lastExit"]["code"]) == ("Failed", 1, 78)
    assert len(house.ledger("start", "bad-0")) == 1


def test_a_rule_by_signal_leaves_a_worker_that_a_person_stopped(house: House) -> None:
    house.write("steady.yaml", STEADY)
    house.manifest("web", ["sleep", "1000"], restart={"ref": "steady"}, replicas=2)
    house.up()
    pids = house.ready("web", 2)

    os.kill(pids["web-0"], signal.SIGTERM)

    assert eventually(lambda: house.worker("web-0").get("state") == "Completed")
    assert house.worker("web-1")["pid"] == pids["web-1"]


def test_why_tells_the_same_chain_before_and_after_the_controller_died(house: House) -> None:
    house.write("steady.yaml", STEADY.replace("initial: 200ms, max: 30s", "initial: 1h, max: 1h"))
    house.manifest("web", worker("exit-n", 3), restart={"ref": "steady"})
    house.up()
    eventually(lambda: (found := house.worker("web-0"))["state"] == "Backoff" and found["starts"] == 2)

    def why() -> dict[str, object]:
        done = house.cli("why", "worker/web-0", "-o", "json")
        assert done.returncode == 0, done.stderr
        found: dict[str, object] = json.loads(done.stdout)
        return found

    before = why()
    house.kill_controller()
    eventually(house.serving)

    assert why() == before
    chain = before["chain"]
    assert isinstance(chain, list)
    assert [step["action"] for step in chain] == ["Start", "Start", "Wait"]
    assert chain[0]["declared"].startswith("web.yaml:1")
    assert chain[2]["because"] == "exit code 3"
    assert chain[2]["rule"] == "restartpolicy/steady: backoff after 2 failures"


def test_a_budget_of_a_pool_is_not_refilled_by_the_death_of_the_controller(house: House) -> None:
    budget = {"maxRestarts": 3, "window": "10m"}
    backoff = {"initial": "1ms", "max": "5ms", "jitter": 0}
    house.manifest("web", worker("exit-n", 3), restart={"backoff": backoff}, restartBudget=budget, replicas=2)
    house.up()

    def spent() -> bool:
        states = [status["state"] for status in house.workers("web").values()]
        return states == ["Backoff", "Backoff"] and sum(s["restarts"] for s in house.workers("web").values()) == 3

    eventually(spent)
    for _ in range(3):
        house.kill_controller()
        eventually(house.serving)
    assert spent()
    assert len(house.ledger("start")) == 2 + 3
    said = house.cli("status").stdout
    assert "the restart budget of its pool (3 restarts within 10m) is spent" in said
    assert "next start at" in said


def test_every_end_is_typed_and_leaves_one_event(house: House) -> None:
    house.manifest("gone", ["/nowhere/program"])
    house.manifest("crash", worker("exit-n", 3), restart={"policy": "Never"})
    house.manifest("batch", None, replicas=2)
    house.up()
    failed = house.submit("batch", worker("task", 7), maxAttempts=1)
    late = house.submit("batch", ["sleep", "1000"], maxAttempts=1, timeout="100ms")
    no_start = house.submit("batch", ["/nowhere/program"], maxAttempts=1)

    eventually(lambda: house.worker("crash-0").get("state") == "Failed")
    start = eventually(lambda: house.worker("gone-0").get("lastExit"))
    assert (start["type"], start["reason"], start["step"], start["errno"]) == ("SpawnFailed", "StartFailed", "exec", 2)
    assert house.worker("crash-0")["lastExit"]["type"] == "UnexpectedExit"
    ended = {id_: house.task_ended(id_) for id_ in (failed, late, no_start)}
    assert {id_: (task["type"], task["reason"]) for id_, task in ended.items()} == {
        failed: ("UnexpectedExit", "Exited"),
        late: ("ExecutionTimedOut", "TimedOut"),
        no_start: ("SpawnFailed", "StartFailed"),
    }
    assert {one["reason"] for one in house.events("pool/batch")} >= {"Exited", "TimedOut", "StartFailed"}
    assert "Exited" in {one["reason"] for one in house.events("worker/crash-0")}
    assert "StartFailed" in {one["reason"] for one in house.events("worker/gone-0")}
    why = house.cli("why", "worker/crash-0").stdout
    assert "fault: UnexpectedExit: it ended by itself with an exit code other than 0\n" in why
