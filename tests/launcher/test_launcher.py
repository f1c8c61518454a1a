"""A real launcher with real processes; the test is its controller."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from reconciler.launcher import system
from reconciler.launcher.cgroups import Cgroups
from reconciler.launcher.children import BUSY_TEXT_S
from reconciler.launcher.protocol import frame
from tests.launcher.conftest import until
from tests.proc import environ_of, sleeper_with_pid

PYTHON = [sys.executable, "-I", "-S", "-c"]

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="missing right: root, to become another user")


def _script(path: Path, text: str, mode: int = 0o755) -> str:
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def _status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _status_of_program(pid: int) -> dict[str, str]:
    """As the program has it: for a moment after a start is told, the kernel is still replacing what was before."""
    environ_of(pid)
    return _status_of(pid)


# -- starting --------------------------------------------------------------------------------------------------------


def test_a_process_is_started_heard_of_and_its_exit_code_told(house: Any) -> None:
    controller = house.up()
    instance = controller.run("job", ["sh", "-c", "echo out; echo err >&2; exit 3"], log="job.log")
    key, _, pid, started_ms, slot = controller.started(instance)
    assert (key, slot) == ("job", None)
    how = controller.exit(instance)
    assert how["pid"] == pid
    assert how["code"] == 3
    assert how["started_ms"] == started_ms <= how["at_ms"]
    assert how["log_bytes"] == 8
    assert controller.emptied(instance) == 0
    log = house.state / "logs" / "job.log"
    assert log.read_text() == "out\nerr\n"
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


def test_a_signal_that_killed_is_told_with_its_core(house: Any) -> None:
    controller = house.up()
    assert controller.exit(controller.run("a", ["sh", "-c", "kill -KILL $$"]))["signal"] == 9


@pytest.mark.parametrize(
    ("name", "step", "number"),
    [("missing", "exec", errno.ENOENT), ("crlf", "exec", errno.ENOENT), ("interpreter", "exec", errno.ENOENT)],
)
def test_fault_P1_a_missing_program_or_interpreter_fails_in_exec_with_ENOENT(
    house: Any, tmp_path: Path, name: str, step: str, number: int
) -> None:
    texts = {"crlf": "#!/bin/sh\r\nexit 0\n", "interpreter": "#!/no/such/interpreter\n"}
    path = _script(tmp_path / name, texts[name]) if name in texts else str(tmp_path / name)
    controller = house.up()
    instance = controller.run("a", [path])
    assert controller.exit(instance)["failed"] == [step, number, os.strerror(number)]
    assert controller.emptied(instance) == 0


def test_fault_P1_a_name_that_is_nowhere_in_its_own_path_fails_in_resolve(house: Any, tmp_path: Path) -> None:
    controller = house.up()
    instance = controller.run("a", ["sh"], env={"PATH": str(tmp_path)})
    assert controller.exit(instance)["failed"][:2] == ["resolve", errno.ENOENT]


def test_a_command_that_moves_to_another_directory_of_the_path_is_found_again(house: Any, tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    program = _script(tmp_path / "one" / "program", "#!/bin/sh\nexit 1\n")
    path = f"{tmp_path}/one:{tmp_path}/two"
    controller = house.up()
    assert controller.exit(controller.run("a", ["program"], env={"PATH": path}))["code"] == 1
    os.unlink(program)
    _script(tmp_path / "two" / "program", "#!/bin/sh\nexit 2\n")
    assert controller.exit(controller.run("b", ["program"], env={"PATH": path}))["code"] == 2


def test_fault_P2_a_missing_working_directory_is_told_from_a_missing_program(house: Any, tmp_path: Path) -> None:
    controller = house.up()
    instance = controller.run("a", ["/bin/true"], cwd=str(tmp_path / "nowhere"))
    assert controller.exit(instance)["failed"][:2] == ["chdir", errno.ENOENT]


def test_a_relative_command_is_relative_to_the_working_directory(house: Any, tmp_path: Path) -> None:
    _script(tmp_path / "here", "#!/bin/sh\nexit 4\n")
    controller = house.up()
    assert controller.exit(controller.run("a", ["./here"], cwd=str(tmp_path)))["code"] == 4


def test_fault_P3_a_file_that_may_not_be_executed_fails_with_EACCES(house: Any, tmp_path: Path) -> None:
    path = _script(tmp_path / "plain", "#!/bin/sh\n", 0o644)
    controller = house.up()
    assert controller.exit(controller.run("a", [path]))["failed"][:2] == ["exec", errno.EACCES]
    instance = controller.run("b", ["plain"], env={"PATH": str(tmp_path)})
    assert controller.exit(instance)["failed"][:2] == ["resolve", errno.EACCES]


@pytest.mark.parametrize("text", ["", "no shebang\n", "\x7fELF\x02\x01\x01garbage"])
def test_fault_P4_a_file_that_is_no_program_fails_with_ENOEXEC(house: Any, tmp_path: Path, text: str) -> None:
    path = _script(tmp_path / "file", text)
    controller = house.up()
    assert controller.exit(controller.run("a", [path]))["failed"][:2] == ["exec", errno.ENOEXEC]


def test_fault_P5_an_argument_that_is_too_long_fails_with_E2BIG(house: Any) -> None:
    controller = house.up()
    assert controller.exit(controller.run("a", ["/bin/true", "x" * 131_072]))["failed"][:2] == ["exec", errno.E2BIG]
    assert controller.exit(controller.run("b", ["/bin/true", "x" * 131_071]))["code"] == 0


def test_fault_P6_a_program_that_is_being_written_is_tried_again_for_a_moment(house: Any, tmp_path: Path) -> None:
    path = tmp_path / "program"
    path.write_bytes(Path("/bin/true").read_bytes())
    path.chmod(0o755)
    controller = house.up()
    with open(path, "ab"):
        instance = controller.run("a", [str(path)])
        assert controller.exit(instance)["failed"][:2] == ["exec", errno.ETXTBSY]

    def closed_in_time() -> str | None:
        """The instance, if the file was closed before the last try, which a busy machine may miss."""
        before = time.monotonic()
        with open(path, "ab"):
            instance = str(controller.run(f"b{time.monotonic_ns()}", [str(path)]))
            controller.round_trip()
        return instance if time.monotonic() - before < sum(BUSY_TEXT_S) else None

    assert controller.exit(until(closed_in_time))["code"] == 0


def test_fault_P7_a_nul_byte_fails_the_start_and_nothing_else(house: Any) -> None:
    controller = house.up()
    assert controller.exit(controller.run("a", ["/bin/true", "a\0b"]))["failed"][:2] == ["exec", errno.EINVAL]
    assert controller.exit(controller.run("b", ["/bin/true"], env={"A": "a\0b"}))["failed"][0] == "exec"
    assert controller.exit(controller.run("c", ["/bin/true"]))["code"] == 0


def test_fault_P8_no_more_processes_fails_the_start_with_EAGAIN_and_the_launcher_lives(house: Any) -> None:
    group = Path("/sys/fs/cgroup/pids") / f"reconciler-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError:
        pytest.skip("missing right: a pids cgroup (v1)")
    try:
        controller = house.up()
        (group / "cgroup.procs").write_text(str(house.process.pid))
        (group / "pids.max").write_text("1")
        instance = controller.run("a", ["/bin/true"])
        assert controller.exit(instance)["failed"][:2] == ["fork", errno.EAGAIN]
        (group / "pids.max").write_text("max")
        assert controller.exit(controller.run("b", ["/bin/true"]))["code"] == 0
    finally:
        house.close()
        group.rmdir()


def test_fault_P9_L12_a_full_descriptor_table_fails_starts_and_the_rest_goes_on(house: Any) -> None:
    import resource

    controller = house.up()
    sleeper = controller.run("a", ["sleep", "1000"])
    controller.started(sleeper)
    soft, hard = resource.prlimit(house.process.pid, resource.RLIMIT_NOFILE)
    limit = max(int(fd) for fd in os.listdir(f"/proc/{house.process.pid}/fd")) + 4

    def full() -> Any:
        nonlocal limit
        limit -= 1
        resource.prlimit(house.process.pid, resource.RLIMIT_NOFILE, (limit, hard))
        return controller.exit(controller.run(f"b{limit}", ["/bin/true"], log="b.log")).get("failed")

    assert until(full)[:2] == ["fork", errno.EMFILE]
    controller.say(["signal", "a", sleeper, 15, "group"])
    assert controller.exit(sleeper)["signal"] == 15
    resource.prlimit(house.process.pid, resource.RLIMIT_NOFILE, (soft, hard))
    assert controller.exit(controller.run("c", ["/bin/true"]))["code"] == 0


def test_fault_P10_an_exit_faster_than_bookkeeping_is_told_once_after_its_start(house: Any) -> None:
    controller = house.up()
    instances = [controller.run(f"job{n}", ["/bin/true"]) for n in range(50)]
    for instance in instances:
        assert controller.exit(instance)["code"] == 0
    order = [
        (message[0], row[1] if message[0] == "started" else row[2])
        for message in controller.heard if message[0] in ("started", "exited")
        for row in message[1]
    ]  # fmt: skip
    for instance in instances:
        assert [word for word, who in order if who == instance] == ["started", "exited"]


# -- what a child begins with ----------------------------------------------------------------------------------------


def test_fault_P36_the_launcher_stands_in_the_root_and_starts_from_a_deleted_directory(
    house: Any, tmp_path: Path
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    house.start(cwd=str(gone))
    controller = house.controller()
    gone.rmdir()
    assert os.readlink(f"/proc/{house.process.pid}/cwd") == "/"
    assert controller.exit(controller.run("a", ["sh", "-c", 'test "$PWD" = /']))["code"] == 0


def test_fault_P37_a_child_has_descriptors_0_1_2_and_no_other(house: Any) -> None:
    read_end, write_end = os.pipe()
    os.set_inheritable(write_end, True)
    house.start(close_fds=False)
    controller = house.controller()
    program = (
        "import os; print(sorted(int(n) for n in os.listdir('/proc/self/fd'))); print(os.readlink('/proc/self/fd/0'))"
    )
    controller.exit(controller.run("a", [*PYTHON, program], log="a.log"))
    os.close(read_end)
    os.close(write_end)
    fds, stdin = (house.state / "logs" / "a.log").read_text().splitlines()
    assert json.loads(fds)[:3] == [0, 1, 2]
    assert len(json.loads(fds)) == 4, "the fourth is the directory it lists"
    assert stdin == "/dev/null"


def test_fault_P38_a_child_has_no_signal_blocked_or_ignored_whatever_the_launcher_began_with(house: Any) -> None:
    def spoil() -> None:
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())

    house.start(preexec_fn=spoil)
    controller = house.controller()
    status = _status_of_program(controller.pid_of(controller.run("a", ["sleep", "1000"])))
    assert [int(status[name], 16) for name in ("SigBlk", "SigIgn", "SigCgt")] == [0, 0, 0]


def test_fault_P39_a_child_has_its_own_session_umask_limits_and_environment(house: Any) -> None:
    import resource

    def spoil() -> None:
        os.umask(0o777)
        resource.setrlimit(resource.RLIMIT_NOFILE, (1000, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))

    house.start(preexec_fn=spoil, env={"SECRET_OF_UP": "1"})
    controller = house.controller()
    instance = controller.run("a", ["sleep", "1000"], env={"MINE": "2"})
    pid = controller.pid_of(instance)
    assert os.getsid(pid) == os.getpgid(pid) == pid
    assert _status_of(pid)["Umask"] == "0022"
    assert resource.prlimit(pid, resource.RLIMIT_NOFILE)[0] == 1000
    environ = environ_of(pid)
    assert set(environ) == {"PATH", "TEST_MARK", "MINE", "RECONCILER_INSTANCE"}
    assert environ["RECONCILER_INSTANCE"] == instance


def test_fault_L4_the_launcher_is_the_last_to_go_when_memory_runs_out_and_its_children_are_not(
    house: Any, wait_until: Any
) -> None:
    if not int(_status_of(os.getpid())["CapEff"], 16) >> 24 & 1:
        pytest.skip("needs CAP_SYS_RESOURCE: only with it oom_score_adj can be lowered")
    controller = house.up()
    pid = controller.pid_of(controller.run("a", ["sleep", "1000"]))
    parent = int(_status_of(pid)["PPid"])
    mine = Path("/proc/self/oom_score_adj").read_text()
    assert Path(f"/proc/{parent}/oom_score_adj").read_text() == "-900\n"
    wait_until(lambda: Path(f"/proc/{pid}/oom_score_adj").read_text() == mine)


def test_a_child_is_given_its_own_place_in_the_order_of_the_oom_killer() -> None:
    child = subprocess.Popen(["sleep", "1000"])
    try:
        system.set_oom(child.pid, b"300")
        assert Path(f"/proc/{child.pid}/oom_score_adj").read_text() == "300\n"
    finally:
        child.kill()
        child.wait()
    system.set_oom(child.pid, b"300")  # it has ended already: nothing to be done


def test_fault_L2_what_workers_write_after_the_death_of_the_launcher_is_not_lost(
    house: Any, tmp_path: Path, wait_until: Any
) -> None:
    controller = house.up()
    go = tmp_path / "go"
    loop = f"echo before; until test -e {go}; do sleep 0.01; done; echo after; exec sleep 1000"
    instance = controller.run("a", ["sh", "-c", loop], log="w/a/1.log")
    pid = controller.pid_of(instance)
    log = house.state / "logs" / "w" / "a" / "1.log"
    wait_until(lambda: log.read_text() == "before\n")
    house.kill()
    go.touch()
    wait_until(lambda: log.read_text() == "before\nafter\n")
    assert os.path.exists(f"/proc/{pid}")


def test_fault_L14_no_child_dies_with_its_parent(house: Any, tmp_path: Path, wait_until: Any) -> None:
    ask = (
        "import ctypes, sys; n = ctypes.c_int(-1); ctypes.CDLL(None).prctl(2, ctypes.byref(n)); "
        "open(sys.argv[1], 'w').write(str(n.value))"
    )
    controller = house.up()
    controller.run("a", [sys.executable, "-c", ask, str(tmp_path / "signal")])
    wait_until(lambda: (tmp_path / "signal").exists() and (tmp_path / "signal").read_text() == "0")


def test_a_template_gives_the_umask(house: Any) -> None:
    controller = house.up()
    assert _status_of(controller.pid_of(controller.run("a", ["sleep", "1000"], umask=0o077)))["Umask"] == "0077"


def test_what_a_spawn_brings_goes_before_what_its_template_says(house: Any) -> None:
    controller = house.up()
    controller.template("t", ["sh", "-c", 'echo "$A $B"'], env={"A": "template", "B": "template"})
    controller.spawn("a", house.own("a1"), "t", env={"B": "spawn"}, log="a.log")
    controller.exit(house.own("a1"))
    controller.spawn("b", house.own("b1"), "t", argv=["echo", "own words"], log="b.log")
    controller.exit(house.own("b1"))
    logs = house.state / "logs"
    assert (logs / "a.log").read_text() == "template spawn\n"
    assert (logs / "b.log").read_text() == "own words\n"


def test_a_log_path_never_leaves_the_log_directory(house: Any, tmp_path: Path) -> None:
    controller = house.up()
    for number, path in enumerate(["/etc/x", "../x", "a/../../x", "a//b", "", "."]):
        instance = controller.run(f"job{number}", ["/bin/true"], log=path)
        assert controller.exit(instance)["failed"][:2] == ["log", errno.EINVAL]
    target = tmp_path / "target"
    target.write_text("")
    logs = house.state / "logs"
    (logs / "link").symlink_to(target)
    (logs / "dir").symlink_to(tmp_path)
    os.mkfifo(logs / "fifo")
    for number, path in enumerate(["link", "dir/x", "fifo"]):
        how = controller.exit(controller.run(f"link{number}", ["echo", "text"], log=path))
        assert how["failed"][0] == "log"
    assert target.read_text() == ""


def test_log_directories_are_made_again_when_somebody_removed_them(house: Any) -> None:
    import shutil

    controller = house.up()
    for key in ("a", "b"):
        assert controller.exit(controller.run(key, ["echo", key], log=f"batch/00/{key}.log"))["log_bytes"] == 2
        shutil.rmtree(house.state / "logs" / "batch")


@root_only
def test_another_user_is_taken_on_with_its_groups_before_the_program_begins(house: Any, tmp_path: Path) -> None:
    os.chmod(tmp_path, 0o755)
    controller = house.up()
    program = "import os; print(os.getresuid(), os.getresgid(), os.getgroups(), os.getsid(0) == os.getpid())"
    instance = controller.run("a", ["/usr/bin/env", "python3", "-c", program], log="a.log", uid=65534, gid=65534)
    controller.exit(instance)
    expected = "(65534, 65534, 65534) (65534, 65534, 65534) [65534] True\n"
    log = house.state / "logs" / "a.log"
    assert log.read_text() == expected or "python3" in log.read_text()


@root_only
def test_another_user_s_child_is_clean_and_fails_by_step(house: Any, tmp_path: Path) -> None:
    controller = house.up()
    status = _status_of_program(
        controller.pid_of(controller.run("a", ["sleep", "1000"], uid=65534, gid=65534, groups=[]))
    )
    assert status["Uid"].split() == ["65534"] * 4
    assert status["Gid"].split() == ["65534"] * 4
    assert status["Groups"] == ""
    assert [int(status[name], 16) for name in ("SigBlk", "SigIgn")] == [0, 0]
    secret = tmp_path / "secret"
    secret.mkdir(mode=0o700)
    instance = controller.run("b", ["/bin/true"], uid=65534, gid=65534, cwd=str(secret))
    assert controller.exit(instance)["failed"][:2] == ["chdir", errno.EACCES]
    instance = controller.run("c", ["/no/such"], uid=65534, gid=65534)
    assert controller.exit(instance)["failed"][:2] == ["exec", errno.ENOENT]


# -- sockets ---------------------------------------------------------------------------------------------------------

_SERVE = """
import os, socket
assert os.environ["LISTEN_PID"] == str(os.getpid())
print(os.environ["LISTEN_FDS"], os.environ["LISTEN_FDNAMES"], sorted(int(n) for n in os.listdir("/proc/self/fd"))[:5], flush=True)
sock = socket.socket(fileno=3)
while True:
    peer, _ = sock.accept()
    peer.sendall(b"served")
    peer.close()
"""


def test_sockets_are_held_by_name_and_passed_from_descriptor_3_on(house: Any, tmp_path: Path, wait_until: Any) -> None:
    controller = house.up()
    path = str(tmp_path / "web.sock")
    controller.say(["socket", "web", path], ["socket", "web", path], ["socket", "admin", "127.0.0.1:0"])
    instance = controller.run("a", [*PYTHON, _SERVE], log="a.log", sockets=["web", "admin"])
    controller.started(instance)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        assert client.recv(10) == b"served"
    log = house.state / "logs" / "a.log"
    assert log.read_text() == "2 web:admin [0, 1, 2, 3, 4]\n"
    controller.say(["signal", "a", instance, 9, "tree"])
    controller.exit(instance)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)  # the launcher holds it: clients wait for the next worker
    controller.say(["unsocket", "web"])
    wait_until(lambda: not os.path.exists(path))


def test_a_socket_that_cannot_be_bound_is_told_and_a_start_that_needs_it_fails(house: Any) -> None:
    controller = house.up()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        controller.say(["socket", "web", f"127.0.0.1:{taken.getsockname()[1]}"], ["socket", "bad", "example.org:80"])
        failed = controller.wait(lambda: controller.of("socketFailed"))
        controller.round_trip()
    assert failed[0][1:3] == ["web", errno.EADDRINUSE]
    assert controller.of("socketFailed")[1][1] == "bad"
    instance = controller.run("a", ["/bin/true"], sockets=["web"])
    assert controller.exit(instance)["failed"][:2] == ["sockets", errno.ENOENT]


# -- asked twice, lanes, acknowledgements -----------------------------------------------------------------------------


def test_asked_twice_it_is_started_once(house: Any) -> None:
    controller = house.up()
    instance = controller.run("a", ["sleep", "1000"])
    pid = controller.pid_of(instance)
    controller.spawn("a", instance, instance)
    controller.round_trip()
    assert [row[2] for row in controller.rows("started")] == [pid, pid]
    assert len(controller.listing()[0]) == 1


def test_a_lane_runs_as_many_as_it_has_slots_and_tells_each_child_its_slot(house: Any) -> None:
    controller = house.up()
    program = ["sh", "-c", "echo $RECONCILER_ORDINAL $RECONCILER_WORKER; exec sleep 0.05"]
    controller.template("t", program, lane="batch", contain=False)
    controller.say(["lane", "batch", 2])
    for number in range(6):
        controller.spawn(f"task/{number}", house.own(f"i{number}"), "t", log=f"batch/{number}.log")
    controller.wait(lambda: len(controller.rows("exited")) == 6)
    slots = {row[0]: row[4] for row in controller.rows("started")}
    assert set(slots.values()) == {0, 1}
    for number in range(6):
        slot = slots[f"task/{number}"]
        assert (house.state / f"logs/batch/{number}.log").read_text() == f"{slot} batch-{slot}\n"
    running = 0
    for message in controller.heard:
        if message[0] in ("started", "exited"):
            running += len(message[1]) if message[0] == "started" else -len(message[1])
            assert running <= 2


def test_an_empty_log_of_a_task_is_removed_and_that_of_a_worker_stays(house: Any) -> None:
    controller = house.up()
    controller.say(["lane", "batch", 1])
    assert controller.exit(controller.run("t", ["true"], log="t.log", lane="batch", contain=False))["log_bytes"] == 0
    assert controller.exit(controller.run("w", ["true"], log="w.log"))["log_bytes"] == 0
    assert sorted(os.listdir(house.state / "logs")) == [".spare", "w.log"]


def test_exits_stay_until_they_are_acknowledged(house: Any) -> None:
    controller = house.up()
    for key in ("a", "b"):
        instance = controller.run(key, ["true"])
        controller.exit(instance)
        controller.emptied(instance)
    _, exits = controller.listing()
    assert [row[1] for row in exits] == ["a", "b"]
    controller.say(["ack", exits[0][0]])
    assert [row[1] for row in controller.listing()[1]] == ["b"]


def test_what_waits_for_a_slot_goes_with_its_controller_and_what_runs_stays(house: Any) -> None:
    controller = house.up()
    controller.template("t", ["sleep", "1000"], lane="batch", contain=False)
    controller.say(["lane", "batch", 1])
    controller.spawn("task/0", house.own("i0"), "t")
    controller.spawn("task/1", house.own("i1"), "t")
    controller.started(house.own("i0"))
    controller.kill()
    children, exits = house.controller().listing()
    assert [(row[0], row[4]) for row in children] == [("task/0", 0)]
    assert exits == []


# -- ending ----------------------------------------------------------------------------------------------------------


def test_fault_P13_what_ignores_its_stop_signal_is_killed_with_its_whole_tree(
    house: Any, process_is_alive: Any
) -> None:
    controller = house.up()
    program = "trap '' TERM; sleep 1000 & echo $!; wait; wait"
    instance = controller.run("a", ["sh", "-c", program], log="a.log")
    controller.pid_of(instance)
    log = house.state / "logs" / "a.log"
    child = int(controller.wait(lambda: log.read_text() or controller.round_trip()))
    controller.say(["signal", "a", instance, 15, "group"])
    controller.round_trip()
    assert controller.of("exited") == []
    controller.say(["signal", "a", instance, 9, "tree"])
    assert controller.exit(instance)["signal"] == 9
    controller.emptied(instance)
    assert not process_is_alive(child)


def test_fault_P14_a_stopped_process_hears_its_stop_signal(house: Any) -> None:
    controller = house.up()
    instance = controller.run("a", ["sleep", "1000"])
    os.kill(controller.pid_of(instance), signal.SIGSTOP)
    controller.say(["signal", "a", instance, 15, "group"])
    assert controller.exit(instance)["signal"] == 15


_ESCAPE = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        with open(os.environ["PID_FILE"] + ".new", "w") as file:
            file.write(str(os.getpid()))
        os.rename(os.environ["PID_FILE"] + ".new", os.environ["PID_FILE"])
        time.sleep(1000)
    os._exit(0)
os.wait()
while not os.path.exists(os.environ["PID_FILE"]):
    time.sleep(0.01)
if os.environ.get("STAY"):
    time.sleep(1000)
"""


@pytest.mark.parametrize("options", [(), ("--no-cgroup",)], ids=["cgroup", "sweep"])
def test_fault_P17_a_daemon_that_left_session_and_parent_is_found_and_ended(
    house: Any, tmp_path: Path, process_is_alive: Any, options: tuple[str, ...]
) -> None:
    controller = house.up(*options)
    if not options and controller.about["containment"] != "cgroup":
        pytest.skip("missing right: a writable cgroup v2")
    pid_file = tmp_path / "pid"
    instance = controller.run("a", [*PYTHON, _ESCAPE], env={"PID_FILE": str(pid_file)})
    assert controller.exit(instance)["code"] == 0
    assert controller.emptied(instance) == 1
    assert not process_is_alive(int(pid_file.read_text()))


def test_fault_P17_what_a_task_left_behind_is_found_too(
    house: Any, tmp_path: Path, process_is_alive: Any, wait_until: Any
) -> None:
    controller = house.up()
    pid_file = tmp_path / "pid"
    controller.say(["lane", "batch", 1])
    instance = controller.run("a", [*PYTHON, _ESCAPE], env={"PID_FILE": str(pid_file)}, lane="batch", contain=False)
    assert controller.exit(instance)["code"] == 0
    wait_until(lambda: not process_is_alive(int(pid_file.read_text())))
    assert controller.of("emptied") == []


@pytest.mark.parametrize("options", [(), ("--no-cgroup",)], ids=["cgroup", "sweep"])
def test_fault_P18_children_that_outlive_the_main_process_are_ended_before_the_key_is_free(
    house: Any, process_is_alive: Any, options: tuple[str, ...]
) -> None:
    controller = house.up(*options)
    instance = controller.run("a", ["sh", "-c", "sleep 1000 & echo $!"], log="a.log")
    controller.exit(instance)
    controller.emptied(instance)
    assert not process_is_alive(int((house.state / "logs" / "a.log").read_text()))


def test_fault_P19_an_exit_is_told_while_a_grandchild_still_holds_the_output(house: Any) -> None:
    controller = house.up()
    instance = controller.run("a", ["sh", "-c", "(trap '' HUP; exec sleep 1000) & exit 5"], log="a.log")
    assert controller.exit(instance)["code"] == 5


def test_fault_P20_zombies_of_a_worker_that_come_to_the_launcher_are_reaped(
    house: Any, wait_until: Any, tmp_path: Path
) -> None:
    controller = house.up()
    # the middle process ends, so that the one which ends later becomes the launcher's child
    program = "(sh -c 'echo $$; sleep 0.2' &) ; exec sleep 1000"
    instance = controller.run("a", ["sh", "-c", program], log="a.log")
    controller.started(instance)
    log = house.state / "logs" / "a.log"
    orphan = int(wait_until(lambda: log.read_text().endswith("\n") and log.read_text()))
    wait_until(lambda: not os.path.exists(f"/proc/{orphan}"))
    assert [row[0] for row in controller.listing()[0]] == ["a"]


def test_fault_P21_a_process_whose_main_thread_has_ended_is_alive(house: Any, wait_until: Any) -> None:
    controller = house.up()
    program = """
import ctypes, threading, time
threading.Thread(target=time.sleep, args=(1000,)).start()
ctypes.CDLL(None).syscall(60, 0)
"""
    instance = controller.run("a", [*PYTHON, program])
    pid = controller.pid_of(instance)
    wait_until(lambda: _status_of(pid)["State"].startswith("Z"))
    assert [row[6] for row in controller.listing()[0]] == ["up"]
    controller.say(["signal", "a", instance, 9, "tree"])
    assert controller.exit(instance)["signal"] == 9


def test_fault_P22_a_process_with_a_reused_pid_is_neither_adopted_nor_signalled(
    house: Any, process_is_alive: Any, wait_until: Any
) -> None:
    controller = house.up("--no-cgroup")
    instance = controller.run("a", ["sleep", "1000"])
    pid = controller.pid_of(instance)
    house.kill()
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not os.path.exists(f"/proc/{pid}"))
    stranger = sleeper_with_pid(pid)
    try:
        controller = house.up("--no-cgroup")
        controller.say(["list"])
        assert controller.exit(instance)["unknown"] == "unseen"
        controller.say(["signal", "a", instance, 9, "tree"], ["signal", "a", instance, 15, "group"])
        controller.round_trip()
        assert process_is_alive(stranger)
    finally:
        os.kill(stranger, signal.SIGKILL)
        os.waitpid(stranger, 0)


def test_a_signal_for_an_older_instance_does_nothing(house: Any) -> None:
    controller = house.up()
    old = controller.run("a", ["true"])
    controller.emptied(old)
    new = controller.run("a", ["sleep", "1000"])
    controller.started(new)
    controller.say(["signal", "a", old, 9, "tree"])
    controller.round_trip()
    assert [row[1] for row in controller.listing()[0]] == [new]


def test_fault_P49_a_thousand_exits_at_once_are_all_told(house: Any) -> None:
    controller = house.up("--no-cgroup")
    read_end, write_end = os.pipe()
    total = 300
    controller.template("t", ["sleep", "1000"], contain=False)
    for number in range(total):
        controller.spawn(f"job/{number}", house.own(f"i{number}"), "t")
    controller.wait(lambda: len(controller.rows("started")) == total, 60)
    for row in controller.rows("started"):
        os.kill(row[2], signal.SIGKILL)
    controller.wait(lambda: len(controller.rows("exited")) == total, 60)
    assert {row[3]["signal"] for row in controller.rows("exited")} == {9}
    assert len({row[0] for row in controller.rows("exited")}) == total
    os.close(read_end)
    os.close(write_end)


# -- the launcher dies -----------------------------------------------------------------------------------------------


def test_fault_L1_workers_outlive_the_launcher_and_the_next_one_adopts_them(house: Any, process_is_alive: Any) -> None:
    controller = house.up()
    instance = controller.run("a", ["sleep", "1000"], lane=None)
    pid = controller.pid_of(instance)
    house.kill()
    assert process_is_alive(pid)
    controller = house.up()
    children, exits = controller.listing()
    assert [(row[1], row[2], row[5], row[6]) for row in children] == [(instance, pid, True, "up")]
    assert exits == []
    controller.spawn("a", instance, "unheard of: it runs already")
    assert controller.pid_of(instance) == pid
    controller.say(["signal", "a", instance, 15, "group"])
    how = controller.exit(instance)
    assert how.get("signal") == 15 or how.get("unknown") == "unseen"
    assert controller.emptied(instance) == 0


def test_fault_L1_the_exit_code_of_an_adopted_process_is_told_where_the_kernel_tells_it(
    house: Any, tmp_path: Path
) -> None:
    controller = house.up()
    go = tmp_path / "go"
    instance = controller.run("a", ["sh", "-c", f"until test -e {go}; do sleep 0.01; done; exit 9"])
    controller.started(instance)
    house.kill()
    controller = house.up()
    go.touch()
    how = controller.exit(instance)
    release = tuple(int(part) for part in os.uname().release.split(".")[:2])
    if release >= (6, 15):
        assert how["code"] == 9
    else:
        assert how.get("code") == 9 or how["unknown"] == "unseen"


def test_an_exit_while_no_launcher_lived_is_told_as_unseen(house: Any, wait_until: Any) -> None:
    controller = house.up()
    instance = controller.run("a", ["sleep", "1000"])
    pid = controller.pid_of(instance)
    house.kill()
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not os.path.exists(f"/proc/{pid}"))
    controller = house.up()
    _, exits = controller.listing()
    assert [row[3]["unknown"] for row in exits] == ["unseen"]


@pytest.mark.parametrize("options", [(), ("--no-cgroup",)], ids=["cgroup", "scan"])
def test_the_escaped_daemon_of_an_adopted_process_is_found_and_ended(
    house: Any, tmp_path: Path, process_is_alive: Any, wait_until: Any, options: tuple[str, ...]
) -> None:
    controller = house.up(*options)
    pid_file = tmp_path / "pid"
    instance = controller.run("a", [*PYTHON, _ESCAPE], env={"PID_FILE": str(pid_file), "STAY": "1"})
    controller.started(instance)
    wait_until(pid_file.exists)
    house.kill()
    controller = house.up(*options)
    controller.say(["signal", "a", instance, 9, "tree"])
    controller.exit(instance)
    controller.emptied(instance)
    assert not process_is_alive(int(pid_file.read_text()))


def test_records_of_another_boot_are_told_as_reboot(house: Any) -> None:
    controller = house.up()
    instance = controller.run("a", ["sleep", "1000"])
    pid = controller.pid_of(instance)
    house.kill()
    os.kill(pid, signal.SIGKILL)
    journal = house.state / "launcher.journal"
    journal.write_text(journal.read_text().replace(controller.about["bootId"], "another-boot"))
    children, exits = house.up().listing()
    assert children == []
    assert [row[3]["unknown"] for row in exits] == ["reboot"]


POINTS = ["before-intent", "after-intent", "after-spawn", "after-pid", "before-frame", "after-frame"]
END_POINTS = ["before-exit-record", "after-exit-record", "after-reap", "before-frame", "after-frame", "after-ack"]


@pytest.mark.parametrize("point", POINTS)
def test_fault_L6_L7_a_launcher_that_dies_around_a_start_never_leads_to_a_second_one(
    house: Any, tmp_path: Path, wait_until: Any, point: str
) -> None:
    ledger = tmp_path / "ledger"
    house.start(env={"RECONCILER_CRASH_AT": f"launcher.{point}"})
    controller = house.controller()
    instance = house.own("instance")
    argv = ["sh", "-c", f"echo $$ >> {ledger}; exec sleep 1000"]
    controller.template("t", argv)
    controller.spawn("a", instance, "t")
    assert house.wait() == 137
    house.kill()
    controller = house.up()
    children, exits = controller.listing()
    if point == "before-intent":
        assert (children, exits) == ([], [])
    elif point == "after-intent":
        assert [row[3]["unknown"] for row in exits] == ["lost"]
    else:
        assert [(row[1], row[5], row[6]) for row in children] == [(instance, True, "up")]
        assert exits == []
    controller.template("t", argv)
    controller.spawn("a", instance, "t")
    controller.round_trip()
    if point not in ("before-intent", "after-intent"):
        wait_until(lambda: ledger.exists() and ledger.read_text().endswith("\n"))
        controller.say(["signal", "a", instance, 9, "tree"])
        controller.exit(instance)
        controller.emptied(instance)
        assert len(ledger.read_text().split()) == 1


@pytest.mark.parametrize("point", ["after-spawn", "after-pid", "before-exit-record", "after-exit-record", "after-reap"])
def test_what_a_task_has_written_is_found_under_its_name_whenever_the_launcher_dies(
    house: Any, wait_until: Any, point: str
) -> None:
    house.start(env={"RECONCILER_CRASH_AT": f"launcher.{point}"})
    controller = house.controller()
    controller.template("t", ["sh", "-c", "echo text; sleep 0.02"], lane="batch", contain=False)
    controller.say(["lane", "batch", 1])
    controller.spawn("task/1", house.own("i1"), "t", log="t/0/1.1.log")
    assert house.wait() == 137
    house.kill()
    house.up()
    log = house.state / "logs/t/0/1.1.log"
    wait_until(lambda: log.exists() and log.read_text() == "text\n")
    wait_until(lambda: os.listdir(house.state / "logs/.spare") == [])


def test_a_task_after_one_that_could_not_be_started_has_a_log_of_its_own(house: Any) -> None:
    controller = house.up()
    controller.say(["lane", "batch", 1])
    failed = controller.run("task/1", ["/etc/passwd"], log="t/0/1.1.log", lane="batch", contain=False)
    assert controller.exit(failed)["failed"][0] == "exec"
    controller.run("w", ["sleep", "1000"], log="w.log")  # takes a descriptor that was closed by mistake
    good = controller.run("task/2", ["echo", "text"], log="t/0/2.1.log", lane="batch", contain=False)
    assert controller.exit(good)["log_bytes"] == 5
    assert (house.state / "logs/t/0/2.1.log").read_text() == "text\n"
    assert (house.state / "logs/w.log").read_text() == ""


def test_the_log_of_a_task_that_runs_on_is_shown_while_it_runs(house: Any, wait_until: Any) -> None:
    controller = house.up()
    controller.template("t", ["sh", "-c", "echo text; exec sleep 1000"], lane="batch", contain=False)
    controller.say(["lane", "batch", 1])
    controller.spawn("task/1", house.own("i1"), "t", log="t/0/1.1.log")
    log = house.state / "logs/t/0/1.1.log"
    wait_until(lambda: log.exists() and log.read_text() == "text\n")
    assert controller.listing()[0][0][6] == "up"


@pytest.mark.parametrize("point", END_POINTS)
def test_a_launcher_that_dies_around_an_exit_loses_no_record_of_it(house: Any, point: str) -> None:
    nth = 2 if point.endswith("-frame") else 1
    house.start(env={"RECONCILER_CRASH_AT": f"launcher.{point}:{nth}"})
    controller = house.controller()
    controller.template("t", ["sh", "-c", "sleep 0.1; exit 3"], contain=False)
    instance = house.own("instance")
    controller.spawn("a", instance, "t")
    if point == "after-ack":
        controller.exit(instance)
        controller.say(["ack", 1])
    assert house.wait() == 137
    house.kill()
    controller = house.up()
    if point == "before-exit-record":  # whoever got the zombie has reaped it, or will
        controller.say(["list"])
        how = controller.exit(instance)
        assert how.get("code") == 3 or how["unknown"] == "unseen"
    children, exits = controller.listing()
    assert children == []
    if point == "before-exit-record":
        assert len(exits) == 1
    elif point == "after-ack":
        assert exits == []
    else:
        assert [(row[0], row[2], row[3]["code"]) for row in exits] == [(1, instance, 3)]


def test_crash_points_are_for_the_first_controller_only_and_for_no_worker(house: Any, tmp_path: Path) -> None:
    house.start(env={"RECONCILER_CRASH_AT": "nowhere.at-all", "RECONCILER_CRASH_TRACE": str(tmp_path / "trace")})
    first = house.controller()
    pid = first.pid_of(first.run("a", ["sleep", "1000"]))
    first.kill()
    second = house.controller()
    assert {"RECONCILER_CRASH_AT", "RECONCILER_CRASH_TRACE"} <= set(first.variables)
    assert not {"RECONCILER_CRASH_AT", "RECONCILER_CRASH_TRACE"} & set(second.variables)
    assert not [name for name in environ_of(pid) if name.startswith("RECONCILER_CRASH")]
    assert "launcher.after-spawn" in (tmp_path / "trace").read_text()


_TITLE = """
import ctypes, os, sys, time
# what setproctitle does: argument and environment area overwritten
with open("/proc/self/stat") as file:
    fields = file.read().rpartition(")")[2].split()
begin, end = int(fields[45]), int(fields[48])
ctypes.memset(begin, 0, end - begin)
open(os.environ["PID_FILE"], "w").close()
time.sleep(1000)
"""


@pytest.mark.parametrize("options", [(), ("--no-cgroup",)], ids=["cgroup", "blocked"])
def test_a_start_whose_program_wiped_its_token_is_found_by_cgroup_or_keeps_its_key_blocked(
    house: Any, tmp_path: Path, wait_until: Any, options: tuple[str, ...]
) -> None:
    pid_file = tmp_path / "pid"
    house.start(*options)
    controller = house.controller()
    if not options and controller.about["containment"] != "cgroup":
        pytest.skip("missing right: a writable cgroup v2")
    instance = controller.run("a", [*PYTHON, _TITLE], env={"PID_FILE": str(pid_file)})
    pid = controller.pid_of(instance)
    wait_until(pid_file.exists)
    pidfd = os.pidfd_open(pid)
    house.kill()
    journal = house.state / "launcher.journal"
    records = [record for record in house.journal() if record[0] != "pid"]
    journal.write_text(json.dumps(records) + "\n")
    controller = house.up(*options)
    children, exits = controller.listing()
    assert exits == []
    if not options:
        assert [(row[2], row[6]) for row in children] == [(pid, "up")]
    else:
        assert [(row[0], row[6]) for row in children] == [("a", "blocked")]
        controller.run("a", ["true"])
        controller.wait(lambda: controller.of("blocked"))
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        assert controller.exit(instance)["unknown"] == "lost"
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)  # its mark is wiped, too
    os.close(pidfd)


def test_fault_L13_while_the_journal_cannot_be_written_nothing_starts_and_exits_are_still_told(house: Any) -> None:
    import resource

    controller = house.up()
    sleeper = controller.run("a", ["sleep", "1000"])
    controller.started(sleeper)
    resource.prlimit(house.process.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    instance = controller.run("b", ["true"])
    assert controller.exit(instance)["failed"][:2] == ["fork", errno.EFBIG]
    controller.say(["signal", "a", sleeper, 15, "group"])
    assert controller.exit(sleeper)["signal"] == 15
    resource.prlimit(house.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    def starts() -> bool:
        return "code" in controller.exit(controller.run(f"c{time.monotonic_ns()}", ["true"]))

    controller.wait(starts)
    seq = max(row[0] for row in controller.rows("exited"))
    house.kill()
    controller = house.up()
    assert sleeper in [row[2] for row in controller.listing()[1]]
    controller.exit(controller.run("d", ["true"]))
    assert controller.rows("exited")[-1][0] > seq
    assert "the journal can be written again" in house.stderr


# -- the controller dies ---------------------------------------------------------------------------------------------


def test_a_killed_controller_is_replaced_at_once_and_hears_what_it_missed(house: Any) -> None:
    controller = house.up()
    stays = controller.run("a", ["sleep", "1000"])
    goes = controller.run("b", ["sleep", "1000"])
    pid, other = controller.pid_of(stays), controller.pid_of(goes)
    controller.kill()
    os.kill(other, signal.SIGTERM)
    controller = house.controller()
    assert controller.about["controllerRestarts"] == 1
    controller.wait(lambda: controller.listing()[1])
    controller.wait(lambda: len(controller.listing()[0]) == 1)  # what has ended counts until its tree is gone
    children, exits = controller.listing()
    assert [(row[2], row[5]) for row in children] == [(pid, False)]
    assert [(row[2], row[3]["signal"]) for row in exits] == [(goes, 15)]
    assert "ended: signal 9; started again\n" in house.stderr, "at once: nothing is said of a wait"


def test_a_controller_killed_many_times_is_replaced_at_once_each_time(house: Any) -> None:
    controller = house.up()
    pid = controller.pid_of(controller.run("a", ["sleep", "1000"]))
    for _ in range(10):
        controller.kill()
        controller = house.controller()
    assert house.stderr.count("started again\n") == 10, "at once: nothing is said of a wait"
    assert [row[2] for row in controller.listing()[0]] == [pid]


def test_clients_that_connect_between_two_controllers_just_wait(house: Any) -> None:
    controller = house.up()
    path = controller.about["api"]
    controller.kill()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        client.sendall(b"hello")
        controller = house.controller()
        peer, _ = controller.api.accept()
        assert peer.recv(10) == b"hello"
        peer.close()


def test_exit_code_75_asks_for_a_restart_without_a_word(house: Any) -> None:
    controller = house.up()
    controller.leave(75)
    house.controller()
    assert house.stderr == ""


def test_exit_code_78_ends_the_launcher_and_leaves_the_workers(house: Any, process_is_alive: Any) -> None:
    controller = house.up()
    pid = controller.pid_of(controller.run("a", ["sleep", "1000"]))
    controller.leave(78)
    assert house.wait() == 2
    assert process_is_alive(pid)


def test_a_controller_that_never_serves_is_restarted_ever_more_slowly(house: Any) -> None:
    house.start()
    times = []
    for _ in range(5):
        controller = house.controller(greet=False)
        times.append(time.monotonic())
        controller.leave(1)
    assert times[4] - times[3] > 0.35
    assert "started again in 0.4 s" in house.stderr


@pytest.mark.parametrize(
    "data",
    [b"\xff\xff\xff\xff", b"\x04\0\0\0nope", frame([["unheard of"]]), frame([["spawn", 5]]), frame([["lane", "a"]]),
     frame([["spawn", [["b", "b1", "no such template", None, None, None]]]]), frame([["hello", 1]]),
     frame([["register", "t", {"argv": ["true"], "env": {}, "grace_ms": "1"}]]), frame([["lane", "a", -1]]),
     b'\x22\0\0\0[["spawn",[["\\ud800","i","t",0,0,0]]]]', frame([["register", "t", {"argv": [1], "env": {}}]])],
    ids=["4 GB", "garbage", "word", "type", "arity", "template", "twice", "grace", "slots", "text", "argv"],
)  # fmt: skip
def test_fault_L5_a_controller_that_breaks_the_protocol_is_replaced_and_workers_stay(house: Any, data: bytes) -> None:
    controller = house.up()
    pid = controller.pid_of(controller.run("a", ["sleep", "1000"]))
    controller.send_raw(data)
    controller = house.controller()
    assert [row[2] for row in controller.listing()[0]] == [pid]
    assert "broke the protocol" in house.stderr


def test_fault_L8_strangers_that_become_children_are_left_alone_and_reaped_when_they_end(
    house: Any, tmp_path: Path, process_is_alive: Any, wait_until: Any
) -> None:
    controller = house.up("--no-cgroup")
    pid_file = tmp_path / "pid"
    program = "import os\nos.environ.pop('RECONCILER_INSTANCE')\nos.execv(os.sys.executable, [os.sys.executable, '-c', os.environ['NEXT']])"
    instance = controller.run("a", [*PYTHON, program], env={"PID_FILE": str(pid_file), "NEXT": _ESCAPE})
    controller.exit(instance)
    controller.emptied(instance)
    stranger = int(pid_file.read_text())
    assert process_is_alive(stranger), "it carries neither token nor session nor cgroup of anything recorded"
    os.kill(stranger, signal.SIGKILL)
    wait_until(lambda: not os.path.exists(f"/proc/{stranger}"))


def test_fault_L11_exits_are_told_though_nobody_waits_for_sigchld(house: Any) -> None:
    house.start(preexec_fn=lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN))
    controller = house.controller()
    assert controller.exit(controller.run("a", ["sh", "-c", "exit 6"]))["code"] == 6


# -- signals to the launcher -----------------------------------------------------------------------------------------


def test_sigterm_is_the_controller_s_to_obey_and_its_finish_ends_the_launcher(
    house: Any, process_is_alive: Any
) -> None:
    controller = house.up()
    pid = controller.pid_of(controller.run("a", ["sleep", "1000"]))
    house.signal(signal.SIGTERM)
    controller.wait(lambda: controller.of("terminate") == [["terminate", 1]])
    house.signal(signal.SIGINT)
    controller.wait(lambda: controller.of("terminate") == [["terminate", 1], ["terminate", 2]])
    controller.say(["finish", 4])
    controller.leave(0)
    assert house.wait() == 4
    assert process_is_alive(pid)
    assert not (house.state / "run" / "api.sock").exists()


def test_sighup_asks_for_a_rescan(house: Any) -> None:
    controller = house.up()
    house.signal(signal.SIGHUP)
    controller.wait(lambda: controller.of("rescan"))


def test_a_finished_controller_that_does_not_end_is_killed(house: Any) -> None:
    controller = house.up()
    controller.say(["finish", 0])
    assert house.wait() == 0


def test_sigterm_without_a_controller_stops_everything_from_the_records(house: Any, process_is_alive: Any) -> None:
    house.start()
    controller = house.controller()
    note = "trap 'echo asked; exit 0' USR1; echo ready; while :; do sleep 0.02; done"
    asked = controller.run("a", ["sh", "-c", note], log="a.log", stop_signal=int(signal.SIGUSR1))
    deaf = controller.run("b", ["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.02; done"], log="b.log",
                          grace_ms=300)  # fmt: skip
    pids = [controller.pid_of(asked), controller.pid_of(deaf)]
    logs = [house.state / "logs" / name for name in ("a.log", "b.log")]
    controller.wait(lambda: all("ready" in log.read_text() for log in logs) or controller.round_trip())
    controller.kill()
    # not yet serving: the launcher does not wait for it
    house.controller(serving=False)
    before = time.monotonic()
    house.signal(signal.SIGTERM)
    assert house.wait() == 0
    assert 0.25 < time.monotonic() - before < 25.0, "its own grace, and not the 30 s of one that says nothing"
    assert not any(process_is_alive(pid) for pid in pids)
    assert "asked" in logs[0].read_text()
    exits = {record[2]: record[4] for record in house.journal() if record[0] == "exit"}
    assert exits["a"]["code"] == 0
    assert exits["b"]["signal"] == 9


def test_a_second_sigterm_leaves_no_grace_and_a_third_leaves_the_workers(house: Any, process_is_alive: Any) -> None:
    house.start()
    controller = house.controller(serving=False)
    program = "trap 'echo asked' TERM; echo ready; while :; do sleep 0.02; done"
    deaf = controller.run("b", ["sh", "-c", program], log="b.log", grace_ms=300_000)
    pid = controller.pid_of(deaf)
    log = house.state / "logs" / "b.log"
    controller.wait(lambda: "ready" in log.read_text() or controller.round_trip())
    house.signal(signal.SIGTERM)
    until(lambda: "asked" in log.read_text())  # two signals that wait at once are one
    assert house.process.poll() is None
    house.signal(signal.SIGTERM)
    assert house.wait() == 0
    assert not process_is_alive(pid)


def test_a_third_signal_ends_the_launcher_at_once_and_leaves_the_workers(house: Any, process_is_alive: Any) -> None:
    controller = house.up()
    pid = controller.pid_of(controller.run("a", ["sleep", "1000"]))
    for count in (1, 2):
        house.signal(signal.SIGTERM)
        controller.wait(lambda: len(controller.of("terminate")) == count)  # noqa: B023
    house.signal(signal.SIGTERM)
    assert house.wait() == 1
    assert process_is_alive(pid)


def test_a_controller_that_dies_while_it_stops_everything_is_not_replaced(house: Any, process_is_alive: Any) -> None:
    controller = house.up()
    pid = controller.pid_of(controller.run("a", ["sleep", "1000"]))
    house.signal(signal.SIGTERM)
    controller.wait(lambda: controller.of("terminate"))
    controller.kill()
    assert house.wait() == 0
    assert not process_is_alive(pid)


def test_sigquit_ends_the_controller_and_leaves_the_workers(house: Any, process_is_alive: Any) -> None:
    controller = house.up()
    pid = controller.pid_of(controller.run("a", ["sleep", "1000"]))
    house.signal(signal.SIGQUIT)
    assert house.wait() == 0
    assert process_is_alive(pid)
    assert not process_is_alive(controller.pid)
    assert [row[2] for row in house.up().listing()[0]] == [pid]


def test_fault_C5_a_signal_before_the_handlers_stand_waits_for_them(house: Any) -> None:
    for delay_s in (0.02, 0.04, 0.06, 0.09):
        house.start()
        time.sleep(delay_s)
        house.signal(signal.SIGTERM)
        assert house.wait() in (0, -signal.SIGTERM), "the latter: Python itself had not begun"


# -- the state directory ---------------------------------------------------------------------------------------------


def test_a_second_launcher_waits_5_s_and_then_names_the_holder(house: Any) -> None:
    controller = house.up()
    first = house.process
    before = time.monotonic()
    house.start()
    second = house.process
    house.process = first
    assert second.wait(30.0) == 5
    assert time.monotonic() - before > 4.9
    assert f"{house.state} is held by pid {first.pid} (" in house.stderr
    assert "\n  help: " in house.stderr
    controller.round_trip()


def test_the_lock_is_free_as_soon_as_its_holder_is_gone(house: Any) -> None:
    house.up()
    house.kill()
    house.up().round_trip()


def test_no_child_holds_the_lock(house: Any) -> None:
    controller = house.up()
    controller.started(controller.run("a", ["sleep", "1000"]))
    house.kill()
    house.up()


def test_the_state_directory_and_the_socket_are_for_their_owner_only(house: Any) -> None:
    house.up()
    for name in ("", "run", "logs"):
        assert stat.S_IMODE((house.state / name).stat().st_mode) == 0o700
    for name in ("run/api.sock", "launcher.lock", "launcher.journal"):
        assert stat.S_IMODE((house.state / name).stat().st_mode) == 0o600


def test_fault_C24_a_socket_left_by_a_dead_launcher_is_replaced(house: Any) -> None:
    house.up()
    house.kill()
    assert (house.state / "run" / "api.sock").exists()
    controller = house.up()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(controller.about["api"])


def test_fault_C25_a_socket_path_that_is_too_long_is_refused_early(house: Any, tmp_path: Path) -> None:
    house.state = tmp_path / ("x" * 100)
    house.start()
    assert house.wait() == 2
    assert "longer than the 107 bytes" in house.stderr


def test_fault_C25_a_socket_that_was_deleted_is_bound_again_for_the_next_controller(house: Any) -> None:
    controller = house.up()
    path = controller.about["api"]
    os.unlink(path)
    controller.kill()
    controller = house.controller()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        controller.api.accept()[0].close()


def test_fault_C26_a_foreign_file_at_the_socket_s_path_is_refused(house: Any) -> None:
    (house.state / "run").mkdir(parents=True)
    path = house.state / "run" / "api.sock"
    path.write_text("mine")
    house.start()
    assert house.wait() == 2
    assert path.read_text() == "mine"
    assert "is no socket" in house.stderr


def test_fault_C26_a_linked_run_directory_is_refused(house: Any, tmp_path: Path) -> None:
    house.state.mkdir()
    (tmp_path / "elsewhere").mkdir()
    (house.state / "run").symlink_to(tmp_path / "elsewhere")
    house.start()
    assert house.wait() == 2
    assert os.listdir(tmp_path / "elsewhere") == []


@root_only
def test_a_state_directory_of_somebody_else_is_refused(house: Any) -> None:
    house.state.mkdir()
    os.chown(house.state, 65534, 65534)
    house.start()
    assert house.wait() == 2
    assert "belongs to uid 65534" in house.stderr


def test_it_begins_with_its_standard_descriptors_closed(house: Any) -> None:
    def close() -> None:
        for fd in (0, 1, 2):
            os.close(fd)

    house.start(preexec_fn=close)
    controller = house.controller()
    assert controller.exit(controller.run("a", ["sh", "-c", "echo text; exit 7"], log="a.log"))["code"] == 7
    assert (house.state / "logs" / "a.log").read_text() == "text\n"


def test_the_journal_holds_no_argument_and_no_environment_value(house: Any) -> None:
    controller = house.up()
    controller.exit(controller.run("a", ["echo", "CANARY-ARG"], env={"A": "CANARY-ENV"}, log="a.log"))
    assert "CANARY" not in (house.state / "launcher.journal").read_text()
    assert "CANARY" not in house.stderr


def test_no_descriptor_zombie_or_cgroup_is_left_after_many_starts(house: Any, wait_until: Any) -> None:
    controller = house.up()
    controller.emptied(controller.run("first", ["true"], log="first.log"))
    fds = Path(f"/proc/{house.process.pid}/fd")
    before = len(os.listdir(fds))
    instances = [controller.run(f"a{n}", ["sh", "-c", "exit 0"], log=f"a{n}.log") for n in range(40)]
    instances += [controller.run(f"b{n}", ["/no/such"], log=f"b{n}.log") for n in range(10)]
    for instance in instances:
        controller.emptied(instance)
    controller.round_trip()
    wait_until(lambda: len(os.listdir(fds)) <= before)  # some are open for a moment, now as then
    children = Path(f"/proc/{house.process.pid}/task/{house.process.pid}/children")
    wait_until(lambda: children.read_text().split() == [str(controller.pid)])
    house.signal(signal.SIGQUIT)
    house.wait()
    ours = f"{Cgroups(str(house.state), print)._name}*"
    found = subprocess.run(["find", "/sys/fs/cgroup", "-name", ours], capture_output=True, text=True)
    assert found.stdout == ""


def test_fault_C30_a_running_launcher_needs_no_file_of_the_package_any_more(
    house: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, process_is_alive: Any
) -> None:
    import shutil

    import reconciler

    copy = tmp_path / "installed" / "reconciler"
    copy.mkdir(parents=True)
    source = Path(reconciler.__file__).parent
    for name in ("__init__.py", "crash.py"):
        shutil.copy(source / name, copy / name)
    shutil.copytree(source / "launcher", copy / "launcher")
    house.entry = str(copy / "launcher" / "__main__.py")
    controller = house.up()
    shutil.rmtree(tmp_path / "installed")
    assert controller.exit(controller.run("a", ["sh", "-c", "exit 3"], log="a.log"))["code"] == 3
    assert controller.exit(controller.run("b", ["/no/such"]))["failed"][0] == "exec"
    pid = controller.pid_of(controller.run("c", [*PYTHON, _ESCAPE], env={"PID_FILE": str(tmp_path / "pid")}))
    controller.send_raw(b"\xff\xff\xff\xff")
    house.controller(serving=False)
    house.signal(signal.SIGTERM)
    assert house.wait() == 0
    assert not process_is_alive(pid)


def test_fault_P34_a_process_that_SIGKILL_does_not_end_is_named_and_its_key_stays_taken(house: Any) -> None:
    freezer = Path("/sys/fs/cgroup/freezer") / f"reconciler-test-{os.getpid()}"
    try:
        freezer.mkdir()
    except OSError:
        pytest.skip("missing right: a freezer cgroup (v1)")
    try:
        controller = house.up()
        instance = controller.run("a", ["sleep", "1000"])
        pid = controller.pid_of(instance)
        (freezer / "cgroup.procs").write_text(str(pid))
        (freezer / "freezer.state").write_text("FROZEN")
        until(lambda: (freezer / "freezer.state").read_text() == "FROZEN\n")  # FREEZING until it has come to a halt
        controller.say(["signal", "a", instance, 9, "tree"])
        controller.wait(lambda: controller.rows("stuck") == [["a", instance, pid]])
        controller.template("t", ["true"])
        controller.spawn("a", house.own("another"), "t")
        controller.wait(lambda: controller.of("blocked"))
        (freezer / "freezer.state").write_text("THAWED")
        assert controller.exit(instance)["signal"] == 9
        controller.emptied(instance)
    finally:
        (freezer / "freezer.state").write_text("THAWED")
        house.close()
        freezer.rmdir()


@root_only
def test_an_ordinary_user_s_launcher_does_the_same_without_any_right(house: Any, process_is_alive: Any) -> None:
    def may(python: str) -> bool:
        words = [python, "-I", "-S", "-c", f"import sys; assert sys.version_info >= (3, 11); open({house.entry!r})"]
        try:
            return subprocess.run(words, user=65534, group=65534, extra_groups=[], stderr=-3).returncode == 0
        except OSError:
            return False

    pythons = [python for python in (sys.executable, "/usr/bin/python3") if may(python)]
    if not pythons:
        pytest.skip("missing right: an interpreter and a package that another user may read")
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o777)
        theirs = type(house)(Path(name))
        os.chmod(Path(name) / "desk", 0o777)
        theirs.start(python=pythons[0], user=65534, group=65534, extra_groups=[])
        try:
            controller = theirs.controller()
            assert controller.about["containment"] == "weak"
            instance = controller.run("a", ["sh", "-c", "id -u; exit 3"], log="a.log")
            assert controller.exit(instance)["code"] == 3
            assert (theirs.state / "logs" / "a.log").read_text() == "65534\n"
            assert controller.exit(controller.run("b", ["true"], uid=0))["failed"][:2] == ["identity", errno.EPERM]
            pid_file = Path(name) / "pid"
            instance = controller.run("c", [pythons[0], "-I", "-S", "-c", _ESCAPE], env={"PID_FILE": str(pid_file)})
            controller.exit(instance)
            assert controller.emptied(instance) == 1
            assert not process_is_alive(int(pid_file.read_text()))
        finally:
            theirs.close()


@pytest.mark.long
def test_a_controller_that_does_not_stop_everything_in_time_is_ended_and_the_launcher_does_it(
    house: Any, process_is_alive: Any
) -> None:
    controller = house.up()
    pid = controller.pid_of(controller.run("a", ["sleep", "1000"], grace_ms=100))
    house.signal(signal.SIGTERM)
    controller.wait(lambda: controller.of("terminate"))
    assert house.wait() == 0
    assert not process_is_alive(pid)
    assert "did not end in time" in house.stderr
