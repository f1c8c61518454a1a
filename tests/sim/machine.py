"""A machine that is not there: a process table with pids that come back soon, and processes of every bad kind.

    start -> lives -> main process ends -> zombie (holds the pid) -> reaped
                            |-> escapees live on until something kills them, in state D even longer

It knows the truth: what lives, and whose it is. The product sees of it what a kernel would tell.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from tests.sim.timeline import Timeline, Violation

PIDS = 120
"""So few pids there are: an ended process's number is soon another's."""

SIGKILL, SIGCONT = 9, 18


@dataclass(slots=True)
class Nature:
    """How one process behaves."""

    fails: tuple[str, int, str] | None = None
    """The start fails: step, errno, text."""
    latency_s: float = 0.0
    """How long the start takes; the process is there, and the launcher does not know it yet."""
    runs_s: float | None = None
    """It ends by itself after that; None: it runs until it is told to end."""
    code: int = 0
    obeys_after_s: float | None = 0.05
    """So long after a stop signal it ends; None: it ignores it."""
    stuck_s: float = 0.0
    """So long SIGKILL has no effect (state D)."""
    escapees: int = 0
    """Processes of its tree that outlive it."""
    escapees_stuck_s: float = 0.0
    readable: bool = True
    """Whether the token in its environment can be read; a program that shows a title there has overwritten it."""


@dataclass(slots=True, eq=False)
class Process:
    """One process and its tree."""

    pid: int
    identity: int
    key: str
    instance: str
    template: str
    lane: str | None
    slot: int | None
    contained: bool
    nature: Nature
    parent: object | None
    started_us: int
    alive: bool = True
    ended_us: int = 0
    status: dict[str, int] = field(default_factory=dict)
    signalled: bool = False
    """A launcher has sent it a signal."""
    killed: bool = False
    escaped: list[int] = field(default_factory=list)
    """Pids of escapees that live."""
    noted_us: int = 0
    """When its launcher took note of the end."""
    voided: bool = False
    """The host went down under it."""

    @property
    def slot_name(self) -> str | None:
        return None if self.lane is None or self.slot is None else f"{self.lane}-{self.slot}"


class Watcher(Protocol):
    """Who is told the truth."""

    def started(self, process: Process) -> None: ...

    def ended(self, process: Process) -> None: ...


class Host:
    """The process table."""

    def __init__(self, timeline: Timeline, watcher: Watcher, pids: int = PIDS) -> None:
        self.boot = 1
        self.processes: dict[int, Process] = {}
        """Main processes by pid, zombies too."""
        self.calm = False
        """Nothing ends by itself any more, but what was made to."""
        self.exits: Callable[[Process], None] | None = None
        """Tells the launcher that one of its children, or one that it watches, has ended."""
        self._timeline = timeline
        self._watcher = watcher
        self._pids: set[int] = set()
        self._most_pids = pids
        self._next_pid = 2
        self._identity = 0
        self._orphaned: list[Process] = []
        """Reaped, with escapees that live."""

    @property
    def boot_id(self) -> str:
        return f"boot-{self.boot}"

    @property
    def living(self) -> list[Process]:
        """Whatever has a live process in its tree, by pid."""
        return [p for _, p in sorted(self.processes.items()) if p.alive or p.escaped] + self._orphaned

    def start(
        self, key: str, instance: str, template: str, lane: str | None, slot: int | None, contained: bool,
        nature: Nature, parent: object,
    ) -> Process:  # fmt: skip
        """A new process; the start has succeeded."""
        self._identity += 1
        process = Process(
            self._pid(), self._identity, key, instance, template, lane, slot, contained, nature, parent,
            self._timeline.now_us,
        )  # fmt: skip
        self.processes[process.pid] = process
        process.escaped = [self._pid() for _ in range(nature.escapees)]
        self._watcher.started(process)
        if nature.runs_s is not None:
            self._timeline.after(nature.runs_s, self._ends_by_itself, process)
        return process

    def signal(self, process: Process, signo: int, tree: bool) -> None:
        """To the group of a process that lives or is a zombie; `tree`: to whatever can be found."""
        process.signalled = True
        nature = process.nature
        if signo == SIGKILL:
            if process.alive and not process.killed:
                process.killed = True
                self._timeline.after(nature.stuck_s, self.end, process, {"signal": SIGKILL})
            if tree:
                self.kill_escapees(process)
        elif process.alive and nature.obeys_after_s is not None:
            self._timeline.after(nature.obeys_after_s, self.end, process, {"signal": signo})

    def kill_escapees(self, process: Process) -> None:
        """They die now, or when they leave state D."""
        if process.escaped:
            if process.nature.escapees_stuck_s:
                self._timeline.after(process.nature.escapees_stuck_s, self._escapees_gone, process)
                process.nature.escapees_stuck_s = 0.0
            else:
                self._escapees_gone(process)

    def end(self, process: Process, status: dict[str, int]) -> None:
        """The main process ends so; nothing when it already has."""
        if not process.alive:
            return
        process.alive = False
        process.status = status
        process.ended_us = self._timeline.now_us
        self._watcher.ended(process)
        if process.parent is None:
            self._reaped(process)
        if self.exits is not None:
            self.exits(process)

    def reap(self, process: Process) -> None:
        """Its parent has taken note."""
        if process.alive:
            raise Violation(f"a live process was reaped: {process.key} {process.instance}")
        self._reaped(process)

    def at_pid(self, pid: int, identity: int) -> Process | None:
        """The process, if that pid still is the one meant."""
        process = self.processes.get(pid)
        return process if process is not None and process.identity == identity else None

    def bereave(self, parent: object) -> None:
        """A parent has died: its children are init's, and init reaps zombies at once."""
        for process in [p for _, p in sorted(self.processes.items()) if p.parent is parent]:
            process.parent = None
            if not process.alive:
                self._reaped(process)

    def reboot(self) -> None:
        """Everything is gone."""
        for process in [*self.living]:
            process.voided = True
            process.escaped.clear()
            if process.alive:
                process.alive = False
                process.ended_us = self._timeline.now_us
                self._watcher.ended(process)
        self.boot += 1
        self.processes.clear()
        self._orphaned.clear()
        self._pids.clear()

    def _ends_by_itself(self, process: Process) -> None:
        if not (self.calm and process.lane is None):
            self.end(process, {"code": process.nature.code})

    def _escapees_gone(self, process: Process) -> None:
        self._pids.difference_update(process.escaped)
        process.escaped.clear()
        if process in self._orphaned:
            self._orphaned.remove(process)

    def _reaped(self, process: Process) -> None:
        if self.processes.get(process.pid) is process:
            del self.processes[process.pid]
            self._pids.discard(process.pid)
            if process.escaped:
                self._orphaned.append(process)

    def _pid(self) -> int:
        for _ in range(self._most_pids):
            pid = self._next_pid
            self._next_pid = 2 + (self._next_pid - 1) % self._most_pids
            if pid not in self._pids:
                self._pids.add(pid)
                return pid
        raise Violation("the process table is full: something leaks processes")
