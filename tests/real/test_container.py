"""The daemon as PID 1 of a container, in a PID namespace of its own; and under whoever listens on NOTIFY_SOCKET."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from tests.real.house import House, children_of, eventually

UNSHARE = ["unshare", "--pid", "--fork", "--mount-proc"]


@pytest.fixture
def own_pids() -> None:
    """Skips where no PID namespace may be made."""
    done = subprocess.run([*UNSHARE, "true"], capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"needs a PID namespace: {done.stderr.strip()}")


def states(parent: int) -> dict[int, str]:
    """Command (or its state, where it has none) of each child."""
    found = {}
    for pid in children_of(parent):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # reaped since
            found[pid] = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return found


def test_fault_L15_as_pid_1_it_reaps_strangers_and_ends_all_at_sigterm(own_pids: None, house: House) -> None:
    orphans = "for i in 1 2 3; do (setsid sh -c 'sleep 0.2; exit 3' &) ; done; exec sleep 1000"
    house.manifest("web", ["sh", "-c", orphans], replicas=2)
    house.up(wrapper=UNSHARE)
    house.ready("web", 2)
    launcher = children_of(house.launcher)[0]
    inside = [line for line in Path(f"/proc/{launcher}/status").read_text().splitlines() if line.startswith("NSpid")]
    assert inside[0].split()[-1] == "1"
    # the controller and two workers stay; whatever the kernel gave to pid 1 is reaped
    eventually(lambda: len(found := states(launcher)) == 3 and "Z" not in found.values() and found)

    # a signal without a handler does nothing to a pid 1: those that mean something have one
    os.kill(launcher, signal.SIGHUP)
    eventually(house.serving)
    os.kill(launcher, signal.SIGTERM)
    assert house.ended() == 0
    assert not house.processes()


def test_whoever_started_it_is_told_when_it_serves_and_when_it_ends(house: House) -> None:
    path = house.path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(path))
        listener.settimeout(30)
        house.manifest("web", ["sh", "-c", "env > $LEDGER/new; mv $LEDGER/new $LEDGER/env; exec sleep 1000"])
        house.up(env={"NOTIFY_SOCKET": str(path)})
        assert listener.recv(100) == b"READY=1"
        house.ready("web", 1)
        written = eventually(lambda: "LEDGER=" in (env := (house.path / "env").read_text()) and env)
        assert "NOTIFY_SOCKET" not in written
        house.down()
        assert listener.recv(100) == b"STOPPING=1"
