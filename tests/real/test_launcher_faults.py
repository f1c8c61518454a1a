"""What may befall the launcher (FAULTS L*); kills at every instant are in test_crashes."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
from pathlib import Path

import pytest

from tests.real.house import House, alive, eventually, orphans_are_reaped, orphans_come_here, worker

FAST = {"backoff": {"initial": "50ms", "max": "100ms", "jitter": 0}}


def test_fault_L1_orphaned_workers_are_adopted_and_still_stopped_restarted_and_seen(house: House) -> None:
    house.manifest("web", worker("ledger"), replicas=3, restart=FAST)
    house.manifest("tree", worker("double-fork"))
    house.manifest("wiped", worker("wipe-environ"))
    house.up()
    before = house.living("web", 3) | house.ready("tree", 1) | house.ready("wiped", 1)
    eventually(lambda: house.ledger("wiped") and house.ledger("daemon"))
    with orphans_come_here():
        house.kill_launcher()
        os.kill(before["web-2"], signal.SIGKILL)
        os.waitpid(before["web-2"], 0)  # nobody can know how it ended
    again = house.up()
    assert (again.adopted, again.unknown) == (4, 1)
    now = house.living("web", 3) | house.ready("tree", 1) | house.ready("wiped", 1)
    assert {w for w in now if now[w] != before[w]} == {"web-2"}
    assert house.worker("web-2")["lastExit"]["reason"] == "ExitUnknown"

    os.kill(before["web-0"], signal.SIGKILL)  # no child of this launcher; nobody reaps it
    eventually(lambda: (s := house.worker("web-0"))["state"] == "Ready" and s["pid"] != before["web-0"])
    assert house.worker("web-0")["lastExit"]["signal"] == "SIGKILL"
    with orphans_are_reaped():
        house.kill_launcher()
        house.up()
        last = house.living("web", 3)["web-0"]
        os.kill(last, signal.SIGKILL)  # no child of this launcher; its parent reaps it at once
        eventually(lambda: (s := house.worker("web-0"))["state"] == "Ready" and s["pid"] != last)
        last_exit = house.worker("web-0")["lastExit"]
        assert (
            last_exit.get("signal") == "SIGKILL" or last_exit["reason"] == "ExitUnknown"
        )  # the kernel tells from 6.15
    house.down()
    assert house.processes() == {}
    house.assert_single()


def test_fault_L3_a_launcher_that_is_stopped_is_said_to_be_and_goes_on_later(house: House) -> None:
    house.manifest("web", worker("ledger"), restart=FAST)
    house.up()
    (pid,) = house.living("web", 1).values()
    controller = house.controller()
    house.signal(signal.SIGSTOP)
    try:
        os.kill(pid, signal.SIGKILL)
        eventually(
            lambda: any("launcher" in str(problem).lower() for problem in _status(house)["problems"]),
            what="the launcher's silence to be told",
        )
        assert house.controller() == controller
    finally:
        house.signal(signal.SIGCONT)
    eventually(lambda: (s := house.worker("web-0"))["state"] == "Ready" and s["pid"] != pid)
    eventually(lambda: not _status(house)["problems"])
    assert house.controller() == controller
    house.assert_single()


def _status(house: House) -> dict[str, list[str]]:
    return dict(house.api("GET", "/api/v1/status")[1])


def test_fault_L6_L7_a_launcher_that_dies_between_intent_and_record_starts_nobody_twice(house: House) -> None:
    house.manifest("web", worker("ledger"), replicas=3)
    for point in ("launcher.after-intent", "launcher.after-spawn"):
        house.start(env={"RECONCILER_CRASH_AT": f"{point}:1"})
        assert house.ended() == 137, house.output()
        house.up()
        pids = house.living("web", 3)
        assert sorted(pids.values()) == sorted(_holders(house)), point
        house.down()
    house.assert_single()


def _holders(house: House) -> list[int]:
    return [pid for pid, line in house.children().items() if "workers.py ledger" in line]


def test_fault_L7_an_intent_without_a_pid_is_found_though_its_environment_is_wiped(house: House) -> None:
    house.manifest("wiped", worker("wipe-environ"))
    house.start(env={"RECONCILER_CRASH_AT": "launcher.after-spawn:1"})
    assert house.ended() == 137, house.output()
    (line,) = eventually(lambda: house.ledger("wiped"))
    house.start()
    house.wait_said("ready: socket")
    status = eventually(lambda: (s := house.worker("wiped-0")).get("state") in ("Ready", "Unknown") and s)
    if status["state"] == "Ready":
        assert status["pid"] == line.pid
    else:  # it can neither be found nor proven dead: nothing is started in its place, and that is said
        assert house.api("GET", "/api/v1/status")[1]["problems"]
        os.kill(line.pid, signal.SIGKILL)
        house.living("wiped", 1)
    house.assert_single()


def test_fault_L8_strangers_are_never_touched(house: House) -> None:
    house.manifest("web", worker("double-fork"), replicas=2)
    house.up()
    house.living("web", 2)
    eventually(lambda: len(house.ledger("daemon")) == 2)
    instance = house.worker("web-0")["instance"]
    strangers = [
        subprocess.Popen(["/bin/sleep", "1000"], env={"RECONCILER_INSTANCE": "another.1"}, start_new_session=True),
        subprocess.Popen(["/bin/sleep", "1000"], env={"RECONCILER_INSTANCE": f"{instance}0"}, start_new_session=True),
        subprocess.Popen(["/bin/sleep", "1000"], env={"RECONCILER_POOL": "web", "RECONCILER_WORKER": "web-0"}),
    ]
    try:
        house.kill_launcher()
        house.up()
        house.down()
        assert house.processes() == {}
        assert all(alive(stranger.pid) for stranger in strangers)
    finally:
        for stranger in strangers:
            stranger.kill()
            stranger.wait()


def test_fault_P8_no_more_processes_allowed_backs_off_and_recovers(house: House, root: None) -> None:
    pids = Path("/sys/fs/cgroup/pids")
    if not (pids / "cgroup.procs").exists():
        pytest.skip("needs the pids controller of cgroup v1")
    cgroup = pids / f"test-{house.path.name}"
    house.up()
    cgroup.mkdir()
    launcher = house.launcher
    home = Path(f"/proc/{launcher}/cgroup").read_text().split(":pids:")[1].split("\n")[0]
    try:
        (cgroup / "cgroup.procs").write_text(str(launcher))
        (cgroup / "pids.max").write_text("1")
        house.apply("web", worker("ledger"), replicas=2, restart=FAST)
        message = house.failed_start("web-0")
        assert "resource temporarily unavailable" in message.lower(), message
        assert house.launcher == launcher and house.serving()
        (cgroup / "pids.max").write_text("max")
        workers = house.living("web", 2)
    finally:
        (cgroup / "pids.max").write_text("max")
        for pid in (cgroup / "cgroup.procs").read_text().split():
            with contextlib.suppress(OSError):
                (pids / home.strip("/") / "cgroup.procs").write_text(pid)
        eventually(lambda: cgroup.rmdir() or True, what="the cgroup to be empty")
    assert all(alive(pid) for pid in workers.values())


def test_fault_P9_L12_a_launcher_without_descriptors_still_stops_and_reaps(house: House) -> None:
    house.up()
    house.apply("web", worker("ledger"), replicas=2, restart=FAST)
    before = house.living("web", 2)
    limits = resource.prlimit(house.launcher, resource.RLIMIT_NOFILE)
    looks = [{int(fd) for fd in os.listdir(f"/proc/{house.launcher}/fd")} for _ in range(100)]
    first_free = next(fd for fd in range(limits[0]) if fd not in set.intersection(*looks))  # some it has for a moment
    try:
        resource.prlimit(house.launcher, resource.RLIMIT_NOFILE, (first_free, limits[1]))
        house.apply("more", worker("ledger"), restart=FAST)
        assert "too many open files" in house.failed_start("more-0").lower()
        house.apply("web", worker("ledger"), replicas=1, restart=FAST)
        eventually(lambda: not alive(before["web-1"]), what="a stop without descriptors")
        eventually(lambda: "web-1" not in house.workers("web"))
        assert alive(before["web-0"])
    finally:
        resource.prlimit(house.launcher, resource.RLIMIT_NOFILE, limits)
    house.living("more", 1)
    house.kill_controller()
    house.assert_single()


def test_sigterm_with_a_dead_controller_still_stops_everything(house: House) -> None:
    house.manifest("web", worker("ledger"), replicas=2, grace="1m")
    house.manifest("deaf", worker("ignore-term"), grace="500ms")
    house.up()
    eventually(lambda: len(house.ledger("start")) == 3)
    os.kill(house.controller(), signal.SIGSTOP)  # it will not answer
    os.kill(house.controller(), signal.SIGKILL)
    house.signal(signal.SIGTERM)
    assert house.ended(60) == 0
    assert house.processes() == {}
    assert len(house.ledger("stop")) == 2
