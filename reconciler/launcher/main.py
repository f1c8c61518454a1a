"""The launcher's one loop: parent of the controller and of every process it asks for.

    poll -> peek at what has exited -> ONE journal append (exits, next intents) -> kill their groups, reap
         -> start the next -> append their pids -> ONE frame to the controller

Contract: an intent is in the journal before its process exists, an exit before its zombie is gone, and nothing is said to
the controller before it is in the journal. The launcher decides nothing about restarts of what it runs; it only keeps the
controller alive, and stops everything from its own records when there is no controller to do it.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import sys
import time
from collections.abc import Sequence
from typing import Any

from reconciler import crash

from . import adoption, manager, system
from .children import Children
from .containment import Trees
from .journal import Journal
from .journal import read as read_journal
from .keeper import Controller, Keeper
from .logs import Logs
from .machine import Child, Machine
from .prestop import PreStops
from .starter import Starter
from .state import Refused, State, claim
from .table import S
from .timers import Timers, now
from .verbs import Verbs
from .wires import Signals, complain

crash_point = crash.crash_point

STARTS_PER_TURN = 32
FINISH_MARGIN_S = 10.0
GIVE_UP_S = 10.0
"""How long after SIGKILL the launcher still waits for what it stops itself."""
BAD_CONFIGURATION = 78

EXIT_USAGE = 2
JOURNAL_AGAIN_S = 1.0


def main(state_dir: str, controller: Sequence[str], use_cgroup: bool = True) -> int:
    """Runs until it is told to end; returns the exit code."""
    signals = Signals()
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


class Launcher:
    """The loop, the journal, and the end."""

    def __init__(self, state: State, controller: Sequence[str], signals: Signals, use_cgroup: bool) -> None:
        self._state_dir = state.directory
        self._api = state.api
        self._notify = state.notify
        self._lock = state.lock
        self._signals = signals
        self._machine = Machine()
        self._starter = Starter()
        self._journal = Journal(self._state_dir)
        self._logs = Logs(os.path.join(self._state_dir, "logs"))
        self._trees = Trees(self._state_dir, complain, use_cgroup)
        self._boot_id = system.boot_id()
        self._started_ms = int(time.time() * 1000)
        self._timers = Timers()
        self._epoll = select.epoll()
        self._epoll.register(signals.fd, select.EPOLLIN)
        self._children = Children(
            self._machine, self._starter, self._logs, self._trees, self._timers, self._epoll, self._boot_id
        )
        self._keeper = Keeper(
            controller, self._api, self._notify, self._starter, self._epoll, self._timers, self._children.pids,
            self._obey, self._hangup, lambda: not self._closing(),
        )  # fmt: skip
        self._verbs = Verbs(
            self._machine, self._children, self._keeper.send, self._say, self._about, self._asked_to_end, self._finish
        )
        self._pre_stops = PreStops(self._machine, self._children, self._timers, self._kill)
        self._terminates = 0
        self._ending: int | None = None
        """The exit code, once the end is decided; what runs then is left alone."""
        self._stopping = False
        """Everything is being stopped from the records."""
        self._stopped_at: float | None = None

    def adopt(self) -> None:
        """Takes over what an earlier launcher started. Runs once, before the controller."""
        for record in read_journal(self._state_dir, complain):
            try:
                self._machine.restore(record)
            except (ValueError, TypeError, KeyError, IndexError) as error:
                complain(f"journal: {record[0]!r} makes no sense, skipped: {type(error).__name__}: {error}")
        self._machine.skip_numbers()
        self._children.adopt()
        self._machine.records.clear()  # the compaction says it all
        self._compact()
        self._machine.frame()  # nobody listens yet

    # -- the turn ----------------------------------------------------------------------------------------------------

    def run(self) -> int:
        self._keeper.start()
        self._children.keep_house()
        while True:
            code = self._turn()
            if code is not None:
                self._leave()
                return code

    def _turn(self) -> int | None:
        children, controller = self._children, self._keeper.controller
        exited: list[Child] = []
        unseen: list[Child] = []
        controller_ended = False
        children.channels.turn()
        for fd, events in self._poll():
            child = children.watched.get(fd)
            if child is not None:
                (unseen if child.adopted else exited).append(child)
            elif fd == self._signals.fd:
                self._take_signals()
            elif controller is not None and fd == controller.pidfd:
                controller_ended = True
            elif (channel := children.channels.watched.get(fd)) is not None:
                children.channels.ready(channel, events)
            elif controller is not None and controller.channel is not None:
                self._keeper.read(controller, events)
        self._timers.run()
        if controller_ended:
            self._controller_ended()
        for child in unseen:
            children.unseen(child)

        exited = [child for child in exited if children.peek(child)]
        self._pre_stops.look()
        begun = []
        if self._starting() and self._machine.startable():
            begun = self._machine.take(STARTS_PER_TURN, adoption.boottime_ms(), self._logs.choose)
        self._write()
        for child in exited:
            children.reap(child)
        if begun or children.retrying:
            children.start(begun, self._journal.behind, self._closing())
        if children.sweep_wanted:
            children.sweep()
        self._write()
        self._say()
        children.enclose()
        if self._journal.full():
            self._compact()
        return self._end_reached()

    def _closing(self) -> bool:
        """Nothing is started any more."""
        return self._stopping or self._ending is not None

    def _starting(self) -> bool:
        """What is begun while everything is stopped are only the commands before the stop signals."""
        return not self._closing() or (self._stopping and self._ending is None)

    def _poll(self) -> list[tuple[int, int]]:
        more = self._machine.startable() and self._starting()  # than one turn takes
        return self._epoll.poll(0.0 if more else self._timers.wait_s(), 256)

    def _write(self) -> None:
        """One append of all that must be on disk before the next step; `behind` tells when it could not be written."""
        records = self._machine.records
        if not records:
            return
        self._machine.records = []
        words = {record[0] for record in records} if crash.ARMED else set()
        for word in words & _BEFORE_WRITE.keys():
            crash_point(_BEFORE_WRITE[word])
        if not self._journal.behind:  # else the compaction that mends it says all at once
            try:
                self._journal.append(records)
            except OSError as error:
                complain(f"the journal cannot be written: {error}; nothing is started until it can")
                self._timers.later(JOURNAL_AGAIN_S, self._compact)
        for word in words & _AFTER_WRITE.keys():
            crash_point(_AFTER_WRITE[word])

    def _compact(self) -> None:
        behind = self._journal.behind
        try:
            with self._starter.descriptors.lent():
                self._journal.compact(self._machine.snapshot(self._boot_id))
        except OSError as error:
            if behind:
                self._timers.later(JOURNAL_AGAIN_S, self._compact)
            else:
                self._journal.postpone()
                complain(f"the journal could not be compacted: {error}")
        else:
            if behind:
                complain("the journal can be written again")

    def _say(self) -> None:
        messages = self._machine.frame()
        controller = self._keeper.controller
        if messages and controller is not None and controller.channel is not None and controller.greeted:
            crash_point("launcher.before-frame")
            self._keeper.send(controller, messages)
            crash_point("launcher.after-frame")

    # -- the controller ----------------------------------------------------------------------------------------------

    def _obey(self, controller: Controller, message: list[Any]) -> None:
        self._verbs.obey(controller, message, self._closing())

    def _about(self) -> dict[str, Any]:
        return {
            "pid": os.getpid(), "startedAt": self._started_ms, "bootId": self._boot_id,
            "controllerRestarts": self._keeper.restarts, "containment": self._trees.word, "limits": self._trees.limited.about(), "api": self._api.path,
        }  # fmt: skip

    def _hangup(self) -> None:
        if not self._stopping:  # then that has been done, and what waits now is our own
            self._machine.hangup()

    def _controller_ended(self) -> None:
        end = self._keeper.bury()
        if self._closing():
            return
        if self._terminates:
            self._stop_all()
        elif end.code == BAD_CONFIGURATION:
            self._ending = EXIT_USAGE
        else:
            self._keeper.again(end)

    def _finish(self, controller: Controller, code: int) -> None:
        self._ending = code
        self._keeper.kill_later(controller)

    def _asked_to_end(self) -> None:
        self._terminates += 1
        self._terminated()

    # -- signals to us, and the end ----------------------------------------------------------------------------------

    def _take_signals(self) -> None:
        controller = self._keeper.controller
        for number in self._signals.read():
            if number in (signal.SIGTERM, signal.SIGINT):
                self._asked_to_end()
            elif number == signal.SIGQUIT:
                self._quit(0)
            elif number == signal.SIGHUP and controller is not None and controller.greeted:
                self._keeper.send(controller, [["rescan"]])

    def _terminated(self) -> None:
        if self._terminates >= 3:
            complain("ended at the third signal; the workers run on")
            self._leave()
            os._exit(1)
        manager.tell("STOPPING=1")
        controller = self._keeper.controller
        if self._stopping:
            self._stop_all()
        elif controller is not None and controller.serving:
            self._keeper.send(controller, [["terminate", self._terminates]])
            if self._terminates == 1:
                self._timers.later(self._machine.largest_grace_s() + FINISH_MARGIN_S, self._took_too_long)
        elif self._ending is None:
            self._keeper.end()
            self._stop_all()

    def _took_too_long(self) -> None:
        controller = self._keeper.controller
        if controller is not None and not self._closing():
            complain(f"controller (pid {controller.pid}) did not end in time; everything is stopped without it")
            self._keeper.kill(controller)
            self._stop_all()

    def _quit(self, code: int) -> None:
        if self._ending is None:
            self._ending = code
            self._keeper.end()

    def _stop_all(self) -> None:
        """From the records: what each child wants to be stopped with, and how long it may take."""
        again = self._stopping
        if not again:
            self._machine.hangup()  # what no controller will ask for again begins no more
        self._stopping = True
        moment = now()
        for stop in self._machine.stop_plan(moment, self._terminates > 1):
            if again:
                self._timers.at(stop.kill_at, self._kill, stop.child)
            elif not self._pre_stops.begin(stop):
                self._children.signal(stop.child, stop.signo, "group")
                self._timers.at(stop.kill_at, self._kill, stop.child)
        if self._stopped_at is None or self._terminates > 1:
            self._stopped_at = moment + (0 if self._terminates > 1 else self._machine.largest_grace_s()) + GIVE_UP_S
            self._timers.at(self._stopped_at, self._wake)
        for child in self._machine.children(S.BLOCKED):
            complain(f"{child.key}: a process that may be it runs on; it cannot be told")

    def _kill(self, child: Child) -> None:
        if child.state is S.UP:
            self._children.signal(child, signal.SIGKILL, "tree")

    def _wake(self) -> None:
        """A turn at that moment is all that is wanted."""

    def _end_reached(self) -> int | None:
        if self._keeper.controller is not None:
            return None
        if self._ending is not None:
            return self._ending
        if not self._stopping:
            return None
        left = self._machine.children(S.UP, S.INTENDED, S.EMPTYING, S.ACKED)
        if not left:
            return 0
        if self._stopped_at is not None and now() >= self._stopped_at:
            for child in left:
                complain(f"{child.key}: pid {child.pid} could not be ended")
            return 0
        return None

    def _leave(self) -> None:
        self._logs.close()
        self._api.remove()
        self._notify.remove()
        self._trees.close()


_BEFORE_WRITE = {"exit": "launcher.before-exit-record", "intent": "launcher.before-intent"}
_AFTER_WRITE = {
    "exit": "launcher.after-exit-record", "intent": "launcher.after-intent", "pid": "launcher.after-pid",
    "ack": "launcher.after-ack",
}  # fmt: skip
