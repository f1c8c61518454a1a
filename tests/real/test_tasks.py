"""Durable tasks end to end: acknowledged once, run to one end, told by exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import pytest

from tests.real.house import ENDS, House, alive, eventually, orphans_come_here, processes_of, worker

QUICK = {"maxAttempts": 3, "backoff": {"initial": "100ms", "factor": 2, "max": "200ms", "jitter": 0}}


def runs(house: House, id_: str) -> list[float]:
    """When the tries of a task began."""
    return [line.at for line in house.ledger("task-start", id_)]


def apply(house: House, name: str, replicas: int = 2, **tasks: Any) -> str:
    """A pool for tasks; returns its name."""
    house.apply(name, replicas=replicas, tasks={"mode": "PerTask", "retry": QUICK, **tasks}, grace="500ms")
    eventually(lambda: house.condition(name, "Ready").get("status") == "True")
    return name


def test_a_task_runs_once_and_says_where_when_and_how(shared: House, name: str) -> None:
    apply(shared, name)
    id_ = shared.submit(name, worker("task", 0), env={"COLOUR": "red"}, payload={"a": [1, "ü"]})
    status = shared.task_ended(id_)
    assert (status["state"], status["exitCode"], status["attempts"]) == ("Succeeded", 0, 1)
    assert status["worker"] in (f"{name}-0", f"{name}-1")
    assert status["submittedAt"] <= status["startedAt"] <= status["finishedAt"]
    spec = shared.get("tasks", id_)["spec"]
    assert spec["pool"] == name and spec["command"] == worker("task", 0) and spec["payload"] == {"a": [1, "ü"]}
    assert len(runs(shared, id_)) == 1
    eventually(lambda: shared.pool(name)["tasks"]["succeeded"] == 1)


def test_fault_T7_a_poison_task_is_retried_with_backoff_then_dead_lettered_while_others_flow(
    shared: House, name: str
) -> None:
    apply(shared, name, replicas=1)
    poison = shared.submit(name, worker("task", 9))
    others = [shared.submit(name, worker("task", 0)) for _ in range(3)]
    for other in others:
        assert shared.task_ended(other)["state"] == "Succeeded"
    status = shared.task_ended(poison)
    assert (status["state"], status["attempts"], status["exitCode"]) == ("DeadLettered", 3, 9)
    gaps = [later - earlier for earlier, later in pairwise(runs(shared, poison))]
    assert len(gaps) == 2
    for gap, wanted in zip(gaps, (0.1, 0.2), strict=True):
        assert wanted - 0.02 <= gap < wanted + 30, gaps
    chain = json.loads(shared.cli("why", f"task/{poison}", "-o", "json").stdout)["chain"]
    assert [step["action"] for step in chain] == ["Submit", *["Start", "Wait"] * 2, "Start", "DeadLettered"]
    assert {step["because"] for step in chain if step["action"] == "Wait"} == {"Exited, exit code 9"}
    mended = shared.submit(name, worker("task-until", 3))
    status = shared.task_ended(mended)
    assert (status["state"], status["attempts"], status["exitCode"]) == ("Succeeded", 3, 0)


def test_a_task_with_one_attempt_fails_at_its_first_failure(shared: House, name: str) -> None:
    apply(shared, name)
    status = shared.task_ended(shared.submit(name, worker("task", 5), maxAttempts=1))
    assert (status["state"], status["attempts"], status["exitCode"]) == ("Failed", 1, 5)


def test_a_task_past_its_timeout_is_ended_and_counted_as_a_failure(shared: House, name: str) -> None:
    apply(shared, name)
    deaf = ["/bin/sh", "-c", "trap '' TERM; while :; do sleep 1; done"]
    began = time.monotonic()
    id_ = shared.submit(name, deaf, timeout="300ms", maxAttempts=1)
    status = shared.task_ended(id_)
    assert (status["state"], status["reason"]) == ("Failed", "TimedOut")
    assert 0.3 <= time.monotonic() - began < 30
    eventually(lambda: processes_of(f"RECONCILER_TASK={id_}\0") == {}, what="its tree to be gone")


def test_fault_T13_cancel_ends_pending_and_running_tasks_once(shared: House, name: str) -> None:
    apply(shared, name, replicas=1)
    running = shared.submit(name, worker("task", 0, 1000))
    pending = shared.submit(name, worker("task", 0))
    eventually(lambda: shared.task(running)["state"] == "Running")
    assert shared.task(pending)["state"] == "Pending"
    assert shared.cli("cancel", f"task/{pending}").returncode == 0
    assert shared.task_ended(pending)["state"] == "Cancelled"
    assert shared.cli("cancel", f"task/{running}").returncode == 0
    assert shared.task_ended(running)["state"] == "Cancelled"
    assert runs(shared, pending) == []
    eventually(lambda: processes_of(f"RECONCILER_TASK={running}\0") == {})
    done = shared.submit(name, worker("task", 0))
    end = shared.task_ended(done)
    shared.cli("cancel", f"task/{done}")
    assert shared.task(done) == end, "an end changed"
    assert shared.cli("cancel", "task/999999999").returncode == 4


def test_fault_T13_a_cancel_that_races_with_start_and_end_leaves_one_end(shared: House, name: str) -> None:
    apply(shared, name, replicas=4)
    with ThreadPoolExecutor(4) as threads:

        def race(delay_s: float) -> str:
            id_ = shared.submit(name, worker("task", 0))
            time.sleep(delay_s)
            assert shared.api("POST", f"/api/v1/tasks/{id_}/cancel")[0] in (200, 202)
            return id_

        ids = [*threads.map(race, [index / 400 for index in range(40)])]
    ends = {id_: shared.task_ended(id_) for id_ in ids}
    counts = Counter(status["state"] for status in ends.values())
    assert set(counts) <= {"Succeeded", "Cancelled"}, counts
    finished = {line.slot for line in shared.ledger("task-end")}
    for id_, status in ends.items():
        if status["state"] == "Succeeded":
            assert id_ in finished
        assert len(runs(shared, id_)) <= 1
    eventually(lambda: shared.pool(name)["tasks"]["running"] == shared.pool(name)["tasks"]["pending"] == 0)
    assert {id_: shared.task(id_) for id_ in ids} == ends


def test_fault_T1_T2_the_same_key_is_the_same_task_and_another_payload_is_refused(shared: House, name: str) -> None:
    apply(shared, name)
    first = shared.submit(name, worker("task", 0), idempotencyKey="once")
    assert shared.submit(name, worker("task", 0), idempotencyKey="once") == first
    shared.task_ended(first)
    assert shared.submit(name, worker("task", 0), idempotencyKey="once") == first
    other = {"command": worker("task", 1), "idempotencyKey": "once"}
    status, answer = shared.api("POST", f"/api/v1/pools/{name}/tasks", other)
    assert status == 409, answer
    assert len(runs(shared, first)) == 1
    answer = shared.cli("submit", "--pool", name, "--idempotency-key", "once", "--", *worker("task", 1))
    assert answer.returncode == 5 and "Traceback" not in answer.stderr


def test_a_list_of_tasks_is_taken_whole_or_not_at_all(shared: House, name: str) -> None:
    apply(shared, name, replicas=1, queueLimit=10)
    good = {"command": worker("task", 0)}
    status, answer = shared.api("POST", f"/api/v1/pools/{name}/tasks", [good, {"command": []}])
    assert status == 400 or status == 422, answer
    assert shared.get("tasks", query=f"?pool={name}") == []
    status, answer = shared.api("POST", f"/api/v1/pools/{name}/tasks", [good] * 500)
    assert status == 429 and "queue" in json.dumps(answer).lower(), answer
    assert shared.get("tasks", query=f"?pool={name}") == []
    status, answer = shared.api("POST", f"/api/v1/pools/{name}/tasks", [good] * 5)
    assert status == 201 and len({task["metadata"]["name"] for task in answer}) == 5
    for task in answer:
        assert shared.task_ended(task["metadata"]["name"])["state"] == "Succeeded"


def test_tasks_of_a_file_are_submitted_waited_for_and_listed(shared: House, name: str) -> None:
    apply(shared, name)
    lines = [json.dumps({"command": worker("task", 0), "idempotencyKey": f"line {n}"}) for n in range(20)]
    file = shared.path / "tasks.jsonl"
    file.write_text("\n".join(lines) + "\n")
    answer = shared.cli("submit", "--pool", name, "--from", str(file))
    assert answer.returncode == 0 and "20" in answer.stdout, answer
    assert shared.cli("wait", "--all", "--pool", name, "--for", "finished", "--timeout", "60s").returncode == 0
    listed = json.loads(shared.cli("get", "tasks", "--pool", name, "--state", "Succeeded", "-o", "json").stdout)
    assert len(listed["items"]) == 20
    assert Counter(line.slot for line in shared.ledger("task-start"))
    bad = shared.path / "bad.jsonl"
    bad.write_text(lines[0] + "\n{nonsense\n")
    answer = shared.cli("submit", "--pool", name, "--from", str(bad))
    assert answer.returncode == 2 and "2" in answer.stderr and "Traceback" not in answer.stderr


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (worker("say", "hello", 0), 0),
        (worker("say", "hello", 3), 3),
        (["/nowhere/program"], 127),
        (["/etc/passwd"], 126),
        (["/bin/sh", "-c", "kill -9 $$"], 137),
        (["/bin/sh", "-c", "kill -TERM $$"], 143),
    ],
)
def test_run_ends_as_its_command_does(shared: House, name: str, command: list[str], code: int) -> None:
    apply(shared, name)
    answer = shared.cli("run", "--pool", name, "--", *command)
    assert answer.returncode == code, answer
    if "hello" in command:
        assert answer.stdout == "hello\n"
    assert "Traceback" not in answer.stderr


def test_run_streams_while_the_task_runs_and_gives_125_when_it_is_cancelled(shared: House, name: str) -> None:
    apply(shared, name)
    client = subprocess.Popen(
        [sys.executable, "-m", "reconciler", "run", "--pool", name, "--", "/bin/sh", "-c", "echo first; sleep 1000"],
        env={**os.environ, "RECONCILER_STATE": str(shared.state)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert client.stdout is not None
    assert client.stdout.readline() == b"first\n"
    (task,) = eventually(lambda: shared.get("tasks", query=f"?pool={name}&state=Running"))
    assert shared.cli("cancel", f"task/{task['metadata']['name']}").returncode == 0
    assert client.wait(60) == 125
    client.stdout.close()


def test_submit_prints_the_id_that_wait_and_logs_take(shared: House, name: str) -> None:
    apply(shared, name)
    answer = shared.cli("submit", "--pool", name, "--max-attempts", "1", "--", *worker("say", "out", 4))
    assert answer.returncode == 0 and answer.stdout.startswith("task/"), answer
    task = answer.stdout.strip()
    assert shared.cli("wait", task, "--for", "finished", "--timeout", "60s").returncode == 4
    assert shared.cli("logs", task).stdout == "out\n"
    quiet = shared.submit(name, ["/bin/true"])
    shared.task_ended(quiet)
    assert shared.cli("logs", f"task/{quiet}").stdout == ""
    eventually(lambda: not [*(shared.state / "logs" / "t").glob(f"*/{quiet}.*")], what="an empty log to be removed")
    assert shared.cli("submit", "--pool", "nothere", "--", "true").returncode == 4
    assert shared.cli("wait", "task/999999999", "--for", "finished", "--timeout", "1s").returncode == 4


def test_a_start_that_fails_counts_as_an_attempt(shared: House, name: str) -> None:
    apply(shared, name)
    id_ = shared.submit(name, ["/nowhere/program"])
    status = shared.task_ended(id_)
    assert (status["state"], status["reason"], status["attempts"]) == ("DeadLettered", "StartFailed", 3)
    assert "/nowhere/program" in status["message"]


def test_fault_T3_T4_a_submission_cut_off_by_a_crash_is_there_once_or_not_at_all(house: House) -> None:
    house.manifest("batch", replicas=2)
    house.up()
    house.kill_launcher()
    for point in ("controller.before-commit", "controller.after-commit"):
        for nth in (2, 4):
            house.start(env={"RECONCILER_CRASH_AT": f"{point}:{nth}"})
            key = f"{point} {nth}"
            body = {"command": worker("task", 0), "idempotencyKey": key}

            def submit(body: dict[str, Any] = body) -> str | None:
                try:
                    status, answer = house.api("POST", "/api/v1/pools/batch/tasks", body)
                except OSError:
                    return None
                if status in (404, 503):
                    return None
                assert status == 201, answer
                return str((answer[0] if isinstance(answer, list) else answer)["metadata"]["name"])

            id_ = eventually(submit)
            assert house.task_ended(id_)["state"] == "Succeeded"
            assert len(runs(house, id_)) == 1
            same = [t for t in house.get("tasks") if t["spec"].get("idempotencyKey") == key]
            assert [task["metadata"]["name"] for task in same] == [id_]
            house.kill_launcher()
    house.assert_single()


def test_an_end_that_nobody_saw_is_retried_or_unknown_as_the_task_wishes(house: House) -> None:
    house.manifest("batch", replicas=3, tasks={"mode": "PerTask", "retry": QUICK})
    house.up()
    once = house.submit("batch", worker("task", 0, 1000), maxAttempts=1, onUnknown="Fail")
    again = house.submit("batch", worker("task-until", 2), onUnknown="Retry")
    long = house.submit("batch", ["/bin/sh", "-c", "[ $RECONCILER_ATTEMPT = 2 ] || exec sleep 1000"], onUnknown="Retry")
    assert house.task_ended(again)["state"] == "Succeeded"
    for id_ in (once, long):
        eventually(lambda id_=id_: house.task(id_).get("pid"))
    pids = [house.task(id_)["pid"] for id_ in (once, long)]
    with orphans_come_here():
        house.kill_launcher()
        assert all(alive(pid) for pid in pids)
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)  # from here on nobody can know how it ended
    house.up()
    status = house.task_ended(once)
    assert (status["state"], status["attempts"], status["reason"]) == ("Unknown", 1, "ExitUnknown"), status
    status = house.task_ended(long)
    assert (status["state"], status["attempts"]) == ("Succeeded", 2)
    assert house.cli("wait", f"task/{once}", "--for", "finished").returncode == 125


def test_running_tasks_are_adopted_and_their_exit_is_told(house: House) -> None:
    house.manifest("batch", replicas=2)
    house.up()
    go = house.path / "go"
    wait = ["/bin/sh", "-c", f"while [ ! -e {go} ]; do sleep 0.05; done; exit 6"]
    id_ = house.submit("batch", wait, maxAttempts=1)
    pid = eventually(lambda: house.task(id_).get("pid"))
    house.kill_controller()
    eventually(lambda: house.task(id_).get("pid") == pid)
    house.kill_launcher()
    assert house.up().adopted == 1
    eventually(lambda: house.task(id_).get("pid") == pid)
    queued = [house.submit("batch", worker("task", 0)) for _ in range(4)]  # the slot of an adopted task stays taken
    for other in queued:
        assert house.task_ended(other)["worker"] != house.task(id_)["worker"]
    go.touch()
    status = house.task_ended(id_)
    assert status["state"] == "Failed"
    assert status.get("exitCode") == 6 or status["reason"] == "ExitUnknown"
    assert status["state"] in ENDS
