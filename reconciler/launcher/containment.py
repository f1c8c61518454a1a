"""Ends what an exited instance left behind, and says when nothing is left.

    cgroup v2    <own cgroup>/reconciler-<state dir>/<instance>    cgroup.kill, then `populated 0`, then rmdir
                 alone, when an instance was seen to be all in it: then nothing else need be looked at
    sweep        children that the kernel gave to the launcher (it is their subreaper), told by token or session
    full scan    all of /proc by token or session, for instances that an earlier launcher started

Contract: kills only what carries the token, the session or the cgroup of an instance that was handed over by `left`, never
pid 1, never this process. A stranger that became our child is reaped when it has ended and otherwise left alone.
"""

from __future__ import annotations

import errno
import os
import signal
import time
from _blake2 import blake2b
from collections.abc import Callable, Container, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial

from . import system
from .cgroups import Cgroups
from .machine import Child
from .table import S

BEGINNING_S = 1.0
"""So long a process that has neither command line nor environment is taken for one that is just becoming a program."""

LOOKED_AT_ONCE = 64
"""So many new instances are looked at in one turn."""


class _Left:
    """An exited instance whose tree is not yet known to be gone."""

    __slots__ = ("child", "empty", "escaped", "killed", "leaf", "session", "since", "stuck_said")

    def __init__(self, child: Child, session: int, leaf: str | None) -> None:
        self.child = child
        self.session = session
        self.since = time.monotonic()
        self.stuck_said = False
        self.leaf = leaf
        self.empty = False
        """Its cgroup has said so."""
        self.killed: set[tuple[int, int]] = set()
        """(pid, start) of what was found: a dying process shows no token any more, and is not gone yet."""
        self.escaped: set[int] = set()


class Trees:
    """The trees of all instances."""

    def __init__(self, state_dir: str, complain: Callable[[str], None], use_cgroup: bool = True) -> None:
        self._complain = complain
        self._parent = _parent_cgroup(state_dir) if use_cgroup else None
        self.limited = Cgroups(state_dir, complain, use_cgroup)
        self._left: dict[str, _Left] = {}
        self._children = system.OwnChildren()
        self._beginning = False
        """The look under way has met a process that cannot be told yet."""
        self._entered: list[Child] = []
        """In their cgroups since the last look whether they are so with all they have started."""

    @property
    def word(self) -> str:
        return "weak" if self._parent is None else "cgroup"

    def enter(self, child: Child) -> None:
        """Puts a new process into a cgroup of its own; without one it is told by group, session and token only."""
        leaf = self._leaf(child)
        if leaf is None or leaf == self.limited.unified(child.instance):
            return  # with limits it has gone there itself
        try:
            os.makedirs(leaf, 0o755)  # the parent too, should somebody have tidied it away
            _write(leaf + "/cgroup.procs", b"%d" % child.pid)
        except OSError as error:
            if error.errno != errno.ESRCH:  # it has ended already
                self._complain(f"no cgroup for {child.key}: {error}")
            _remove(leaf)
        else:
            self._entered.append(child)

    def entered(self) -> bool:
        """Whether `look_at_entered` has something to look at."""
        return bool(self._entered)

    def look_at_entered(self, own: Container[int]) -> None:
        """Marks those that are enclosed: what they start from now on is in their cgroups too.

        One that has started something before it was in there may have lost it to us, or still has it as a child: with
        neither, there is nothing. Children first: a grandchild that comes to us in between is in the second list.
        """
        some, self._entered = self._entered[:LOOKED_AT_ONCE], self._entered[LOOKED_AT_ONCE:]
        alone = [child for child in some if child.state is S.UP and system.alone(child.pid)]
        if alone and all(pid in own for pid in self._children.read()):
            for child in alone:
                child.enclosed = True

    def kill(self, child: Child) -> None:
        """SIGKILL for everything of a live instance that can be found at once."""
        leaf = self._leaf(child)
        if leaf is not None and os.path.isdir(leaf):
            _write(leaf + "/cgroup.kill", b"1")

    def left(self, child: Child, seen: bool) -> None:
        """Its main process has ended: from now on nothing of it may live.

        `seen`: this launcher saw it end. If not, its pid and with it its session may have become somebody else's.
        """
        leaf = self._leaf(child)
        if leaf is not None and not os.path.isdir(leaf):
            leaf = None
        self._left[child.instance] = _Left(child, child.pid if seen else 0, leaf)

    def pending(self) -> bool:
        return bool(self._left)

    def members(self, child: Child) -> list[int]:
        """The processes in its cgroup."""
        leaf = self._leaf(child)
        return _procs(leaf) if leaf is not None and os.path.isdir(leaf) else []

    def sweep(self, own: Container[int], lent: Callable[[], AbstractContextManager[None]]) -> list[tuple[Child, int]]:
        """Kills what is found, and returns the instances of which nothing was found, each with how many had escaped.

        `own`: the pids that are main processes now, to be left to their own bookkeeping. `lent`: descriptors for the look.
        """
        busy: set[str] = set()
        if not self._all_enclosed(lent):
            hidden = [left for left in self._left.values() if left.leaf is not None or left.child.adopted]
            # most leave nobody behind, and then this is all there is to do
            if hidden or any(pid not in own for pid in self._children.read()):
                with lent():
                    self._look(own, hidden, busy)
        gone = [left for instance, left in self._left.items() if instance not in busy]
        for left in gone:
            del self._left[left.child.instance]
            self.limited.remove(left.child.instance)
        return [(left.child, len(left.escaped)) for left in gone]

    def stuck(self, after_s: float) -> list[Child]:
        """Those that SIGKILL has not ended in that time; each is named once."""
        now = time.monotonic()
        found = [left for left in self._left.values() if not left.stuck_said and now - left.since >= after_s]
        for left in found:
            left.stuck_said = True
        return [left.child for left in found]

    def close(self) -> None:
        """Takes the parent cgroups away when nothing is in them."""
        self.limited.close()
        if self._parent is not None:
            try:
                os.rmdir(self._parent)
            except OSError as error:
                if error.errno not in (errno.EBUSY, errno.ENOTEMPTY):
                    self._complain(f"{self._parent} could not be removed: {error}")

    def _all_enclosed(self, lent: Callable[[], AbstractContextManager[None]]) -> bool:
        """Whether empty cgroups say that nothing is left: the list of our children takes the kernel a millisecond a thousand."""
        if not self._left or not all(left.child.enclosed and (left.leaf or left.empty) for left in self._left.values()):
            return False
        with lent():
            for left in self._left.values():
                if left.leaf is not None:
                    self._empty_cgroup(left)
        return all(left.empty for left in self._left.values())

    def _look(self, own: Container[int], hidden: Sequence[_Left], busy: set[str]) -> None:
        # a session keeps its number from being given away; where somebody has that pid, the session is his
        sessions = {left.session: left for left in self._left.values() if left.session and not _taken(left.session)}
        self._beginning = False
        self._sweep_children(own, sessions, busy)
        for left in hidden:
            if left.leaf is not None and self._empty_cgroup(left):
                busy.add(left.child.instance)
        if any(left.child.adopted for left in hidden):
            self._scan(own, sessions, busy)
        if self._beginning:  # it may carry any token: the next look tells
            since = time.monotonic() - BEGINNING_S
            busy.update(left.child.instance for left in self._left.values() if left.since > since)

    def _sweep_children(self, own: Container[int], sessions: Mapping[int, _Left], busy: set[str]) -> None:
        again = True
        while again:
            again = False
            for pid in self._children.read():
                if pid in own:
                    continue
                stat = system.stat_of(pid)
                if stat is None:
                    continue
                # Z alone does not say that it has ended: its main thread has, others may live
                if stat.state == "Z" and os.waitpid(pid, os.WNOHANG)[0] == pid:
                    again = True  # its own children have come to us
                    continue
                left = self._whose(pid, stat, sessions)
                if left is not None:  # a stranger is left alone until it ends
                    self._kill_one(partial(os.kill, pid), left, pid, stat)  # our child, not reaped: the pid is its own
                    self._found(left, pid, stat, busy)

    def _scan(self, own: Container[int], sessions: Mapping[int, _Left], busy: set[str]) -> None:
        me = os.getpid()
        for pid in system.all_pids():
            if pid in (1, me) or pid in own:
                continue
            stat = system.stat_of(pid)
            if stat is None or stat.state == "Z":
                continue
            left = self._whose(pid, stat, sessions)
            if left is None or not left.child.adopted:
                continue
            try:
                pidfd = os.pidfd_open(pid)
            except ProcessLookupError:
                continue
            try:
                now = system.stat_of(pid)
                if now is not None and now.start_ticks == stat.start_ticks:  # the descriptor is for what was looked at
                    self._kill_one(partial(system.signal_pidfd, pidfd), left, pid, stat)
                    self._found(left, pid, stat, busy)
            finally:
                os.close(pidfd)

    def _whose(self, pid: int, stat: system.Stat, sessions: Mapping[int, _Left]) -> _Left | None:
        for left in self._left.values():
            if (pid, stat.start_ticks) in left.killed:
                return left
        environ = system.environ_of(pid)
        token = system.token_of(environ)
        if token is not None:
            return self._left.get(token)
        if environ == b"" and stat.session not in sessions and system.beginning(pid):
            self._beginning = True
        return sessions.get(stat.session)

    def _kill_one(self, send: Callable[[int], object], left: _Left, pid: int, stat: system.Stat) -> None:
        try:
            send(signal.SIGKILL)
        except PermissionError as error:
            if (pid, stat.start_ticks) not in left.killed:  # else it has been said
                self._complain(f"{left.child.key}: pid {pid} of its tree could not be killed: {error}")

    def _found(self, left: _Left, pid: int, stat: system.Stat, busy: set[str]) -> None:
        busy.add(left.child.instance)
        left.killed.add((pid, stat.start_ticks))
        if stat.group != left.child.pid:
            left.escaped.add(pid)

    def _empty_cgroup(self, left: _Left) -> bool:
        """Whether something still lives in it; removes it otherwise."""
        leaf = left.leaf
        assert leaf is not None
        try:
            if _populated(leaf):
                for pid in _procs(leaf):
                    stat = system.stat_of(pid)
                    if stat is not None and stat.state != "Z" and stat.group != left.child.pid:
                        left.escaped.add(pid)
                _write(leaf + "/cgroup.kill", b"1")
                return True
            left.empty = True
        except FileNotFoundError:
            left.empty = True  # somebody removed it, so nothing was in it
        except OSError as error:
            self._complain(f"the cgroup of {left.child.key} cannot be used, its tree is told by session: {error}")
        _remove(leaf)
        left.leaf = None
        return False

    def _leaf(self, child: Child) -> str | None:
        if not child.contain:
            return None
        limited = self.limited.unified(child.instance)
        if limited is not None or self._parent is None:
            return limited
        # never from a name: it would have to be checked for every meaning that a path can have
        return f"{self._parent}/{blake2b(system.encode(child.instance), digest_size=12).hexdigest()}"


def _taken(pid: int) -> bool:
    stat = system.stat_of(pid)
    return stat is not None and stat.state != "Z"


def _parent_cgroup(state_dir: str) -> str | None:
    """A cgroup of ours for this state directory, where the host allows one with `cgroup.kill` (kernel 5.14)."""
    base = _own_cgroup()
    if base is None:
        return None
    parent = f"{base}/reconciler-{blake2b(os.fsencode(state_dir), digest_size=4).hexdigest()}"
    try:
        if not os.path.isdir(parent):
            os.mkdir(parent, 0o755)
        probe = parent + "/probe"
        if not os.path.isdir(probe):
            os.mkdir(probe, 0o755)
        usable = os.access(probe + "/cgroup.kill", os.W_OK) and os.access(base + "/cgroup.procs", os.W_OK)
        os.rmdir(probe)
    except OSError:
        return None
    return parent if usable else None


def _own_cgroup() -> str | None:
    with open("/proc/self/mountinfo") as file:
        mounts = [line.split() for line in file]
    points = [fields[4] for fields in mounts if fields[fields.index("-") + 1] == "cgroup2"]
    if not points:
        return None
    with open("/proc/self/cgroup") as file:
        for line in file:
            if line.startswith("0::"):
                return (points[0] + line[3:].strip()).rstrip("/")
    return None


def _populated(leaf: str) -> bool:
    with open(leaf + "/cgroup.events", "rb") as file:
        return b"populated 1" in file.read()


def _procs(leaf: str) -> list[int]:
    with open(leaf + "/cgroup.procs", "rb") as file:
        return [int(line) for line in file.read().split()]


def _write(path: str, text: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text)
    finally:
        os.close(fd)


def _remove(leaf: str) -> None:
    """Also what a worker made inside; whatever is still in use stays for the next time."""
    try:
        os.rmdir(leaf)
    except FileNotFoundError:
        return
    except OSError:
        try:
            for entry in os.scandir(leaf):
                if entry.is_dir(follow_symlinks=False):
                    _remove(entry.path)
            os.rmdir(leaf)
        except OSError:
            return
