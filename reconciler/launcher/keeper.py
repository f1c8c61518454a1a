"""The life of the controller: child 0, started, listened to, ended, buried, and started again.

    start -> says hello -> greeted -> says serving -> serving -> its end is seen -> bury -> again (at once, or after a wait)

Contract: one controller at a time. What it says is handed to `obey` in order, also what it said just before its end.
"""

from __future__ import annotations

import _socket as socket
import os
import select
import signal
from collections.abc import Callable, Sequence
from typing import Any

from reconciler import crash

from . import system
from .again import failures_after, restart_delay_s
from .failure import StartFailed
from .machine import Child
from .notify import NotifySocket
from .protocol import FrameError, Message
from .starter import Starter
from .state import ApiSocket, Refused
from .timers import Timers, now
from .wires import Channel, complain

CONTROLLER_END_S = 2.0
RESTART_ME = 75


class Controller:
    """One life of child 0."""

    def __init__(self, pid: int, pidfd: int, channel: Channel, started_at: float) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self.channel: Channel | None = channel
        self.started_at = started_at
        self.greeted = False
        self.serving = False


class End:
    """How a controller ended."""

    def __init__(self, controller: Controller, status: os.waitid_result) -> None:
        self.controller = controller
        self.killed = status.si_code != os.CLD_EXITED
        self.code = None if self.killed else status.si_status
        self.words = f"signal {status.si_status}" if self.killed else f"exit code {status.si_status}"


class Keeper:
    """Parent and restarter of the controller; `obey` raises FrameError, `wanted` says whether there is to be one."""

    def __init__(
        self,
        argv: Sequence[str],
        api: ApiSocket,
        notify: NotifySocket,
        starter: Starter,
        epoll: select.epoll,
        timers: Timers,
        pids: dict[int, Child | None],
        obey: Callable[[Controller, list[Any]], None],
        hung_up: Callable[[], None],
        wanted: Callable[[], bool],
    ) -> None:
        self.controller: Controller | None = None
        self.restarts = 0
        self._argv = list(argv)
        self._api = api
        self._notify = notify
        self._starter = starter
        self._epoll = epoll
        self._timers = timers
        self._pids = pids
        self._obey = obey
        self._hung_up = hung_up
        self._wanted = wanted
        self._first = True
        self._failures = 0

    def start(self) -> None:
        """Starts one, unless there is one or none is wanted; tries again later when that fails."""
        if self.controller is None and self._wanted():
            with self._starter.descriptors.lent():
                self._start()

    def send(self, controller: Controller, messages: Sequence[Message]) -> None:
        channel = controller.channel
        if channel is not None and not channel.send(messages):
            self._epoll.modify(channel.fd, select.EPOLLIN | select.EPOLLOUT)

    def read(self, controller: Controller, events: int) -> bool:
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
            self.kill_later(controller)
        return more and bool(messages)

    def end(self) -> None:
        """Asks it to end, and sees to it."""
        controller = self.controller
        if controller is not None:
            self._hang_up(controller)
            system.signal_pidfd(controller.pidfd, signal.SIGTERM)
            self.kill_later(controller)

    def kill_later(self, controller: Controller) -> None:
        self._timers.later(CONTROLLER_END_S, self.kill, controller)

    def kill(self, controller: Controller) -> None:
        if controller is self.controller:
            system.signal_pidfd(controller.pidfd, signal.SIGKILL)

    def bury(self) -> End:
        """Its pidfd is readable: hears its last words, ends its own helpers, reaps it."""
        controller = self.controller
        assert controller is not None
        while controller.channel is not None and self.read(controller, select.EPOLLIN):
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
        self.controller = None
        return End(controller, status)

    def again(self, end: End) -> None:
        """Starts the next one, after a wait if this one was not the first to fail."""
        before = end.controller
        self._failures = failures_after(self._failures, before.serving, now() - before.started_at, end.killed)
        delay_s = restart_delay_s(self._failures)
        if end.code != RESTART_ME:
            when = f" in {delay_s:g} s" if delay_s else ""
            complain(f"controller (pid {before.pid}) ended: {end.words}; started again{when}")
        if delay_s:
            self._timers.later(delay_s, self.start)
        else:
            self.start()

    def _start(self) -> None:
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
        env["RECONCILER_NOTIFY_FD"], env["RECONCILER_NOTIFY_PATH"] = str(self._notify.fileno()), self._notify.path
        passed = (theirs.fileno(), self._api.fileno(), self._notify.fileno())
        try:
            pid, pidfd = self._starter.start_controller(self._argv, env, passed)
        except StartFailed as failure:
            ours.close()
            self._failures += 1
            delay_s = max(0.1, restart_delay_s(self._failures))
            complain(f"the controller could not be started: {failure.step}: {failure.text}; again in {delay_s:g} s")
            self._timers.later(delay_s, self.start)
            return
        finally:
            theirs.close()
        self.restarts += not self._first
        self._first = False
        channel = Channel(ours)
        self.controller = Controller(pid, pidfd, channel, now())
        self._pids[pid] = None
        self._epoll.register(pidfd, select.EPOLLIN)
        self._epoll.register(channel.fd, select.EPOLLIN)

    def _hang_up(self, controller: Controller) -> None:
        if controller.channel is not None:
            self._epoll.unregister(controller.channel.fd)
            controller.channel.close()
            controller.channel = None
            self._hung_up()
