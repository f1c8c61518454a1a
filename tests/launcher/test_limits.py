"""What a process may use and touch: real processes by the fork path, real cgroups where this machine has them."""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reconciler.launcher import cgroups
from reconciler.launcher.cgroups import Cgroups, File, settings
from reconciler.launcher.failure import StartFailed
from reconciler.launcher.protocol import Limits, Template
from reconciler.launcher.starter import Prepared, Start, Starter
from tests.launcher.conftest import House, until

STRANGER = 54_321
"""A uid that is nobody's."""

ALONE = 100_000 + os.getpid()
"""A uid that no other run of these tests has: what is sent to all of its processes meets only ours."""

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="another user, setuid and mounts need root")


def _has_landlock() -> bool:
    libc = ctypes.CDLL(None)
    return bool(libc.syscall(444, None, ctypes.c_size_t(0), 1) > 0)  # landlock_create_ruleset: which version there is


class Run:
    """Runs shell lines with limits and returns (exit code, output)."""

    def __init__(self, directory: Path) -> None:
        self._starter = Starter()
        self._out = directory / "out"
        self.cgroups = Cgroups(str(directory), print)
        self.count = 0
        self.oom = 0

    def __call__(self, line: str, uid: int | None = None, required: bool = False, **limits: object) -> tuple[int, str]:
        self.count += 1
        instance = f"i{self.count}"
        asked = {**limits, **({"required": True} if required else {})}
        template = Template("t", ["sh", "-c", line], {"PATH": "/usr/bin:/bin"}, uid=uid, gid=uid, limits=asked)
        prepared = Prepared(template)
        log = os.open(self._out, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o666)
        try:
            start = Start(prepared, prepared.argv, prepared.env, (self._starter.null, log, log))
            start.join = self.cgroups.prepare(instance, prepared.limits)
            self._starter.resolve(start)
            (found,) = self._starter.start([start])
            if isinstance(found, StartFailed):
                raise found
            os.close(found.pidfd)
            code = os.waitstatus_to_exitcode(os.waitpid(found.pid, 0)[1])
            self.oom = self.cgroups.oom_kills(instance)
            return code, os.pread(log, 1 << 16, 0).decode()
        finally:
            os.close(log)
            self.cgroups.remove(instance)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    made = Run(tmp_path)
    yield made

    def closed() -> bool:
        made.cgroups.close()
        return not any(os.path.isdir(place.parent) for place in made.cgroups._places.values())

    until(closed)  # those that a test has killed may still be on their way out


def needs(controller: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    why = Cgroups("/nowhere", print).about()[controller]
    return pytest.mark.skipif(why.startswith("no: "), reason=f"{controller} cannot be limited here: {why}")


needs_landlock = pytest.mark.skipif(not _has_landlock(), reason="this kernel has no Landlock")


def test_nice_and_rlimits_hold_for_the_process(run: Run) -> None:
    assert run("nice; ulimit -Hn; ulimit -Sc", nice=7, rlimits={"nofile": 99, "core": 4096}) == (0, "7\n99\n8\n")


def test_a_process_that_asks_for_nothing_writes_no_core(run: Run) -> None:
    assert run("ulimit -Sc") == (0, "0\n")


@root_only
def test_rlimits_may_be_raised_for_another_user(run: Run) -> None:
    assert run("ulimit -Hn; id -u", uid=STRANGER, rlimits={"nofile": 7000}) == (0, f"7000\n{STRANGER}\n")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may do all of this")
def test_what_takes_root_fails_by_its_step(run: Run) -> None:
    for step, asked in (("nice", {"nice": -5}), ("sandbox", {"private_tmp": True}), ("identity", {"uid": STRANGER})):
        with pytest.raises(StartFailed) as failed:
            run("true", **asked)  # type: ignore[arg-type]
        assert failed.value.step == step


@root_only
def test_fault_P35_a_setuid_program_gives_no_rights_where_that_is_declared(run: Run, tmp_path: Path) -> None:
    program = shutil.copy("/usr/bin/id", tmp_path / "id")
    os.chmod(program, stat.S_ISUID | 0o755)
    for directory in (tmp_path, *tmp_path.parents[:-1]):
        if not directory.stat().st_mode & 0o001:
            directory.chmod(0o711)
    if run(f"{program} -u", uid=STRANGER) != (0, "0\n"):
        pytest.skip(f"{tmp_path} is mounted nosuid")
    assert run(f"{program} -u", uid=STRANGER, no_new_privileges=True) == (0, f"{STRANGER}\n")


@root_only
def test_fault_P41_killing_everybody_ends_only_processes_of_the_same_user(run: Run) -> None:
    code, _ = run("kill -9 -1; exit 3", uid=ALONE)
    assert code in (3, -9)


@needs_landlock
def test_only_declared_paths_can_be_written(run: Run, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "other").mkdir()
    line = f"""
        cd {tmp_path}
        echo a >in/a && mkdir in/b && mv in/a in/b/a && rm -r in/b && echo inside
        echo x >/dev/null && echo null
        echo y >>/dev/stderr
        for what in 'touch other/a' 'mkdir other/b' 'rm out' 'ln -s x other/s' 'mv in other/in'; do
            $what 2>/dev/null && echo "$what was allowed"
        done
        cat /etc/passwd >/dev/null && echo read
    """
    assert run(line, read_write_paths=[str(tmp_path / "in")]) == (0, "inside\nnull\ny\nread\n")
    assert os.listdir(tmp_path / "other") == []


@needs_landlock
def test_a_path_that_is_not_there_is_said(run: Run, tmp_path: Path) -> None:
    with pytest.raises(StartFailed) as failed:
        run("true", read_write_paths=[str(tmp_path / "none")])
    assert (failed.value.step, failed.value.errno) == ("sandbox", errno.ENOENT)
    assert str(tmp_path / "none") in failed.value.text


@root_only
def test_a_private_tmp_is_empty_and_writable_and_goes_with_the_process(run: Run) -> None:
    name = f"private-{os.getpid()}"
    assert run(f"ls -A /tmp /var/tmp; touch /tmp/{name} && echo made", uid=STRANGER, private_tmp=True) == (
        0, "/tmp:\n\n/var/tmp:\nmade\n",
    )  # fmt: skip
    assert not os.path.exists(f"/tmp/{name}")


@root_only
@needs_landlock
def test_a_private_tmp_stays_writable_in_a_sandbox(run: Run) -> None:
    line = "touch /tmp/a /var/tmp/a && echo made; touch /etc/a 2>/dev/null || echo not there"
    assert run(line, private_tmp=True, read_write_paths=[]) == (0, "made\nnot there\n")


EAT = "exec {python} -c 'x = bytearray({mib} << 20)'"


def _eat(mib: int) -> str:
    return EAT.format(python="python3", mib=mib)


@needs("memory")
def test_fault_P32_going_beyond_the_memory_limit_is_counted_as_what_it_is(run: Run) -> None:
    assert run(_eat(200), memory_bytes=48 << 20)[0] == -9
    assert run.oom == 1
    assert run(_eat(10), memory_bytes=48 << 20)[0] == 0
    assert run.oom == 0


@needs("pids")
def test_fault_P43_a_fork_bomb_ends_at_its_limit_of_processes(run: Run) -> None:
    bomb = """exec python3 -c '
import os, signal
made = 0
try:
    while made < 100:
        if os.fork() == 0:
            signal.pause()
        made += 1
except BlockingIOError:
    print(made, flush=True)
os.kill(0, 9)
'"""
    code, output = run(bomb, pids=10)
    assert (code, output) == (-9, "9\n")


@needs("cpu")
def test_a_cpu_limit_slows_down_what_wants_more(run: Run) -> None:
    line = """exec python3 -c '
import time
began, used = time.monotonic(), time.process_time()
while time.process_time() - used < 0.2: pass
print(time.monotonic() - began > 0.6)
'"""
    assert run(line, cpu_milli=200) == (0, "True\n")


@needs("cpu")
def test_limits_stand_in_the_cgroup_before_the_process_begins(run: Run) -> None:
    place = run.cgroups._places["cpu"]
    name = "cpu.cfs_quota_us" if place.version == 1 else "cpu.max"
    line = f"cat {place.parent}/$(sed -n 's|.*[:,]cpu[,:].*/||p' /proc/self/cgroup)/{name}"
    if place.version == 2:
        line = f"cat {place.parent}/$(sed -n 's|^0::.*/||p' /proc/self/cgroup)/{name}"
    assert run(line, cpu_milli=500)[1].startswith("50000")


def test_every_limit_has_its_file_in_either_version() -> None:
    limits = Limits(memory_bytes=1 << 30, cpu_milli=1500, cpu_weight=200, pids=20)
    assert settings(1, limits) == {
        "memory": [
            File("memory.limit_in_bytes", "1073741824"), File("memory.memsw.limit_in_bytes", "1073741824", False),
        ],
        "cpu": [File("cpu.cfs_period_us", "100000"), File("cpu.cfs_quota_us", "150000"), File("cpu.shares", "2048")],
        "pids": [File("pids.max", "20")],
    }  # fmt: skip
    assert settings(2, limits) == {
        "memory": [
            File("memory.max", "1073741824"), File("memory.swap.max", "0", False), File("memory.oom.group", "1", False),
        ],
        "cpu": [File("cpu.max", "150000 100000"), File("cpu.weight", "200")],
        "pids": [File("pids.max", "20")],
    }  # fmt: skip
    assert settings(1, Limits(nice=5)) == {}


def test_a_limit_that_cannot_be_enforced_is_said_and_refused_where_it_is_required(tmp_path: Path) -> None:
    none = Cgroups(str(tmp_path), print, use_cgroup=False)
    limits = Limits(memory_bytes=1 << 30, nice=5)
    assert list(none.lacking(limits)) == ["memory"]
    assert none.prepare("i", limits) == []
    with pytest.raises(StartFailed) as failed:
        none.prepare("i", limits._replace(required=True))
    assert failed.value.step == "cgroup" and "memory cannot be limited" in failed.value.text


@needs("memory")
def test_a_limit_that_the_kernel_refuses_is_complained_of_or_refused(tmp_path: Path) -> None:
    said: list[str] = []
    made = Cgroups(str(tmp_path), said.append)
    bad = Limits(cpu_milli=0, cpu_weight=100)  # a quota of nothing
    try:
        made.prepare("i", bad)
        assert "cpu cannot be limited" in said[0]
        with pytest.raises(StartFailed) as failed:
            made.prepare("j", bad._replace(required=True))
        assert failed.value.step == "cgroup"
    finally:
        made.remove("i")
        made.close()


def test_a_controller_is_handed_on_once_in_a_cgroup_of_version_2(tmp_path: Path) -> None:
    point = next(
        (p for p in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified") if os.path.exists(f"{p}/cgroup.controllers")), ""
    )
    if not point or not os.access(point, os.W_OK):
        pytest.skip("no writable cgroup of version 2")
    controllers = Path(point, "cgroup.subtree_control").read_text().split()
    if not controllers:
        pytest.skip("the root hands no controller on, and a test does not change that")
    inner = Path(point, f"test-{os.getpid()}")
    inner.mkdir()
    try:
        cgroups.hand_on(str(inner), controllers[0])
        cgroups.hand_on(str(inner), controllers[0])
        assert controllers[0] in (inner / "cgroup.subtree_control").read_text().split()
    finally:
        inner.rmdir()


# by a whole launcher


def test_fault_P42_writing_beyond_the_file_size_ends_the_process(house: House, tmp_path: Path) -> None:
    controller = house.up()
    big = tmp_path / "big"
    child = controller.run(
        "worker/a-0", ["sh", "-c", f"exec head -c 100000 /dev/zero >{big}"], limits={"rlimits": {"fsize": 4096}}
    )
    assert controller.exit(child)["signal"] == 25
    assert big.stat().st_size == 4096


@needs("memory")
def test_fault_P32_the_exit_record_tells_an_oom_kill_from_any_other(house: House) -> None:
    controller = house.up()
    limits = {"memory_bytes": 48 << 20}
    eater = controller.run("worker/a-0", ["python3", "-c", "bytearray(200 << 20)"], limits=limits)
    how = controller.exit(eater)
    assert (how["signal"], how["oom"]) == (9, 1)
    controller.emptied(eater)
    sleeper = controller.run("worker/b-0", ["sleep", "1000"], limits=limits)
    os.kill(controller.pid_of(sleeper), 9)
    how = controller.exit(sleeper)
    assert how["signal"] == 9 and "oom" not in how
    controller.emptied(sleeper)


@needs("memory")
def test_an_oom_kill_is_known_of_a_worker_that_an_earlier_launcher_started(house: House, tmp_path: Path) -> None:
    controller = house.up()
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    line = f"open({str(gate)!r}).read(); bytearray(200 << 20)"
    eater = controller.run("worker/a-0", ["python3", "-c", line], limits={"memory_bytes": 48 << 20})
    controller.started(eater)
    house.kill()
    controller = house.up()
    controller.listing()
    gate.write_text("go")
    how = controller.exit(eater)
    assert how.get("oom") == 1, how
    controller.emptied(eater)


@needs("pids")
def test_cgroups_are_gone_once_the_tree_is(house: House, wait_until: Callable[..., None]) -> None:
    controller = house.up()
    place = Cgroups(os.path.realpath(house.state), print)._places["pids"]
    child = controller.run("worker/a-0", ["sh", "-c", "setsid sleep 1000 & exit 0"], limits={"pids": 5})
    controller.emptied(child)
    assert [entry for entry in os.scandir(place.parent) if entry.is_dir()] == []
    house.signal(15)
    controller.say(["finish", 0])
    controller.leave(0)
    house.wait()
    assert not os.path.exists(place.parent)


def test_the_launcher_says_at_once_what_it_will_not_enforce(house: House) -> None:
    controller = house.up("--no-cgroup")
    child = controller.run("worker/a-0", ["true"], limits={"pids": 5})
    assert controller.exit(child)["code"] == 0
    assert controller.of("unenforced")[0][2].keys() == {"pids"}
    required = controller.run("worker/b-0", ["true"], limits={"pids": 5, "required": True})
    assert controller.exit(required)["failed"][0] == "cgroup"


def test_limits_that_make_no_sense_end_the_connection_and_not_the_launcher(house: House) -> None:
    controller = house.up()
    controller.template("t", ["true"], limits={"rlimits": {"wishes": 3}})
    house.controller()


@needs("pids")
def test_a_full_table_of_descriptors_is_a_failed_start_and_no_start_without_limits(tmp_path: Path) -> None:
    made = Cgroups(str(tmp_path), print)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
        with pytest.raises(StartFailed) as failed:
            made.prepare("i", Limits(pids=5))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        made.close()
    assert (failed.value.step, failed.value.errno) == ("cgroup", errno.EMFILE)
