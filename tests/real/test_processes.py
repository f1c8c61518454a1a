"""Processes that behave badly, one pool each in a shared house (FAULTS P*)."""

from __future__ import annotations

import json
import os
import pwd
import signal
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.proc import sleeper_with_pid
from tests.real.house import (
    House,
    alive,
    children_of,
    eventually,
    open_descriptors,
    processes_of,
    resident_bytes,
    threads_state,
    worker,
)

FAST = {"backoff": {"initial": "50ms", "max": "100ms", "jitter": 0}}
SLOW = {"backoff": {"initial": "1h", "max": "1h"}}
NEVER = {"policy": "Never"}


def executable(path: Path, content: str | bytes, mode: int = 0o755) -> str:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    path.chmod(mode)
    return str(path)


# --- starts that fail ---


def test_fault_P1_a_missing_program_is_named(shared: House, name: str) -> None:
    shared.apply(name, ["/nowhere/program"], restart=SLOW)
    message = shared.failed_start(f"{name}-0")
    assert "/nowhere/program" in message and "no such file" in message.lower()


def test_fault_P1_a_crlf_shebang_hints_at_the_interpreter(shared: House, name: str) -> None:
    script = executable(shared.path / "crlf", "#!/bin/sh\r\nexit 0\r\n")
    shared.apply(name, [script], restart=SLOW)
    message = shared.failed_start(f"{name}-0")
    assert script in message and "interpreter" in message and "CRLF" in message


def test_fault_P2_a_missing_working_directory_is_told_from_a_missing_program(shared: House, name: str) -> None:
    shared.apply(name, ["/bin/true"], template={"workingDir": "/nowhere/at-all"}, restart=SLOW)
    assert "/nowhere/at-all" in shared.failed_start(f"{name}-0")
    assert any("BadWorkdir" in f"{event['reason']} {event['message']}" for event in shared.events(f"worker/{name}-0"))


def test_fault_P3_a_program_that_may_not_be_executed(shared: House, name: str) -> None:
    shared.apply(name, [executable(shared.path / "plain", "#!/bin/sh\n", 0o644)], restart=SLOW)
    assert "permission denied" in shared.failed_start(f"{name}-0").lower()


def test_fault_P3_a_directory_is_not_a_program(shared: House, name: str) -> None:
    (shared.path / "directory").mkdir(exist_ok=True)
    shared.apply(name, [str(shared.path / "directory")], restart=SLOW)
    assert "permission denied" in shared.failed_start(f"{name}-0").lower()


def test_fault_P4_a_file_that_is_no_program(shared: House, name: str) -> None:
    shared.apply(name, [executable(shared.path / "noexec", b"\x00\x01\x02 not a program")], restart=SLOW)
    assert "format" in shared.failed_start(f"{name}-0").lower()


def test_fault_P6_a_program_that_is_being_overwritten_runs_once_the_writer_is_done(shared: House, name: str) -> None:
    program = Path(executable(shared.path / "busy", Path("/bin/sleep").read_bytes()))
    with open(program, "ab"):
        shared.apply(name, [str(program), "1000"], restart=FAST)
        eventually(lambda: "busy" in str(shared.worker(f"{name}-0").get("lastExit", "")).lower())
    shared.ready(name, 1)


def test_fault_P10_an_exit_faster_than_the_bookkeeping_is_seen(shared: House, name: str) -> None:
    shared.apply(name, ["/bin/true"], replicas=5, restart=NEVER)
    eventually(lambda: {s["state"] for s in shared.workers(name).values()} == {"Completed"})
    assert all(status["lastExit"]["code"] == 0 for status in shared.workers(name).values())


# --- stops ---


def stopped(house: House, name: str) -> list[int]:
    """Deletes a pool and returns which of its processes are left."""
    mark = f"RECONCILER_POOL={name}\0"
    assert processes_of(mark)
    house.delete(name)
    return [*processes_of(mark)]


def test_fault_P13_a_worker_that_ignores_sigterm_is_killed_after_its_grace(shared: House, name: str) -> None:
    shared.apply(name, worker("ignore-term"), grace="500ms")
    shared.living(name, 1)
    eventually(lambda: shared.ledger("start", f"{name}-0"))
    began = time.time()
    assert stopped(shared, name) == []
    assert len(shared.ledger("term", f"{name}-0")) == 1
    assert time.time() - began >= 0.5


def test_fault_P14_a_stopped_worker_hears_sigterm_and_ends_by_itself(shared: House, name: str) -> None:
    shared.apply(name, worker("stop-self"), grace="1h")
    (pid,) = shared.living(name, 1).values()
    eventually(lambda: threads_state(pid) == "T")
    assert stopped(shared, name) == []
    assert shared.ledger("stop", f"{name}-0")


def test_fault_P17_what_escaped_by_a_double_fork_is_stopped_too(shared: House, name: str) -> None:
    shared.apply(name, worker("double-fork"))
    shared.living(name, 1)
    (daemon,) = eventually(lambda: shared.ledger("daemon", f"{name}-0"))
    assert alive(daemon.pid)
    assert stopped(shared, name) == []
    assert not alive(daemon.pid)


def test_a_tree_of_deaf_processes_is_stopped_whole(shared: House, name: str) -> None:
    shared.apply(name, worker("fork-tree", 3, 2))
    shared.living(name, 1)
    eventually(lambda: len(shared.ledger("leaf", f"{name}-0")) == 8)
    assert len(processes_of(f"RECONCILER_POOL={name}\0")) == 15
    assert stopped(shared, name) == []


def test_a_worker_that_wiped_its_environment_is_stopped_whole(shared: House, name: str) -> None:
    shared.apply(name, worker("wipe-environ"))
    (pid,) = shared.living(name, 1).values()
    eventually(lambda: shared.ledger("wiped", f"{name}-0"))
    shared.delete(name)
    assert not alive(pid)


def test_fault_P18_children_of_an_ended_worker_go_before_the_next_start(shared: House, name: str) -> None:
    shared.apply(name, worker("leave-children", 2), restart=FAST)
    eventually(lambda: len(shared.ledger("start", f"{name}-0")) >= 3, what="three starts")
    shared.delete(name)
    assert not shared.ledger("DOUBLE", f"{name}-0"), "a start before the slot was empty"
    assert not any(alive(line.pid) for line in shared.ledger("child", f"{name}-0"))


def test_fault_P19_an_open_stdout_in_a_grandchild_delays_nothing(shared: House, name: str) -> None:
    shared.apply(name, worker("setsid-hold-pipe", 3), restart=NEVER)
    status = eventually(lambda: (s := shared.worker(f"{name}-0")).get("state") == "Failed" and s)
    assert status["lastExit"]["code"] == 3


def test_fault_P20_orphans_of_a_worker_do_not_become_zombies(shared: House, name: str) -> None:
    shared.apply(name, worker("zombies", 3))
    (pid,) = shared.living(name, 1).values()

    def adopted_zombies() -> list[int]:
        return [child for child in children_of(shared.launcher) if not alive(child)]

    eventually(lambda: [threads_state(child) for child in children_of(pid)] == ["Z"] * 4)
    eventually(lambda: not adopted_zombies())
    assert alive(pid)


def test_fault_P21_a_process_whose_first_thread_ended_is_alive(shared: House, name: str) -> None:
    shared.apply(name, worker("thread-leader-exit"))
    (pid,) = shared.living(name, 1).values()
    eventually(lambda: threads_state(pid) == "Z")
    assert alive(pid)
    assert shared.worker(f"{name}-0")["state"] == "Ready"
    assert len(shared.ledger("start", f"{name}-0")) == 1
    shared.delete(name)
    assert not alive(pid)


def test_fault_P22_no_signal_reaches_a_process_that_has_a_workers_old_pid(shared: House, name: str, root: None) -> None:
    shared.apply(name, worker("ledger"), restart=SLOW)
    (pid,) = shared.living(name, 1).values()
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: shared.worker(f"{name}-0").get("lastExit"))
    stranger = sleeper_with_pid(pid)
    try:
        shared.delete(name)
        assert alive(stranger)
    finally:
        os.kill(stranger, signal.SIGKILL)
        os.waitpid(stranger, 0)


# --- what they are born with, and what they do to their output ---


def test_fault_P36_a_worker_may_delete_its_own_directory(shared: House, name: str) -> None:
    shared.apply(name, worker("cwd-delete"))
    (pid,) = shared.living(name, 1).values()
    eventually(lambda: os.readlink(f"/proc/{pid}/cwd").endswith("(deleted)"))
    assert os.readlink(f"/proc/{shared.launcher}/cwd") == "/"
    assert stopped(shared, name) == []


@pytest.fixture(scope="module")
def born(shared: House) -> Iterator[dict[str, Any]]:
    """What a worker found at its birth."""
    shown = shared.path / "shown"
    ports = [{"name": "http", "base": 18000}]
    shared.apply("born", worker("show", shown), replicas=1, template={"ports": ports}, env={"GIVEN": "$(PORT)/x"})
    eventually(shown.exists)
    yield json.loads(shown.read_text())
    shared.delete("born")


def test_fault_P37_a_worker_has_three_descriptors_and_no_others(born: dict[str, Any]) -> None:
    assert born["fds"] == [0, 1, 2]
    assert born["stdin"] == "/dev/null"


SPARES = 64


def test_fault_P38_a_worker_has_a_clean_signal_mask(shared: House, name: str) -> None:
    status = shared.path / "signals"
    # read by the shell itself: around a fork it blocks signals for a moment
    copy = f'while read -r line; do echo "$line"; done </proc/self/status >{status}.new'
    shared.apply(name, ["/bin/sh", "-c", f"{copy}; mv {status}.new {status}; sleep 1000"])
    eventually(status.exists)
    found = dict(line.split(":", 1) for line in status.read_text().splitlines() if line.startswith("Sig"))
    assert int(found["SigBlk"], 16) == 0 and int(found["SigIgn"], 16) == 0


def test_fault_P39_a_worker_is_born_into_a_clean_world(born: dict[str, Any]) -> None:
    assert born["session"] and born["group"] and born["tty"] == 0
    assert (born["umask"], born["cwd"], born["nice"]) == (0o022, "/", 0)
    env = born["env"]
    assert env["RECONCILER_POOL"] == "born" and env["RECONCILER_ORDINAL"] == "0"
    assert env["RECONCILER_WORKER"] == "born-0" and env["RECONCILER_INSTANCE"]
    assert (env["PORT"], env["PORT_HTTP"], env["GIVEN"]) == ("18000", "18000", "18000/x")
    assert {"HOME", "USER", "LOGNAME", "SHELL", "PATH"} <= set(env)
    allowed = {"HOME", "USER", "LOGNAME", "SHELL", "PATH", "LEDGER", "GIVEN", "PORT", "PORT_HTTP", "LC_CTYPE"}
    leaked = {key for key in env if key not in allowed and not key.startswith("RECONCILER_")}
    assert not leaked
    assert not {"RECONCILER_CRASH_AT", "RECONCILER_STATE", "RECONCILER_LAUNCHER_FD", "RECONCILER_API_FD"} & set(env)


def test_output_of_any_kind_is_kept_as_it_is(shared: House, name: str) -> None:
    shared.apply(f"{name}-g", worker("garbage"))
    shared.apply(f"{name}-n", worker("no-newline", 3 << 20))
    shared.apply(f"{name}-f", worker("flood", 5 << 20))
    shared.apply(f"{name}-c", worker("close-stdio"))
    for suffix in "gnfc":
        shared.ready(f"{name}-{suffix}", 1)
    eventually(lambda: len([line for line in shared.ledger("flooded") if line.slot.startswith(name)]) == 2)

    def logged(suffix: str) -> bytes:
        import http.client

        from tests.real.house import _Connection

        connection: http.client.HTTPConnection = _Connection(shared.state / "run" / "api.sock", 10)
        connection.request("GET", f"/api/v1/workers/{name}-{suffix}-0/logs")
        answer = connection.getresponse()
        assert answer.status == 200
        return answer.read()

    assert logged("g") == b"\x1b[2J\x1b]0;owned\x07\xff\xfe\x00bad\n"
    assert len(logged("n")) == 3 << 20
    assert logged("f").count(b"\n") == (5 << 20) // 100
    assert logged("c") == b""
    for suffix in "gnfc":
        shared.delete(f"{name}-{suffix}")


def test_a_flood_is_rotated_and_loses_no_line(shared: House, name: str) -> None:
    logs = {"destination": "File", "maxSize": "1Mi", "maxFiles": 50}
    shared.apply(name, ["/bin/sh", "-c", "seq 1 600000; exec sleep 1000"], template={"logs": logs})
    shared.ready(name, 1)

    def whole() -> bool:
        _, text = shared.api("GET", f"/api/v1/workers/{name}-0/logs")
        return str(text).splitlines()[-1:] == ["600000"]

    eventually(whole)
    uid = shared.get("workers", f"{name}-0")["metadata"]["uid"]

    def rotated() -> list[Path]:
        return [*(shared.state / "logs").glob(f"*/*{uid}*")]

    modes = eventually(lambda: len(paths := rotated()) > 1 and {stat.S_IMODE(path.stat().st_mode) for path in paths})
    assert modes == {0o600}

    def complete() -> bool:  # an answer that is given in the midst of a rotation may lack what was just moved
        _, text = shared.api("GET", f"/api/v1/workers/{name}-0/logs")
        return str(text).split() == [str(number) for number in range(1, 600_001)]

    eventually(complete)


def test_fault_P41_a_worker_that_kills_its_whole_group_kills_nobody_else(shared: House, name: str) -> None:
    others = shared.launcher, shared.controller()
    shared.apply(f"{name}-b", worker("ledger"))
    try:
        bystander = shared.living(f"{name}-b", 1)
        shared.apply(name, ["sh", "-c", "sleep 1000 & kill -KILL 0"], restart={"policy": "Never"})
        last = eventually(lambda: shared.worker(f"{name}-0").get("lastExit"))
        assert (last["reason"], last["signal"]) == ("KilledExternally", "SIGKILL")
        assert (shared.launcher, shared.controller()) == others
        assert shared.living(f"{name}-b", 1) == bystander
    finally:
        shared.delete(f"{name}-b")


def test_fault_P49_L11_hundreds_of_exits_at_once_are_all_seen(shared: House, name: str) -> None:
    shared.apply(name, ["/bin/sleep", "1000"], replicas=300, restart=FAST)
    before = shared.ready(name, 300, 60)
    os.kill(shared.launcher, signal.SIGSTOP)  # SIGCHLD after SIGCHLD is lost meanwhile
    for pid in before.values():
        os.kill(pid, signal.SIGKILL)
    os.kill(shared.launcher, signal.SIGCONT)

    def all_new() -> bool:
        now = shared.workers(name)
        return len(now) == 300 and all(s["state"] == "Ready" and s["pid"] != before[w] for w, s in now.items())

    eventually(all_new, 60)
    last = [status["lastExit"] for status in shared.workers(name).values()]
    assert all(exit_["signal"] == "SIGKILL" and exit_["reason"] == "KilledExternally" for exit_ in last)
    shared.delete(name, 60)
    assert processes_of(f"RECONCILER_POOL={name}\0") == {}


def test_fault_L17_memory_and_descriptors_of_the_launcher_do_not_grow(shared: House, name: str) -> None:
    shared.apply(name, replicas=8)

    def run(count: int) -> None:
        tasks = [{"command": ["/bin/true"]}] * 100
        for _ in range(count // 100):
            status, _ = shared.api("POST", f"/api/v1/pools/{name}/tasks", tasks)
            assert status == 201

    def have_run(count: int) -> None:
        eventually(lambda: shared.pool(name)["tasks"]["succeeded"] == count, 60)

    run(500)
    have_run(500)
    before, descriptors = resident_bytes(shared.launcher), open_descriptors(shared.launcher)
    run(1500)
    have_run(2000)
    assert resident_bytes(shared.launcher) - before < 1 << 20
    # spare logs are kept open for the next tasks, as many as were needed at once
    eventually(lambda: open_descriptors(shared.launcher) <= descriptors + SPARES)


def test_a_worker_runs_as_the_user_it_is_given(shared: House, name: str, root: None) -> None:
    shown = shared.path / "as-nobody"
    shown.mkdir()
    shown.chmod(0o777)
    script = f"(id -u; id -G; echo $USER; echo $HOME; echo /proc/$$$$/fd/*) >{shown}/new; mv {shown}/new {shown}/all; exec sleep 1000"
    shared.apply(name, ["/bin/sh", "-c", script], template={"user": "nobody"})
    (pid,) = shared.ready(name, 1).values()
    eventually((shown / "all").exists)
    nobody = pwd.getpwnam("nobody")
    uid, groups, user, home, descriptors = (shown / "all").read_text().splitlines()
    assert (uid, groups, user, home) == (str(nobody.pw_uid), str(nobody.pw_gid), "nobody", nobody.pw_dir)
    assert [link.rpartition("/")[2] for link in descriptors.split()] == ["0", "1", "2"]
    shared.delete(name)
    assert not alive(pid)
