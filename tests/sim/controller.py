"""One life of the controller: the real loop and the real submission, on a wire, a clock and a disk that are not there.

It can die at every instant that matters: before and after a COMMIT, before and after a frame, before an answer to a client.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from reconciler.backends.base import Account
from reconciler.controllers.base import Mode
from reconciler.daemon import Controller as Daemon
from reconciler.launcher.protocol import VERSION, Message
from reconciler.resources.probe import Kind
from reconciler.resources.task import Plain, Submission
from reconciler.resources.worker import Worker
from reconciler.runtime.loop import Loop
from reconciler.runtime.probes import Prober
from reconciler.runtime.submissions import Submissions
from reconciler.store.base import StoreFull, TaskRecord
from tests.sim.disk import Disk, DurableStore
from tests.sim.probing import Answers, VirtualLoop
from tests.sim.timeline import ControllerClock, Timeline, Violation
from tests.sim.wire import Wire

TURNS_A_SECOND = 2_000
"""More than anything that happens here can need."""


class Died(BaseException):
    """The process has been killed at this instant: nothing after it happens."""


class Surroundings(Protocol):
    """What the world decides for a controller."""

    def instant(self, name: str) -> bool: ...

    def new_store(self, clock: ControllerClock, before: Any) -> DurableStore: ...

    def turned(self, controller: Controller) -> None: ...

    def asked(self, controller: Controller, messages: Sequence[Message]) -> None: ...

    def controller_ended(self, controller: Controller) -> None: ...

    def health(self, worker: Worker, kind: Kind) -> tuple[str, float]: ...


class SimulatedHost:
    """Accounts, ports and files of a machine that is not there."""

    path = "/bin"
    notify_path = "/run/notify.sock"
    temporary = ""

    def __init__(self) -> None:
        self._port = 20_000

    def account(self, user: str | None) -> Account:
        return Account(None, None, None, "sim", "/", "/bin/sh")

    def group(self, name: str) -> int:
        return {"www": 33, "adm": 4}[name]

    def free_port(self) -> int:
        self._port += 1
        return self._port

    def make_temporary(self, instance: str) -> None:
        """A simulated machine is root's."""

    def remove_temporary(self, instance: str) -> None:
        """There are none."""

    def remove_files(self, files: Sequence[str]) -> list[str]:
        return []

    def cpu_ms(self, pid: int) -> int | None:
        return None

    def renice(self, pid: int, nice: int) -> None:
        """Nothing competes here."""

    def remove_output(self, names: Sequence[str]) -> None:
        """There are none."""

    def remove_logs(self, newest: str) -> None:
        """There are none."""


class Controller(Daemon):
    """The daemon without asyncio: what turns it is the timeline."""

    def __init__(self, timeline: Timeline, disk: Disk, wire: Wire, world: Surroundings, number: int) -> None:
        self.number = number
        self.alive = True
        self.serving = False
        self.up = False
        self.frozen_until_us = 0
        self.born_us = timeline.now_us
        self._timeline = timeline
        self._disk = disk
        self._wire = wire
        self._world = world
        self._buffer: list[list[Any]] = []
        self._turn_at_us: int | None = None
        self._finish_code: int | None = None
        self._turned, self._turned_since_us = 0, timeline.now_us
        self._events = VirtualLoop(timeline, self)
        wire.to_controller = self._arrives
        wire.launcher_gone = self._launcher_is_gone

    def begin(self) -> None:
        """Opens the store, once it is free, and greets the launcher."""
        if not self.alive or self._sleeps(self.begin):
            return
        if self._disk.holder is not None or self._disk.full:
            self._timeline.after(0.5, self.begin)  # as the launcher's restarts of one that could not open it
            return
        self._disk.holder = self
        self.clock = ControllerClock(self._timeline)  # type: ignore[assignment]
        self.store = self._world.new_store(self.clock, self._passes)  # type: ignore[assignment,arg-type]
        self.loop = Loop(self.store, self, SimulatedHost(), self.clock, self._wake)
        self.answers = Answers(self._timeline, self, self.store, self._world.health)
        self._prober = Prober(self.store, self.clock, self.answers, self._wake, lambda instance: False)
        self._submissions = Submissions(self.store, self.loop, self.clock)
        self.up = True
        self.does(lambda: self.send([["hello", VERSION], ["list"]]))
        self._wake()

    # the link to the launcher

    def send(self, messages: Sequence[Message]) -> None:
        """The link's: a frame goes out, unless it dies before."""
        self._passes("controller.before-send")
        self._timeline.say(f"controller {self.number} says {_shown(messages)}")
        self._world.asked(self, messages)
        self._wire.send_up(messages)
        self._passes("controller.after-send")

    def _arrives(self, messages: list[list[Any]]) -> None:
        self._buffer += messages
        self._wake()

    # life and death

    def kill(self, why: str) -> None:
        """As by SIGKILL."""
        if self.alive:
            self.alive = False
            self._timeline.say(f"controller {self.number} is dead: {why}")
            self._events.die()
            self._wire.close_controller()
            if self._disk.holder is self:
                self._disk.holder = None
            self._world.controller_ended(self)

    def _passes(self, instant: str) -> None:
        if self._world.instant(instant):
            raise Died(instant)

    def _launcher_is_gone(self) -> None:
        if not self._sleeps(self._launcher_is_gone):
            self.kill("the launcher is gone")

    def _sleeps(self, call: Any) -> bool:
        """Whether it is stopped now; then the call comes when it goes on."""
        left_us = self.frozen_until_us - self._timeline.now_us
        if left_us > 0:
            self._timeline.after(left_us / 1e6, call)
        return left_us > 0

    # turns

    def _wake(self, apart_s: float = 0.0) -> None:
        self._turn_in(0.0003)

    def _turn_in(self, delay_s: float) -> None:
        at_us = self._timeline.now_us + round(delay_s * 1e6)
        if self._turn_at_us is None or at_us < self._turn_at_us:
            self._turn_at_us = at_us
            self._timeline.after(delay_s, self._turn, at_us)

    def _turn(self, at_us: int = -1) -> None:
        if not self.alive or not self.up or at_us != self._turn_at_us:
            return
        left_us = self.frozen_until_us - self._timeline.now_us
        if left_us > 0:
            self._turn_at_us = None
            self._turn_in(left_us / 1e6)
            return
        self._turn_at_us = None
        self._turned += 1
        if self._turned_since_us + 1_000_000 < self._timeline.now_us:
            self._turned, self._turned_since_us = 0, self._timeline.now_us
        elif self._turned > TURNS_A_SECOND:
            raise Violation("I16: the loop turns without end, and nothing comes of it")
        try:
            if self._buffer:
                buffer, self._buffer = self._buffer, []
                self.loop.receive(buffer)
            with self._events.running():
                self.loop.turn()
                if self.loop.observer.settled and not self.serving:
                    self.serving = True
                    self._prober.look_at_all()
                    self.send([["serving"]])
            self._after_turn()
        except Died as death:
            self.kill(str(death))
            return
        if self.loop.idle:
            self.answers.turned()
        self._world.turned(self)
        if self.loop.ready:
            self._wake()
        else:
            self._turn_in(max(0.0, (self.loop.next_at - self.clock.now()).total_seconds()))

    def _after_turn(self) -> None:
        terminations = self.loop.observer.terminations
        if terminations:
            self.loop.set_mode(Mode.STOPPING if terminations == 1 else Mode.HURRYING)
        if self.loop.world.mode is not Mode.RUNNING and self.loop.idle and self._nothing_runs():
            self._finish(0)

    def _finish(self, code: int) -> None:
        if self._finish_code is None:
            self._finish_code = code
            self.store.commit()
            self.send([["finish", code]])
            self._timeline.after(0.2, self.kill, "it has finished")

    # clients and sources

    def does(self, call: Callable[[], None]) -> None:
        """Does something outside a turn, in which it may die."""
        try:
            with self._events.running():
                call()
        except Died as death:
            self.kill(str(death))

    def submits(self, pool: str, submissions: Sequence[Submission | Plain], answer: Any) -> None:
        """A client submits; `answer(records or None)` comes when they are durable, or refused, or never."""
        self.client_calls(lambda: self.submit(pool, submissions), answer)

    def client_calls(self, call: Any, answer: Any) -> None:
        """Does it, and answers after the commit; the caller handles refusals."""
        result: Any = None

        def keep() -> None:
            nonlocal result
            result = call()

        self.does(keep)
        if not self.alive:
            return

        def done() -> None:
            self._passes("controller.before-reply")
            answer(result)

        def failed(error: StoreFull) -> None:
            answer(None)

        self.loop.when_durable(done, failed)


def _shown(messages: Sequence[Message]) -> str:
    return ", ".join(
        f"{m[0]} {[row[1] for row in m[1]]}" if m[0] == "spawn" else f"{m[0]} {list(m[1:2])}" for m in messages
    )


Records = Sequence[TaskRecord]
