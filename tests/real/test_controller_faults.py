"""What may befall the controller (FAULTS C*); kills at every instant are in test_crashes."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.real.house import House, alive, cpu_s, eventually, new_house, worker

FAST = {"backoff": {"initial": "50ms", "max": "100ms", "jitter": 0}}


def test_fault_C2_a_start_whose_answer_was_lost_happens_once(house: House) -> None:
    for pool in ("one", "two", "three"):
        house.manifest(pool, worker("ledger"))
    house.start(env={"RECONCILER_CRASH_AT": "controller.after-send:1"})
    for pool in ("one", "two", "three"):
        house.living(pool, 1)
    assert len(house.ledger("start")) == 3
    house.assert_single()


@pytest.mark.parametrize("slow_s", [1.5])
def test_fault_C3_a_graceful_stop_goes_on_when_the_controller_dies_in_it(house: House, slow_s: float) -> None:
    house.manifest("slow", worker("slow-exit", slow_s), replicas=2, grace="1m")
    house.manifest("deaf", worker("ignore-term"), grace="3s")
    house.up()
    eventually(lambda: len(house.ledger("start")) == 3)
    house.signal(signal.SIGTERM)
    eventually(lambda: house.ledger("term"), what="the stop to begin")
    os.kill(house.controller(), signal.SIGKILL)
    assert house.ended(60) == 0
    assert house.processes() == {}
    assert len(house.ledger("stop")) == 2 and len(house.ledger("start")) == 3


def test_fault_C4_a_second_sigterm_hurries(house: House) -> None:
    house.manifest("deaf", worker("ignore-term"), grace="1h")
    house.up()
    eventually(lambda: house.ledger("start"))
    house.signal(signal.SIGTERM)
    eventually(lambda: house.ledger("term"))
    assert house.running
    house.signal(signal.SIGINT)
    assert house.ended() == 0
    assert house.processes() == {}


def test_fault_C4_C5_signals_at_any_moment_of_the_start_leave_nothing(house: House) -> None:
    house.manifest("web", worker("ledger"), replicas=2)
    for delay_s in (0.0, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8):
        house.start()
        time.sleep(delay_s)  # the moment is the point, not a wait
        house.signal(signal.SIGTERM)
        code = house.ended()
        assert code in (0, -signal.SIGTERM), house.output()
        eventually(lambda: house.processes() == {}, what="an empty house")
        assert "Traceback" not in house.output(), house.output()
    house.assert_single()
    house.up()
    house.living("web", 2)
    for _ in range(50):
        house.signal(signal.SIGHUP)
    assert house.get("pools", "web")
    eventually(lambda: house.pool("web")["readyReplicas"] == 2)


def test_fault_C6_C13_a_controller_that_dies_of_anything_is_replaced_and_workers_stay(house: House) -> None:
    house.manifest("web", worker("ledger"), replicas=2)
    house.up()
    before = house.living("web", 2)
    for signo in (signal.SIGABRT, signal.SIGSEGV, signal.SIGKILL, signal.SIGTERM):
        old = house.kill_controller(signo)
        eventually(lambda old=old: house.controller() != old and house.serving(), 30, f"a new one after {signo!r}")
    assert house.pids("web") == before
    assert len(house.ledger("start")) == 2
    assert house.api("GET", "/api/v1/status")[1]["controller"]["restarts"] == 4
    os.kill(before["web-0"], signal.SIGKILL)
    eventually(lambda: house.pids("web").get("web-0") not in (None, before["web-0"]))


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of 4 MiB."""
    if os.geteuid() != 0:
        pytest.skip("needs root to mount")
    path = Path(tempfile.mkdtemp(prefix="small-"))
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", path], capture_output=True).returncode:
        path.rmdir()
        pytest.skip("needs the right to mount a tmpfs")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", path], check=True)
        path.rmdir()


def test_fault_C8_a_full_disk_refuses_tasks_keeps_workers_and_passes(small_disk: Path) -> None:
    with new_house() as house:
        house.state = small_disk / "state"
        house.manifest("web", worker("ledger"), restart=FAST)
        house.manifest("batch", replicas=2)
        house.up()
        before = house.living("web", 1)
        done = house.submit("batch", worker("task", 0))
        assert house.task_ended(done)["state"] == "Succeeded"

        filler = small_disk / "filler"

        def refused() -> bool:
            fill(filler)
            tasks = [{"command": ["/bin/true", "x" * 10_000]}] * 20
            status, answer = house.api("POST", "/api/v1/pools/batch/tasks", tasks)
            if status == 201:
                return False
            assert status in (503, 507), (status, answer)
            assert "full" in json.dumps(answer).lower(), answer
            return True

        eventually(refused, 30, "a refusal")
        assert house.pids("web") == before and alive(before["web-0"])
        assert house.serving() or house.get("pools", "web")
        assert house.cli("status").returncode in (0, 1)
        assert house.running
        filler.unlink()

        def accepted() -> str | None:
            status, answer = house.api("POST", "/api/v1/pools/batch/tasks", {"command": worker("task", 0)})
            if status != 201:
                return None
            return str((answer[0] if isinstance(answer, list) else answer)["metadata"]["name"])

        again = eventually(accepted, 30, "tasks to be taken again")
        assert house.task_ended(again)["state"] == "Succeeded"
        assert house.pids("web") == before
        assert house.task(done)["state"] == "Succeeded"
        house.assert_single()
        house.down()


def fill(path: Path) -> None:
    """Writes until nothing more fits."""
    with open(path, "ab", buffering=0) as filler:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while True:
                    filler.write(b"\0" * size)
            except OSError:
                continue


def test_fault_C12_a_controller_without_descriptors_recovers(house: House) -> None:
    house.manifest("web", worker("ledger"), restart=FAST)
    house.up()
    (pid,) = house.living("web", 1).values()
    controller = house.controller()
    limits = resource.prlimit(controller, resource.RLIMIT_NOFILE)
    resource.prlimit(controller, resource.RLIMIT_NOFILE, (3, limits[1]))
    try:
        waiting = [socket.socket(socket.AF_UNIX) for _ in range(5)]
        for client in waiting:
            client.connect(str(house.state / "run" / "api.sock"))
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: len(house.ledger("start")) == 2, what="a restart without descriptors")
        before, began = cpu_s(controller), time.monotonic()
        time.sleep(0.5)  # a span to measure processor time over
        assert cpu_s(controller) - before < 0.8 * (time.monotonic() - began), "it spins"
        for client in waiting:
            client.close()
    finally:
        resource.prlimit(controller, resource.RLIMIT_NOFILE, limits)
    eventually(house.serving)
    assert house.controller() == controller
    house.living("web", 1)
    house.assert_single()


SHIFT = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
static long shift(void) {
    char text[32] = {0};
    const char *path = getenv("CLOCK_SHIFT_FILE");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0) return 0;
    if (read(fd, text, sizeof text - 1) < 0) text[0] = 0;
    close(fd);
    return atol(text);
}
int clock_gettime(clockid_t id, struct timespec *ts) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int rc = real(id, ts);
    if (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE) ts->tv_sec += shift();
    return rc;
}
time_t time(time_t *out) { struct timespec ts; clock_gettime(CLOCK_REALTIME, &ts); if (out) *out = ts.tv_sec; return ts.tv_sec; }
int gettimeofday(struct timeval *tv, void *zone) {
    struct timespec ts; clock_gettime(CLOCK_REALTIME, &ts);
    tv->tv_sec = ts.tv_sec; tv->tv_usec = ts.tv_nsec / 1000; return 0;
}
"""


def test_fault_C14_a_wall_clock_that_jumps_ten_years_moves_no_wait(house: House) -> None:
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc to shift the clock of one process")
    (house.path / "shift.c").write_text(SHIFT)
    library, shift = house.path / "shift.so", house.path / "shift"
    subprocess.run(
        ["gcc", "-shared", "-fPIC", "-o", library, house.path / "shift.c", "-ldl"], check=True, capture_output=True
    )
    shift.write_text("0")
    backoff = {"initial": "400ms", "max": "400ms", "jitter": 0}
    house.manifest("web", worker("ledger"))
    house.manifest("loop", worker("exit-n", 1), restart={"backoff": backoff})
    house.manifest("batch", replicas=2)
    house.up(env={"LD_PRELOAD": str(library), "CLOCK_SHIFT_FILE": str(shift)})
    before = house.living("web", 1)
    for years in (10, -10):
        seen = len(house.ledger("start", "loop-0"))
        (house.path / "shift.new").write_text(str(years * 365 * 86400))
        (house.path / "shift.new").rename(shift)
        starts = house.starts("loop-0", seen + 3)[-2:]
        assert 0.35 <= starts[1].at - starts[0].at < 30, f"a jump of {years} years moved a restart"
        id_ = house.submit("batch", worker("task", 0), timeout="30s")
        status = house.task_ended(id_)
        assert (status["state"], status["attempts"]) == ("Succeeded", 1)
        assert house.pids("web") == before
    house.kill_controller()  # the next one sees another time of day than its records
    (house.path / "shift.new").write_text(str(-3600))
    (house.path / "shift.new").rename(shift)
    seen = len(house.ledger("start", "loop-0"))
    house.starts("loop-0", seen + 2)
    assert house.living("web", 1) == before
    house.assert_single()


def test_fault_C14_C15_the_monotonic_clock_of_another_life_means_nothing(house: House, root: None) -> None:
    if subprocess.run(["unshare", "-T", "--fork", "true"], capture_output=True).returncode:
        pytest.skip("needs time namespaces")
    backoff = {"initial": "300ms", "max": "300ms", "jitter": 0}
    house.manifest("web", worker("ledger"), replicas=2)
    house.manifest("loop", worker("exit-n", 1), restart={"backoff": backoff})
    house.up()
    before = house.living("web", 2)
    house.kill_launcher()
    seen = len(house.ledger("start", "loop-0"))
    shifted = ["unshare", "-T", "--monotonic", "8640000", "--boottime", "8640000"]
    house.up(wrapper=shifted)  # without --fork the children of unshare are in the namespace, itself is not
    assert house.pids("web") == before
    house.starts("loop-0", seen + 2)
    house.assert_single()


def test_fault_C16_after_a_reboot_nothing_is_believed_to_run(house: House, root: None) -> None:
    if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        pytest.skip("needs mount namespaces")
    house.manifest("web", worker("ledger"), replicas=2)
    house.manifest("batch", replicas=2)
    house.up()
    before = house.living("web", 2)
    once = house.submit("batch", worker("task", 0, 1000), maxAttempts=1, onUnknown="Fail")
    again = house.submit("batch", ["/bin/sh", "-c", "[ $RECONCILER_ATTEMPT = 2 ] || exec sleep 1000"])
    for id_ in (once, again):
        eventually(lambda id_=id_: house.task(id_).get("pid"))
    pids = [*before.values(), *(house.task(id_)["pid"] for id_ in (once, again))]
    house.kill_launcher()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)  # as a reboot would
    eventually(lambda: not any(alive(pid) for pid in pids))

    def emptied() -> bool:
        for leaf in house.cgroup_leaves():
            os.rmdir(leaf)  # what has ended may be there for a moment more
        return True

    eventually(emptied)

    boot_id = house.path / "boot_id"
    boot_id.write_text("00000000-1111-2222-3333-444444444444\n")
    boot_id.chmod(0o444)
    mount = f'mount --bind {boot_id} /proc/sys/kernel/random/boot_id && exec "$0" "$@"'
    again_up = house.up(wrapper=["unshare", "-m", "sh", "-c", mount])
    assert again_up.adopted == 0 and again_up.started == 2
    after = house.living("web", 2)
    assert not set(after.values()) & set(before.values())
    assert {s["lastExit"]["reason"] for s in house.workers("web").values()} == {"HostRebooted"}
    status = house.task_ended(once)
    assert (status["state"], status["reason"]) == ("Unknown", "HostRebooted")
    # the backoff of a retry does not concern us here: its second try is scheduled
    assert house.task(again)["attempts"] >= 1 and house.task(again)["state"] in ("Retrying", "Running", "Succeeded")
    house.assert_single()


def test_fault_C21_a_second_daemon_waits_then_names_the_holder_and_changes_nothing(house: House) -> None:
    house.manifest("web", worker("ledger"))
    house.up()
    before = house.living("web", 1)
    began = time.monotonic()
    second = house.cli("up", str(house.manifests), "--state", str(house.state))
    assert second.returncode == 5, second
    assert str(house.launcher) in second.stderr and "Traceback" not in second.stderr
    assert time.monotonic() - began >= 4.5
    assert house.living("web", 1) == before
    assert house.serving()


def test_fault_C24_C25_the_socket_comes_back_and_stale_ones_do_not_matter(house: House) -> None:
    run = house.state / "run"
    run.mkdir(parents=True, mode=0o700)
    house.state.chmod(0o700)
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(run / "api.sock"))
    stale.close()
    house.manifest("web", worker("ledger"))
    house.up()
    house.living("web", 1)
    assert house.serving()
    (run / "api.sock").unlink()
    eventually(house.serving, what="the socket to come back")
    assert oct((run / "api.sock").stat().st_mode & 0o777) == "0o600"
    assert oct(run.stat().st_mode & 0o777) == "0o700"


def test_fault_C25_a_path_too_long_for_a_socket_is_an_early_error(house: House) -> None:
    house.state = house.path / ("x" * 120)
    house.start()
    assert house.ended() not in (0, None)
    assert "107" in house.output() and "Traceback" not in house.output()


def test_fault_C26_a_foreign_file_or_a_symlink_in_the_sockets_place_is_refused(house: House) -> None:
    run = house.state / "run"
    run.mkdir(parents=True, mode=0o700)
    house.state.chmod(0o700)
    (run / "api.sock").write_text("mine")
    house.start()
    assert house.ended() != 0
    assert "api.sock" in house.output() and "Traceback" not in house.output()
    assert (run / "api.sock").read_text() == "mine"

    shutil.rmtree(run)
    elsewhere = house.path / "elsewhere"
    elsewhere.mkdir()
    run.symlink_to(elsewhere)
    house.start()
    assert house.ended() != 0
    assert "Traceback" not in house.output()
    assert list(elsewhere.iterdir()) == []


def test_fault_C27_a_controller_that_meets_too_old_a_launcher_says_so_and_touches_nothing(house: House) -> None:
    house.manifest("web", worker("ledger"))
    ours, its = socket.socketpair()
    api = socket.socket(socket.AF_UNIX)
    house.state.mkdir(mode=0o700)
    (house.state / "run").mkdir(mode=0o700)
    api.bind(str(house.state / "run" / "api.sock"))
    api.listen(5)
    controller = subprocess.Popen(
        [sys.executable, "-m", "reconciler.daemon", "--state", str(house.state), str(house.manifests)],
        env={**os.environ, "RECONCILER_LAUNCHER_FD": str(its.fileno()), "RECONCILER_API_FD": str(api.fileno())},
        pass_fds=(its.fileno(), api.fileno()),
        stderr=subprocess.PIPE,
        text=True,
    )
    its.close()
    about = {"pid": 1, "startedAt": 0, "bootId": "x", "controllerRestarts": 0, "containment": "none", "api": ""}
    body = json.dumps([["hello", 0, about]]).encode()
    ours.sendall(struct.pack("<I", len(body)) + body)
    try:
        _, stderr = controller.communicate(timeout=60)
    finally:
        controller.kill()
        api.close()
    assert controller.returncode == 78  # the launcher does not try again
    assert "version 0" in stderr and "reconciler up" in stderr and "Traceback" not in stderr, stderr
    ours.settimeout(30)
    received = b""
    while chunk := ours.recv(65536):
        received += chunk
    ours.close()
    assert b'"spawn"' not in received and b'"signal"' not in received
    assert house.ledger() == []


def test_fault_C32_many_changes_at_once_do_not_deafen_the_daemon(house: House) -> None:
    def write(label: str) -> None:
        documents: list[Any] = []
        for number in range(300):
            pool = house.pool_manifest(f"pool-{number}", ["/bin/sleep", "1000"], replicas=0)
            pool["metadata"]["labels"] = {"round": label}
            pool["spec"]["replicas"] = 1 if number == 7 else 0
            documents.append(pool)
        house.write("many.yaml", "\n---\n".join(json.dumps(document) for document in documents))

    write("first")
    house.up(deadline_s=60)
    before = house.ready("pool-7", 1)
    write("second")
    slowest, controller = 0.0, house.controller()

    def changed() -> bool:
        nonlocal slowest
        began = cpu_s(controller)
        found = house.get("pools", "pool-299")
        slowest = max(slowest, cpu_s(controller) - began)
        return bool(found["metadata"]["labels"] == {"round": "second"})

    eventually(changed)
    assert slowest < 2.0, f"it worked for {slowest:.2f} s before it gave an answer"
    assert house.ready("pool-7", 1) == before
