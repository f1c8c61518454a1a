"""The holder's side of a lock: asks, renews in a thread of its own, and knows when it has lost it.

    acquire ... token 17 ... renew, renew, renew ... release
                             |<- renewDeadline ->|  not renewed for so long, by our own clock: lost, whoever has it now

The clock is the one that goes on while the machine sleeps. A process that was stopped learns of the loss from the clock,
before it asks anybody.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any, Protocol, Self

from reconciler.errors import LockLost, ReconcilerError, Unreachable

SESSIONS = "RECONCILER_LOCK_SESSIONS"
"""Tells commands the holders they run within, so that a wait for one of those is seen to be a deadlock."""

_ASK_S = 20.0
_ANSWER_S = 10.0
_AGAIN_S = 0.2

_held: ContextVar[tuple[str, ...]] = ContextVar("held", default=())


class TimedOut(ReconcilerError):
    """The lock was not had in time."""

    exit_code = 124
    reason = "TimedOut"


class Server(Protocol):
    """A connection to the daemon."""

    def acquire_lock(self, name: str, asked: dict[str, Any]) -> dict[str, Any]:
        """The token or null, and how often to renew."""
        ...

    def renew_lock(self, name: str, session: str, token: int, sequence: int) -> None:
        """Raises LockLost."""
        ...

    def release_lock(self, name: str, session: str, token: int | None) -> bool:
        """Whether it was ours."""
        ...

    def close(self) -> None:
        """Ends the connection."""
        ...


def now_s() -> float:
    """Seconds since boot, those asleep too."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class HeldLock:
    """A lock while it is held; a context manager that gives it back.

    with client.lock("warehouse", timeout_s=60) as lock:
        write(..., fence=lock.token)      the resource refuses tokens below the largest it has seen
        lock.check()                      raises LockLost
    """

    def __init__(
        self, name: str, connect: Callable[[float], Server], timeout_s: float | None = None, holder: str = ""
    ) -> None:
        """Returns when it is held. Raises TimedOut, Deadlock.

        `connect` gives a connection of its own, which waits so many seconds for an answer.
        """
        self.name = name
        self.token = 0
        self.session = secrets.token_hex(16)
        self.within = (*filter(None, os.environ.get(SESSIONS, _instance()).split(",")), *_held.get())[-32:]
        self.on_lost: Callable[[], None] | None = None
        """Called once, in the renewing thread, when it is lost."""
        self._connect = connect
        self._over = threading.Event()
        self._lost = False
        self._sequence = 0
        self._acquire(timeout_s, holder)
        self._before = _held.set((*_held.get(), self.session))
        self._thread = threading.Thread(target=self._renew, name=f"lock/{name}", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    @property
    def lost(self) -> bool:
        """Whether it is another's, or may be."""
        return self._lost or (not self._over.is_set() and now_s() >= self._until_s)

    def check(self) -> None:
        """Raises LockLost when it is another's, or may be."""
        if self.lost:
            raise LockLost(f"lock/{self.name} is no longer held with token {self.token}", "stop what it protects")

    def release(self) -> bool:
        """Gives it back; whether it was ours still. A second time does nothing."""
        if self._over.is_set():
            return False
        self._over.set()
        with suppress(ValueError):  # given back in another context than it was taken in
            _held.reset(self._before)
        self._thread.join()
        if self._lost:
            return False
        with _closing(self._connect(_ANSWER_S)) as server:
            try:
                return server.release_lock(self.name, self.session, self.token)
            except Unreachable:
                return False  # the lease ends it, or our own end

    def _acquire(self, timeout_s: float | None, holder: str) -> None:
        ends_s = now_s() + timeout_s if timeout_s is not None else None
        asked = {"session": self.session, "holder": holder[:200], "within": list(self.within), "watch": True}
        with _closing(self._connect(_ASK_S + _ANSWER_S)) as server:
            try:
                while not self._has(server, asked, ends_s):
                    pass
            except BaseException:
                with suppress(ReconcilerError):
                    server.release_lock(self.name, self.session, None)
                raise

    def _has(self, server: Server, asked: dict[str, Any], ends_s: float | None) -> bool:
        """Asks once; whether it is held now. Raises TimedOut."""
        left_s = _ASK_S if ends_s is None else min(_ASK_S, max(0.0, ends_s - now_s()))
        sent_s = now_s()
        answer = self._ask(server, {**asked, "wait": f"{round(left_s * 1000)}ms"}, ends_s)
        if answer is None or answer["token"] is None:
            if ends_s is not None and now_s() >= ends_s:
                raise TimedOut(f"lock/{self.name} was not had in time{_by(answer)}", "wait longer: --timeout")
            return False
        self.token = int(answer["token"])
        self._deadline_s, self._retry_s = answer["renewDeadlineSeconds"], answer["retryPeriodSeconds"]
        if now_s() - sent_s > self._retry_s:
            # granted at some time of a long wait, and we may have been stopped since: what holds is what we asked for now
            sent_s = now_s()
            self._sequence += 1
            server.renew_lock(self.name, self.session, self.token, self._sequence)
        self._until_s = sent_s + self._deadline_s
        return True

    def _ask(self, server: Server, asked: dict[str, Any], ends_s: float | None) -> dict[str, Any] | None:
        """One question; None when a daemon that was there has gone for a moment: it knows the session when it is back."""
        try:
            answer = server.acquire_lock(self.name, asked)
        except Unreachable:
            if not self._asked or (ends_s is not None and now_s() >= ends_s):
                raise
            self._asked = False  # twice in a row is no moment
            time.sleep(_AGAIN_S)
            return None
        self._asked = True
        return answer

    _asked = False

    def _renew(self) -> None:
        with _closing(self._connect(max(_ANSWER_S / 10, self._retry_s))) as server:
            while not self._over.wait(max(0.0, min(self._retry_s, self._until_s - now_s()))):
                self._sequence += 1
                sent_s = now_s()
                if sent_s >= self._until_s:
                    break
                try:
                    server.renew_lock(self.name, self.session, self.token, self._sequence)
                except LockLost:
                    break
                except ReconcilerError:
                    continue  # a daemon that restarts answers again in time, or the deadline comes
                self._until_s = sent_s + self._deadline_s
            else:
                return
        self._lost = True
        if self.on_lost is not None:
            self.on_lost()


def _by(answer: dict[str, Any] | None) -> str:
    names = answer["heldBy"] if answer is not None else []
    return f": it is held by {', '.join(names[:3])}" if names else ""


def _instance() -> str:
    """What a worker runs as is what holds its pool's locks."""
    return os.environ.get("RECONCILER_INSTANCE", "")


@contextmanager
def _closing(server: Server) -> Iterator[Server]:
    try:
        yield server
    finally:
        server.close()
