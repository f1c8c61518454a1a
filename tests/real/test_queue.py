"""The queue on real processes: who goes first, deadlines and delays, and the verbs over all tasks of a pool."""

from __future__ import annotations

import json
import os
from typing import Any

from tests.real.house import House, eventually, threads_state, worker
from tests.real.test_tasks import apply, runs


def submit(house: House, *args: str) -> str:
    """As a person does; returns the id."""
    answer = house.cli("submit", *args)
    assert answer.returncode == 0, answer
    return answer.stdout.strip().removeprefix("task/")


def done(house: House, *args: str) -> str:
    """A command that has to succeed; returns what it prints."""
    answer = house.cli(*args)
    assert answer.returncode == 0, answer
    return answer.stdout.strip()


def test_the_urgent_goes_first_in_a_paused_pool_that_is_resumed(shared: House, name: str) -> None:
    apply(shared, name, replicas=1, scheduling={"type": "Priority"})
    assert done(shared, "pause", f"pool/{name}", "--reason", "the disk is changed") == f"pool/{name} paused"
    ready = eventually(lambda: (c := shared.condition(name, "Ready"))["reason"] == "Paused" and c)
    assert "the disk is changed" in ready["message"]
    usual = submit(shared, "--pool", name, "--", *worker("task", 0))
    low = submit(shared, "--pool", name, "--priority", "5", "--tenant", "ads", "--", *worker("task", 0))
    urgent = submit(shared, "--pool", name, "--priority", "230", "--key", "k", "--", *worker("task", 0))
    listed = done(shared, "get", "tasks", "--pool", name, "-o", "wide").splitlines()
    assert listed[0].split()[:4] == ["NAME", "POOL", "STATE", "PRIORITY"] and "ads" in listed[2]
    assert runs(shared, usual) == []
    done(shared, "resume", f"pool/{name}")
    done(shared, "wait", "--all", "--pool", name, "--timeout", "30s")
    began = {id_: runs(shared, id_)[0] for id_ in (usual, low, urgent)}
    assert began[urgent] < began[usual] < began[low]


def test_fault_T8_a_task_is_refused_expired_or_killed_by_its_deadline(shared: House, name: str) -> None:
    apply(shared, name, replicas=1)
    answer = shared.cli("submit", "--pool", name, "--deadline", "2001-01-01T00:00:00Z", "--", "true")
    assert answer.returncode == 5 and "is past" in answer.stderr
    busy = submit(shared, "--pool", name, "--", "sleep", "1000")
    waiting = submit(shared, "--pool", name, "--deadline", "300ms", "--", "true")
    late = shared.task_ended(waiting)
    assert (late["state"], late["attempts"], late["reason"]) == ("Expired", 0, "StartDeadlineExceeded")
    done(shared, "cancel", f"task/{busy}")
    shared.task_ended(busy)
    killed = shared.task_ended(submit(shared, "--pool", name, "--deadline", "3s", "--", "sleep", "1000"))
    assert (killed["state"], killed["attempts"], killed["reason"]) == ("Expired", 1, "DeadlineExceeded")
    assert shared.cli("wait", f"task/{waiting}").returncode == 125
    eventually(lambda: shared.pool(name)["tasks"]["expired"] == 2)
    assert any(e["reason"] == "StartDeadlineExceeded" for e in shared.events(f"pool/{name}"))


def test_a_delayed_task_waits_and_its_delay_outlives_the_controller(shared: House, name: str) -> None:
    apply(shared, name)
    id_ = submit(shared, "--pool", name, "--delay", "1h", "--", "true")
    soon = submit(shared, "--pool", name, "--delay", "500ms", "--", "true")
    assert shared.task(id_)["state"] == "Delayed" and "nextAttemptAt" in shared.task(id_)
    shared.kill_controller()
    ended = shared.task_ended(soon)
    assert ended["state"] == "Succeeded" and ended["startedAt"] >= ended["submittedAt"]
    assert shared.task(id_)["state"] == "Delayed"
    assert done(shared, "cancel", "--pool", name, "--state", "Delayed") == "1 task cancelled"


def test_what_failed_is_retried_by_name_and_by_selection_once(shared: House, name: str) -> None:
    apply(shared, name)
    flag = shared.path / f"{name}-mended"
    command = ["/bin/sh", "-c", f"[ -e {flag} ]"]
    failed = [shared.submit(name, command, maxAttempts=1) for _ in range(3)]
    good = shared.submit(name, ["true"])
    for id_ in (*failed, good):
        shared.task_ended(id_)
    assert shared.cli("retry", f"task/{good}").returncode == 5
    assert shared.cli("retry", "task/999999999").returncode == 4
    flag.touch()
    new = done(shared, "retry", f"task/{failed[0]}")
    assert done(shared, "retry", f"task/{failed[0]}") == new, "asked twice, made once"
    assert done(shared, "retry", "--pool", name, "--state", "Failed") == "2 tasks retried"
    done(shared, "wait", "--all", "--pool", name, "--timeout", "30s")
    tasks = json.loads(done(shared, "get", "tasks", "--pool", name, "-o", "json"))["items"]
    again = {t["spec"]["retryOf"]: t["status"]["state"] for t in tasks if "retryOf" in t["spec"]}
    assert again == dict.fromkeys(failed, "Succeeded") and len(tasks) == 7
    assert done(shared, "retry", "--pool", name, "--state", "Failed") == "0 tasks retried"


def test_a_drained_pool_finishes_what_it_has_and_refuses_what_is_new(shared: House, name: str) -> None:
    apply(shared, name, replicas=1)
    had = [shared.submit(name, ["sleep", "0.2"]) for _ in range(3)]
    done(shared, "drain", f"pool/{name}", "--reason", "moving", "--wait", "--timeout", "30s")
    assert {shared.task(id_)["state"] for id_ in had} == {"Succeeded"}
    eventually(lambda: "Drained" in done(shared, "get", f"pools/{name}"))
    eventually(lambda: "drained by user " in shared.cli("status").stdout)
    answer = shared.cli("submit", "--pool", name, "--", "true")
    assert answer.returncode == 5 and "moving" in answer.stderr and f"resume pool/{name}" in answer.stderr
    done(shared, "resume", f"pool/{name}")
    shared.task_ended(shared.submit(name, ["true"]))


def test_exit_codes_decide_whether_a_task_is_tried_again(shared: House, name: str) -> None:
    rules: list[dict[str, Any]] = [{"exitCodes": {"in": [64, 65]}, "action": "Fail"}]
    retry = {"maxAttempts": 3, "backoff": {"initial": "10ms", "max": "20ms"}, "rules": rules}
    apply(shared, name, retry=retry)
    usage, crash = shared.submit(name, ["sh", "-c", "exit 64"]), shared.submit(name, ["sh", "-c", "exit 1"])
    first, second = shared.task_ended(usage), shared.task_ended(crash)
    assert (first["state"], first["attempts"]) == ("Failed", 1) and "rules[0]" in first["message"]
    assert (second["state"], second["attempts"]) == ("DeadLettered", 3)


def test_a_task_that_has_used_up_its_quantum_of_cpu_yields_to_others_while_it_runs(shared: House, name: str) -> None:
    apply(shared, name, scheduling={"type": "MultiLevelFeedback", "quanta": ["100ms", "1h"], "demotion": "CPUWeight"})
    busy, idle = shared.submit(name, ["sh", "-c", "while :; do :; done"]), shared.submit(name, ["sleep", "1000"])
    pids = [eventually(lambda id_=id_: shared.task(id_).get("pid")) for id_ in (busy, idle)]
    eventually(lambda: os.getpriority(os.PRIO_PROCESS, pids[0]) == 19)
    assert os.getpriority(os.PRIO_PROCESS, pids[1]) == 0
    done(shared, "cancel", "--pool", name, "--state", "Running")


def test_a_share_that_was_used_is_remembered_over_a_death_of_the_controller(house: House) -> None:
    house.manifest("shared", replicas=1, tasks={"mode": "PerTask", "scheduling": {"type": "FairShare"}})
    house.up()
    burn = ["/bin/sh", "-c", "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done"]
    house.task_ended(house.submit("shared", burn, tenant="greedy"))
    house.task_ended(house.submit("shared", ["/bin/true"], tenant="modest"))
    assert house.cli("pause", "pool/shared").returncode == 0
    waiting = [house.submit("shared", worker("task", 0), tenant=tenant) for tenant in ("greedy", "modest")]

    house.kill_controller()
    eventually(house.serving)
    assert house.cli("resume", "pool/shared").returncode == 0

    greedy, modest = (house.task_ended(id_) for id_ in waiting)
    assert modest["startedAt"] < greedy["startedAt"], "both begin anew, and who came first goes first"


SUSPENDING = {"type": "MultiLevelFeedback", "quanta": ["100ms", "1h"], "demotion": "Suspend"}
BUSY = ["sh", "-c", "while :; do :; done"]


def stopped(pid: int) -> bool:
    return threads_state(pid) == "T"


def test_a_task_that_has_used_up_its_quantum_stands_still_while_another_needs_its_slot(
    shared: House, name: str
) -> None:
    apply(shared, name, replicas=1, scheduling=SUSPENDING)
    busy = shared.submit(name, BUSY)
    pid = eventually(lambda: shared.task(busy).get("pid"))
    go = shared.path / f"{name}.go"
    quick = shared.submit(name, ["sh", "-c", f"until [ -e {go} ]; do sleep 0.05; done"])
    eventually(lambda: shared.task(quick).get("pid"), what="the short one to begin")
    eventually(lambda: stopped(pid))
    assert shared.task(busy)["state"] == "Running" and "stands still" in shared.task(busy)["message"]
    eventually(lambda: "TaskSuspended" in {event["reason"] for event in shared.events(f"pool/{name}")})
    waits = shared.submit(name, worker("task", 0))
    go.touch()
    assert shared.task_ended(waits)["state"] == "Succeeded", "it is of a higher level, too"
    eventually(lambda: not stopped(pid), what="the long one to go on")
    eventually(lambda: not shared.task(busy)["message"])
    done(shared, "cancel", f"task/{busy}")
    assert shared.task_ended(busy)["state"] == "Cancelled"


def test_what_stands_still_goes_on_after_a_death_of_the_controller_and_under_another_policy(house: House) -> None:
    house.manifest("batch", replicas=1, tasks={"mode": "PerTask", "scheduling": SUSPENDING})
    house.up()
    busy = house.submit("batch", BUSY)
    pid = eventually(lambda: house.task(busy).get("pid"))
    quick = house.submit("batch", ["sleep", "1000"])
    eventually(lambda: house.task(quick).get("pid") and stopped(pid))

    house.kill_controller()
    eventually(lambda: house.serving() and house.task(busy).get("pid") == pid and house.task(busy)["message"])
    assert stopped(pid)
    house.manifest("batch", replicas=1, tasks={"mode": "PerTask"})
    assert house.cli("source", "sync").returncode == 0

    eventually(lambda: not stopped(pid), what="the long one to go on")
