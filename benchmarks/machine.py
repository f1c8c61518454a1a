"""What the kernel says: facts of the machine, children, memory and CPU time of processes; read from /proc.

This process is a subreaper while it measures, so that whatever a subject leaves behind stays below it and can be
ended: nothing but its own descendants is ever signalled.
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
QUIET = 0.2
"""The share of the machine that others may use without spoiling a measurement."""
WORK = Path("/var/tmp")
"""Where subjects keep their state while they are measured."""


def become_subreaper() -> None:
    """Orphans of what is measured come to this process. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def allow_many_descriptors() -> None:
    """Peers with pipes to 1,000 workers need more than the usual soft limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def facts() -> dict[str, object]:
    """What a reader needs to judge the figures."""
    cpu = next((line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "")
    memory_kb = next(int(line.split()[1]) for line in _lines("/proc/meminfo") if line.startswith("MemTotal"))
    return {
        "cpu": cpu or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": memory_kb << 10,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "workOn": f"{WORK} ({filesystem(WORK)})",
        "loadAtStart": os.getloadavg()[0],
    }


@contextmanager
def work_directory(name: str) -> Iterator[Path]:
    """A short-named directory on a real disk (/tmp may be memory, where a sync costs nothing); removed afterwards."""
    with tempfile.TemporaryDirectory(prefix=f"bench-{name}-", dir=WORK, ignore_cleanup_errors=True) as path:
        yield Path(path)


def which(command: str) -> str:
    """The path of a program of the system. Raises FileNotFoundError."""
    found = shutil.which(command)
    if found is None:
        raise FileNotFoundError(command)
    return found


def show_tail(path: Path, lines: int = 15) -> None:
    """The last words of a subject that failed, on stderr."""
    if path.exists():
        for line in path.read_text(errors="backslashreplace").splitlines()[-lines:]:
            print(f"    | {line}", file=sys.stderr)


def filesystem(path: Path) -> str:
    """The type of the file system a directory stands on."""
    best, kind = "", "?"
    for line in _lines("/proc/self/mounts"):
        _, mount, found, *_ = line.split()
        inside = mount == "/" or str(path) == mount or str(path).startswith(mount + "/")
        if inside and len(mount) >= len(best):
            best, kind = mount, found
    return kind


def children(pid: int) -> list[int]:
    """The children of all threads of a process; none when it is gone."""
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            found += map(int, Path(f"/proc/{pid}/task/{thread}/children").read_text().split())
    except (FileNotFoundError, ProcessLookupError):
        pass  # the process, or that thread, has just ended
    return found


def descendants(pid: int) -> list[int]:
    """All processes below one."""
    found: list[int] = []
    waiting = [pid]
    while waiting:
        below = children(waiting.pop())
        found += below
        waiting += below
    return found


def command_name(pid: int) -> str:
    """What the process runs now, at most 15 letters; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().rstrip("\n")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def argv(pid: int) -> list[str]:
    """The command line of a process; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
    except (FileNotFoundError, ProcessLookupError):
        return []


def alive(pid: int) -> bool:
    """Whether the process is there and no zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def cpu_s(pids: Iterable[int]) -> float:
    """CPU time the processes have used so far, all threads, to the nanosecond (the process's own CPU clock)."""
    return sum(time.clock_gettime((~pid << 3) | 2) for pid in pids)


def memory_bytes(pid: int) -> tuple[int, int]:
    """(PSS, RSS) of one process."""
    found = {}
    for line in _lines(f"/proc/{pid}/smaps_rollup"):
        name, _, rest = line.partition(":")
        if name in ("Pss", "Rss"):
            found[name] = int(rest.split()[0]) << 10
    return found["Pss"], found["Rss"]


def wait_for(condition: Callable[[], bool], what: str, deadline_s: float = 60.0, every_s: float = 0.005) -> float:
    """Polls until the condition holds; the seconds it took. Raises TimeoutError naming `what`."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > deadline_s:
            raise TimeoutError(f"{what} did not happen within {deadline_s:g} s")
        time.sleep(every_s)
    return time.monotonic() - began


def wait_until_quiet(share: float = QUIET, for_s: float = 0.3, deadline_s: float = 5.0) -> float:
    """Waits for others on this machine to leave some air, but not for ever; how busy it was in the last look."""
    end = time.monotonic() + deadline_s
    while True:
        before = _cpu_ticks()
        time.sleep(for_s)
        after = _cpu_ticks()
        busy = 1 - (after[0] - before[0]) / max(1, after[1] - before[1])
        if busy <= share or time.monotonic() > end:
            return busy


def end_what_is_left() -> None:
    """Kills and reaps every descendant of this process: what a failed or unfinished measurement left behind."""
    deadline = time.monotonic() + 10
    while below := [pid for pid in descendants(os.getpid()) if alive(pid)]:
        if time.monotonic() > deadline:
            print(f"left behind, SIGKILL did not end them: {below}", file=sys.stderr)
            break
        _kill(below)
        time.sleep(0.01)
    while True:
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                return
        except ChildProcessError:
            return


def wait_exits(pids: Iterable[int], deadline_s: float) -> None:
    """Waits until none of the processes is alive, without using CPU while it waits. Raises TimeoutError."""
    waiting: dict[int, int] = {}
    poll = select.poll()
    try:
        for pid in pids:
            try:
                fd = os.pidfd_open(pid)
            except ProcessLookupError:
                continue
            waiting[fd] = pid
            poll.register(fd, select.POLLIN)
        end = time.monotonic() + deadline_s
        while waiting:
            ready = poll.poll(max(0, end - time.monotonic()) * 1000)
            if not ready:
                raise TimeoutError(f"{len(waiting)} processes still run after {deadline_s:g} s")
            for fd, _ in ready:
                poll.unregister(fd)
                os.close(fd)
                del waiting[fd]
    finally:
        for fd in waiting:
            os.close(fd)


def _kill(pids: Iterable[int]) -> None:
    held: dict[int, int] = {}
    for pid in pids:
        try:
            held[pid] = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
    ours = set(
        descendants(os.getpid())
    )  # looked up again with the descriptors in hand: no number can change its owner now
    for pid, fd in held.items():
        try:
            if pid in ours:
                signal.pidfd_send_signal(fd, signal.SIGKILL)
        except ProcessLookupError:
            pass  # it ended by itself
        finally:
            os.close(fd)


def _cpu_ticks() -> tuple[int, int]:
    """(idle, all) ticks of the machine so far."""
    fields = [int(word) for word in _lines("/proc/stat")[0].split()[1:9]]
    return fields[3] + fields[4], sum(fields)


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()
