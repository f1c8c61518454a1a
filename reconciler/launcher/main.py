"""The launcher's one loop: parent of the controller and of every process it asks for.

    poll -> peek at what has exited -> ONE journal append (exits, next intents) -> kill their groups, reap
         -> start the next -> append their pids -> ONE frame to the controller

Contract: an intent is in the journal before its process exists, an exit before its zombie is gone, and nothing is said to
the controller before it is in the journal. The launcher decides nothing about restarts of what it runs; it only keeps the
controller alive, and stops everything from its own records when there is no controller to do it.
"""

from __future__ import annotations

import _socket as socket
import errno
import gc
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from heapq import heappop, heappush
from typing import Any

from reconciler import crash

from . import adoption, system
from .containment import Trees
from .journal import Journal
from .journal import read as read_journal
from .logs import Logs
from .machine import Child, Machine, Request, S, failures_after, restart_delay_s
from .protocol import OLDEST, VERSION, Decoder, Exit, FrameError, Message, Template, frame
from .state import Refused, State, claim
from .system import Prepared, Starter, StartFailed

crash_point = crash.crash_point

STARTS_PER_TURN = 32
CONTROLLER_END_S = 2.0
STUCK_S = 5.0
BLOCKED_AGAIN_S = 5.0
UNSEEN_WITHIN_S = 2.0
NAME_LOGS_S = 0.1
"""A task's output stands under its own name when it is over, or has been running for so long or twice as long."""
FINISH_MARGIN_S = 10.0
GIVE_UP_S = 10.0
"""How long after SIGKILL the launcher still waits for what it stops itself."""
BUSY_TEXT_S = (0.003, 0.01, 0.02, 0.035, 0.035)
"""Waits between tries to execute a file that is still open for writing."""
RESTART_ME, BAD_CONFIGURATION = 75, 78

EXIT_USAGE = 2
JOURNAL_AGAIN_S = 1.0
MAX_SLOTS = 100_000


def main(state_dir: str, controller: Sequence[str], use_cgroup: bool = True) -> int:
    """Runs until it is told to end; returns the exit code."""
    signals = _Signals()
    try:
        state = claim(state_dir)
    except Refused as refused:
        print(f"reconciler: {refused.message}\n  help: {refused.help}", file=sys.stderr, flush=True)
        return refused.exit_code
    launcher = Launcher(state, controller, signals, use_cgroup)
    launcher.adopt()
    gc.collect()
    gc.freeze()
    return launcher.run()


class _Signals:
    """Handlers for all that matters, and none ignored: what is exec'd from here then begins with a clean slate."""

    def __init__(self) -> None:
        for number in signal.valid_signals():
            if signal.getsignal(number) is signal.SIG_IGN:
                # ignored signals stay ignored over exec, handled ones do not
                signal.signal(number, signal.SIG_DFL if number == signal.SIGCHLD else _nothing)
        self.fd, write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(number, _nothing)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())

    def read(self) -> bytes:
        try:
            return os.read(self.fd, 4096)
        except BlockingIOError:
            return b""


def _nothing(number: int, frame: object) -> None:
    """Taken note of through the wake-up descriptor."""


class _Channel:
    """Frames over the socketpair to the controller; never blocks."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self.fd = sock.fileno()
        self._decoder = Decoder()
        self._out = b""

    def read(self) -> tuple[list[list[Any]], bool]:
        """What has come, and whether more may come. Raises FrameError."""
        try:
            data = self._sock.recv(1 << 16)
        except BlockingIOError:
            return [], True
        except ConnectionError:
            return [], False
        return list(self._decoder.feed(data)), bool(data)

    def send(self, messages: Sequence[Message]) -> bool:
        """True when nothing is left to send."""
        self._out += frame(messages)
        return self.flush()

    def flush(self) -> bool:
        try:
            self._out = self._out[self._sock.send(self._out) :]
        except BlockingIOError:
            pass
        except ConnectionError:
            self._out = b""  # its end is seen by reading
        return not self._out

    def close(self) -> None:
        self._sock.close()


class _Controller:
    """One life of child 0."""

    def __init__(self, pid: int, pidfd: int, channel: _Channel, now: float) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self.channel: _Channel | None = channel
        self.started_at = now
        self.greeted = False
        self.serving = False


class Launcher:
    """Everything the process holds, and the loop."""

    def __init__(self, state: State, controller: Sequence[str], signals: _Signals, use_cgroup: bool) -> None:
        self._state_dir = state.directory
        self._api = state.api
        self._lock = state.lock
        self._controller_argv = list(controller)
        self._signals = signals
        self._machine = Machine()
        self._starter = Starter()
        self._journal = Journal(self._state_dir)
        self._logs = Logs(os.path.join(self._state_dir, "logs"))
        self._trees = Trees(self._state_dir, complain, use_cgroup)
        self._boot_id = system.boot_id()
        self._prepared: dict[str, Prepared] = {}
        self._sockets: dict[str, tuple[str, socket.socket]] = {}
        self._pids: dict[int, Child | None] = {}
        """Main processes that live or are not reaped; the controller's stands for None."""
        self._watched: dict[int, Child] = {}
        """By pidfd."""
        self._retries: list[tuple[Child, Prepared, Request, int]] = []
        self._timers: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._timer_count = 0
        self._sweep_wanted = False
        self._sweep_tries = 0
        self._housekeeping = False
        self._young: list[Child] = []
        """Tasks that write to a spare, begun since the last look for such."""
        self._unnamed: list[Child] = []
        """Those of the look before that."""
        self._unnameable = False
        self._controller: _Controller | None = None
        self._first = True
        self._restarts = 0
        self._failures = 0
        self._terminates = 0
        self._ending: int | None = None
        """The exit code, once the end is decided; what runs then is left alone."""
        self._stopping = False
        """Everything is being stopped from the records."""
        self._stopped_at: float | None = None
        self._started_ms = _wall_ms()
        self._oom = system.spare_from_oom()
        self._verbs: dict[str, Callable[..., None]] = {
            "hello": self._hello, "list": self._list, "register": self._register, "lane": self._lane,
            "socket": self._socket, "unsocket": self._unsocket, "spawn": self._spawn, "recall": self._recall,
            "signal": self._obey_signal, "ack": self._ack, "ping": self._ping, "serving": self._serving, "terminate": self._asked_to_end, "finish": self._finish,
        }  # fmt: skip
        self._epoll = select.epoll()
        self._epoll.register(signals.fd, select.EPOLLIN)

    # -- the turn ----------------------------------------------------------------------------------------------------

    def run(self) -> int:
        self._start_controller()
        while True:
            code = self._turn()
            if code is not None:
                self._leave()
                return code

    def _turn(self) -> int | None:
        exited: list[Child] = []
        unseen: list[Child] = []
        controller_ended = False
        for fd, events in self._poll():
            child = self._watched.get(fd)
            if child is not None:
                (unseen if child.adopted else exited).append(child)
            elif fd == self._signals.fd:
                self._take_signals()
            elif self._controller is not None and fd == self._controller.pidfd:
                controller_ended = True
            elif self._controller is not None and self._controller.channel is not None:
                self._take_channel(self._controller, events)
        self._run_timers()
        if controller_ended:
            self._controller_ended()
        for child in unseen:
            self._unwatch(child)
            self._look_at_unseen(child, _now() + UNSEEN_WITHIN_S)

        exited = [child for child in exited if self._peek(child)]
        begun = []
        if not self._closing() and self._machine.startable():
            begun = self._machine.take(STARTS_PER_TURN, adoption.boottime_ms(), self._logs.choose)
        written = self._write()
        for child in exited:
            self._reap(child)
        if begun or self._retries:
            self._start_all(begun, written)
        if self._sweep_wanted:
            self._sweep()
        self._write()
        self._say()
        if self._journal.full():
            self._compact()
        return self._end_reached()

    def _closing(self) -> bool:
        """Nothing is started any more."""
        return self._stopping or self._ending is not None

    def _poll(self) -> list[tuple[int, int]]:
        if self._machine.startable() and not self._closing():
            timeout = 0.0  # more than one turn takes
        elif self._timers:
            timeout = max(0.0, self._timers[0][0] - _now())
        else:
            timeout = -1
        return self._epoll.poll(timeout, 256)

    def _write(self) -> bool:
        """One append of all that must be on disk before the next step; false when it could not be written."""
        records = self._machine.records
        if not records:
            return not self._journal.behind
        self._machine.records = []
        words = {record[0] for record in records} if crash.ARMED else set()
        for word in words & _BEFORE_WRITE.keys():
            crash_point(_BEFORE_WRITE[word])
        if not self._journal.behind:  # else the compaction that mends it says all at once
            try:
                self._journal.append(records)
            except OSError as error:
                complain(f"the journal cannot be written: {error}; nothing is started until it can")
                self._later(JOURNAL_AGAIN_S, self._compact)
        for word in words & _AFTER_WRITE.keys():
            crash_point(_AFTER_WRITE[word])
        return not self._journal.behind

    def _compact(self) -> None:
        behind = self._journal.behind
        try:
            with self._starter.descriptors.lent():
                self._journal.compact(self._machine.snapshot(self._boot_id))
        except OSError as error:
            if behind:
                self._later(JOURNAL_AGAIN_S, self._compact)
            else:
                self._journal.postpone()
                complain(f"the journal could not be compacted: {error}")
        else:
            if behind:
                complain("the journal can be written again")

    def _say(self) -> None:
        messages = self._machine.frame()
        controller = self._controller
        if messages and controller is not None and controller.channel is not None and controller.greeted:
            crash_point("launcher.before-frame")
            self._send(controller, messages)
            crash_point("launcher.after-frame")

    def _send(self, controller: _Controller, messages: Sequence[Message]) -> None:
        channel = controller.channel
        if channel is not None and not channel.send(messages):
            self._epoll.modify(channel.fd, select.EPOLLIN | select.EPOLLOUT)

    # -- exits -------------------------------------------------------------------------------------------------------

    def _peek(self, child: Child) -> bool:
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
        how["at_ms"] = _wall_ms()
        if child.started_ms:
            how["started_ms"] = child.started_ms
        if child.spare is not None:
            how["log_bytes"] = self._logs.spare_bytes(child.spare)
        elif child.log is not None:
            how["log_bytes"] = self._logs.size_bytes(child.log)
        self._machine.exited(child, how)

    def _reap(self, child: Child) -> None:
        # the zombie holds the pid: its group cannot be anybody else's
        try:
            system.signal_group(child.pid, signal.SIGKILL)
        except PermissionError as error:
            complain(f"{child.key}: its process group could not be killed: {error}")
        self._unwatch(child)
        os.waitid(os.P_PIDFD, child.pidfd, os.WEXITED)
        os.close(child.pidfd)
        child.pidfd = -1
        del self._pids[child.pid]
        crash_point("launcher.after-reap")
        if child.exit.get("log_bytes"):
            self._name_log(child)
        self._trees.left(child, seen=True)
        self._sweep_soon()

    def _look_at_unseen(self, child: Child, until: float) -> None:
        """An adopted one has ended: a zombie shows its status, and where the kernel tells, its pidfd does after that."""
        stat = system.stat_of(child.pid)
        if stat is not None and stat.state == "Z" and system.identity_of(child.pid, child.pidfd) == child.identity:
            status: int | None = stat.exit_status
        else:
            status = system.unseen_exit(child.pidfd)
            if status is None and _now() < until:
                self._later(0.02, self._look_at_unseen, child, until)
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
        del self._pids[child.pid]
        self._trees.left(child, seen=True)
        self._sweep_soon()

    def _sweep_soon(self) -> None:
        self._sweep_wanted = True
        self._sweep_tries = 0

    def _sweep(self) -> None:
        self._sweep_wanted = False
        for child, escaped in self._trees.sweep(self._pids, self._starter.descriptors.lent):
            self._settle_log(child, reuse=not escaped)
            if child.state in (S.EMPTYING, S.ACKED):
                self._machine.emptied(child, escaped)
        if self._trees.pending():
            self._sweep_tries += 1
            self._later(min(0.05, 0.001 * 2 ** min(self._sweep_tries, 9)), self._want_sweep)
            for child in self._trees.stuck(STUCK_S):
                if child.contain:
                    self._machine.stuck(child)
        if self._trees.strangers:
            self._keep_house()

    def _name_log(self, child: Child) -> None:
        """From now on the log of a task stands under its own name."""
        if child.spare is None or child.log is None:
            return
        try:
            self._logs.name(child.spare, child.log)
        except OSError as error:
            if not self._unnameable:
                complain(f"logs/{child.log} cannot be made, its text stays in logs/.spare/{child.spare}: {error}")
            self._unnameable = True
            self._name_later(child)
        else:
            child.spare = None
            self._unnameable = False

    def _name_later(self, child: Child) -> None:
        if not (self._young or self._unnamed):
            self._later(NAME_LOGS_S, self._name_logs)
        self._young.append(child)

    def _name_logs(self) -> None:
        """What was running already at the last look is shown while it runs."""
        children, self._unnamed, self._young = self._unnamed, self._young, []
        if self._unnamed:
            self._later(NAME_LOGS_S, self._name_logs)
        for child in children:
            if child.state is S.UP or child.exit.get("log_bytes"):
                self._name_log(child)

    def _settle_log(self, child: Child, reuse: bool) -> None:
        """Of a task that is over and its tree gone: an empty log goes."""
        if child.lane is None or child.log is None or child.exit.get("log_bytes"):
            return
        if child.spare is None:
            self._logs.remove(child.log)
        elif self._logs.take_back(child.spare, reuse):
            child.spare = None
        else:
            self._name_log(child)  # somebody of its group has written after its end

    def _want_sweep(self) -> None:
        self._sweep_wanted = True

    def _keep_house(self) -> None:
        """Once a second as long as anything lives: children that the kernel gave us are reaped when they end."""
        if not self._housekeeping:
            self._housekeeping = True
            self._later(1.0, self._clean)

    def _clean(self) -> None:
        self._housekeeping = False
        try:
            seen = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if seen is not None and seen.si_pid not in self._pids:
            self._sweep_wanted = True
        if self._pids or self._trees.strangers:
            self._keep_house()

    # -- starts ------------------------------------------------------------------------------------------------------

    def _start_all(self, begun: list[Child], written: bool) -> None:
        retries, self._retries = self._retries, []
        for child, prepared, wanted, tries in retries:
            if self._closing():
                self._failed(child, StartFailed("exec", errno.ETXTBSY))
            else:
                self._start(child, prepared, wanted, tries)
        for child in begun:
            request = child.request
            assert request is not None
            if written:
                self._start(child, self._prepared[request.template.id], request, 0)
            else:
                number = self._journal.behind
                self._failed(
                    child, StartFailed("fork", number, f"the journal cannot be written: {os.strerror(number)}")
                )

    def _start(self, child: Child, prepared: Prepared, request: Request, tries: int) -> None:
        log = self._starter.null
        try:
            try:
                if child.spare is not None:
                    log = self._logs.lend(child.spare)
                elif child.log is not None:
                    log = self._logs.open(child.log)
            except OSError as error:
                full = error.errno in (errno.EMFILE, errno.ENFILE)
                raise StartFailed("fork" if full else "log", error.errno or errno.EIO) from None
            argv = prepared.argv if request.argv is None else [system.encode(word) for word in request.argv]
            env = prepared.environment(_variables(child, request.env))
            sockets = self._passed(prepared) if prepared.template.sockets else ()
            pid, child.pidfd = self._starter.start(prepared, argv, env, log, sockets)
        except ValueError as error:  # text that is none
            self._failed(child, StartFailed("exec", errno.EINVAL, str(error)))
            return
        except StartFailed as failure:
            if failure.errno == errno.ETXTBSY and tries < len(BUSY_TEXT_S):
                self._later(BUSY_TEXT_S[tries], self._retry, child, prepared, request, tries + 1)
            else:
                self._failed(child, failure)
            return
        finally:
            if child.spare is None and log != self._starter.null:
                os.close(log)
        crash_point("launcher.after-spawn")
        if self._oom is not None:
            system.set_oom(pid, self._oom)
        self._machine.started(child, pid, _wall_ms(), system.identity_of(pid, child.pidfd))
        self._pids[pid] = child
        self._watch(child)
        self._trees.enter(child)
        if child.spare is not None:
            self._name_later(child)

    def _retry(self, child: Child, prepared: Prepared, request: Request, tries: int) -> None:
        self._retries.append((child, prepared, request, tries))

    def _failed(self, child: Child, failure: StartFailed) -> None:
        self._exited(child, Exit(failed=[failure.step, failure.errno, failure.text]))
        self._settle_log(child, reuse=True)
        if child.contain:
            self._machine.emptied(child, 0)

    def _passed(self, prepared: Prepared) -> list[tuple[bytes, int]]:
        passed = []
        for name in prepared.template.sockets:
            held = self._sockets.get(name)
            if held is None:
                raise StartFailed("sockets", errno.ENOENT, f"no socket {name!r} is held")
            passed.append((system.encode(name), held[1].fileno()))
        return passed

    def _watch(self, child: Child) -> None:
        self._watched[child.pidfd] = child
        self._epoll.register(child.pidfd, select.EPOLLIN)

    def _unwatch(self, child: Child) -> None:
        # before it is closed: a vforked child may still hold a copy, and the epoll would go on telling of it
        if self._watched.pop(child.pidfd, None) is not None:
            self._epoll.unregister(child.pidfd)

    # -- signals to children -----------------------------------------------------------------------------------------

    def _signal(self, child: Child, signo: int, scope: str) -> None:
        """Nothing happens to a pid that may be another's: the main process is alive or a zombie, or nothing is done."""
        if child.state in (S.EMPTYING, S.ACKED):
            self._sweep_soon()  # it is being killed already
            return
        if child.state is not S.UP or child.pidfd < 0 or not system.signal_pidfd(child.pidfd, 0):
            return
        try:
            if scope == "tree":
                signo = signal.SIGKILL
                self._trees.kill(child)
            system.signal_group(child.pid, signo)
            if signo not in _NOT_CONTINUED:
                system.signal_group(child.pid, signal.SIGCONT)
        except OSError as error:
            complain(f"{child.key}: signal {signo} could not be sent: {error}")
        if signo == signal.SIGKILL and child.kill_sent_at is None:
            child.kill_sent_at = _now()
            self._later(STUCK_S, self._look_at_stuck, child)

    def _look_at_stuck(self, child: Child) -> None:
        if child.state is S.UP:
            self._machine.stuck(child)

    # -- the controller ----------------------------------------------------------------------------------------------

    def _start_controller(self) -> None:
        if self._controller is None and not self._stopping and self._ending is None:
            with self._starter.descriptors.lent():
                self._start_a_controller()

    def _start_a_controller(self) -> None:
        try:
            self._api.ensure()
        except (OSError, Refused) as error:
            complain(f"the API socket cannot be bound: {error}")
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        env = dict(os.environ)
        if not self._first:
            for name in crash.VARIABLES:
                env.pop(name, None)
        env["RECONCILER_LAUNCHER_FD"] = str(theirs.fileno())
        env["RECONCILER_API_FD"] = str(self._api.fileno())
        try:
            pid, pidfd = self._starter.start_controller(
                self._controller_argv, env, (theirs.fileno(), self._api.fileno())
            )
        except StartFailed as failure:
            ours.close()
            self._failures += 1
            delay_s = max(0.1, restart_delay_s(self._failures))
            complain(f"the controller could not be started: {failure.step}: {failure.text}; again in {delay_s:g} s")
            self._later(delay_s, self._start_controller)
            return
        finally:
            theirs.close()
        self._restarts += not self._first
        self._first = False
        channel = _Channel(ours)
        self._controller = _Controller(pid, pidfd, channel, _now())
        self._pids[pid] = None
        self._epoll.register(pidfd, select.EPOLLIN)
        self._epoll.register(channel.fd, select.EPOLLIN)
        self._keep_house()

    def _take_channel(self, controller: _Controller, events: int) -> bool:
        """Does what has been asked for; false when nothing more will come."""
        channel = controller.channel
        assert channel is not None
        if events & select.EPOLLOUT and channel.flush():
            self._epoll.modify(channel.fd, select.EPOLLIN)
        try:
            messages, more = channel.read()
            for message in messages:
                self._obey(controller, message)
        except FrameError as error:
            complain(f"controller (pid {controller.pid}) broke the protocol: {error}")
            system.signal_pidfd(controller.pidfd, signal.SIGKILL)
            more = False
        if not more:
            self._hang_up(controller)
            self._later(CONTROLLER_END_S, self._kill_controller, controller)
        return more and bool(messages)

    def _hang_up(self, controller: _Controller) -> None:
        if controller.channel is not None:
            self._epoll.unregister(controller.channel.fd)
            controller.channel.close()
            controller.channel = None
            self._machine.hangup()

    def _kill_controller(self, controller: _Controller) -> None:
        if controller is self._controller:
            system.signal_pidfd(controller.pidfd, signal.SIGKILL)

    def _controller_ended(self) -> None:
        controller = self._controller
        assert controller is not None
        while controller.channel is not None and self._take_channel(controller, select.EPOLLIN):
            pass  # what it said before it ended counts
        self._hang_up(controller)
        try:
            system.signal_group(controller.pid, signal.SIGKILL)  # git, template rendering: its own helpers
        except PermissionError as error:
            complain(f"the controller's process group could not be killed: {error}")
        status = os.waitid(os.P_PIDFD, controller.pidfd, os.WEXITED)
        assert status is not None
        self._epoll.unregister(controller.pidfd)
        os.close(controller.pidfd)
        del self._pids[controller.pid]
        self._controller = None
        if self._ending is not None or self._stopping:
            return
        if self._terminates:
            self._stop_all()
            return
        killed = status.si_code != os.CLD_EXITED
        if not killed and status.si_status == BAD_CONFIGURATION:
            self._ending = EXIT_USAGE
            return
        self._failures = failures_after(self._failures, controller.serving, _now() - controller.started_at, killed)
        delay_s = restart_delay_s(self._failures)
        if killed or status.si_status != RESTART_ME:
            how = f"signal {status.si_status}" if killed else f"exit code {status.si_status}"
            when = f" in {delay_s:g} s" if delay_s else ""
            complain(f"controller (pid {controller.pid}) ended: {how}; started again{when}")
        if delay_s:
            self._later(delay_s, self._start_controller)
        else:
            self._start_controller()

    # -- what the controller asks for --------------------------------------------------------------------------------

    def _obey(self, controller: _Controller, message: list[Any]) -> None:
        word, *rest = message
        if not controller.greeted and word != "hello":
            raise FrameError(f"{word!r} before hello")
        verb = self._verbs.get(word)
        if verb is None:
            raise FrameError(f"unknown word {word!r}")
        if self._ending is not None or self._stopping:
            return
        try:
            verb(controller, *rest)
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise FrameError(f"{word}: {type(error).__name__}: {error}") from error

    def _hello(self, controller: _Controller, version: int) -> None:
        about = {
            "pid": os.getpid(), "startedAt": self._started_ms, "bootId": self._boot_id,
            "controllerRestarts": self._restarts, "containment": self._trees.word, "api": self._api.path,
        }  # fmt: skip
        self._send(controller, [["hello", VERSION, about]])
        if controller.greeted:
            raise FrameError("hello was said before")
        if version < OLDEST:
            raise FrameError(f"it speaks version {version}, the oldest understood here is {OLDEST}")
        controller.greeted = True
        self._machine.hello()
        self._prepared.clear()

    def _list(self, controller: _Controller) -> None:
        self._say()  # what was said before comes before
        for messages in self._machine.listing():
            self._send(controller, messages)

    def _register(self, controller: _Controller, template_id: str, fields: dict[str, Any]) -> None:
        template = _checked(Template(**{**fields, "id": template_id}))
        self._prepared[template_id] = Prepared(template)
        self._machine.register(template)

    def _lane(self, controller: _Controller, name: str, slots: int) -> None:
        if not isinstance(slots, int) or not 0 <= slots <= MAX_SLOTS:
            raise FrameError(f"lane {name} with {slots!r} slots")
        self._machine.lane(name, slots)

    def _socket(self, controller: _Controller, name: str, address: str) -> None:
        held = self._sockets.get(name)
        if held is not None and held[0] == address:
            return
        try:
            sock = system.listen(address)
        except (OSError, ValueError) as error:
            number = error.errno if isinstance(error, OSError) else errno.EINVAL
            self._send(controller, [["socketFailed", name, number, str(error)]])
            return
        if held is not None:
            held[1].close()
        self._sockets[name] = address, sock

    def _unsocket(self, controller: _Controller, name: str) -> None:
        held = self._sockets.pop(name, None)
        if held is not None:
            path = held[1].getsockname()
            held[1].close()
            if isinstance(path, str):
                with suppress(FileNotFoundError):
                    os.unlink(path)

    def _spawn(self, controller: _Controller, rows: list[list[Any]]) -> None:
        for key, instance, template, argv, env, log in rows:
            system.encode(key)  # what cannot be said again is refused at once
            system.encode(instance)
            if argv is not None:
                _all_text(argv)
            if env is not None:
                _all_text([*env, *env.values()])
            self._machine.spawn(key, instance, template, argv, env, log if log is None else str(log))

    def _recall(self, controller: _Controller, keys: list[str]) -> None:
        self._machine.recall(keys)

    def _obey_signal(self, controller: _Controller, key: str, instance: str, signo: int, scope: str) -> None:
        child = self._machine.alive(key, instance)
        if child is not None and isinstance(signo, int):
            self._signal(child, signo, scope)

    def _ack(self, controller: _Controller, seq: int) -> None:
        self._machine.ack(int(seq))

    def _ping(self, controller: _Controller) -> None:
        self._send(controller, [["pong"]])

    def _serving(self, controller: _Controller) -> None:
        controller.serving = True

    def _asked_to_end(self, controller: _Controller) -> None:
        self._terminates += 1
        self._terminated()

    def _finish(self, controller: _Controller, code: int) -> None:
        self._ending = int(code)
        self._later(CONTROLLER_END_S, self._kill_controller, controller)

    # -- signals to us, and the end ----------------------------------------------------------------------------------

    def _take_signals(self) -> None:
        for number in self._signals.read():
            if number in (signal.SIGTERM, signal.SIGINT):
                self._terminates += 1
                self._terminated()
            elif number == signal.SIGQUIT:
                self._quit(0)
            elif number == signal.SIGHUP and self._controller is not None and self._controller.greeted:
                self._send(self._controller, [["rescan"]])

    def _terminated(self) -> None:
        if self._terminates >= 3:
            complain("ended at the third signal; the workers run on")
            self._leave()
            os._exit(1)
        controller = self._controller
        if self._stopping:
            self._stop_all()
        elif controller is not None and controller.serving:
            self._send(controller, [["terminate", self._terminates]])
            if self._terminates == 1:
                self._later(self._machine.largest_grace_s() + FINISH_MARGIN_S, self._took_too_long)
        elif self._ending is None:
            if controller is not None:
                self._end_controller(controller)
            self._stop_all()

    def _took_too_long(self) -> None:
        if self._controller is not None and self._ending is None and not self._stopping:
            complain(f"controller (pid {self._controller.pid}) did not end in time; everything is stopped without it")
            self._kill_controller(self._controller)
            self._stop_all()

    def _quit(self, code: int) -> None:
        if self._ending is None:
            self._ending = code
            if self._controller is not None:
                self._end_controller(self._controller)

    def _end_controller(self, controller: _Controller) -> None:
        self._hang_up(controller)
        system.signal_pidfd(controller.pidfd, signal.SIGTERM)
        self._later(CONTROLLER_END_S, self._kill_controller, controller)

    def _stop_all(self) -> None:
        """From the records: what each child wants to be stopped with, and how long it may take."""
        again = self._stopping
        self._stopping = True
        now = _now()
        for child, signo, kill_at in self._machine.stop_plan(now, self._terminates > 1):
            if not again:
                self._signal(child, signo, "group")
            self._at(kill_at, self._kill, child)
        if self._stopped_at is None or self._terminates > 1:
            self._stopped_at = now + (0 if self._terminates > 1 else self._machine.largest_grace_s()) + GIVE_UP_S
            self._at(self._stopped_at, self._wake)
        for child in self._machine.children(S.BLOCKED):
            complain(f"{child.key}: a process that may be it runs on; it cannot be told")

    def _kill(self, child: Child) -> None:
        if child.state is S.UP:
            self._signal(child, signal.SIGKILL, "tree")

    def _wake(self) -> None:
        """A turn at that moment is all that is wanted."""

    def _end_reached(self) -> int | None:
        if self._controller is not None:
            return None
        if self._ending is not None:
            return self._ending
        if not self._stopping:
            return None
        left = self._machine.children(S.UP, S.INTENDED, S.EMPTYING, S.ACKED)
        if not left:
            return 0
        if self._stopped_at is not None and _now() >= self._stopped_at:
            for child in left:
                complain(f"{child.key}: pid {child.pid} could not be ended")
            return 0
        return None

    def _leave(self) -> None:
        self._logs.close()
        self._api.remove()
        self._trees.close()

    # -- adoption ----------------------------------------------------------------------------------------------------

    def adopt(self) -> None:
        """Takes over what an earlier launcher started. Runs once, before the controller."""
        for record in read_journal(self._state_dir, complain):
            try:
                self._machine.restore(record)
            except (ValueError, TypeError, KeyError, IndexError) as error:
                complain(f"journal: {record[0]!r} makes no sense, skipped: {type(error).__name__}: {error}")
        self._machine.skip_numbers()
        for child in self._machine.children(*S):
            # one that has ended and left nothing may have given its spare to another since
            if child.state is S.INTENDED or child.exit.get("log_bytes"):
                self._name_log(child)
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
        self._machine.records.clear()  # the compaction says it all
        self._compact()
        self._machine.frame()  # nobody listens yet

    def _adopted(self, child: Child, found: adoption.Found) -> None:
        child.pidfd = found.pidfd
        self._machine.started(child, found.pid, found.started_ms, found.identity)
        self._pids[found.pid] = child
        self._watch(child)

    def _gone(self, child: Child, why: str) -> None:
        how = Exit(unknown=why)
        if child.pid:
            how["pid"] = child.pid
        self._exited(child, how)
        if why == "reboot":
            self._settle_log(child, reuse=False)
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
        elif any(pid not in self._pids for pid in adoption.candidates(child)):
            self._machine.hold(child)
            self._later(BLOCKED_AGAIN_S, self._settle_again, child)
        else:
            self._gone(child, "lost")

    def _settle_again(self, child: Child) -> None:
        if child.state is S.BLOCKED:
            self._settle(child, adoption.tokens())

    # -- time --------------------------------------------------------------------------------------------------------

    def _later(self, delay_s: float, call: Callable[..., None], *args: Any) -> None:
        self._at(_now() + delay_s, call, *args)

    def _at(self, due: float, call: Callable[..., None], *args: Any) -> None:
        self._timer_count += 1
        heappush(self._timers, (due, self._timer_count, call, args))

    def _run_timers(self) -> None:
        if self._timers:
            now = _now()
            while self._timers and self._timers[0][0] <= now:
                _, _, call, args = heappop(self._timers)
                call(*args)


_BEFORE_WRITE = {"exit": "launcher.before-exit-record", "intent": "launcher.before-intent"}
_AFTER_WRITE = {
    "exit": "launcher.after-exit-record", "intent": "launcher.after-intent", "pid": "launcher.after-pid",
    "ack": "launcher.after-ack",
}  # fmt: skip

_NOT_CONTINUED = frozenset(
    (0, signal.SIGKILL, signal.SIGCONT, signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)
)


def _variables(child: Child, own: dict[str, str] | None) -> dict[str, str]:
    """What one child has in its environment beside its template's."""
    if child.slot is None:
        return own or {}
    worker = f"{child.lane}-{child.slot}"
    return {**(own or {}), "RECONCILER_ORDINAL": str(child.slot), "RECONCILER_WORKER": worker}


_TEXT = {str}


def _all_text(words: Sequence[Any]) -> None:
    if isinstance(words, str) or not {*map(type, words)} <= _TEXT:
        raise TypeError(f"{words!r:.80} is no list of strings")


def _checked(template: Template) -> Template:
    """What is kept for later must be what it says. Raises TypeError."""
    _all_text([template.id, template.cwd, *template.argv, *template.sockets, *template.env, *template.env.values()])
    optional = [number for number in (template.uid, template.gid) if number is not None]
    for number in (template.umask, template.stop_signal, template.grace_ms, *optional, *(template.groups or ())):
        if not isinstance(number, int):
            raise TypeError(f"template {template.id}: {number!r} is no whole number")
    if template.lane is not None:
        _all_text([template.lane])
    return template


_now = time.monotonic


def _wall_ms() -> int:
    return int(time.time() * 1000)


def complain(text: str) -> None:
    """One line on stderr; the launcher has no other voice when the controller is dead."""
    try:
        os.write(2, f"reconciler: {text}\n".encode("utf-8", "backslashreplace"))
    except OSError:
        return  # nobody is left to tell
