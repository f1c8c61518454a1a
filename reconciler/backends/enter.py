"""Runs a command beside a running process: what that process is allowed and sees, with the terminal of the caller.

    /proc/PID   environ cwd status limits cgroup ns/mnt   ->   fork, become the same, exec

Same: user, groups, umask, directory, environment, rlimits, nice, OOM score, cgroup, no-new-privileges, mounts. Not the same:
standard input and output, which are the caller's. Landlock rules cannot be entered from outside.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from reconciler.errors import Refused

CANNOT_EXECUTE = 126
NOT_FOUND = 127
OWN_FAILURE = 125

_CLONE_NEWNS = 0x00020000
_PR_SET_NO_NEW_PRIVS = 38
_LIMITS = {
    "Max cpu time": resource.RLIMIT_CPU,
    "Max file size": resource.RLIMIT_FSIZE,
    "Max data size": resource.RLIMIT_DATA,
    "Max stack size": resource.RLIMIT_STACK,
    "Max core file size": resource.RLIMIT_CORE,
    "Max resident set": resource.RLIMIT_RSS,
    "Max processes": resource.RLIMIT_NPROC,
    "Max open files": resource.RLIMIT_NOFILE,
    "Max locked memory": resource.RLIMIT_MEMLOCK,
    "Max address space": resource.RLIMIT_AS,
    "Max pending signals": resource.RLIMIT_SIGPENDING,
    "Max msgqueue size": resource.RLIMIT_MSGQUEUE,
    "Max nice priority": resource.RLIMIT_NICE,
    "Max realtime priority": resource.RLIMIT_RTPRIO,
    "Max realtime timeout": resource.RLIMIT_RTTIME,
}
"""As /proc/PID/limits calls them; prlimit(2) would need a right that reading does not."""


class Place(NamedTuple):
    """What a process is and where it stands."""

    pid: int
    uid: int
    gid: int
    groups: tuple[int, ...]
    umask: int
    no_new_privileges: bool
    limits: tuple[tuple[int, tuple[int, int]], ...]
    nice: int
    oom_score_adj: bytes
    cgroups: tuple[str, ...]
    """Directories of control groups that it is in and we are not."""
    other_mounts: bool


def environment(pid: int, instance: str) -> dict[str, str] | None:
    """What it was started with; None when the program has written something else there, such as a title.

    Raises Refused when the pid is no longer that instance's, or may not be looked at.
    """
    found = environment_of(pid)
    if found is None:
        return None
    if found.get("RECONCILER_INSTANCE") != instance:
        raise Refused(f"pid {pid} is no longer the worker's", "it was started again just now: try once more")
    return found


def environment_of(pid: int) -> dict[str, str] | None:
    """What stands in its memory where its environment was; None when that is something else. Raises Refused."""
    pairs = _read(pid, "environ").rstrip(b"\0").split(b"\0")
    if not all(pair.find(b"=") > 0 for pair in pairs):
        return None
    return dict(os.fsdecode(pair).split("=", 1) for pair in pairs)


def place(pid: int) -> Place:
    """Looks at a process. Raises Refused."""
    status = dict(line.split(":\t", 1) for line in _read(pid, "status").decode().splitlines() if ":\t" in line)
    try:
        other_mounts = os.readlink(f"/proc/{pid}/ns/mnt") != os.readlink("/proc/self/ns/mnt")
        nice = os.getpriority(os.PRIO_PROCESS, pid)
    except OSError as error:
        raise _refused(pid, error) from None
    ours = set(_read(os.getpid(), "cgroup").decode().splitlines())
    theirs = [line for line in _read(pid, "cgroup").decode().splitlines() if line not in ours]
    return Place(
        pid=pid,
        uid=int(status["Uid"].split()[1]),
        gid=int(status["Gid"].split()[1]),
        groups=tuple(map(int, status["Groups"].split())),
        umask=int(status["Umask"], 8),
        no_new_privileges=status.get("NoNewPrivs", "0").strip() == "1",
        limits=tuple(_limits(_read(pid, "limits").decode())),
        nice=nice,
        oom_score_adj=_read(pid, "oom_score_adj"),
        cgroups=tuple(filter(None, map(_cgroup_directory, theirs))),
        other_mounts=other_mounts,
    )


def run(place: Place, environment: Mapping[str, str], command: Sequence[str]) -> int:
    """Runs the command there and waits for it; its exit code, 128+n for signal n, 125 to 127 as a shell has them."""
    pid = os.fork()
    if pid == 0:
        _become(place, environment, command)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGQUIT)}

    def pass_on(number: int, frame: object) -> None:
        os.kill(pid, number)  # it is our child and not reaped: the pid is its own

    before |= {number: signal.signal(number, pass_on) for number in (signal.SIGTERM, signal.SIGHUP)}
    _, status = os.waitpid(pid, 0)
    for number, handler in before.items():
        signal.signal(number, handler)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _become(place: Place, environment: Mapping[str, str], command: Sequence[str]) -> None:
    """In the forked child; never returns. What takes rights comes before they are given up."""
    step, code = "enter its control group", OWN_FAILURE
    try:
        cwd = os.open(f"/proc/{place.pid}/cwd", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        mounts = os.open(f"/proc/{place.pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC) if place.other_mounts else -1
        for directory in place.cgroups:
            try:
                with open(f"{directory}/cgroup.procs", "wb", buffering=0) as file:
                    file.write(b"0")
            except OSError as error:
                _say(f"note: not in the worker's control group, its limits do not hold: {directory}: {error.strerror}")
        step = "take its limits"
        with open("/proc/self/oom_score_adj", "wb", buffering=0) as file:
            file.write(place.oom_score_adj)
        for which, limit in place.limits:
            resource.setrlimit(which, limit)
        os.setpriority(os.PRIO_PROCESS, 0, place.nice)
        if mounts >= 0:
            step = "enter its mounts"
            _call("setns", mounts, _CLONE_NEWNS)
        step = "become its user"
        if os.geteuid() == 0:
            os.setgroups(place.groups)
        if (os.getegid(), os.geteuid()) != (place.gid, place.uid):
            os.setresgid(place.gid, place.gid, place.gid)
            os.setresuid(place.uid, place.uid, place.uid)
        if place.no_new_privileges:
            _call("prctl", _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        os.umask(place.umask)
        step = "enter its directory"
        os.fchdir(cwd)
        step, code = f"execute {command[0]}", CANNOT_EXECUTE
        os.execvpe(command[0], list(command), dict(environment))
    except OSError as error:
        missing = code == CANNOT_EXECUTE and isinstance(error, FileNotFoundError)
        _say(f"error: cannot {step}: {error.strerror}")
        os._exit(NOT_FOUND if missing else code)
    except ValueError as error:
        _say(f"error: cannot {step}: {error}")
        os._exit(code)
    finally:
        os._exit(OWN_FAILURE)


def _say(text: str) -> None:
    os.write(2, f"{text}\n".encode("utf-8", "backslashreplace"))


def _call(name: str, *args: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*args) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _limits(text: str) -> Iterator[tuple[int, tuple[int, int]]]:
    for line in text.splitlines()[1:]:
        which = _LIMITS.get(line[:25].strip())
        if which is not None:
            soft, hard = (
                resource.RLIM_INFINITY if word == "unlimited" else int(word) for word in line[25:].split()[:2]
            )
            if resource.getrlimit(which) != (soft, hard):
                yield which, (soft, hard)


def _cgroup_directory(line: str) -> str:
    """Where a line of /proc/PID/cgroup is mounted; empty when it is not."""
    _, controllers, path = line.split(":", 2)
    with open("/proc/self/mountinfo") as file:
        for mount in file:
            fields, _, rest = mount.partition(" - ")
            kind, _, options = rest.split(maxsplit=2)
            root, point = fields.split()[3:5]
            known = kind == "cgroup2" if not controllers else kind == "cgroup"
            if known and set(filter(None, controllers.split(","))) <= set(options.strip().split(",")):
                below = path.removeprefix(root.rstrip("/"))
                return f"{point}{below}" if path.startswith(root) else ""
    return ""


def _read(pid: int, name: str) -> bytes:
    try:
        with open(f"/proc/{pid}/{name}", "rb") as file:
            return file.read()
    except OSError as error:
        raise _refused(pid, error) from None


def _refused(pid: int, error: OSError) -> Refused:
    if isinstance(error, FileNotFoundError | ProcessLookupError):
        return Refused(f"pid {pid} has ended", "try once more when the worker is up again")
    return Refused(f"pid {pid} may not be looked at: {error.strerror}", "be the worker's user, or root")
