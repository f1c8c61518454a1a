"""kill -9 of controller and launcher, at every instant: nobody is doubled, restarted, lost or run again.

The ground truth is the workers' own ledger. A crash point is an instant the product names (reconciler/crash.py); a dry
run enumerates them, then each is hit at its first, second and last passing.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import reconciler
from tests.real.house import ENDS, House, eventually, new_house, worker

KILLS_OF_THE_LAUNCHER = 20

RETRY = {"maxAttempts": 5, "backoff": {"initial": "20ms", "max": "100ms", "jitter": 0}}


def test_every_crash_point_of_the_controller_changes_nothing(house: House) -> None:
    points = enumerate_points(house, "controller.")
    with ThreadPoolExecutor(2) as threads:
        hit = [*threads.map(lambda share: drill(share, controller=True), (points[::2], points[1::2]))]
    missed = {name for name, _ in points} - {name for done in hit for name in done}
    assert not missed, f"never reached: {missed}"


def test_every_crash_point_of_the_launcher_changes_nothing(house: House) -> None:
    points = enumerate_points(house, "launcher.")
    with ThreadPoolExecutor(2) as threads:
        hit = [*threads.map(lambda share: drill(share, controller=False), (points[::2], points[1::2]))]
    missed = {name for name, _ in points} - {name for done in hit for name in done}
    assert not missed, f"never reached: {missed}"


@pytest.mark.parametrize("kills", [30, pytest.param(200, marks=pytest.mark.long)])
def test_fault_C1_the_controller_killed_over_and_over_under_load(house: House, kills: int) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    steady = furnish(house)
    house.up()
    pids = house.living("steady", steady)
    done = threading.Event()
    tasks: list[tuple[str, int]] = []

    def load() -> None:
        while not done.is_set():
            code = len(tasks) % 3
            key = f"load {len(tasks)}"
            tasks.append((acknowledged(house, key, worker("task", code), maxAttempts=1), code))
            done.wait(0.02)

    with ThreadPoolExecutor(1) as threads:
        loading = threads.submit(load)
        for _ in range(kills):
            served = eventually(lambda: house.serving() and house.controller(), 30, "a serving controller")
            done.wait(rng.uniform(0, 0.05))
            assert house.kill_controller() == served
            eventually(lambda old=served: house.controller() != old)
        done.set()
        loading.result()

    for id_, code in tasks:
        status = house.task_ended(id_, 30)
        assert (status["state"], status["exitCode"]) == ("Failed" if code else "Succeeded", code), (id_, status)
    starts = Counter(line.slot for line in house.ledger("task-start"))
    assert starts == Counter(id_ for id_, _ in tasks), "a task was lost or ran again"
    assert house.pids("steady") == pids
    assert len(house.ledger("start")) == steady, "a worker was started again"
    house.assert_single()


def test_fault_L1_the_launcher_killed_20_times_all_workers_adopted(house: House) -> None:
    steady = furnish(house)
    house.up()
    pids = house.living("steady", steady)
    for _ in range(KILLS_OF_THE_LAUNCHER):
        house.kill_launcher()
        again = house.up()
        assert (again.adopted, again.started, again.unknown) == (steady, 0, 0)
    assert house.living("steady", steady) == pids
    assert len(house.ledger("start")) == steady
    house.assert_single()


# --- the drill ---


def furnish(house: House) -> int:
    """Steady workers, one that is made to crash, and slots for tasks; returns how many are steady."""
    house.manifest("steady", worker("ledger"), replicas=3)
    house.manifest("batch", replicas=3, tasks={"mode": "PerTask", "retry": RETRY})
    return 3


def enumerate_points(house: House, part: str) -> list[tuple[str, int]]:
    """A dry run: every crash point of that part with its first, second and last passing."""
    trace = house.path / "trace"
    furnish_drill(house)
    house.start(env={"RECONCILER_CRASH_TRACE": str(trace)})
    exercise(house, "dry", unseen_ends=False)
    house.kill_launcher()
    house.up()
    passed = Counter(trace.read_text().split())
    counts = {name: count for name, count in passed.items() if name.startswith(part)}
    assert {*counts} == {name for name in crash_points() if name.startswith(part)}
    return [(name, nth) for name in sorted(counts) for nth in sorted({1, min(2, counts[name]), counts[name]})]


def crash_points() -> set[str]:
    """The names that stand in the source."""
    texts = [path.read_text() for path in Path(reconciler.__file__).parent.rglob("*.py")]
    return {
        name for text in texts for name in re.findall(r'"((?:controller|launcher)\.(?:before|after)-[a-z-]+)', text)
    }


def furnish_drill(house: House) -> None:
    furnish(house)
    backoff = {"initial": "10ms", "max": "50ms", "jitter": 0}
    house.manifest("brittle", worker("ledger"), restart={"backoff": backoff})


def drill(points: list[tuple[str, int]], controller: bool) -> set[str]:
    """One house after another crash, all on one state directory; returns the points that were reached."""
    reached = set()
    with new_house() as house:
        furnish_drill(house)
        house.up()
        pids = house.living("steady", 3)
        house.kill_launcher()
        ended: dict[str, dict[str, Any]] = {}
        runs: Counter[str] = Counter()
        for name, nth in points:
            house.start(env={"RECONCILER_CRASH_AT": f"{name}:{nth}"})
            crashing = house.process
            assert crashing is not None

            ended |= exercise(house, f"{name}:{nth}", unseen_ends=not controller)
            now = insist(house, lambda: steady_pids(house))  # a late crash may come only here
            assert now == pids, f"steady workers changed at {name}:{nth}"
            if controller:
                if "started again" in house.output():
                    reached.add(name)
            elif crashing.poll() is not None:
                assert crashing.returncode == 137
                reached.add(name)
            house.assert_single()
            runs = Counter(line.slot for line in house.ledger("task-start"))
            house.kill_launcher()
        house.up()
        for id_, status in ended.items():
            assert house.task(id_) == status, f"the end of task {id_} changed"
        assert runs == Counter(line.slot for line in house.ledger("task-start")), "a task ran again after its end"
        assert all(runs[id_] <= status["attempts"] for id_, status in ended.items())
        assert len([line for line in house.ledger("start") if line.slot.startswith("steady")]) == 3
        assert house.living("steady", 3) == pids
        house.assert_single()
    return reached


def steady_pids(house: House) -> dict[str, int]:
    """Raises OSError when nobody answers."""
    workers = [worker for worker in house.ask("workers") if worker["spec"]["pool"] == "steady"]
    return {worker["metadata"]["name"]: worker["status"].get("pid") for worker in workers}


def exercise(house: House, tag: str, unseen_ends: bool) -> dict[str, dict[str, Any]]:
    """The same small life each time: tasks that succeed, fail and are retried, and a worker that is killed.

    With `unseen_ends` a launcher may have died before it could look at an exit. Returns the ends of the tasks.
    """
    wanted = {
        acknowledged(house, f"{tag} ok", worker("task", 0)): ("Succeeded", 0),
        acknowledged(house, f"{tag} no", worker("task", 7), maxAttempts=1): ("Failed", 7),
        acknowledged(house, f"{tag} 2nd", worker("task-until", 2)): ("Succeeded", 0),
    }
    before = insist(house, lambda: status_of(house, "workers", "brittle-0"))
    if before.get("pid"):
        with contextlib.suppress(ProcessLookupError):
            os.kill(before["pid"], signal.SIGKILL)

    def back() -> bool:
        now = status_of(house, "workers", "brittle-0")
        return now.get("state") == "Ready" and now.get("instance") != before.get("instance")

    ends: dict[str, dict[str, Any]] = {}

    def all_ended() -> bool:
        ends.update({id_: status_of(house, "tasks", id_) for id_ in wanted})
        return all(status["state"] in ENDS for status in ends.values())

    insist(house, back)
    insist(house, all_ended)
    for id_, (state, code) in wanted.items():
        status = ends[id_]
        unseen = unseen_ends and status.get("reason") == "ExitUnknown"
        assert status["state"] == state and (status.get("exitCode") == code or unseen), (tag, id_, status)
    return ends


def insist(house: House, ask: Callable[[], Any], deadline_s: float = 30.0) -> Any:
    """Asks until there is an answer that is true; a launcher that has died is started again, as a person would."""

    def attempt() -> Any:
        try:
            return ask()
        except OSError:
            if not house.running:
                house.start()
            return None

    try:
        return eventually(attempt, deadline_s)
    except AssertionError as error:
        raise AssertionError(f"{error}\nup said:\n{house.output()}") from None


def status_of(house: House, kind: str, name: str) -> dict[str, Any]:
    """The status of an object; asserts that there is one."""
    found = house.ask(kind, name)
    assert found is not None, f"{kind} {name} is not there"
    return dict(found["status"])


def acknowledged(house: House, key: str, command: list[str], **fields: Any) -> str:
    """Submits a task until it is acknowledged: asked again with the same idempotency key. Returns its id."""

    def submit() -> str | None:
        body = {"command": command, "idempotencyKey": key, **fields}
        status, answer = house.api("POST", "/api/v1/pools/batch/tasks", body)
        if status in (404, 503):  # the manifests are not read yet after the first start; it is shutting down
            return None
        assert status == 201, (status, answer)
        return str((answer[0] if isinstance(answer, list) else answer)["metadata"]["name"])

    return str(insist(house, submit))
