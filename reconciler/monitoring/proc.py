"""Reads /proc: one look at all processes of the machine, one small file each.

    /proc/PID/stat       of every process: 22 us, a thousand of them 25 ms
    /proc/PID/fd         of members only: its size is the number of open files (since Linux 6.2; counted before)
    /proc/PID/environ    of orphans only, once each that has one: it may have to wait for a process that hangs, so not on the event loop

Decides nothing. Whatever vanishes in between has been seen too late, and is left out.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from reconciler.monitoring.usage import Look, Root, Stat, identified, orphans, stat, trees

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_TOKEN = b"\0RECONCILER_INSTANCE="
_LONGEST_ENVIRONMENT_BYTES = 8 << 20


class Proc:
    """What has to be remembered from one look to the next."""

    def __init__(self) -> None:
        self._starts: dict[str, int] = {}
        self._tokens: dict[tuple[int, int], str] = {}
        self._sized = os.stat("/proc/self/fd").st_size > 0

    def look(self, roots: Sequence[Root]) -> tuple[Look, list[Root]]:
        """All processes, and those of the roots that are known to be what they were. Blocks; not for two threads at once."""
        at_s = float(_read("/proc/uptime", 64).split()[0])
        stats = {}
        for name in os.listdir("/proc"):
            if name[0] in "123456789":
                one = _stat(name)
                if one is not None:
                    stats[int(name)] = one
        mine, self._starts = identified(stats, roots, self._starts)
        tokens: dict[int, str] = {}
        seen = {}
        for pid in orphans(stats, mine):
            if not stats[pid].virtual_bytes:
                continue  # the kernel's own, or one that has ended
            who = pid, stats[pid].start
            token = self._tokens[who] if who in self._tokens else _token(pid)
            if token is not None:
                seen[who] = tokens[pid] = token
        self._tokens = seen
        members = trees(stats, mine, tokens)
        open_files = {key: sum(map(self._open_files, pids)) for key, pids in members.items()}
        return Look(at_s, stats, members, open_files), list(mine.values())

    def _open_files(self, pid: int) -> int:
        try:
            return os.stat(f"/proc/{pid}/fd").st_size if self._sized else len(os.listdir(f"/proc/{pid}/fd"))
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            return 0


def _stat(pid: str) -> Stat | None:
    line = _read(f"/proc/{pid}/stat", 1024)
    if not line:
        return None
    one = stat(line)
    return _without_its_first_thread(pid, one) if one.zombie and one.threads > 1 else one


def _without_its_first_thread(pid: str, one: Stat) -> Stat:
    """The first thread has ended, others live on: the memory is theirs, and the first one's file shows none."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except (FileNotFoundError, ProcessLookupError):
        return one
    for thread in threads:
        line = _read(f"/proc/{pid}/task/{thread}/stat", 1024)
        if line and not (living := stat(line)).zombie:
            return one._replace(virtual_bytes=living.virtual_bytes, resident_pages=living.resident_pages)
    return one


def _token(pid: int) -> str | None:
    """RECONCILER_INSTANCE of its environment; empty if there is none, or it is not for us to read.

    None: there is no environment, as while it begins to be another program; the next look asks again.
    """
    try:
        environ = _read(f"/proc/{pid}/environ", _LONGEST_ENVIRONMENT_BYTES)
    except PermissionError:
        return ""
    if not environ:
        return None
    environ = b"\0" + environ
    return environ.partition(_TOKEN)[2].partition(b"\0")[0].decode("utf-8", "replace")


def _read(path: str, most_bytes: int) -> bytes:
    """Empty when the process is gone."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError):
        return b""
    try:
        return os.read(fd, most_bytes)
    except ProcessLookupError:
        return b""
    finally:
        os.close(fd)
