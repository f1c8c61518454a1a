"""preStop of real workers: before the signal, whoever stops them and whoever dies meanwhile."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tests.real.house import House, eventually

SERVE = ["sh", "-c", 'exec 2>/dev/null; trap "echo asked; exit 0" TERM; echo serves; while :; do sleep 0.02; done']


def drain(directory: Path, script: str) -> dict[str, object]:
    """A stop with a command that writes down what it does."""
    text = f"echo begins >>{directory}/drain; {script}; echo drained >>{directory}/drain; echo drained"
    return {"stop": {"gracePeriod": "2m", "preStop": {"exec": {"command": ["sh", "-c", text]}}}}


def said(directory: Path) -> list[str]:
    path = directory / "drain"
    return path.read_text().split() if path.exists() else []


def events(house: House, name: str) -> list[str]:
    return [event["reason"] for event in house.events(f"worker/{name}-0")]


def waits_for(path: Path) -> str:
    return f"while [ ! -e {path} ]; do sleep 0.02; done"


def test_it_runs_once_though_the_controller_dies_in_the_middle(house: House) -> None:
    house.up()
    go = house.path / "go"
    house.apply("web", SERVE, template=drain(house.path, waits_for(go)))
    (pid,) = house.ready("web", 1).values()
    eventually(lambda: house.cli("logs", "worker/web-0").stdout == "serves\n")
    assert house.cli("stop", "pool/web").returncode == 0
    eventually(lambda: said(house.path) == ["begins"])
    house.kill_controller()
    eventually(house.serving)
    os.kill(pid, 0)
    go.touch()
    eventually(lambda: house.worker("web-0")["state"] == "Pending", what="the stop to be over")
    assert said(house.path) == ["begins", "drained"]
    assert house.cli("logs", "worker/web-0").stdout.split() == ["serves", "drained", "asked"]
    assert "PreStopFailed" not in events(house, "web")
    assert "preStop, SIGTERM, and SIGKILL after 2m" in house.cli("why", "worker/web-0").stdout


def test_its_failure_is_an_event_and_no_hindrance(house: House) -> None:
    house.up()
    house.apply("web", SERVE, template=drain(house.path, "exit 7"))
    house.apply("bad", SERVE, template={"stop": {"preStop": {"exec": {"command": ["/nowhere/drain"]}}}})
    house.ready("web", 1)
    house.ready("bad", 1)
    for name, words in (("web", "preStop: exit code 7; the stop goes on"), ("bad", "/nowhere/drain")):
        assert house.cli("stop", f"pool/{name}").returncode == 0
        eventually(lambda: house.worker(f"{name}-0")["state"] == "Pending")  # noqa: B023
        (message,) = [e["message"] for e in house.events(f"worker/{name}-0") if e["reason"] == "PreStopFailed"]
        assert words in message
        assert house.worker(f"{name}-0")["lastExit"]["reason"] == "Stopped"


def test_down_waits_for_it(house: House) -> None:
    house.up()
    house.apply("web", SERVE, template=drain(house.path, "sleep 0.3"))
    house.ready("web", 1)
    house.signal(signal.SIGTERM)
    assert house.ended() == 0
    assert said(house.path) == ["begins", "drained"]
