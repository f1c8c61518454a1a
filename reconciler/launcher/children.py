"""The processes of all instances: peeked at and reaped when they end, started, signalled, and found again after a death.

    pidfd readable -> peek -> (journal) -> reap -> sweep what is left -> emptied
    begun ---------> (journal) -> start -> (journal)

Contract: an exit is noted before its zombie is gone and a start before its process exists; the caller writes the machine's
records to the journal in between. Nothing is signalled whose pid could be somebody else's.
"""

from __future__ import annotations

import _socket as socket
import errno
import os
import select
import signal
import time
from contextlib import suppress
from typing import NamedTuple

from reconciler.crash import crash_point

from . import adoption, system
from .channels import Channels
from .containment import Trees
from .failure import StartFailed
from .logs import Logs
from .machine import Child, Machine, Request
from .oom import KernelLog
from .protocol import Exit
from .starter import AT_ONCE, Begun, Prepared, Start, Starter
from .table import S
from .tasklogs import TaskLogs
from .timers import Timers, now
from .wires import complain

STUCK_S = 5.0
BLOCKED_AGAIN_S = 5.0
UNSEEN_WITHIN_S = 2.0
ENTERED_S, ENTERED_AGAIN_S = 0.5, 0.02
"""So long after a start it is looked whether all of it is in its cgroup, and between looks at many."""
BUSY_TEXT_S = (0.003, 0.01, 0.02, 0.035, 0.035)
"""Waits between tries to execute a file that is still open for writing."""


class _Wanted(NamedTuple):
    """One start that is to be made."""

    child: Child
    prepared: Prepared
    request: Request
    tries: int


class Children:
    """What runs, or has run and left something."""

    def __init__(
        self,
        machine: Machine,
        starter: Starter,
        logs: Logs,
        trees: Trees,
        timers: Timers,
        epoll: select.epoll,
        boot_id: str,
    ) -> None:
        self._machine = machine
        self._starter = starter
        self._logs = logs
        self._task_logs = TaskLogs(logs, timers)
        self._trees = trees
        self._timers = timers
        self._epoll = epoll
        self._boot_id = boot_id
        self.channels = Channels(epoll, timers, machine.say)
        self.prepared: dict[str, Prepared] = {}
        """By template."""
        self.sockets: dict[str, tuple[str, socket.socket]] = {}
        """Held for those that are started with them: address and socket, by name."""
        self.pids: dict[int, Child | None] = {}
        """Main processes that live or are not reaped; the controller's stands for None."""
        self.watched: dict[int, Child] = {}
        """By pidfd."""
        self._retries: list[_Wanted] = []
        self._unenclosed: list[Child] = []
        """Begun, and not yet in a cgroup of their own."""
        self.sweep_wanted = False
        self._sweep_tries = 0
        self._looking_at_entered = False
        self._oom = system.spare_from_oom()
        self._kernel_log = KernelLog()

    @property
    def retrying(self) -> bool:
        """Whether starts wait to be tried again."""
        return bool(self._retries)

    # -- exits -------------------------------------------------------------------------------------------------------

    def unseen(self, child: Child) -> None:
        """An adopted one has ended, which is seen, but not how."""
        self._unwatch(child)
        self._look_at_unseen(child, now() + UNSEEN_WITHIN_S)

    def peek(self, child: Child) -> bool:
        """Notes how it ended and leaves the zombie, so that neither status nor pid can get lost before the record."""
        seen = os.waitid(os.P_PIDFD, child.pidfd, os.WEXITED | os.WNOWAIT | os.WNOHANG)
        if seen is None:
            return False
        how = Exit(pid=child.pid)
        if seen.si_code == os.CLD_EXITED:
            how["code"] = seen.si_status
        else:
            how["signal"] = seen.si_status
            if seen.si_code == os.CLD_DUMPED:
                how["core"] = True
        self._exited(child, how)
        return True

    def _exited(self, child: Child, how: Exit) -> None:
        self.channels.ended(child)
        how["at_ms"] = _wall_ms()
        if child.started_ms:
            how["started_ms"] = child.started_ms
        if child.spare is not None:
            how["log_bytes"] = self._logs.spare_bytes(child.spare)
        elif child.log is not None:
            how["log_bytes"] = self._logs.size_bytes(child.log)
        oom = self._trees.limited.oom_kills(child.instance)
        if not oom and how.get("signal") == signal.SIGKILL and child.kill_sent_at is None:
            oom = int(self._kernel_log.killed(child.pid))
        if oom:
            how["oom"] = oom
        self._machine.exited(child, how)

    def reap(self, child: Child) -> None:
        # the zombie holds the pid: its group cannot be anybody else's
        try:
            system.signal_group(child.pid, signal.SIGKILL)
        except PermissionError as error:
            complain(f"{child.key}: its process group could not be killed: {error}")
        self._unwatch(child)
        _, _, used = os.wait4(child.pid, 0)
        child.exit["cpu_ms"] = round((used.ru_utime + used.ru_stime) * 1000)  # told, and not worth another record
        os.close(child.pidfd)
        child.pidfd = -1
        del self.pids[child.pid]
        crash_point("launcher.after-reap")
        if child.exit.get("log_bytes"):
            self._task_logs.name(child)
        self._trees.left(child, seen=True)
        self._sweep_soon()

    def _look_at_unseen(self, child: Child, until: float) -> None:
        """An adopted one has ended: a zombie shows its status, and where the kernel tells, its pidfd does after that."""
        stat = system.stat_of(child.pid)
        if stat is not None and stat.state == "Z" and system.identity_of(child.pid, child.pidfd) == child.identity:
            status: int | None = stat.exit_status
        else:
            status = system.unseen_exit(child.pidfd)
            if status is None and now() < until:
                self._timers.later(0.02, self._look_at_unseen, child, until)
                return
        how = Exit(pid=child.pid)
        if status is None:
            how["unknown"] = "unseen"
        elif os.WIFSIGNALED(status):
            how["signal"] = os.WTERMSIG(status)
            if os.WCOREDUMP(status):
                how["core"] = True
        else:
            how["code"] = os.WEXITSTATUS(status)
        self._exited(child, how)
        os.close(child.pidfd)
        child.pidfd = -1
        del self.pids[child.pid]
        self._trees.left(child, seen=True)
        self._sweep_soon()

    def _sweep_soon(self) -> None:
        self.sweep_wanted = True
        self._sweep_tries = 0

    def sweep(self) -> None:
        self.sweep_wanted = False
        for child, escaped in self._trees.sweep(self.pids, self._starter.descriptors.lent):
            self._task_logs.settle(child, reuse=not escaped)
            if child.state in (S.EMPTYING, S.ACKED):
                self._machine.emptied(child, escaped)
        if self._trees.pending():
            self._sweep_tries += 1
            self._timers.later(min(0.05, 0.001 * 2 ** min(self._sweep_tries, 9)), self._want_sweep)
            for child in self._trees.stuck(STUCK_S):
                if child.contain:
                    self._machine.stuck(child)

    def _want_sweep(self) -> None:
        self.sweep_wanted = True

    def keep_house(self) -> None:
        """Once a second: children that the kernel gave us are reaped when they end."""
        with suppress(ChildProcessError):
            seen = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if seen is not None and seen.si_pid not in self.pids:
                self.sweep_wanted = True
        self._timers.later(1.0, self.keep_house)

    # -- starts ------------------------------------------------------------------------------------------------------

    def lacking(self, prepared: Prepared) -> dict[str, str]:
        """Limits of a template that this machine cannot enforce, and why."""
        return self._trees.limited.lacking(prepared.limits)

    def start(self, begun: list[Child], behind: int, closing: bool) -> None:
        """Starts those, and those that are tried again; `behind`: the errno for which their intents are not in the journal."""
        retries, self._retries = self._retries, []
        wanted: list[_Wanted] = []
        for retry in retries:
            if closing:
                self._failed(retry.child, StartFailed("exec", errno.ETXTBSY))
            else:
                wanted.append(retry)
        for child in begun:
            asked = child.request
            assert asked is not None
            if behind:
                why = f"the journal cannot be written: {os.strerror(behind)}"
                self._failed(child, StartFailed("fork", behind, why))
            else:
                wanted.append(_Wanted(child, self.prepared[asked.template.id], asked, 0))
        for at in range(0, len(wanted), AT_ONCE):
            self._start(wanted[at : at + AT_ONCE])

    def _start(self, wanted: list[_Wanted]) -> None:
        launches = [launch for one in wanted if (launch := self._make_ready(one)) is not None]
        found = self._starter.start([start for _, start, _ in launches])
        for (one, _, opened), begun in zip(launches, found, strict=True):
            for fd in opened:
                os.close(fd)
            if isinstance(begun, Begun):
                self._started(one.child, begun)
            elif begun.errno == errno.ETXTBSY and one.tries < len(BUSY_TEXT_S):
                self._timers.later(BUSY_TEXT_S[one.tries], self._retry, one._replace(tries=one.tries + 1))
            else:
                self._failed(one.child, begun)

    def _retry(self, wanted: _Wanted) -> None:
        self._retries.append(wanted)

    def _make_ready(self, wanted: _Wanted) -> tuple[_Wanted, Start, list[int]] | None:
        """The start with all that can be done before those that begin together are forked, and what to close after them.

        None when it has failed.
        """
        child, prepared, request, _ = wanted
        opened: list[int] = []
        try:
            argv = prepared.argv if request.argv is None else [system.encode(word) for word in request.argv]
            env = prepared.environment(_variables(child, request.env))
            start = Start(prepared, argv, env, self._stdio(child, prepared, opened))
            if prepared.needs_fork:
                start.sockets = self._passed(child, prepared, opened)
                start.join = self._trees.limited.prepare(child.instance, prepared.limits)
            self._starter.resolve(start)
        except ValueError as error:  # text that is none
            failure = StartFailed("exec", errno.EINVAL, str(error))
        except StartFailed as error:
            failure = error
        else:
            return wanted, start, opened
        for fd in opened:
            os.close(fd)
        self._failed(child, failure)
        return None

    def _stdio(self, child: Child, prepared: Prepared, opened: list[int]) -> tuple[int, int, int]:
        null = self._starter.null
        try:
            if child.spare is not None:
                log = self._logs.lend(child.spare)
            elif child.log is not None:
                log = self._logs.open(child.log)
                opened.append(log)
            else:
                log = null
            if not prepared.template.channel:
                return null, log, log
            opened.append(self.channels.open(child))
            return opened[-1], opened[-1], log
        except OSError as error:
            raise _log_failed(error) from None

    def _passed(self, child: Child, prepared: Prepared, opened: list[int]) -> list[tuple[bytes, int]]:
        passed = []
        for name in prepared.template.sockets:
            held = self.sockets.get(name)
            if held is None:
                raise StartFailed("sockets", errno.ENOENT, f"no socket {name!r} is held")
            passed.append((system.encode(name), held[1].fileno()))
        if prepared.template.notify and child.log is not None and child.spare is None:
            try:
                opened.append(self._logs.open(f"{child.log}.ready"))
            except OSError as error:
                raise _log_failed(error) from None
            passed.append((b"", opened[-1]))
        return passed

    def _started(self, child: Child, begun: Begun) -> None:
        crash_point("launcher.after-spawn")
        pid, child.pidfd, at_s = begun
        if self._oom is not None:
            system.set_oom(pid, self._oom)
        self._machine.started(child, pid, int(at_s * 1000), system.identity_of(pid, child.pidfd))
        self.pids[pid] = child
        self._watch(child)
        self._unenclosed.append(child)
        if child.spare is not None:
            self._task_logs.name_later(child)

    def enclose(self) -> None:
        """Puts what has begun into cgroups of their own: last of all, for the first after a pause takes the kernel 10 ms."""
        children, self._unenclosed = self._unenclosed, []
        for child in children:
            if child.state is S.UP:
                self._trees.enter(child)
        if children and self._trees.entered() and not self._looking_at_entered:
            self._looking_at_entered = True
            self._timers.later(ENTERED_S, self._look_at_entered)

    def _look_at_entered(self) -> None:
        with self._starter.descriptors.lent():
            self._trees.look_at_entered(self.pids)
        self._looking_at_entered = self._trees.entered()
        if self._looking_at_entered:
            self._timers.later(ENTERED_AGAIN_S, self._look_at_entered)

    def _failed(self, child: Child, failure: StartFailed) -> None:
        self._exited(child, Exit(failed=[failure.step, failure.errno, failure.text]))
        self._task_logs.settle(child, reuse=True)
        self._trees.limited.remove(child.instance)
        if child.contain:
            self._machine.emptied(child, 0)

    def _watch(self, child: Child) -> None:
        self.watched[child.pidfd] = child
        self._epoll.register(child.pidfd, select.EPOLLIN)

    def _unwatch(self, child: Child) -> None:
        # before it is closed: a vforked child may still hold a copy, and the epoll would go on telling of it
        if self.watched.pop(child.pidfd, None) is not None:
            self._epoll.unregister(child.pidfd)

    # -- signals -----------------------------------------------------------------------------------------------------

    def signal(self, child: Child, signo: int, scope: str) -> None:
        """Nothing happens to a pid that may be another's: the main process is alive or a zombie, or nothing is done."""
        if child.state in (S.EMPTYING, S.ACKED):
            self._sweep_soon()  # it is being killed already
            return
        if child.state is not S.UP or child.pidfd < 0 or not system.is_there(child.pidfd):
            return
        try:
            if scope == "tree":
                signo = signal.SIGKILL
                self._trees.kill(child)
            if scope == "main":
                system.signal_pidfd(child.pidfd, signo)
            else:
                system.signal_group(child.pid, signo)
            if scope == "group" and signo not in _NOT_CONTINUED:
                system.signal_group(child.pid, signal.SIGCONT)
        except OSError as error:
            complain(f"{child.key}: signal {signo} could not be sent: {error}")
        if signo == signal.SIGKILL and child.kill_sent_at is None:
            child.kill_sent_at = now()
            self._timers.later(STUCK_S, self._look_at_stuck, child)

    def _look_at_stuck(self, child: Child) -> None:
        if child.state is S.UP:
            self._machine.stuck(child)

    # -- adoption ----------------------------------------------------------------------------------------------------

    def adopt(self) -> None:
        """Takes over what an earlier launcher started and the machine has from its journal. Runs once, first of all."""
        for child in self._machine.children(*S):
            # one that has ended and left nothing may have given its spare to another since
            if child.state is S.INTENDED or child.exit.get("log_bytes"):
                self._task_logs.name(child)
            child.spare = None
        rebooted = self._machine.boot_id != self._boot_id
        carriers: dict[str, list[int]] | None = None
        # those with a pid first: what is known to be one cannot be mistaken for another
        for child in sorted(self._machine.children(S.INTENDED), key=lambda child: not child.pid):
            if rebooted:
                self._gone(child, "reboot")
                continue
            if child.pid:
                found = adoption.recorded(child, self._starter.open_pidfd)
                if found is None:
                    self._gone(child, "unseen")
                else:
                    self._adopted(child, found)
            else:
                carriers = adoption.tokens() if carriers is None else carriers
                self._settle(child, carriers)
        for child in self._machine.children(S.EMPTYING, S.ACKED, S.ENDED):
            if child.state is not S.ENDED and rebooted:
                self._machine.emptied(child, 0)
            elif not rebooted:
                self._trees.left(child, seen=False)
                self._sweep_soon()
        self._logs.sweep()

    def _adopted(self, child: Child, found: adoption.Found) -> None:
        child.pidfd = found.pidfd
        self._machine.started(child, found.pid, found.started_ms, found.identity)
        self.pids[found.pid] = child
        self._watch(child)

    def _gone(self, child: Child, why: str) -> None:
        how = Exit(unknown=why)
        if child.pid:
            how["pid"] = child.pid
        self._exited(child, how)
        if why == "reboot":
            self._task_logs.settle(child, reuse=False)
            if child.contain:
                self._machine.emptied(child, 0)
        else:
            self._trees.left(child, seen=False)
            self._sweep_soon()

    def _settle(self, child: Child, carriers: dict[str, list[int]]) -> None:
        """An intent without a pid: it is found, or proven to be gone, or keeps its key blocked."""
        found = adoption.unrecorded(child, carriers, self._trees.members(child), self._starter.open_pidfd)
        if found is not None:
            self._adopted(child, found)
        elif any(pid not in self.pids for pid in adoption.candidates(child)):
            self._machine.hold(child)
            self._timers.later(BLOCKED_AGAIN_S, self._settle_again, child)
        else:
            self._gone(child, "lost")

    def _settle_again(self, child: Child) -> None:
        if child.state is S.BLOCKED:
            self._settle(child, adoption.tokens())


_NOT_CONTINUED = frozenset(
    (0, signal.SIGKILL, signal.SIGCONT, signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)
)


def _variables(child: Child, own: dict[str, str] | None) -> dict[str, str]:
    """What one child has in its environment beside its template's."""
    if child.slot is None:
        return own or {}
    worker = f"{child.lane}-{child.slot}"
    return {**(own or {}), "RECONCILER_ORDINAL": str(child.slot), "RECONCILER_WORKER": worker}


def _log_failed(error: OSError) -> StartFailed:
    full = error.errno in (errno.EMFILE, errno.ENFILE)
    return StartFailed("fork" if full else "log", error.errno or errno.EIO)


def _wall_ms() -> int:
    return int(time.time() * 1000)
