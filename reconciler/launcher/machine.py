"""All bookkeeping of the launcher as values: no I/O and no clock, `now` is an argument.

    spawn          slot free            pid              exit             tree gone         ack
    ABSENT -> WAITING -----> INTENDED -----> UP -----> EMPTYING -----> ENDED -----> ABSENT
                                |  ^                      | ack                       ^
                                v  |                      v          tree gone        |
                              BLOCKED (adoption only)   ACKED -------------------------

Contract: `records` holds what must be in the journal before the step that follows it is taken, `said` what the controller
is to hear; the caller writes the first, acts, and sends the second. What the table does not foresee is a defect.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import Enum
from heapq import heapify, heappop, heappush
from itertools import groupby
from typing import Any, NamedTuple

from .protocol import PRE_STOP_KIND, PRE_STOP_MARK, Exit, FrameError, Message, Template

ROWS_PER_FRAME = 10_000
"""A frame has an end: more exits than these come in frames of their own."""

SEQ_GAP = 1_000
"""Sequence numbers left out at each start: a number said while the journal could not be written is never given twice."""


class S(Enum):
    """Where one instance stands."""

    __hash__ = object.__hash__  # by identity, in C: the table is asked six times a task

    ABSENT = "absent"
    WAITING = "waiting"
    """Wanted, no slot yet; nothing of it is durable."""
    INTENDED = "intended"
    """In the journal; no pid is known yet."""
    BLOCKED = "blocked"
    """In the journal; a process that may be it lives, and nobody can tell."""
    UP = "up"
    EMPTYING = "emptying"
    """Its main process has ended, its tree has not."""
    ENDED = "ended"
    """Gone; the controller has not yet said that it knows."""
    ACKED = "acked"
    """The controller knows the exit; the tree is still there."""


class E(Enum):
    """What can happen to an instance."""

    __hash__ = object.__hash__

    SPAWN = "spawn"
    RIVAL = "rival"
    """Another instance wants the same key."""
    GO = "go"
    STARTED = "started"
    EXIT = "exit"
    """Also a start that failed, and an end that nobody saw."""
    HOLD = "hold"
    EMPTIED = "emptied"
    ACK = "ack"
    RECALL = "recall"
    HANGUP = "hangup"


class X(Enum):
    """What follows."""

    __hash__ = object.__hash__

    QUEUE = "queue"
    INTENT = "intent"
    PID = "pid"
    SAY_STARTED = "say started"
    EXITED = "exited"
    SAY_EXITED = "say exited"
    EMPTIED = "emptied"
    FORGET = "forget"
    REFUSE = "refuse"
    DEFECT = "defect"


_DEFECT = (X.DEFECT,)

TABLE: dict[tuple[S, E], tuple[S, tuple[X, ...]]] = {
    (S.ABSENT, E.SPAWN): (S.WAITING, (X.QUEUE,)),
    (S.ABSENT, E.RIVAL): (S.ABSENT, ()),
    (S.ABSENT, E.GO): (S.ABSENT, _DEFECT),
    (S.ABSENT, E.STARTED): (S.ABSENT, _DEFECT),
    (S.ABSENT, E.EXIT): (S.ABSENT, _DEFECT),
    (S.ABSENT, E.HOLD): (S.ABSENT, _DEFECT),
    (S.ABSENT, E.EMPTIED): (S.ABSENT, _DEFECT),
    (S.ABSENT, E.ACK): (S.ABSENT, ()),
    (S.ABSENT, E.RECALL): (S.ABSENT, ()),
    (S.ABSENT, E.HANGUP): (S.ABSENT, ()),
    (S.WAITING, E.SPAWN): (S.WAITING, ()),  # asked twice, run once
    (S.WAITING, E.RIVAL): (S.WAITING, (X.REFUSE,)),
    (S.WAITING, E.GO): (S.INTENDED, (X.INTENT,)),
    (S.WAITING, E.STARTED): (S.WAITING, _DEFECT),
    (S.WAITING, E.EXIT): (S.WAITING, _DEFECT),
    (S.WAITING, E.HOLD): (S.WAITING, _DEFECT),
    (S.WAITING, E.EMPTIED): (S.WAITING, _DEFECT),
    (S.WAITING, E.ACK): (S.WAITING, _DEFECT),
    (S.WAITING, E.RECALL): (S.ABSENT, (X.FORGET,)),
    (S.WAITING, E.HANGUP): (S.ABSENT, (X.FORGET,)),  # it has no intent: the next controller asks again or does not
    (S.INTENDED, E.SPAWN): (S.INTENDED, ()),
    (S.INTENDED, E.RIVAL): (S.INTENDED, (X.REFUSE,)),
    (S.INTENDED, E.GO): (S.INTENDED, _DEFECT),
    (S.INTENDED, E.STARTED): (S.UP, (X.PID, X.SAY_STARTED)),
    (S.INTENDED, E.EXIT): (S.EMPTYING, (X.EXITED, X.SAY_EXITED)),
    (S.INTENDED, E.HOLD): (S.BLOCKED, ()),
    (S.INTENDED, E.EMPTIED): (S.INTENDED, _DEFECT),
    (S.INTENDED, E.ACK): (S.INTENDED, _DEFECT),
    (S.INTENDED, E.RECALL): (S.INTENDED, ()),
    (S.INTENDED, E.HANGUP): (S.INTENDED, ()),
    (S.BLOCKED, E.SPAWN): (S.BLOCKED, (X.REFUSE,)),
    (S.BLOCKED, E.RIVAL): (S.BLOCKED, (X.REFUSE,)),
    (S.BLOCKED, E.GO): (S.BLOCKED, _DEFECT),
    (S.BLOCKED, E.STARTED): (S.UP, (X.PID, X.SAY_STARTED)),
    (S.BLOCKED, E.EXIT): (S.EMPTYING, (X.EXITED, X.SAY_EXITED)),
    (S.BLOCKED, E.HOLD): (S.BLOCKED, ()),
    (S.BLOCKED, E.EMPTIED): (S.BLOCKED, _DEFECT),
    (S.BLOCKED, E.ACK): (S.BLOCKED, _DEFECT),
    (S.BLOCKED, E.RECALL): (S.BLOCKED, ()),
    (S.BLOCKED, E.HANGUP): (S.BLOCKED, ()),
    (S.UP, E.SPAWN): (S.UP, (X.SAY_STARTED,)),  # asked twice, run once
    (S.UP, E.RIVAL): (S.UP, (X.REFUSE,)),
    (S.UP, E.GO): (S.UP, _DEFECT),
    (S.UP, E.STARTED): (S.UP, _DEFECT),
    (S.UP, E.EXIT): (S.EMPTYING, (X.EXITED, X.SAY_EXITED)),
    (S.UP, E.HOLD): (S.UP, _DEFECT),
    (S.UP, E.EMPTIED): (S.UP, _DEFECT),
    (S.UP, E.ACK): (S.UP, _DEFECT),
    (S.UP, E.RECALL): (S.UP, ()),
    (S.UP, E.HANGUP): (S.UP, ()),
    (S.EMPTYING, E.SPAWN): (S.EMPTYING, (X.SAY_EXITED,)),
    (S.EMPTYING, E.RIVAL): (S.EMPTYING, (X.REFUSE,)),  # its ports are still bound
    (S.EMPTYING, E.GO): (S.EMPTYING, _DEFECT),
    (S.EMPTYING, E.STARTED): (S.EMPTYING, _DEFECT),
    (S.EMPTYING, E.EXIT): (S.EMPTYING, _DEFECT),
    (S.EMPTYING, E.HOLD): (S.EMPTYING, _DEFECT),
    (S.EMPTYING, E.EMPTIED): (S.ENDED, (X.EMPTIED,)),
    (S.EMPTYING, E.ACK): (S.ACKED, ()),
    (S.EMPTYING, E.RECALL): (S.EMPTYING, ()),
    (S.EMPTYING, E.HANGUP): (S.EMPTYING, ()),
    (S.ENDED, E.SPAWN): (S.ENDED, (X.SAY_EXITED,)),  # its exit waits to be read: it does not run again
    (S.ENDED, E.RIVAL): (S.ENDED, ()),
    (S.ENDED, E.GO): (S.ENDED, _DEFECT),
    (S.ENDED, E.STARTED): (S.ENDED, _DEFECT),
    (S.ENDED, E.EXIT): (S.ENDED, _DEFECT),
    (S.ENDED, E.HOLD): (S.ENDED, _DEFECT),
    (S.ENDED, E.EMPTIED): (S.ENDED, _DEFECT),
    (S.ENDED, E.ACK): (S.ABSENT, (X.FORGET,)),
    (S.ENDED, E.RECALL): (S.ENDED, ()),
    (S.ENDED, E.HANGUP): (S.ENDED, ()),
    (S.ACKED, E.SPAWN): (S.ACKED, (X.REFUSE,)),
    (S.ACKED, E.RIVAL): (S.ACKED, (X.REFUSE,)),
    (S.ACKED, E.GO): (S.ACKED, _DEFECT),
    (S.ACKED, E.STARTED): (S.ACKED, _DEFECT),
    (S.ACKED, E.EXIT): (S.ACKED, _DEFECT),
    (S.ACKED, E.HOLD): (S.ACKED, _DEFECT),
    (S.ACKED, E.EMPTIED): (S.ABSENT, (X.EMPTIED, X.FORGET)),
    (S.ACKED, E.ACK): (S.ACKED, _DEFECT),
    (S.ACKED, E.RECALL): (S.ACKED, ()),
    (S.ACKED, E.HANGUP): (S.ACKED, ()),
}

_WHY = {
    S.WAITING: "it waits for a slot",
    S.INTENDED: "it is being started",
    S.BLOCKED: "a process that may be it lives, and it cannot be told",
    S.UP: "it runs",
    S.EMPTYING: "its main process has ended, other processes of it live",
    S.ACKED: "its main process has ended, other processes of it live",
}


class Request(NamedTuple):
    """What a start needs and nobody needs afterwards."""

    template: Template
    argv: list[str] | None
    env: dict[str, str] | None


class PreStop(NamedTuple):
    """What is run before the stop signal, should the launcher have to stop an instance alone."""

    template: dict[str, Any]
    """Its fields without the environment, which stands in no record."""
    argv: list[str]
    env: dict[str, str] | None
    """Everything; None once another launcher has taken over: then the process itself is asked."""


class Child:
    """One instance: what stands in the journal about it, and where it stands now."""

    __slots__ = (
        "adopted", "at_ms", "contain", "enclosed", "exit", "grace_ms", "identity", "instance", "key", "kill_sent_at", "lane", "log",
        "pid", "pidfd", "pre_stop", "request", "seq", "slot", "spare", "started_ms", "state", "stop_signal", "uid",
    )  # fmt: skip

    def __init__(self, key: str, instance: str) -> None:
        self.key = key
        self.instance = instance
        self.state = S.ABSENT
        self.request: Request | None = None
        self.stop_signal = 15
        self.grace_ms = 0
        self.lane: str | None = None
        self.slot: int | None = None
        self.log: str | None = None
        self.spare: int | None = None
        """The spare file that it writes to until that is given the name of its log."""
        self.at_ms = 0
        """When the intent was written, by CLOCK_BOOTTIME, as the kernel counts start times."""
        self.contain = True
        self.enclosed = False
        """All that it starts is in its cgroup."""
        self.uid: int | None = None
        self.pid = 0
        self.pidfd = -1
        self.identity = 0
        """Inode of its pidfd, or its start time in ticks where the kernel has no pidfs."""
        self.started_ms = 0
        self.adopted = False
        """Started by an earlier launcher: not a child in the kernel's sense."""
        self.seq = 0
        self.exit: Exit = {}
        self.kill_sent_at: float | None = None
        self.pre_stop: PreStop | None = None
        """None also when it has been run."""


class Stop(NamedTuple):
    """How one child is ended when no controller is there to say it."""

    child: Child
    signo: int
    kill_at: float


class _Lane:
    """The slots of one lane: the lowest free ordinal first; a shrunken lane takes none until enough have ended."""

    __slots__ = ("free", "slots", "used", "waiting")

    def __init__(self) -> None:
        self.slots = 0
        self.used: set[int] = set()
        self.free: list[int] = []
        self.waiting: deque[Child] = deque()

    def resize(self, slots: int) -> None:
        self.slots = slots
        self.free = [ordinal for ordinal in range(slots) if ordinal not in self.used]
        heapify(self.free)

    def ready(self) -> bool:
        return bool(self.waiting and self.free) and len(self.used) < self.slots

    def take(self) -> int:
        ordinal = heappop(self.free)
        self.used.add(ordinal)
        return ordinal

    def give(self, ordinal: int) -> None:
        if ordinal in self.used:
            self.used.remove(ordinal)
            if ordinal < self.slots:
                heappush(self.free, ordinal)

    def hold(self, ordinal: int) -> None:
        """A slot that an adopted child takes, declared or not."""
        self.used.add(ordinal)
        self.resize(self.slots)


class Machine:
    """Every instance the launcher knows."""

    def __init__(self) -> None:
        self.records: list[Sequence[Any]] = []
        """For the journal, in this order, before anything else is done."""
        self._said: list[tuple[str, Any]] = []
        self._templates: dict[str, Template] = {}
        self._lanes: dict[str, _Lane] = {}
        self._ready: deque[Child] = deque()
        """Wait only for their turn: they have no lane."""
        self._eligible: dict[str, None] = {}
        """Lanes with somebody waiting and a slot free, in the order of their turn."""
        self._known: dict[str, Child] = {}
        """By instance."""
        self._held: dict[str, Child] = {}
        """By key: the one instance that may live."""
        self._unacked: deque[Child] = deque()
        self._seq = 0
        self.boot_id: str | None = None
        """Of the boot in which the restored records were written."""
        do: dict[X, Callable[[Child], None]] = {
            X.QUEUE: self._queue, X.INTENT: self._record_intent, X.PID: self._record_pid,
            X.SAY_STARTED: self._say_started, X.EXITED: self._record_exit, X.SAY_EXITED: self._say_exited,
            X.EMPTIED: self._record_emptied, X.FORGET: self._forget,
        }  # fmt: skip
        self._usual: dict[S, dict[E, tuple[S, tuple[Callable[[Child], None], ...]]]] = {state: {} for state in S}
        """The table with its effects looked up, without those that are refusals and defects."""
        for (state, event), (then, effects) in TABLE.items():
            if do.keys() >= set(effects):
                self._usual[state][event] = then, tuple(do[effect] for effect in effects)

    # -- what the controller says ------------------------------------------------------------------------------------

    def hello(self) -> None:
        """A new controller: it registers its templates itself."""
        self._templates.clear()

    def register(self, template: Template) -> None:
        self._templates[template.id] = template

    def lane(self, name: str, slots: int) -> None:
        lane = self._lane(name)
        lane.resize(slots)
        self._look_at(name, lane)

    def spawn(
        self,
        key: str,
        instance: str,
        template_id: str,
        argv: list[str] | None,
        env: dict[str, str] | None,
        log: str | None,
    ) -> None:
        """Queues one start, unless it has been asked before.

        Raises FrameError for a template that was not registered, and for an instance that has another key.
        """
        child = self._known.get(instance)
        if child is not None:
            if child.key != key:
                raise FrameError(f"instance {instance} is {child.key}, not {key}")
            self._happens(child, E.SPAWN)
            return
        holder = self._held.get(key)
        if holder is not None:
            self._happens(holder, E.RIVAL, instance)
            return
        template = self._templates.get(template_id)
        if template is None:
            raise FrameError(f"spawn of {key} with template {template_id}, which is not registered")
        child = Child(key, instance)
        child.request = Request(template, argv, env)
        child.stop_signal, child.grace_ms = template.stop_signal, template.grace_ms
        child.lane, child.contain, child.uid, child.log = template.lane, template.contain, template.uid, log
        self._happens(child, E.SPAWN)

    def pre_stop(self, key: str, instance: str, template_id: str, argv: list[str], env: dict[str, str]) -> None:
        """Keeps what is run before its stop signal; for a spawn that has just been asked for."""
        child, template = self.alive(key, instance), self._templates.get(template_id)
        if template is None:
            raise FrameError(f"preStop of {key} with template {template_id}, which is not registered")
        if child is not None and child.state is S.WAITING:  # what runs has it already
            fields = {name: value for name, value in template._asdict().items() if name not in ("id", "argv", "env")}
            child.pre_stop = PreStop(fields, argv, {**template.env, **env})

    def recall(self, keys: Iterable[str]) -> None:
        """Gives back those that have not begun, and says which."""
        given: list[str] = []
        lanes: set[str | None] = set()
        for key in keys:
            child = self._held.get(key)
            if child is not None:
                was = child.state
                self._happens(child, E.RECALL)
                if was is S.WAITING:
                    given.append(key)
                    lanes.add(child.lane)
        for name in lanes:
            if name is None:
                self._ready = _waiting(self._ready)
            else:
                lane = self._lane(name)
                lane.waiting = _waiting(lane.waiting)
                self._look_at(name, lane)
        self._said.append(("recalled", given))

    def ack(self, seq: int) -> None:
        """The exits up to this number are durable at the controller."""
        if not self._unacked or self._unacked[0].seq > seq:
            return
        while self._unacked and self._unacked[0].seq <= seq:
            self._happens(self._unacked.popleft(), E.ACK)
        self.records.append(("ack", seq))

    def hangup(self) -> None:
        """The controller is gone: what has no intent has never been."""
        for child in [child for child in self._known.values() if child.state is S.WAITING]:
            self._happens(child, E.HANGUP)
        self._ready.clear()
        for name, lane in list(self._lanes.items()):
            lane.waiting.clear()
            self._look_at(name, lane)
        self._said.clear()

    def listing(self, boottime_ms: int, wall_ms: int) -> Iterator[list[Message]]:
        """The answer to "list", in frames; the last one holds the children, so that with it the answer is whole.

        When each began is told on the wall clock as it stands now: it may have been set since.
        """
        boot_ms = wall_ms - boottime_ms
        rows = [(c.seq, c.key, c.instance, c.exit) for c in self._unacked]
        while len(rows) > ROWS_PER_FRAME:
            yield [("exited", rows[:ROWS_PER_FRAME])]
            del rows[:ROWS_PER_FRAME]
        children = [
            (c.key, c.instance, c.pid, boot_ms + c.at_ms, c.slot, c.adopted, _STATE_WORD[c.state])
            for c in self._held.values()
            if c.state in _STATE_WORD
        ]
        yield [("children", children), ("exited", rows)] if rows else [("children", children)]

    # -- what happens here -------------------------------------------------------------------------------------------

    def take(self, limit: int, now_ms: int, choose_spare: Callable[[], int] | None = None) -> list[Child]:
        """Those that start now; their intents are in `records`. Tasks begin with a spare as their log."""
        begun: list[Child] = []
        while len(begun) < limit:
            if self._ready:
                child = self._ready.popleft()
            elif self._eligible:
                name = next(iter(self._eligible))
                del self._eligible[name]  # and to the end of the row, so that no lane starves another
                lane = self._lanes[name]
                child = lane.waiting.popleft()
                child.slot = lane.take()
                self._look_at(name, lane)
            else:
                break
            child.at_ms = now_ms
            if choose_spare is not None and child.lane is not None and child.log is not None:
                child.spare = choose_spare()
            self._happens(child, E.GO)
            begun.append(child)
        return begun

    def startable(self) -> bool:
        """Whether `take` would give something."""
        return bool(self._ready or self._eligible)

    def started(self, child: Child, pid: int, started_ms: int, identity: int) -> None:
        child.pid, child.started_ms, child.identity, child.request = pid, started_ms, identity, None
        self._happens(child, E.STARTED)

    def exited(self, child: Child, how: Exit) -> None:
        """Its main process has ended, or never began. What is not contained holds its slot no longer."""
        self._seq += 1
        child.seq, child.exit, child.request = self._seq, how, None
        if child.slot is not None:
            how["slot"] = child.slot
        self._happens(child, E.EXIT)
        if not child.contain:
            self._happens(child, E.EMPTIED)

    def emptied(self, child: Child, escaped: int) -> None:
        """Nothing of its tree is left."""
        self._happens(child, E.EMPTIED)
        self._said.append(("emptied", (child.key, child.instance, escaped)))

    def hold(self, child: Child) -> None:
        """Adoption cannot tell whether it lives."""
        self._happens(child, E.HOLD)

    def stuck(self, child: Child) -> None:
        """SIGKILL has not ended it."""
        self._said.append(("stuck", (child.key, child.instance, child.pid)))

    def say(self, word: str, row: Any) -> None:
        """One more word for the controller, in its place among the others."""
        self._said.append((word, row))

    # -- what can be asked -------------------------------------------------------------------------------------------

    def alive(self, key: str, instance: str) -> Child | None:
        """The instance, if it is the one that holds the key now: a signal for an older one does nothing."""
        child = self._held.get(key)
        return child if child is not None and child.instance == instance else None

    def knows(self, instance: str) -> Child | None:
        return self._known.get(instance)

    def children(self, *states: S) -> list[Child]:
        return [child for child in self._known.values() if child.state in states]

    def stop_plan(self, now: float, hurry: bool) -> list[Stop]:
        """How everything that runs is stopped from its own records; hurry: no grace is left.

        The command before another's stop signal is let run, unless that other has ended.
        """
        return [
            Stop(child, child.stop_signal, now if hurry else now + child.grace_ms / 1000)
            for child in self._known.values()
            if child.state is S.UP and (hurry or not self._is_before_another(child))
        ]

    def _is_before_another(self, child: Child) -> bool:
        if not child.key.startswith(f"{PRE_STOP_KIND}/"):
            return False
        stopped = self._known.get(child.instance.removesuffix(PRE_STOP_MARK))
        return stopped is not None and stopped.state is S.UP

    def largest_grace_s(self) -> float:
        return max((child.grace_ms / 1000 for child in self._known.values() if child.state is S.UP), default=0.0)

    def frame(self) -> list[Message]:
        """What was said since the last time, rows of one word together."""
        if not self._said:
            return []
        said, self._said = self._said, []
        out: list[Message] = []
        for word, rows in groupby(said, key=lambda pair: pair[0]):
            if word in _ROWS:
                out.append((word, [row for _, row in rows]))
            elif word == "recalled":
                out.extend((word, row) for _, row in rows)
            else:
                out.extend((word, *row) for _, row in rows)
        return out

    # -- the journal -------------------------------------------------------------------------------------------------

    def snapshot(self, boot_id: str) -> Iterator[Sequence[Any]]:
        """The records that say all that is known now; nothing that waits is among them."""
        yield ("head", 1, boot_id, self._seq)
        for child in self._known.values():
            if child.state not in (S.WAITING, S.ENDED):
                yield _intent(child)
                if child.pid:
                    yield _pid(child)
        for child in self._unacked:
            yield ("exit", child.seq, child.key, child.instance, child.exit)
        for child in self._known.values():
            if child.state is S.ACKED:
                yield ("exit", child.seq, child.key, child.instance, child.exit)
                yield ("acked", child.instance)

    def restore(self, record: Sequence[Any]) -> None:
        """Takes over one record that an earlier launcher wrote.

        Raises ValueError, TypeError, KeyError or IndexError when it makes no sense; nothing has changed then.
        """
        word, *rest = record
        if word == "head":
            _, self.boot_id, seq = rest
            self._seq = max(self._seq, seq)
        elif word == "intent":
            self._restore_intent(*rest)
        elif word == "pid":
            instance, pid, started_ms, identity = rest
            child = self._known[instance]
            child.pid, child.started_ms, child.identity = pid, started_ms, identity
        elif word == "exit":
            self._restore_exit(*rest)
        elif word == "emptied":
            child = self._known[rest[0]]
            if child.state in (S.EMPTYING, S.ACKED):
                self._restore_emptied(child)
        elif word == "ack":
            while self._unacked and self._unacked[0].seq <= rest[0]:
                self._restore_ack(self._unacked.popleft())
        elif word == "acked":
            child = self._known[rest[0]]
            if child.state is S.EMPTYING:
                self._unacked.remove(child)
                self._restore_ack(child)
        else:
            raise ValueError(f"unknown word {word!r}")

    def skip_numbers(self) -> None:
        """Called once at the start, after `restore`."""
        if self._seq:
            self._seq += SEQ_GAP

    def _restore_intent(
        self, key: str, instance: str, stop_signal: int, grace_ms: int, lane: str | None, slot: int | None,
        log: str | None, at_ms: int, contain: bool, uid: int | None, spare: int | None = None,
        pre_stop: list[Any] | None = None,
    ) -> None:  # fmt: skip
        child = Child(key, instance)
        child.stop_signal, child.grace_ms, child.lane, child.slot = stop_signal, grace_ms, lane, slot
        child.log, child.at_ms, child.contain, child.uid, child.spare = log, at_ms, contain, uid, spare
        child.adopted = True
        if pre_stop is not None:
            template, argv = pre_stop
            child.pre_stop = PreStop(template, argv, None)
        child.state = S.INTENDED
        self._known[instance] = self._held[key] = child
        if lane is not None and slot is not None:
            self._lane(lane).hold(slot)

    def _restore_exit(self, seq: int, key: str, instance: str, how: Exit) -> None:
        child = self._known.get(instance)
        if child is None:  # its intent is older than the last compaction
            child = Child(key, instance)
            child.contain = False
            child.adopted = True
            child.slot = None
            child.pid = how.get("pid", 0)
            self._known[instance] = child
        child.seq, child.exit, child.state = seq, how, S.EMPTYING
        self._pre_stopped(child)
        self._seq = max(self._seq, seq)
        self._unacked.append(child)
        if not child.contain:
            self._restore_emptied(child)

    def _restore_emptied(self, child: Child) -> None:
        acked = child.state is S.ACKED
        child.state = S.ENDED
        self._release(child)
        if acked:
            del self._known[child.instance]

    def _restore_ack(self, child: Child) -> None:
        if child.state is S.ENDED:
            del self._known[child.instance]
        else:
            child.state = S.ACKED

    # -- the table at work -------------------------------------------------------------------------------------------

    def _happens(self, child: Child, event: E, asker: str | None = None) -> None:
        """`asker`: the instance that is refused, when it is not the child itself."""
        was = child.state
        usual = self._usual[was].get(event)
        if usual is None:
            if TABLE[was, event][1] == _DEFECT:
                raise AssertionError(f"{event} while {child.key} {child.instance} is {was}")
            why = _WHY[was] if asker is None else f"instance {child.instance} holds the key: {_WHY[was]}"
            self._said.append(("blocked", (child.key, asker or child.instance, why)))
            return
        child.state, effects = usual
        for effect in effects:
            effect(child)

    def _queue(self, child: Child) -> None:
        self._known[child.instance] = self._held[child.key] = child
        if child.lane is None:
            self._ready.append(child)
        else:
            lane = self._lane(child.lane)
            lane.waiting.append(child)
            self._look_at(child.lane, lane)

    def _record_intent(self, child: Child) -> None:
        self.records.append(_intent(child))

    def _record_pid(self, child: Child) -> None:
        self.records.append(_pid(child))

    def _record_exit(self, child: Child) -> None:
        self.records.append(("exit", child.seq, child.key, child.instance, child.exit))
        self._unacked.append(child)
        self._pre_stopped(child)

    def _pre_stopped(self, child: Child) -> None:
        """What was run before a stop signal is not run for that again."""
        if child.key.startswith(f"{PRE_STOP_KIND}/"):
            stopped = self._known.get(child.instance.removesuffix(PRE_STOP_MARK))
            if stopped is not None:
                stopped.pre_stop = None

    def _record_emptied(self, child: Child) -> None:
        if child.contain:
            self.records.append(("emptied", child.instance))
        self._release(child)

    def _say_started(self, child: Child) -> None:
        self._said.append(("started", (child.key, child.instance, child.pid, child.started_ms, child.slot)))

    def _say_exited(self, child: Child) -> None:
        self._said.append(("exited", (child.seq, child.key, child.instance, child.exit)))

    def _forget(self, child: Child) -> None:
        del self._known[child.instance]
        if self._held.get(child.key) is child:
            del self._held[child.key]

    def _release(self, child: Child) -> None:
        if self._held.get(child.key) is child:
            del self._held[child.key]
        if child.lane is not None and child.slot is not None:
            lane = self._lane(child.lane)
            lane.give(child.slot)
            self._look_at(child.lane, lane)

    def _lane(self, name: str) -> _Lane:
        lane = self._lanes.get(name)
        if lane is None:
            lane = self._lanes[name] = _Lane()
        return lane

    def _look_at(self, name: str, lane: _Lane) -> None:
        if lane.ready():
            self._eligible[name] = None
        else:
            self._eligible.pop(name, None)
            if not (lane.slots or lane.used or lane.waiting):
                self._lanes.pop(name, None)


_STATE_WORD = {S.INTENDED: "up", S.UP: "up", S.EMPTYING: "emptying", S.ACKED: "emptying", S.BLOCKED: "blocked"}

_ROWS = frozenset(("started", "exited", "emptied", "stuck", "said"))


def _waiting(children: Iterable[Child]) -> deque[Child]:
    return deque(child for child in children if child.state is S.WAITING)


def _intent(child: Child) -> Sequence[Any]:
    return (
        "intent", child.key, child.instance, child.stop_signal, child.grace_ms, child.lane, child.slot, child.log,
        child.at_ms, child.contain, child.uid, child.spare,
        *((child.pre_stop[:2],) if child.pre_stop is not None else ()),
    )  # fmt: skip


def _pid(child: Child) -> Sequence[Any]:
    return ("pid", child.instance, child.pid, child.started_ms, child.identity)


RESTART_BASE_S, RESTART_CAP_S, STEADY_S = 0.1, 5.0, 10.0


def restart_delay_s(failures: int) -> float:
    """Seconds before the controller is started again after so many failures in a row; the first waits nothing."""
    if failures <= 1:
        return 0.0
    return min(RESTART_CAP_S, RESTART_BASE_S * 2.0 ** min(failures - 2, 16))


def failures_after(failures: int, served: bool, ran_s: float, killed: bool) -> int:
    """How many failures in a row are counted once a controller has ended.

    One that served and was killed from outside counts as none, so that it is replaced at once, however often.
    """
    if served and (killed or ran_s >= STEADY_S):
        return 0
    return failures + 1
