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
from itertools import groupby
from typing import Any, NamedTuple

from .lanes import Lane
from .protocol import PRE_STOP_KIND, PRE_STOP_MARK, Exit, FrameError, Message, Template
from .table import TABLE, WHY, E, S, X

ROWS_PER_FRAME = 10_000
"""A frame has an end: more exits than these come in frames of their own."""

SEQ_GAP = 1_000
"""Sequence numbers left out at each start: a number said while the journal could not be written is never given twice."""


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


class Machine:
    """Every instance the launcher knows."""

    def __init__(self) -> None:
        self.records: list[Sequence[Any]] = []
        """For the journal, in this order, before anything else is done."""
        self._said: list[tuple[str, Any]] = []
        self._templates: dict[str, Template] = {}
        self._lanes: dict[str, Lane[Child]] = {}
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
            if X.DEFECT in TABLE[was, event][1]:
                raise AssertionError(f"{event} while {child.key} {child.instance} is {was}")
            why = WHY[was] if asker is None else f"instance {child.instance} holds the key: {WHY[was]}"
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

    def _lane(self, name: str) -> Lane[Child]:
        lane = self._lanes.get(name)
        if lane is None:
            lane = self._lanes[name] = Lane()
        return lane

    def _look_at(self, name: str, lane: Lane[Child]) -> None:
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
