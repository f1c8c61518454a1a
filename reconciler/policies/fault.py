"""What can go wrong with a process, typed: one type, one reason word, one event for each; and how to mend it.

how it ended           reason (lastExit, tasks, events)         type
a start that failed    StartFailed                              SpawnFailed, or ResourcesExhausted by its errno
ran too long           TimedOut                                 ExecutionTimedOut
ended by itself        Exited (not 0), Signalled, ...           UnexpectedExit
took too much          OOMKilled                                ResourcesExhausted
was found ill          ProbeFailed                              Unhealthy

nothing left to give   QueueFull, StorageFull, BudgetSpent, SocketFailed     ResourcesExhausted, an event only
"""

from __future__ import annotations

from errno import EAGAIN, EMFILE, ENFILE, ENOMEM, ENOSPC
from typing import NamedTuple

from reconciler.resources.worker import FaultType, LastExit, Reason


class Fault(NamedTuple):
    """One kind of fault: its type, what it means, and where a person begins."""

    type: FaultType
    what: str
    mend: str
    """KIND/NAME in it is the object."""


ENDS: dict[Reason, Fault | None] = {
    Reason.START_FAILED: Fault(
        FaultType.SPAWN_FAILED,
        "the process could not be started",
        "the message names the step and the system's word; the next start follows by itself",
    ),
    Reason.TIMED_OUT: Fault(
        FaultType.EXECUTION_TIMED_OUT,
        "it ran longer than its timeout and was ended",
        "raise the timeout, or find out with `reconciler logs` what it waited for",
    ),
    Reason.EXITED: Fault(
        FaultType.UNEXPECTED_EXIT,
        "it ended by itself with an exit code other than 0",
        "its last words: `reconciler logs KIND/NAME`",
    ),
    Reason.SIGNALLED: Fault(
        FaultType.UNEXPECTED_EXIT,
        "a signal ended it that the reconciler did not send",
        "a crash (SIGSEGV, SIGABRT) or somebody's kill; its last words: `reconciler logs KIND/NAME`",
    ),
    Reason.KILLED_EXTERNALLY: Fault(
        FaultType.UNEXPECTED_EXIT,
        "SIGKILL ended it that the reconciler did not send",
        "a person, a script, or the kernel short of memory: look into its log",
    ),
    Reason.OOM_KILLED: Fault(
        FaultType.RESOURCES_EXHAUSTED,
        "the kernel ended it because memory was short",
        "raise resources.limits.memory, or make it use less",
    ),
    Reason.PROBE_FAILED: Fault(
        FaultType.UNHEALTHY,
        "its probes failed and it was stopped",
        "the message says which probe and what it answered",
    ),
    Reason.PROTOCOL_ERROR: Fault(
        FaultType.UNHEALTHY,
        "a warm worker broke the protocol and was stopped",
        "the message says what it wrote; nothing but answers may go to its stdout",
    ),
    Reason.EXIT_UNKNOWN: Fault(
        FaultType.UNEXPECTED_EXIT,
        "it ended while nobody could see how",
        "the launcher had died; its last words: `reconciler logs KIND/NAME`",
    ),
    Reason.HOST_REBOOTED: Fault(
        FaultType.UNEXPECTED_EXIT,
        "the host was started anew while it ran",
        "nothing of it: it counts for no limit",
    ),
    Reason.DEADLINE_EXCEEDED: Fault(
        FaultType.EXECUTION_TIMED_OUT,
        "its deadline passed while it ran, and it was ended",
        "submit it earlier, or with a later deadline",
    ),
    Reason.START_DEADLINE_EXCEEDED: Fault(
        FaultType.RESOURCES_EXHAUSTED,
        "it did not begin in time for its deadline",
        "give the pool more slots, or the task a later deadline",
    ),
    Reason.STOPPED: None,
}
"""Every reason an end can have; None: that is no fault."""

EXHAUSTED: dict[str, Fault] = {
    "QueueFull": Fault(
        FaultType.RESOURCES_EXHAUSTED, "a pool's queue takes no more tasks", "submit later, or raise tasks.queueLimit"
    ),
    "StorageFull": Fault(
        FaultType.RESOURCES_EXHAUSTED,
        "the state can not be written: nothing new is accepted, what runs goes on",
        "make room on the disk of the state directory, or mount it writable",
    ),
    "BudgetSpent": Fault(
        FaultType.RESOURCES_EXHAUSTED,
        "so many workers ended that the next restarts have to wait",
        "find out why they end; restartBudget is the pool's own limit",
    ),
    "SocketFailed": Fault(
        FaultType.RESOURCES_EXHAUSTED,
        "a listening socket can not be opened",
        "find out who holds the address, or choose another",
    ),
}
"""Events about what has run out, by their reason."""

NOTHING_LEFT = frozenset({EAGAIN, ENOMEM, EMFILE, ENFILE, ENOSPC})
"""A start that fails with one of these found the host exhausted."""


def of_end(end: LastExit) -> Fault | None:
    """The fault of an end; None if there is nothing wrong with it."""
    return of(end.reason, end.code, end.errno)


def of(reason: Reason, code: int | None, errno: int | None = None) -> Fault | None:
    """The fault of an end with that reason, exit code and, of a failed start, errno."""
    fault = ENDS[reason]
    if fault is None or (reason is Reason.EXITED and code == 0):
        return None
    if reason is Reason.START_FAILED and errno in NOTHING_LEFT:
        return fault._replace(type=FaultType.RESOURCES_EXHAUSTED, what="the host has nothing left to start it with")
    return fault
