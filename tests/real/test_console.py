"""Workers whose output goes to the standard output of `up`: each line with its worker's name before it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real.house import House, eventually

SPEAKS = 'i=0; while true; do i=$((i+1)); echo "$RECONCILER_WORKER says $i"; sleep 0.05; done'


def numbers(house: House, worker: str) -> list[int]:
    return [int(number) for number in re.findall(rf"^{worker}: {worker} says (\d+)\n", house.output(), re.M)]


def test_lines_come_whole_and_in_order_with_their_workers_name(house: House) -> None:
    logs = {"logs": {"destination": "Stdout", "maxSize": "4Ki"}}
    house.manifest("web", ["sh", "-c", SPEAKS], replicas=2, template=logs)
    house.manifest("quiet", ["sh", "-c", SPEAKS])
    house.up()
    for worker in ("web-0", "web-1"):
        eventually(lambda: len(numbers(house, worker)) >= 30, what=f"lines of {worker}")  # noqa: B023
        seen = numbers(house, worker)
        assert seen == list(range(1, len(seen) + 1))
    assert "quiet-0:" not in house.output()
    assert "web-0 says 1\n" in house.cli("logs", "worker/web-0").stdout

    house.kill_controller()
    eventually(house.serving)
    before = len(numbers(house, "web-0"))
    eventually(lambda: len(numbers(house, "web-0")) > before + 10)
    assert len(set(numbers(house, "web-0"))) == len(numbers(house, "web-0")), "nothing is shown twice"


def test_since_begins_at_the_lines_of_that_time(house: House) -> None:
    go = house.path / "go"
    house.manifest("web", ["sh", "-c", f"echo before; until test -e {go}; do sleep 0.05; done; echo after; sleep 1000"])
    house.up()
    eventually(lambda: house.cli("logs", "worker/web-0").stdout == "before\n")
    old = time.monotonic()
    eventually(lambda: time.monotonic() - old > 8.0)  # so that it was looked at, and is older than what comes
    gone = time.monotonic()
    go.touch()
    eventually(lambda: house.cli("logs", "worker/web-0").stdout == "before\nafter\n")

    def since() -> str | None:
        asked = time.monotonic()
        found: str = house.api("GET", f"/api/v1/workers/web-0/logs?since={asked - gone + 7:.0f}s")[1]
        return found if time.monotonic() - asked < 5 else None  # else it may have been answered for a later moment

    assert eventually(since) == "after\n"
    assert house.cli("logs", "worker/web-0", "--since", "1h").stdout == "before\nafter\n"
    assert house.cli("logs", "worker/web-0", "--since", "1h", "--tail", "1").stdout == "after\n"


def test_lines_for_the_journal_are_entries_and_wait_in_their_file_while_there_is_none(house: House) -> None:
    path = house.path / "journal"
    house.manifest("web", ["sh", "-c", SPEAKS], template={"logs": {"destination": "Journal"}})
    house.up(env={"RECONCILER_JOURNAL_SOCKET": str(path)})
    said = eventually(
        lambda: [p for p in json.loads(house.cli("status", "-o", "json").stdout)["problems"] if "journal" in p]
    )
    assert "it stands in its file" in said[0]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journald:
        journald.bind(str(path))
        journald.settimeout(30)
        for number in range(1, 20):
            assert b"web-0 says %d\n" % number in journald.recv(4096)
        assert b"RECONCILER_WORKER" in journald.recv(4096)
        journald.setblocking(False)

        def taken() -> bool:
            with contextlib.suppress(BlockingIOError):
                while journald.recv(4096):  # who does not read it keeps the next lines from being taken
                    pass
            return "journal" not in house.cli("status").stdout

        eventually(taken)
    assert "web-0 says 1\n" in house.cli("logs", "worker/web-0").stdout


@pytest.fixture
def journald(house: House) -> Iterator[Path]:
    """The real one, with a /run of its own; where that is."""
    program = next(
        (
            path
            for path in ("/lib/systemd/systemd-journald", "/usr/lib/systemd/systemd-journald")
            if os.access(path, os.X_OK)
        ),
        "",
    )
    if not program or shutil.which("journalctl") is None:
        pytest.skip("needs systemd-journald and journalctl")
    if os.geteuid() or subprocess.run(["unshare", "--mount", "true"], capture_output=True, timeout=30).returncode:
        pytest.skip("needs a mount namespace of its own, to have a journald in it")
    run = house.path / "journald"
    (run / "log" / "journal").mkdir(parents=True)
    (run / "systemd" / "journal").mkdir(parents=True)
    script = 'mount --bind "$0" /run && exec "$1"'
    with open(house.path / "journald.out", "wb") as out:
        daemon = subprocess.Popen(["unshare", "--mount", "sh", "-c", script, str(run), program], stdout=out, stderr=out)
    try:
        eventually((run / "systemd/journal/socket").exists)
        yield run
    finally:
        daemon.terminate()
        daemon.wait(30)


def test_a_real_journald_has_the_lines_with_their_priority_and_worker(house: House, journald: Path) -> None:
    house.manifest(
        "web", ["sh", "-c", f"echo '<4>slow answer'; {SPEAKS}"], template={"logs": {"destination": "Journal"}}
    )
    house.up(env={"RECONCILER_JOURNAL_SOCKET": str(journald / "systemd/journal/socket")})
    instance = house.worker("web-0")["instance"]
    read = ["journalctl", "-D", str(journald / "log/journal"), "-o", "json", f"RECONCILER_INSTANCE={instance}"]

    def lines() -> list[dict[str, str]]:
        # while journald writes the file, what is at its end may not be readable yet
        found = subprocess.run(read, capture_output=True, text=True, timeout=30).stdout
        return [json.loads(line) for line in found.splitlines()]

    found = eventually(lambda: len(shown := lines()) > 2 and shown)

    assert [line["MESSAGE"] for line in found[:3]] == ["slow answer", "web-0 says 1", "web-0 says 2"]
    assert [line["PRIORITY"] for line in found[:3]] == ["4", "6", "6"]
    assert {(line["RECONCILER_POOL"], line["RECONCILER_WORKER"], line["SYSLOG_IDENTIFIER"]) for line in found} == {
        ("web", "web-0", "web")
    }
    assert found[0]["SYSLOG_PID"] == str(house.worker("web-0")["pid"])
