"""Finds again what an earlier launcher started: running, gone, or impossible to tell.

    recorded pid       same pidfd inode (or start time)        -> it
    intent without pid the token in an environment             -> it
                       its cgroup                              -> it
                       a session leader of that moment whose environment was overwritten   -> nobody can tell

Contract: looks, and changes nothing. A process with an intact environment that lacks the token is a stranger.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from . import system
from .machine import Child

_WINDOW_MS = 5_000
"""How long after its intent a process can have begun."""


class Found(NamedTuple):
    pid: int
    pidfd: int
    identity: int
    started_ms: int


def recorded(child: Child, open_pidfd: Callable[[int], int]) -> Found | None:
    """The process whose pid stands in the journal, if it still is that process (it may have ended and not be reaped)."""
    try:
        pidfd = open_pidfd(child.pid)
    except ProcessLookupError:
        return None
    if system.identity_of(child.pid, pidfd) != child.identity:
        os.close(pidfd)
        return None
    return Found(child.pid, pidfd, child.identity, child.started_ms)


def tokens() -> dict[str, list[int]]:
    """Which processes carry which instance."""
    found: dict[str, list[int]] = {}
    for pid in system.all_pids():
        token = system.token_of(system.environ_of(pid))
        if token is not None:
            found.setdefault(token, []).append(pid)
    return found


def unrecorded(
    child: Child, carriers: Mapping[str, list[int]], members: list[int], open_pidfd: Callable[[int], int]
) -> Found | None:
    """The main process of an intent that has no pid: the session leader among its token's carriers or its cgroup."""
    for pid in (*carriers.get(child.instance, ()), *members):
        stat = system.stat_of(pid)
        if stat is None or stat.session != pid or stat.state == "Z":
            continue
        try:
            pidfd = open_pidfd(pid)
        except ProcessLookupError:
            continue
        now = system.stat_of(pid)
        if now is not None and now.start_ticks == stat.start_ticks:
            return Found(pid, pidfd, system.identity_of(pid, pidfd), _wall_ms(stat.start_ticks))
        os.close(pidfd)
    return None


def candidates(child: Child) -> list[int]:
    """Session leaders that may be it: begun in the moment after its intent, orphaned, of its user, and with nothing in
    their environment that could be read (a program that shows a title there has overwritten the token)."""
    found = []
    uid = os.geteuid() if child.uid is None else child.uid
    fathers = _ancestors()
    for pid in system.all_pids():
        stat = system.stat_of(pid)
        if stat is None or stat.session != pid or stat.state == "Z" or stat.ppid not in fathers or pid == os.getpid():
            continue
        after_ms = stat.start_ticks * 1000 // _TICKS - child.at_ms
        if not -1000 // _TICKS <= after_ms <= _WINDOW_MS or not _belongs(pid, uid):
            continue
        environ = system.environ_of(pid)
        if environ and system.intact(environ):
            continue
        found.append(pid)
    return found


_TICKS = os.sysconf("SC_CLK_TCK")


def boottime_ms() -> int:
    """Milliseconds since the boot, as start times are counted."""
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) * 1000)


def _wall_ms(start_ticks: int) -> int:
    return int(time.time() * 1000) - boottime_ms() + start_ticks * 1000 // _TICKS


def _belongs(pid: int, uid: int) -> bool:
    try:
        return os.stat(f"/proc/{pid}").st_uid == uid
    except OSError:
        return False


def _ancestors() -> set[int]:
    """Who may have become the parent of an orphan: pid 1, or a subreaper above us."""
    found = {1}
    stat = system.stat_of(os.getpid())
    while stat is not None and stat.ppid > 1:
        found.add(stat.ppid)
        stat = system.stat_of(stat.ppid)
    return found
