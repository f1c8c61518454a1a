"""The launcher on the simulated machine: the real bookkeeping (`reconciler.launcher.machine`), the steps of the real loop.

    what has come -> exits noted -> journal -> reap -> start -> pids -> journal -> one frame

Each `yield` is an instant at which it can be killed, or at which the world goes on while it works. What stands in the
journal outlives it; the next one adopts as `reconciler/launcher/main.py` does.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from reconciler.launcher.again import failures_after, restart_delay_s
from reconciler.launcher.machine import Child, Machine, Request
from reconciler.launcher.protocol import VERSION, Exit, FrameError, Message, Template
from reconciler.launcher.table import S
from tests.sim.disk import Disk
from tests.sim.machine import SIGKILL, Host, Nature, Process
from tests.sim.timeline import Timeline
from tests.sim.wire import Wire

STARTS_PER_TURN = 32
COMPACT_AT_LINES = 120
STUCK_S, BLOCKED_AGAIN_S, UNSEEN_WITHIN_S, FINISH_MARGIN_S, GIVE_UP_S = 5.0, 5.0, 2.0, 10.0, 10.0
CONTROLLER_END_S = 2.0
JOURNAL_AGAIN_S = 1.0
CANDIDATE_WITHIN_MS = 5_000


class Controller(Protocol):
    """What the launcher can do to its child 0."""

    serving: bool
    born_us: int

    def kill(self, why: str) -> None: ...


class Surroundings(Protocol):
    """What the world decides for a launcher."""

    containment: bool
    """Whether there are cgroups: a recorded child's members can be found by them."""
    exits_readable: bool
    """Whether the kernel tells the status of a process that was not our child."""

    def nature(self, key: str, argv: Sequence[str]) -> Nature: ...

    def start_fails(self, key: str, instance: str, template: str) -> None: ...

    def instant(self, name: str) -> bool:
        """The launcher passes this instant; True: it is killed there."""
        ...

    def new_controller(self, wire: Wire) -> Controller: ...

    def new_wire(self) -> Wire: ...

    def launcher_ended(self, code: int | None) -> None: ...


class Launcher:
    """One life of the launcher."""

    def __init__(self, timeline: Timeline, host: Host, disk: Disk, world: Surroundings, number: int) -> None:
        self.machine = Machine()
        self.alive = True
        self.frozen_until_us = 0
        self.number = number
        self.journal_behind = False
        self._timeline = timeline
        self._host = host
        self._disk = disk
        self._world = world
        self._processes: dict[str, Process] = {}
        """Main processes that live or are not reaped, by instance."""
        self._noticed: list[Child] = []
        self._left: dict[str, tuple[Child, Process | None, set[int]]] = {}
        self._frames: list[list[list[Any]]] = []
        self._due: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        self._steps: Iterator[tuple[str, float]] | None = None
        self._awake = False
        self._wire: Wire | None = None
        self._controller: Controller | None = None
        self._controller_ended: bool | None = None
        """None: it lives; else whether it was killed."""
        self._greeted = False
        self._restarts = 0
        self._failures = 0
        self._first = True
        self._terminates = 0
        self._ending: int | None = None
        self._stopping = False
        self._stopped_at_us: int | None = None
        self._sweep_wanted = False
        self._sweep_tries = 0
        self._verbs: dict[str, Callable[..., None]] = {
            "hello": self._hello, "list": self._list, "register": self._register, "lane": self._lane,
            "spawn": self._spawn, "recall": self._recall, "signal": self._obey_signal, "ack": self._ack,
            "serving": self._serving, "finish": self._finish,
        }  # fmt: skip
        host.exits = self._exits

    def begin(self) -> None:
        """Adopts, then starts a controller."""
        self._adopt()
        self._start_controller()
        self.wake()

    def kill(self) -> None:
        """As by SIGKILL: its children are init's from now on."""
        self.alive = False
        self._host.exits = None
        if self._wire is not None:
            self._wire.close_launcher()
        self._host.bereave(self)
        self._timeline.say(f"launcher {self.number} is dead")

    def terminate(self) -> None:
        """SIGTERM."""
        self._later(0, self._terminated)

    # -- the turn

    def wake(self) -> None:
        if not self._awake:
            self._awake = True
            self._timeline.after(0.0002, self._go)

    def _go(self) -> None:
        if not self.alive:
            return
        if self.frozen_until_us > self._timeline.now_us:
            self._timeline.after((self.frozen_until_us - self._timeline.now_us) / 1e6, self._go)
            return
        if self._steps is None:
            self._awake = False
            self._steps = self._turn()
        for name, delay_s in self._steps:
            if self._world.instant(name):
                return  # the world has killed us
            if delay_s:
                self._timeline.after(delay_s, self._go)
                self._awake = True
                return
        self._steps = None
        if not self._end():
            if self._awake:  # asked for while it worked
                self._timeline.after(0.0002, self._go)
            elif self.machine.startable() and not self._closing:
                self.wake()

    def _turn(self) -> Iterator[tuple[str, float]]:
        self._awake = False
        frames, self._frames = self._frames, []
        for frame in frames:
            self._take(frame)
        due, self._due = self._due, []
        for call, args in due:
            call(*args)
        if self._controller_ended is not None:
            self._bury_controller(self._controller_ended)
        noticed, self._noticed = self._noticed, []
        exited = []
        for child in noticed:
            if child.adopted:
                self._look_at_unseen(child, self._timeline.now_us + round(UNSEEN_WITHIN_S * 1e6))
            else:
                process = self._processes[child.instance]
                process.noted_us = self._timeline.now_us
                self._exited(child, Exit(pid=child.pid, **process.status))  # type: ignore[typeddict-item]
                exited.append(child)
        if exited:
            yield "launcher.before-exit-record", 0.0
        begun = [] if self._closing else self.machine.take(STARTS_PER_TURN, self._timeline.now_us // 1000)
        if begun:
            yield "launcher.before-intent", 0.0
        written = self._write()
        if exited:
            yield "launcher.after-exit-record", 0.0
        if begun:
            yield "launcher.after-intent", 0.0
        for child in exited:
            process = self._processes.pop(child.instance)
            self._host.reap(process)
            yield "launcher.after-reap", 0.0
            self._leave(child, process)
        for child in begun:
            request = child.request
            assert request is not None
            if not written:
                self._world.start_fails(child.key, child.instance, request.template.id)
                self._failed(child, ("fork", errno.ENOSPC, "the journal cannot be written"))
                continue
            nature = self._nature(child, request)
            if nature.fails is not None:
                self._world.start_fails(child.key, child.instance, request.template.id)
                self._failed(child, nature.fails)
                continue
            process = self._host.start(
                child.key, child.instance, request.template.id, child.lane, child.slot, child.contain, nature, self
            )
            self._processes[child.instance] = process
            yield "launcher.after-spawn", nature.latency_s
            self.machine.started(child, process.pid, self._timeline.wall_ms, process.identity)
            if not process.alive:
                self._noticed.append(child)
                self.wake()
        if self._sweep_wanted:
            self._sweep()
        if self.machine.records:
            yield "launcher.before-pid", 0.0
            self._write()
            yield "launcher.after-pid", 0.0
        self._say()
        yield "launcher.after-frame", 0.0
        if not self.journal_behind and len(self._disk.journal) > COMPACT_AT_LINES:
            self._compact()

    @property
    def _closing(self) -> bool:
        return self._stopping or self._ending is not None

    def _write(self) -> bool:
        records, self.machine.records = self.machine.records, []
        if records and not self.journal_behind:
            if self._disk.full:
                self.journal_behind = True
                self._later(JOURNAL_AGAIN_S, self._compact)
            else:
                self._disk.journal += [json.dumps(record) for record in records]
        return not self.journal_behind

    def _compact(self) -> None:
        if self._disk.full:
            if self.journal_behind:
                self._later(JOURNAL_AGAIN_S, self._compact)
            return
        self._disk.journal = [json.dumps(record) for record in self.machine.snapshot(self._host.boot_id)]
        self.journal_behind = False

    def _say(self) -> None:
        messages = self.machine.frame()
        if messages and self._greeted:
            self._send(messages)

    def _send(self, messages: Sequence[Message]) -> None:
        if self._wire is not None:
            self._timeline.say(f"launcher says {json.dumps(messages)}")
            self._wire.send_down(messages)

    # -- exits

    def _exits(self, process: Process) -> None:
        """The kernel's word that a main process we watch has ended."""
        child = self.machine.knows(process.instance)
        if child is not None and child.state is S.UP and self._processes.get(child.instance) is process:
            self._noticed.append(child)
            self.wake()

    def _exited(self, child: Child, how: Exit) -> None:
        how["at_ms"] = self._timeline.wall_ms
        if child.started_ms:
            how["started_ms"] = child.started_ms
        self.machine.exited(child, how)

    def _look_at_unseen(self, child: Child, until_us: int) -> None:
        process = self._processes[child.instance]
        if not self._world.exits_readable and self._timeline.now_us < until_us:
            self._later(1.0, self._look_at_unseen, child, until_us)
            return
        how = Exit(pid=child.pid)
        if self._world.exits_readable:
            how.update(process.status)  # type: ignore[typeddict-item]
        else:
            how["unknown"] = "unseen"
        self._exited(child, how)
        del self._processes[child.instance]
        self._leave(child, process)

    def _leave(self, child: Child, process: Process | None) -> None:
        self._left[child.instance] = (child, process, set(process.escaped) if process is not None else set())
        self._sweep_soon()

    def _sweep_soon(self) -> None:
        self._sweep_wanted = True
        self._sweep_tries = 0

    def _sweep(self) -> None:
        self._sweep_wanted = False
        for instance, (child, process, escaped) in list(self._left.items()):
            if process is not None:
                self._host.kill_escapees(process)
                if process.escaped:
                    continue
            del self._left[instance]
            if child.state in (S.EMPTYING, S.ACKED):
                self.machine.emptied(child, len(escaped))
        if self._left:
            self._sweep_tries += 1
            self._later(min(0.5, 0.01 * 2**self._sweep_tries), self._sweep_soon_again)

    def _sweep_soon_again(self) -> None:
        self._sweep_wanted = True

    # -- starts

    def _nature(self, child: Child, request: Request) -> Nature:
        argv = request.template.argv if request.argv is None else request.argv
        return self._world.nature(child.key, argv)

    def _failed(self, child: Child, failure: tuple[str, int, str]) -> None:
        self._exited(child, Exit(failed=list(failure)))
        if child.contain:
            self.machine.emptied(child, 0)

    # -- signals

    def _signal(self, child: Child, signo: int, scope: str) -> None:
        if child.state in (S.EMPTYING, S.ACKED):
            self._sweep_soon()
            return
        process = self._processes.get(child.instance)
        if child.state is not S.UP or process is None or not process.alive:
            return
        tree = scope == "tree"
        self._timeline.say(f"signal {SIGKILL if tree else signo} to {child.key} {child.instance} ({scope})")
        self._host.signal(process, SIGKILL if tree else signo, tree)
        if (tree or signo == SIGKILL) and child.kill_sent_at is None:
            child.kill_sent_at = self._timeline.now_s
            self._later(STUCK_S, self._look_at_stuck, child)

    def _look_at_stuck(self, child: Child) -> None:
        if child.state is S.UP:
            self.machine.stuck(child)

    # -- the controller

    def _start_controller(self) -> None:
        if self._controller is not None or self._closing:
            return
        self._restarts += not self._first
        self._first = False
        self._wire = wire = self._world.new_wire()
        wire.to_launcher = self._arrives
        wire.controller_gone = self._hear_of_its_end
        self._greeted = False
        self._controller_ended = None
        self._controller = self._world.new_controller(wire)

    def _arrives(self, messages: list[list[Any]]) -> None:
        self._frames.append(messages)
        self.wake()

    def _hear_of_its_end(self) -> None:
        self._controller_ended = True
        self.wake()

    def _hang_up(self) -> None:
        if self._wire is not None:
            self._wire.close_launcher()
            self._wire = None
            self.machine.hangup()

    def _bury_controller(self, killed: bool) -> None:
        controller = self._controller
        if controller is None:
            return
        self._hang_up()
        self._controller, self._controller_ended = None, None
        if self._closing:
            return
        if self._terminates:
            self._stop_all()
            return
        ran_s = (self._timeline.now_us - controller.born_us) / 1e6
        self._failures = failures_after(self._failures, controller.serving, ran_s, killed)
        self._later(restart_delay_s(self._failures), self._start_controller)

    def _end_controller(self) -> None:
        """Hangs up on it; it is killed when it does not go by itself."""
        self._hang_up()
        self._later(CONTROLLER_END_S, self._kill_controller, self._controller)

    def _kill_controller(self, controller: Controller | None) -> None:
        if controller is not None and controller is self._controller:
            controller.kill("killed by the launcher")
            self._controller_ended = True

    # -- what the controller asks for

    def _take(self, messages: list[list[Any]]) -> None:
        try:
            for word, *rest in messages:
                if not self._greeted and word != "hello":
                    raise FrameError(f"{word!r} before hello")
                if self._closing:
                    return
                self._verbs[word](*rest)
        except FrameError as error:
            raise AssertionError(f"the controller broke the protocol: {error}") from error

    def _hello(self, version: int) -> None:
        assert version == VERSION
        about = {"pid": 1, "bootId": self._host.boot_id, "controllerRestarts": self._restarts}
        self._send([["hello", VERSION, about]])
        self._greeted = True
        self.machine.hello()

    def _list(self) -> None:
        self._say()
        for messages in self.machine.listing(self._timeline.now_us // 1000, self._timeline.wall_ms):
            self._send(messages)

    def _register(self, template_id: str, fields: dict[str, Any]) -> None:
        self.machine.register(Template(**{**fields, "id": template_id}))

    def _lane(self, name: str, slots: int) -> None:
        self.machine.lane(name, slots)

    def _spawn(self, rows: list[list[Any]]) -> None:
        for key, instance, template, argv, env, log in rows:
            self.machine.spawn(key, instance, template, argv, env, log)

    def _recall(self, keys: list[str]) -> None:
        self.machine.recall(keys)

    def _obey_signal(self, key: str, instance: str, signo: int, scope: str) -> None:
        child = self.machine.alive(key, instance)
        if child is not None:
            self._signal(child, signo, scope)

    def _ack(self, seq: int) -> None:
        self.machine.ack(seq)

    def _serving(self) -> None:
        if self._controller is not None:
            self._controller.serving = True

    def _finish(self, code: int) -> None:
        self._ending = code
        self._later(CONTROLLER_END_S, self._kill_controller, self._controller)

    # -- the end

    def _terminated(self) -> None:
        self._terminates += 1
        self._timeline.say(f"launcher gets SIGTERM ({self._terminates})")
        if self._stopping:
            self._stop_all()
        elif self._controller is not None and self._controller.serving:
            self._send([["terminate", self._terminates]])
            if self._terminates == 1:
                self._later(self.machine.largest_grace_s() + FINISH_MARGIN_S, self._took_too_long)
        elif self._ending is None:
            if self._controller is not None:
                self._end_controller()
            self._stop_all()

    def _took_too_long(self) -> None:
        if self._controller is not None and not self._closing:
            self._kill_controller(self._controller)
            self._stop_all()

    def _stop_all(self) -> None:
        again = self._stopping
        self._stopping = True
        for child, signo, kill_at in self.machine.stop_plan(self._timeline.now_s, self._terminates > 1):
            if not again:
                self._signal(child, signo, "group")
            self._later(kill_at - self._timeline.now_s, self._kill, child)
        if self._stopped_at_us is None or self._terminates > 1:
            wait_s = (0 if self._terminates > 1 else self.machine.largest_grace_s()) + GIVE_UP_S
            self._stopped_at_us = self._timeline.now_us + round(wait_s * 1e6)
            self._later(wait_s, self._nothing)

    def _nothing(self) -> None:
        """A turn at that moment is all that is wanted."""

    def _kill(self, child: Child) -> None:
        if child.state is S.UP:
            self._signal(child, SIGKILL, "tree")

    def _end(self) -> bool:
        """Whether it is over; then the world is told."""
        if self._controller is not None or not self._closing:
            return False
        code = self._ending
        if code is None:
            left = self.machine.children(S.UP, S.INTENDED, S.EMPTYING, S.ACKED)
            given_up = self._stopped_at_us is not None and self._timeline.now_us >= self._stopped_at_us
            if left and not given_up:
                return False
            code = 0
        self.kill()
        self._world.launcher_ended(code)
        return True

    # -- adoption

    def _adopt(self) -> None:
        for line in self._disk.journal:
            self.machine.restore(json.loads(line))
        self.machine.skip_numbers()
        rebooted = self.machine.boot_id != self._host.boot_id
        for child in self.machine.children(S.INTENDED):
            if rebooted:
                self._gone(child, "reboot")
            elif child.pid:
                process = self._host.at_pid(child.pid, child.identity)
                if process is None or not process.alive:
                    self._gone(child, "unseen")
                else:
                    self._adopted(child, process)
            else:
                self._settle(child)
        for child in self.machine.children(S.EMPTYING, S.ACKED, S.ENDED):
            if child.state is not S.ENDED and rebooted:
                self.machine.emptied(child, 0)
            elif not rebooted:
                self._leave(child, self._remains(child))
        self.machine.records.clear()
        self._compact_first()
        self.machine.frame()

    def _compact_first(self) -> None:
        if self._disk.full:
            self.journal_behind = True
            self._later(JOURNAL_AGAIN_S, self._compact)
        else:
            self._compact()

    def _adopted(self, child: Child, process: Process) -> None:
        self.machine.started(child, process.pid, child.started_ms or self._timeline.wall_ms, process.identity)
        self._processes[child.instance] = process
        self._timeline.say(f"launcher {self.number} adopts {child.key} {child.instance}")

    def _gone(self, child: Child, why: str) -> None:
        how = Exit(unknown=why)
        if child.pid:
            how["pid"] = child.pid
        self._exited(child, how)
        if why == "reboot":
            if child.contain:
                self.machine.emptied(child, 0)
        else:
            self._leave(child, self._remains(child))

    def _remains(self, child: Child) -> Process | None:
        """What is left of its tree, as the sweep finds it by cgroup, session or token."""
        for process in self._host.living:
            if process.instance == child.instance:
                return process
        return None

    def _settle(self, child: Child) -> None:
        """An intent without a pid: found, proven to be gone, or blocked."""
        process = self._found(child)
        if process is not None:
            self._adopted(child, process)
        elif self._candidates(child):
            self.machine.hold(child)
            self._later(BLOCKED_AGAIN_S, self._settle_again, child)
        else:
            self._gone(child, "lost")

    def _found(self, child: Child) -> Process | None:
        for process in self._host.living:
            visible = process.nature.readable or (self._world.containment and child.contain)
            if visible and process.alive and process.instance == child.instance:
                return process
        return None

    def _candidates(self, child: Child) -> list[Process]:
        """Orphans that began in the moment after its intent, and whose environment says nothing."""
        taken = {process.pid for process in self._processes.values()}
        return [
            process
            for process in self._host.living
            if process.alive
            and process.parent is None
            and not process.nature.readable
            and process.pid not in taken
            and -10 <= process.started_us // 1000 - child.at_ms <= CANDIDATE_WITHIN_MS
        ]

    def _settle_again(self, child: Child) -> None:
        if child.state is S.BLOCKED:
            self._settle(child)

    # -- time

    def _later(self, delay_s: float, call: Callable[..., None], *args: Any) -> None:
        self._timeline.after(delay_s, self._comes_due, call, args)

    def _comes_due(self, call: Callable[..., None], args: tuple[Any, ...]) -> None:
        if self.alive:
            self._due.append((call, args))
            self.wake()
