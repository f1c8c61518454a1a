"""Probes end to end: real workers that are asked, by HTTP, by connecting, by a command; what follows from their answers."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.backends.test_ask import certificate
from tests.real.house import House, alive, eventually, worker

QUICK = {"period": "500ms", "timeout": "500ms"}


@pytest.fixture
def health(shared: House, name: str) -> Path:
    """Where the workers of the test find what they are to answer."""
    directory = shared.path / f"health-{name}"
    directory.mkdir()
    return directory


def served(health: Path, **probes: Any) -> dict[str, Any]:
    """A pool whose workers answer by HTTP what `health` says."""
    return {
        "command": worker("serve-health", health),
        "template": {"ports": [{"name": "http"}], "probes": probes},
    }


def get(path: str, **more: Any) -> dict[str, Any]:
    return {"httpGet": {"port": "http", "path": path}, **QUICK, **more}


def reasons(house: House, name: str) -> list[str]:
    """The reasons of the events about a worker, oldest first."""
    return [event["reason"] for event in house.events(f"worker/{name}")]


def test_a_worker_is_ready_when_it_answers_and_not_counted_before(shared: House, name: str, health: Path) -> None:
    shared.apply(name, **served(health, readiness=get("/ready")))
    eventually(lambda: shared.worker(f"{name}-0").get("state") == "Running")
    eventually(lambda: (health / f"{name}-0.asked").exists(), what="a request")
    assert shared.pool(name)["readyReplicas"] == 0
    assert not shared.worker(f"{name}-0")["ready"]
    eventually(lambda: "503" in shared.worker(f"{name}-0").get("message", ""), what="what it answers")

    (health / f"{name}-0.ready").touch()
    pid = shared.ready(name, 1)[f"{name}-0"]
    eventually(lambda: shared.pool(name)["readyReplicas"] == 1)

    (health / f"{name}-0.ready").unlink()
    eventually(lambda: shared.pool(name)["readyReplicas"] == 0)
    assert shared.worker(f"{name}-0")["pid"] == pid, "readiness must never touch the process"
    assert reasons(shared, f"{name}-0")[-3:] == ["Started", "Ready", "Unready"]


def test_a_failed_liveness_probe_restarts_the_worker_and_says_so(shared: House, name: str, health: Path) -> None:
    (health / f"{name}-0.alive").touch()
    shared.apply(name, **served(health, startup=get("/alive", failureThreshold=100), liveness=get("/alive")))
    pid = shared.living(name, 1)[f"{name}-0"]
    (health / f"{name}-0.alive").unlink()
    eventually(lambda: not alive(pid), what="the end of the worker")
    end = eventually(lambda: shared.worker(f"{name}-0").get("lastExit"))
    assert end["reason"] == "ProbeFailed"
    assert "liveness probe failed 3 times in a row" in end["message"] and "503" in end["message"]
    assert {"Unhealthy", "ProbeFailed"} <= set(reasons(shared, f"{name}-0"))
    (health / f"{name}-0.alive").touch()
    shared.starts(f"{name}-0", 2)


def test_a_worker_that_hangs_is_found_by_its_timeout(shared: House, name: str, health: Path) -> None:
    (health / f"{name}-0.alive").touch()
    probes = {"startup": get("/alive", failureThreshold=100), "liveness": get("/alive", failureThreshold=2)}
    shared.apply(name, **served(health, **probes))
    pid = shared.living(name, 1)[f"{name}-0"]
    (health / f"{name}-0.hang").touch()
    eventually(lambda: not alive(pid), what="the end of the worker")
    assert "no answer within" in eventually(lambda: shared.worker(f"{name}-0").get("lastExit"))["message"]
    (health / f"{name}-0.hang").unlink()


def test_fault_P16_a_stopped_worker_is_found_by_its_liveness_probe(shared: House, name: str, health: Path) -> None:
    (health / f"{name}-0.alive").touch()
    probes = {"startup": get("/alive", failureThreshold=100), "liveness": get("/alive", failureThreshold=2)}
    shared.apply(name, grace="500ms", **served(health, **probes))
    pid = shared.living(name, 1)[f"{name}-0"]
    os.kill(pid, signal.SIGSTOP)
    shared.starts(f"{name}-0", 2)
    assert not alive(pid)


def test_fault_P16_a_stopped_worker_without_a_probe_is_shown_as_stopped(shared: House, name: str) -> None:
    shared.apply(name, ["sleep", "1000"])
    shared.ready(name, 1)
    os.kill(shared.worker(f"{name}-0")["pid"], signal.SIGSTOP)

    def shown(word: str) -> bool:
        shared.cli("top")
        lines = shared.cli("get", "workers").stdout.splitlines()
        return [line.split()[2] for line in lines if line.startswith(f"{name}-0 ")] == [word]

    eventually(lambda: shown("Stopped"))
    eventually(lambda: shared.cli("top") and f"worker/{name}-0 is stopped" in shared.cli("status").stdout)
    assert shared.cli("signal", "SIGCONT", f"worker/{name}-0").returncode == 0
    eventually(lambda: shown("Ready"))


def test_a_worker_is_asked_over_tls_with_the_headers_that_are_declared(
    shared: House, name: str, health: Path, tmp_path: Path
) -> None:
    way: dict[str, Any] = {"port": "http", "path": "/ready", "scheme": "HTTPS"}
    probes = {"readiness": {"httpGet": way, "period": "1s", "timeout": "1s"}}
    pool = served(health, **probes)
    pool["command"] = [*pool["command"], certificate(tmp_path)]
    (health / f"{name}-0.ready").touch()
    shared.apply(name, **pool)
    eventually(lambda: "status 503" in shared.worker(f"{name}-0").get("message", ""), what="an answer over TLS")
    way["httpHeaders"] = [{"name": "X-Probe", "value": "let me in"}]
    shared.apply(name, **pool)
    shared.ready(name, 1)
    assert shared.worker(f"{name}-0")["restarts"] == 0


def test_startup_gates_the_other_probes(shared: House, name: str, health: Path) -> None:
    shared.apply(
        name, **served(health, startup=get("/up", failureThreshold=100), liveness=get("/alive", failureThreshold=3))
    )
    asked = health / f"{name}-0.asked"
    eventually(lambda: asked.exists() and len(asked.read_text().splitlines()) > 5, what="some requests")
    assert {line.split()[1] for line in asked.read_text().splitlines()} == {"/up"}
    assert shared.worker(f"{name}-0")["state"] == "Starting"
    (health / f"{name}-0.alive").touch()
    (health / f"{name}-0.up").touch()
    shared.ready(name, 1)
    eventually(lambda: "/alive" in asked.read_text())


def test_a_worker_that_never_starts_is_stopped_by_its_startup_probe(shared: House, name: str, health: Path) -> None:
    shared.apply(name, **served(health, startup=get("/up", failureThreshold=3)))
    end = eventually(lambda: shared.worker(f"{name}-0").get("lastExit"))
    assert end["reason"] == "ProbeFailed" and "startup" in end["message"]


def test_connecting_is_enough_for_a_tcp_probe(shared: House, name: str, health: Path) -> None:
    probe = {"tcpSocket": {"port": "http"}, **QUICK}
    shared.apply(name, **served(health, readiness=probe))
    shared.ready(name, 1)
    shared.apply(name, worker("ledger"), template={"ports": [{"name": "http"}], "probes": {"readiness": probe}})
    eventually(lambda: "refused" in shared.worker(f"{name}-0").get("message", ""))


def test_a_command_is_asked_in_the_place_of_its_worker(shared: House, name: str, health: Path) -> None:
    marker = health / "go"
    script = 'env >"$1/new" && mv "$1/new" "$1/env.$RECONCILER_ORDINAL"; pwd >"$1/new" && mv "$1/new" "$1/pwd"; test -e "$1/go"'
    command = ["/bin/sh", "-c", script, "probe", str(health)]
    template = {
        "workingDir": "/usr",
        "probes": {"readiness": {"exec": {"command": command}, "period": "1s", "timeout": "1s"}},
    }
    shared.apply(name, worker("ledger"), env={"FLAVOUR": "salt"}, template=template)
    eventually(lambda: "exit code 1" in shared.worker(f"{name}-0").get("message", ""))
    assert "FLAVOUR=salt" in (health / "env.0").read_text().splitlines()
    assert (health / "pwd").read_text().strip() == "/usr"
    marker.touch()
    shared.ready(name, 1)


def test_fault_P45_a_probe_that_hangs_is_killed_with_its_tree_and_never_runs_twice(
    shared: House, name: str, health: Path
) -> None:
    script = 'echo $$$$ >> "$0/pids"; setsid sleep 1001 & sleep 1001'
    probe = {"exec": {"command": ["/bin/sh", "-c", script, str(health)]}, **QUICK, "failureThreshold": 1000}
    shared.apply(name, worker("ledger"), template={"probes": {"liveness": probe}})
    pids = health / "pids"

    def tried() -> list[int]:
        return [int(pid) for pid in pids.read_text().split()] if pids.exists() else []

    most = 0
    end = time.monotonic() + 60
    while (len(tried()) < 4 or not most) and time.monotonic() < end:
        most = max(most, sum(alive(pid) for pid in tried()))
        time.sleep(0.01)
    assert len(tried()) >= 4
    assert most == 1, "two tries of one probe at once"
    shared.delete(name)
    eventually(lambda: not any("sleep 1001" in line for line in shared.children().values()), what="no sleep left")


def test_a_probe_that_cannot_be_made_changes_nothing_and_is_told(shared: House, name: str) -> None:
    probe = {"exec": {"command": ["/no/such/program"]}, **QUICK, "failureThreshold": 1}
    shared.apply(name, worker("ledger"), template={"probes": {"liveness": probe}})
    pid = shared.living(name, 1)[f"{name}-0"]
    eventually(lambda: reasons(shared, f"{name}-0").count("ProbeError"))
    time.sleep(0.5)
    assert shared.pids(name) == {f"{name}-0": pid}


def test_a_rollout_waits_for_readiness(shared: House, name: str, health: Path) -> None:
    for ordinal in range(2):
        (health / f"{name}-{ordinal}.ready").touch()
    pool = served(health, readiness=get("/ready"))
    shared.apply(name, replicas=2, **pool)
    before = shared.ready(name, 2)
    for ordinal in range(2):
        (health / f"{name}-{ordinal}.ready").unlink()
    (health / f"{name}-1.ready").touch()
    eventually(lambda: shared.pool(name)["readyReplicas"] == 1)
    shared.apply(name, replicas=2, env={"NEW": "1"}, **pool)
    eventually(lambda: len(shared.ledger("start", f"{name}-0")) == 2)  # the one that was not ready goes first
    time.sleep(2)
    assert shared.worker(f"{name}-1")["pid"] == before[f"{name}-1"], "it went on past a worker that is not ready"
    (health / f"{name}-0.ready").touch()
    eventually(lambda: shared.pool(name)["updatedReplicas"] == 2 and shared.pool(name)["readyReplicas"] == 2)


def test_readiness_outlives_the_controller(shared: House, name: str, health: Path) -> None:
    (health / f"{name}-0.ready").touch()
    shared.apply(name, replicas=2, **served(health, readiness=get("/ready")))
    eventually(lambda: shared.pool(name)["readyReplicas"] == 1)
    pids = shared.pids(name)
    asked = health / f"{name}-0.asked"
    shared.kill_controller()
    eventually(lambda: shared.serving(), what="the next controller")
    count = len(asked.read_text().splitlines())
    assert shared.worker(f"{name}-0")["ready"] and not shared.worker(f"{name}-1")["ready"]
    eventually(lambda: len(asked.read_text().splitlines()) > count, what="questions by the next controller")
    (health / f"{name}-0.ready").unlink()
    eventually(lambda: shared.pool(name)["readyReplicas"] == 0)
    assert shared.pids(name) == pids
    assert reasons(shared, f"{name}-0").count("Started") == 1


def test_a_probe_that_a_dead_controller_has_left_is_ended_by_the_next(house: House) -> None:
    script = 'echo $$$$ >> "$0/pids"; exec sleep 1003'
    probe = {"exec": {"command": ["/bin/sh", "-c", script, str(house.path)]}, "period": "1m", "timeout": "1m"}
    house.up()
    house.apply("web", worker("ledger"), template={"probes": {"liveness": probe}})
    pids = house.path / "pids"
    first = int(eventually(lambda: pids.exists() and pids.read_text().split())[0])
    web = house.pids("web")
    house.kill_controller()
    eventually(lambda: not alive(first), what="the end of what it has left")
    eventually(house.serving)
    assert house.pids("web") == web
    assert not [event for event in house.get("events") if event["reason"] == "Stranger"]


def test_a_worker_of_another_user_is_heard_and_asked_as_that_user(root: None, shared: House, name: str) -> None:
    said = shared.path / f"said-{name}"
    said.mkdir(mode=0o777)
    said.chmod(0o777)
    shared.path.chmod(0o755)
    script = f"id -un >{said}/new && mv {said}/new {said}/who"
    exec_ = {"exec": {"command": ["/bin/sh", "-c", script]}, "period": "1s", "timeout": "1s"}
    probes = {"startup": {"notify": "Systemd"}, "readiness": exec_}
    program = (
        "import os, socket, time; s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM);"
        " s.sendto(b'READY=1', os.environ['NOTIFY_SOCKET']); time.sleep(1000)"
    )
    shared.apply(name, ["/usr/bin/env", "python3", "-c", program], template={"user": "nobody", "probes": probes})
    shared.ready(name, 1)
    assert (said / "who").read_text().strip() == "nobody"
