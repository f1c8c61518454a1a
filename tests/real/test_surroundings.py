"""Surroundings that are not as one would wish: a controller that stands still, frozen cgroups, no logs, no HOME."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real.house import House, alive, eventually, worker


def test_fault_C7_a_controller_that_stands_still_costs_no_worker_and_says_so(house: House) -> None:
    house.manifest("web", worker("ledger"), replicas=2)
    house.up()
    pids = house.living("web", 2)
    controller = house.controller()
    os.kill(controller, signal.SIGSTOP)
    try:
        os.kill(pids["web-1"], signal.SIGKILL)
        time.sleep(4)  # the length of the stall is the point, not a wait
        assert alive(pids["web-0"])
    finally:
        os.kill(controller, signal.SIGCONT)

    again = eventually(lambda: house.pids("web").get("web-1") not in (None, pids["web-1"]) and house.pids("web"))
    assert again["web-0"] == pids["web-0"]
    assert house.controller() == controller, "a stall is no death"
    eventually(lambda: len(house.ledger("start", "web-1")) == 2)
    said = eventually(lambda: [one for one in house.events("daemon/reconciler") if one["reason"] == "Stalled"])
    assert said[0]["type"] == "Warning" and "stood still for" in said[0]["message"]


def test_fault_P15_a_worker_in_a_frozen_cgroup_is_ended_all_the_same(house: House) -> None:
    house.manifest("web", worker("ledger"), grace="500ms")
    house.up()
    pid = house.living("web", 1)["web-0"]
    leaf = next((path for path in house.cgroup_leaves() if os.path.exists(f"{path}/cgroup.freeze")), None)
    if leaf is None:
        pytest.skip("needs a cgroup v2 below which the launcher may make cgroups")
    Path(leaf, "cgroup.freeze").write_text("1")
    eventually(lambda: "frozen 1" in Path(leaf, "cgroup.events").read_text())

    house.manifest("web", worker("ledger"), grace="500ms", replicas=0)

    eventually(lambda: house.workers("web") == {})
    assert not alive(pid)
    eventually(lambda: leaf not in house.cgroup_leaves())


@pytest.fixture
def small_logs(house: House) -> Iterator[Path]:
    """A directory of logs in which two hundred files have room."""
    if os.geteuid() != 0:
        pytest.skip("needs root to mount")
    logs = house.state / "logs"
    logs.mkdir(parents=True, mode=0o700)
    house.state.chmod(0o700)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "nr_inodes=200", "tmpfs", logs], capture_output=True).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    try:
        yield logs
    finally:
        house.down()
        subprocess.run(["umount", "-l", logs], check=True)


def test_fault_C36_without_room_for_logs_what_runs_runs_on_and_a_start_says_why_it_fails(
    house: House, small_logs: Path
) -> None:
    house.manifest("web", worker("ledger"))
    house.up()
    pid = house.living("web", 1)["web-0"]
    filled = [small_logs / f"filler-{number}" for number in range(200)]
    with contextlib.suppress(OSError):
        for path in filled:
            path.touch()

    house.manifest("late", worker("ledger"))

    end = eventually(lambda: house.worker("late-0").get("lastExit"))
    assert (end["reason"], end["type"], end["step"]) == ("StartFailed", "ResourcesExhausted", "log"), end
    assert house.pids("web")["web-0"] == pid
    eventually(lambda: "the disk is full" in house.cli("status").stdout)
    for path in filled:
        path.unlink(missing_ok=True)
    eventually(lambda: house.worker("late-0").get("state") == "Ready", 60)


def test_fault_C37_without_home_or_locale_and_with_nothing_open_it_works(house: House) -> None:
    house.manifest("web", worker("ledger"))
    closed = ["sh", "-c", 'unset HOME TMPDIR LANG LC_ALL PYTHONUTF8; export LC_ALL=C; exec "$@" <&- >&-', "sh"]

    house.up(wrapper=closed)

    house.living("web", 1)
    assert house.cli("status").returncode in (0, 1)
    assert house.cli("get", "workers").stdout.startswith("NAME")
