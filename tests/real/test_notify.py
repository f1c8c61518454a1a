"""Workers that say by themselves that they are ready and alive, and others that say it in their place."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest

from tests.proc import environ_of
from tests.real.house import House, alive, eventually, worker


@pytest.fixture
def health(shared: House, name: str) -> Path:
    """Where the workers of the test find what they are to say."""
    directory = shared.path / f"health-{name}"
    directory.mkdir()
    return directory


@pytest.mark.parametrize("by", ["itself", "child", "daemon"])
def test_a_worker_is_ready_when_it_or_a_process_of_its_says_so(shared: House, name: str, health: Path, by: str) -> None:
    probes = {"readiness": {"notify": "Systemd"}}
    shared.apply(name, worker("notify", health, by), template={"probes": probes})
    eventually(lambda: shared.worker(f"{name}-0").get("state") == "Running")
    time.sleep(0.3)
    assert shared.pool(name)["readyReplicas"] == 0
    (health / f"{name}-0.go").touch()
    pid = shared.ready(name, 1)[f"{name}-0"]
    assert shared.worker(f"{name}-0")["pid"] == pid, "MAINPID is nobody's to say"
    eventually(lambda: shared.pool(name)["readyReplicas"] == 1)


def test_one_that_speaks_at_once_is_heard(shared: House, name: str, health: Path) -> None:
    for ordinal in range(5):
        (health / f"{name}-{ordinal}.go").touch()
    shared.apply(name, worker("notify", health), replicas=5, template={"probes": {"startup": {"notify": "Systemd"}}})
    shared.ready(name, 5)


def test_fault_P31_one_that_never_speaks_is_stopped_when_its_time_is_over(
    shared: House, name: str, health: Path
) -> None:
    probes = {"startup": {"notify": "Systemd", "period": "500ms", "failureThreshold": 4}}
    shared.apply(name, worker("notify", health), template={"probes": probes})
    end = eventually(lambda: shared.worker(f"{name}-0").get("lastExit"))
    assert end["reason"] == "ProbeFailed"
    assert end["message"] == "startup probe failed: no READY=1 within 2s"
    (health / f"{name}-0.go").touch()
    shared.ready(name, 1, 30)


def test_a_silent_watchdog_restarts_the_worker(shared: House, name: str, health: Path) -> None:
    (health / f"{name}-0.go").touch()
    probes = {"liveness": {"notify": "Systemd", "period": "1s", "failureThreshold": 3}}
    shared.apply(name, worker("notify", health), template={"probes": probes})
    pid = shared.ready(name, 1)[f"{name}-0"]
    time.sleep(3.5)
    assert shared.pids(name) == {f"{name}-0": pid}, "it has spoken all the time"
    (health / f"{name}-0.go").unlink()
    eventually(lambda: not alive(pid), what="the end of the worker")
    end = eventually(lambda: shared.worker(f"{name}-0").get("lastExit"))
    assert end["reason"] == "ProbeFailed" and "WATCHDOG" in end["message"]


def test_fault_P29_nobody_speaks_for_another(shared: House, name: str, health: Path) -> None:
    shared.apply(name, worker("notify", health), template={"probes": {"readiness": {"notify": "Systemd"}}})
    eventually(lambda: shared.worker(f"{name}-0").get("state") == "Running")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stranger:
        stranger.sendto(b"READY=1", notify_path(shared, name))
    time.sleep(0.5)
    assert not shared.worker(f"{name}-0")["ready"]


def test_fault_P30_garbage_and_floods_are_borne(shared: House, name: str, health: Path) -> None:
    shared.apply(name, worker("notify", health), template={"probes": {"readiness": {"notify": "Systemd"}}})
    eventually(lambda: shared.worker(f"{name}-0").get("state") == "Running")
    path = notify_path(shared, name)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stranger:
        stranger.settimeout(0.2)
        for datagram in (b"", b"\0" * 100, b"\xff\n\nREADY=1x\nXREADY=1", b"READY=1\n" * 10_000, *[b"READY=1"] * 500):
            try:
                stranger.sendto(datagram, path)
            except OSError:
                continue
    assert shared.serving()
    assert not shared.worker(f"{name}-0")["ready"]
    (health / f"{name}-0.go").touch()
    shared.ready(name, 1)


def test_a_newline_on_its_descriptor_makes_a_worker_ready(shared: House, name: str, health: Path) -> None:
    sockets = [{"name": "web", "listen": str(health / "web.sock")}]
    template = {"sockets": sockets, "probes": {"startup": {"notify": "Newline", "failureThreshold": 100}}}
    shared.apply(name, worker("newline", health), template=template)
    pid = eventually(lambda: shared.worker(f"{name}-0").get("state") == "Starting" and shared.pids(name))[f"{name}-0"]
    told = {"NOTIFY_FD": "4", "LISTEN_FDS": "1", "LISTEN_FDNAMES": f"{name}/web"}
    assert told.items() <= environ_of(pid).items()
    assert shared.pool(name)["readyReplicas"] == 0
    (health / f"{name}-0.go").touch()
    assert shared.ready(name, 1) == {f"{name}-0": pid}


def test_fault_P28_a_descriptor_that_is_closed_without_a_word_is_no_word(
    shared: House, name: str, health: Path
) -> None:
    probes = {"startup": {"notify": "Newline", "period": "200ms", "failureThreshold": 3}}
    shared.apply(name, worker("newline", health, "close"), template={"probes": probes})
    end = eventually(lambda: shared.worker(f"{name}-0").get("lastExit"))
    assert end["message"] == "startup probe failed: no newline on NOTIFY_FD within 600ms"


def test_what_is_said_while_no_controller_lives_is_heard_by_the_next(house: House) -> None:
    house.up()
    house.apply("web", worker("notify", house.path), template={"probes": {"readiness": {"notify": "Systemd"}}})
    eventually(lambda: house.worker("web-0").get("state") == "Running")
    (house.path / "web-0.go").touch()
    house.kill_controller()
    house.ready("web", 1)
    pid = house.pids("web")
    house.kill_launcher()
    assert house.up().adopted == 1
    assert house.worker("web-0")["ready"] and house.pids("web") == pid


def notify_path(house: House, pool: str) -> str:
    """What the worker has been told."""
    return environ_of(house.pids(pool)[f"{pool}-0"])["NOTIFY_SOCKET"]
