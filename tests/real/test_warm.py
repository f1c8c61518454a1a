"""Warm pools: workers started in advance take tasks over stdin and stdout, whoever dies meanwhile."""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any

from tests.real.house import House, eventually

SCORE = """
import os, sys, time
from reconciler.worker import Failed, serve
def handle(task):
    payload = task.payload
    with open(os.environ["LEDGER"] + "/ledger", "a") as ledger:
        print(task.id, task.attempt, payload.get("do"), os.getpid(), task.key, file=ledger)
    match payload.get("do"):
        case "die": os._exit(3)
        case "babble": os.write(1, b"x"); os.write(4, b"no json\\n")
        case "fail": raise Failed("never")
        case "once" if task.attempt == 1: raise OSError("not yet")
        case "sleep": time.sleep(payload.get("s", 60))
    return {"n": payload.get("n"), "key": task.key, "deadline": task.deadline}
serve(handle, whole=True)
"""

QUICK = {"retry": {"maxAttempts": 2, "backoff": {"initial": "10ms", "max": "10ms"}}}


def warm(house: House, name: str, code: str = SCORE, **tasks: Any) -> None:
    replicas, template = tasks.pop("replicas", 2), tasks.pop("template", {})
    command = [sys.executable, "-c", code]
    house.apply(name, command, replicas=replicas, template=template, tasks={"mode": "Warm", **QUICK, **tasks})
    house.ready(name, replicas)


def submit(house: House, pool: str, *tasks: dict[str, Any]) -> list[str]:
    status, body = house.api("POST", f"/api/v1/pools/{pool}/tasks", list(tasks))
    assert status == 201, body
    return [task["metadata"]["name"] for task in body]


def ended(house: House, *ids: str) -> list[dict[str, Any]]:
    def look() -> list[dict[str, Any]] | None:
        found = [house.get("tasks", one)["status"] for one in ids]
        return found if all("finishedAt" in status for status in found) else None

    return list(eventually(look, 30.0, f"tasks {ids} to end"))


def test_tasks_are_done_by_processes_that_were_there_before(shared: House, name: str) -> None:
    warm(shared, name)
    pids = set(shared.pids(name).values())

    found = ended(shared, *submit(shared, name, *({"payload": {"n": n}, "key": "k"} for n in range(200))))

    assert [status["result"]["n"] for status in found] == list(range(200))
    assert {status["state"] for status in found} == {"Succeeded"} and found[0]["result"]["key"] == "k"
    assert set(shared.pids(name).values()) == pids
    eventually(lambda: shared.pool(name)["readyReplicas"] == 2)
    eventually(lambda: shared.pool(name)["tasks"]["succeeded"] == 200, 30.0)


def test_a_failed_task_is_tried_again_only_when_its_worker_asks_for_it(shared: House, name: str) -> None:
    warm(shared, name)

    once, fail = ended(shared, *submit(shared, name, {"payload": {"do": "once"}}, {"payload": {"do": "fail"}}))

    assert (once["state"], once["attempts"], once["exitCode"]) == ("Succeeded", 2, 0)
    assert (fail["state"], fail["attempts"], fail["message"], fail["exitCode"]) == ("Failed", 1, "never", 1)


def test_a_worker_that_dies_gives_its_task_back_and_only_what_it_had_begun_counts(shared: House, name: str) -> None:
    warm(shared, name, replicas=1)
    tasks = [{"payload": {"n": n}} for n in range(40)]
    ended(shared, *submit(shared, name, *tasks))  # it is quick: it gets many ahead

    poison, *others = ended(shared, *submit(shared, name, {"payload": {"do": "die"}}, *tasks))

    assert (poison["state"], poison["attempts"], poison["exitCode"]) == ("DeadLettered", 2, 3)
    assert "ended before it answered (exit code 3)" in poison["message"]
    assert {(status["state"], status["attempts"]) for status in others} == {("Succeeded", 1)}


def test_a_timeout_ends_the_worker_and_the_next_one_goes_on(shared: House, name: str) -> None:
    warm(shared, name, replicas=1)

    late, other = ended(
        shared,
        *submit(shared, name, {"payload": {"do": "sleep"}, "timeout": "200ms", "maxAttempts": 1}, {"payload": {}}),
    )

    assert (late["state"], late["reason"]) == ("Failed", "TimedOut") and other["state"] == "Succeeded"
    assert shared.worker(f"{name}-0")["failures"] == 0


def test_a_cancelled_task_ends_with_its_worker_if_it_runs(shared: House, name: str) -> None:
    warm(shared, name, replicas=1)
    (task,) = submit(shared, name, {"payload": {"do": "sleep"}})
    eventually(lambda: shared.get("tasks", task)["status"]["state"] == "Running", 30.0)

    assert shared.api("POST", f"/api/v1/tasks/{task}/cancel")[0] == 200

    assert ended(shared, task)[0]["state"] == "Cancelled"
    shared.ready(name, 1)


def test_a_worker_that_talks_nonsense_is_stopped_and_the_error_says_what_it_wrote(shared: House, name: str) -> None:
    babble = "import sys\nprint('{\"ready\": true}', flush=True)\nfor line in sys.stdin: print('hello', flush=True)"
    warm(shared, name, babble, replicas=1)

    (status,) = ended(shared, *submit(shared, name, {"payload": 1, "maxAttempts": 1}))

    assert (status["state"], status["reason"]) == ("Failed", "ProtocolError") and "'hello'" in status["message"]
    end = eventually(lambda: shared.worker(f"{name}-0").get("lastExit"), 30.0)
    assert (end["reason"], end["type"]) == ("ProtocolError", "Unhealthy")


def test_a_warm_pool_takes_payloads_and_another_takes_commands(shared: House, name: str) -> None:
    warm(shared, name, replicas=1)

    status, body = shared.api("POST", f"/api/v1/pools/{name}/tasks", {"command": ["true"]})
    assert status == 409 and "take a payload, no command" in body["error"]["message"]
    assert shared.cli("submit", "--pool", name, "--payload", '{"n": 1}', "--wait").returncode == 0
    assert shared.cli("submit", "--pool", name, "--payload", '{"do": "fail"}', "--wait").returncode == 1


def test_workers_are_recycled_one_after_another_after_so_many_tasks(shared: House, name: str) -> None:
    warm(shared, name, template={"recycle": {"maxTasks": 20}})
    before = set(shared.pids(name).values())

    found = ended(shared, *submit(shared, name, *({"payload": {"n": n}} for n in range(200))))

    assert {(status["state"], status["attempts"]) for status in found} == {("Succeeded", 1)}
    eventually(lambda: not before & set(shared.ready(name, 2).values()), 30.0)
    assert shared.worker(f"{name}-0")["failures"] == 0


def test_a_key_meets_one_worker_and_its_tasks_are_done_in_order(shared: House, name: str) -> None:
    warm(shared, name, replicas=3, assignment={"type": "ConsistentHash"})
    tasks = [{"payload": {"n": n}, "key": f"key-{n % 10}"} for n in range(200)]

    ids = submit(shared, name, *tasks)
    found = ended(shared, *ids)

    by_key: dict[str, set[str]] = {}
    for task, status in zip(tasks, found, strict=True):
        by_key.setdefault(str(task["key"]), set()).add(status["worker"])
    assert all(len(workers) == 1 for workers in by_key.values()) and len(set.union(*by_key.values())) > 1
    done = [line.split() for line in (shared.path / "ledger").read_text().splitlines()]
    for key in by_key:
        order = [int(line[0]) for line in done if line[4] == key and line[0] in ids]
        assert order == sorted(order) and len(order) == 20


def test_killed_controllers_lose_no_answer_and_have_nothing_done_twice(house: House) -> None:
    house.up()
    warm(house, "scorer")
    pids = house.ready("scorer", 2)
    ids: list[str] = []
    for _ in range(3):
        ids += submit(house, "scorer", *({"payload": {"do": "sleep", "s": 0.002, "n": n}} for n in range(60)))
        house.kill_controller()
        eventually(house.serving, 30.0)

    found = ended(house, *ids)

    assert {(status["state"], status["attempts"]) for status in found} == {("Succeeded", 1)}
    done = [line.split()[0] for line in (house.path / "ledger").read_text().splitlines()]
    assert sorted(done, key=int) == ids and house.ready("scorer", 2) == pids


def test_a_dead_launcher_takes_the_channels_with_it_and_the_tasks_are_done_all_the_same(house: House) -> None:
    house.up()
    warm(house, "scorer", retry={"maxAttempts": 20, "backoff": {"initial": "10ms", "max": "10ms"}})
    ids = submit(house, "scorer", *({"payload": {"do": "sleep", "s": 0.01, "n": n}} for n in range(30)))
    house.kill_launcher()
    house.up()

    found = ended(house, *ids)

    assert {status["state"] for status in found} == {"Succeeded"}


def test_a_stop_of_the_daemon_lets_the_task_at_hand_be_finished(house: House) -> None:
    house.up()
    warm(house, "scorer", replicas=1, template={"stop": {"gracePeriod": "1m"}})
    (task,) = submit(house, "scorer", {"payload": {"do": "sleep", "s": 0.5}})
    eventually(lambda: house.get("tasks", task)["status"]["state"] == "Running", 30.0)

    os.kill(house.launcher, signal.SIGTERM)
    assert house.ended() == 0
    house.up()

    (status,) = ended(house, task)
    assert (status["state"], status["attempts"]) == ("Succeeded", 1)


def test_the_task_shows_its_payload_in_the_list(shared: House, name: str) -> None:
    warm(shared, name, replicas=1)
    ended(shared, *submit(shared, name, {"payload": {"n": 7}}))

    shown = shared.cli("get", "tasks", "--pool", name, "-o", "wide")

    assert '{"n": 7}' in shown.stdout.replace("\\", "") and shown.returncode == 0, (shown.stdout, shown.stderr)
    assert json.loads(shared.cli("get", "pools", name, "-o", "json").stdout)["spec"]["tasks"]["mode"] == "Warm"
