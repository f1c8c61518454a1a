"""Where an instance can stand, what can happen to it, and what follows: one line for each of the two together. Pure.

(S.UP, E.EXIT): (S.EMPTYING, (X.EXITED, X.SAY_EXITED))      it ran, its main process ended: recorded, then told
"""

from __future__ import annotations

from enum import Enum


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

WHY = {
    S.WAITING: "it waits for a slot",
    S.INTENDED: "it is being started",
    S.BLOCKED: "a process that may be it lives, and it cannot be told",
    S.UP: "it runs",
    S.EMPTYING: "its main process has ended, other processes of it live",
    S.ACKED: "its main process has ended, other processes of it live",
}
"""Why another start has to wait."""
