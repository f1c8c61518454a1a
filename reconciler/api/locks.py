"""What the API does for those who hold locks and wait for them; `get locks` shows them as any other kind.

POST   /api/v1/locks/{name}/acquire   {session, holder, watch, wait}   -> the token, or null: ask again, the place is kept
POST   /api/v1/locks/{name}/renew     {session, token, sequence}       -> LockLost when it is another's
POST   /api/v1/locks/{name}/release   {session, token}                 -> whether it was theirs
"""

from __future__ import annotations

import asyncio
import re
import time
from contextlib import suppress
from typing import Annotated, Any

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from reconciler.api import views
from reconciler.api.base import Daemon
from reconciler.api.requests import actor_of, body, caller_of
from reconciler.clock import Clock
from reconciler.coordination.ends import born
from reconciler.errors import Invalid, LockLost
from reconciler.resources.lock import Lock, Waiter
from reconciler.resources.meta import NAME_PATTERN, Model
from reconciler.resources.units import Duration

_LONGEST_WAIT_S = 60.0
_HEARD_EACH_S = 0.25
"""Who waits within a request is heard of this often: a waiter has a lease too, and it may be as short as a second."""
_NAME = re.compile(NAME_PATTERN)

_Session = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{16,64}$")]


def routes(daemon: Daemon, clock: Clock) -> list[Route]:
    """All of them."""
    api = _Locks(daemon, clock)
    one = "/api/v1/locks/{name}"
    return [
        Route(f"{one}/acquire", api.acquire, methods=["POST"]),
        Route(f"{one}/renew", api.renew, methods=["POST"]),
        Route(f"{one}/release", api.release, methods=["POST"]),
    ]


class _Acquire(Model):
    session: _Session
    holder: str = Field(default="", max_length=200)
    """What it is for, in a few words."""
    within: list[str] = Field(default=[], max_length=32)
    """The holders that wait until this one is done."""
    watch: bool = False
    """It is over when the process that asks has ended."""
    wait: Duration = 0.0


class _Renew(Model):
    session: _Session
    token: int
    sequence: int


class _Release(Model):
    session: _Session
    token: int | None = None


class _Locks:
    def __init__(self, daemon: Daemon, clock: Clock) -> None:
        self._daemon = daemon
        self._clock = clock

    async def acquire(self, request: Request) -> Response:
        asked, name = await body(request, _Acquire), _name(request)
        sessions = self._daemon.sessions
        sessions.ask(name, self._waiter(request, asked), self._clock.now())
        ends_s = time.monotonic() + min(asked.wait, _LONGEST_WAIT_S)
        while True:
            await self._daemon.committed()
            if not sessions.hear(name, asked.session):
                raise LockLost(f"this session has lost its place in the line for lock/{name}", "ask with a new one")
            held = sessions.holder(name, asked.session)
            left_s = ends_s - time.monotonic()
            if held is not None or left_s <= 0:
                lock = self._daemon.store.get(Lock, name)
                assert lock is not None, "it has a waiter or a holder"
                return _json(_answer(lock, None if held is None else held.token))
            with suppress(TimeoutError):
                async with asyncio.timeout(min(left_s, _HEARD_EACH_S)):
                    await self._daemon.changed()

    async def renew(self, request: Request) -> Response:
        asked, name = await body(request, _Renew), _name(request)
        self._daemon.sessions.renew(name, asked.session, asked.token, asked.sequence)
        return _json({})

    async def release(self, request: Request) -> Response:
        asked, name = await body(request, _Release), _name(request)
        released = self._daemon.sessions.release(name, asked.session, asked.token)
        if released:
            await self._daemon.committed()
        return _json({"released": released})

    def _waiter(self, request: Request, asked: _Acquire) -> Waiter:
        caller = caller_of(request)
        pid = caller.pid if asked.watch and caller.pid else None
        ticks = born(pid) if pid is not None else None
        who = f"{actor_of(request)}: {asked.holder}" if asked.holder else actor_of(request)
        return Waiter(
            id=asked.session,
            name=f"{who} (pid {pid})" if pid is not None else who,
            within=tuple(asked.within),
            pid=pid,
            born=ticks if ticks is not None else 0,
            since=self._clock.now(),
        )


def _answer(lock: Lock, token: int | None) -> dict[str, Any]:
    spec = lock.spec
    return {
        "token": token,
        "heldBy": [one.name for one in lock.status.holders],
        "waiting": len(lock.status.waiting),
        "renewDeadlineSeconds": spec.renew_deadline_s,
        "retryPeriodSeconds": spec.retry_period_s,
    }


def _name(request: Request) -> str:
    name = str(request.path_params["name"])
    if not _NAME.match(name):
        raise Invalid(f"{name!r} is no name of a lock", "small letters, digits and dashes, at most 63")
    return name


def _json(answer: dict[str, Any]) -> Response:
    return Response(views.encode(answer), media_type="application/json")
