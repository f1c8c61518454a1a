"""What operators do to the tasks of a pool: hold them, let no new ones in, try what has failed once more.

pause, drain     a wish that stays with the pool (metadata.intent), over restarts of the daemon, until `resume`; no field
                 of a manifest is changed by it, so it needs no override
retry            a new task like one that has ended; asked twice, made once
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from reconciler.api import views
from reconciler.api.answers import json_answer
from reconciler.api.base import Daemon
from reconciler.api.found import pool_of, task_of
from reconciler.api.ownership import alive
from reconciler.api.requests import actor_of, body, duration
from reconciler.clock import Clock
from reconciler.errors import Invalid, QueueFull, Refused
from reconciler.resources.event import Cause, event
from reconciler.resources.meta import Intent, Key, Model, Wish
from reconciler.resources.pool import Pool
from reconciler.resources.task import RETRIED, TaskState
from reconciler.resources.units import format_moment
from reconciler.resources.words import are

_PAGE = 500


class _Hold(Model):
    override: str | None = None
    reason: str = Field(default="", max_length=1000)


class _Selection(Model):
    pool: str | None = None
    state: TaskState | None = Field(default=None, strict=False)


def routes(daemon: Daemon, clock: Clock) -> list[Route]:
    """The routes of this file."""
    verbs = _Verbs(daemon, clock)
    post: list[tuple[str, Callable[[Request], Awaitable[Response]]]] = [
        ("/api/v1/tasks/retry", verbs.retry_many),
        ("/api/v1/tasks/{name}/retry", verbs.retry),
        ("/api/v1/pools/{name}/pause", verbs.pause),
        ("/api/v1/pools/{name}/drain", verbs.drain),
        ("/api/v1/pools/{name}/resume", verbs.resume),
    ]
    return [Route(path, handler, methods=["POST"]) for path, handler in post]


class _Verbs:
    """The handlers."""

    def __init__(self, daemon: Daemon, clock: Clock) -> None:
        self._daemon = daemon
        self._store = daemon.store
        self._clock = clock

    async def retry(self, request: Request) -> Response:
        name = request.path_params["name"]
        new = self._daemon.retry(task_of(self._daemon, name).id)
        self._say(request, Key("Task", str(new.id)), "Retried", f"task/{name} is tried once more, as task/{new.id}")
        await self._daemon.committed()
        found = self._daemon.live_task(new.id) or self._store.tasks.get(new.id) or new
        return json_answer(views.task(found), 201)

    async def retry_many(self, request: Request) -> Response:
        asked = await body(request, _Selection)
        if asked.pool is None and asked.state is None:
            raise Invalid("which tasks? nothing was chosen", "give pool, or state, or both")
        if asked.state is not None and asked.state not in RETRIED:
            raise Refused(f"tasks that are {asked.state} are not retried", f"these are: {', '.join(sorted(RETRIED))}")
        if asked.pool is not None:
            self._pool(asked.pool)
        # those that ended before now: what is retried here and fails at once is not retried again
        count, last = 0, self._store.tasks.next_id()
        for state in [asked.state] if asked.state is not None else sorted(RETRIED):
            after = 0
            while page := self._store.tasks.query(asked.pool, state, limit=_PAGE, after_id=after):
                for record in page:
                    if record.id < last:
                        try:
                            count += self._daemon.retry(record.id).id > last
                        except QueueFull as error:
                            await self._daemon.committed()
                            error.message = f"{error.message}; {are(count, 'task')} tried once more"
                            raise
                after = page[-1].id
                await self._daemon.committed()
                await asyncio.sleep(0)
        if count:
            about = Key("Pool", asked.pool or "all")
            self._say(request, about, "TasksRetried", f"{are(count, 'task')} tried once more")
            await self._daemon.committed()
        return json_answer(views.encode({"retried": count}))

    async def pause(self, request: Request) -> Response:
        return await self._hold(request, Wish.PAUSED, "Paused", "what waits is not started, what runs goes on")

    async def drain(self, request: Request) -> Response:
        words = "it takes no new tasks, what waits and runs goes on to its end"
        return await self._hold(request, Wish.DRAINING, "Draining", words)

    async def resume(self, request: Request) -> Response:
        asked = await body(request, _Hold)
        pool = self._pool(request.path_params["name"])
        standing = pool.metadata.standing(self._clock.now())
        if standing is not None and standing.wish is Wish.STOPPED:
            raise Refused(f"{pool.key} is stopped", f"reconciler start {pool.key}")
        updated = self._store.update(pool.changed(metadata=pool.metadata.changed(intent=None)))
        self._say(request, pool.key, "Resumed", "it takes tasks and starts them", asked.reason)
        await self._daemon.committed()
        return json_answer(views.object_(updated))

    async def _hold(self, request: Request, wish: Wish, word: str, words: str) -> Response:
        asked = await body(request, _Hold)
        pool = self._pool(request.path_params["name"])
        now = self._clock.now()
        standing = pool.metadata.standing(now)
        if standing is not None and standing.wish is Wish.STOPPED:
            raise Refused(f"{pool.key} is stopped", f"reconciler start {pool.key}")
        until = now + timedelta(seconds=duration(asked.override, "override")) if asked.override else None
        intent = Intent(wish=wish, actor=actor_of(request), reason=asked.reason, at=now, until=until)
        updated = self._store.update(pool.changed(metadata=pool.metadata.changed(intent=intent)))
        stands = f"until {format_moment(until)}" if until is not None else "until it is resumed"
        self._say(request, pool.key, word, f"{words} {stands}", asked.reason)
        await self._daemon.committed()
        return json_answer(views.object_(updated))

    def _pool(self, name: str) -> Pool:
        pool = pool_of(self._store, name)
        alive(pool)
        if pool.spec.tasks is None:
            raise Refused(f"{pool.key} runs no tasks", f"reconciler stop {pool.key} stops its workers")
        return pool

    def _say(self, request: Request, key: Key, word: str, message: str, reason: str = "") -> None:
        text = f"{message}: {reason}" if reason else message
        self._store.add_event(event(key, word, text, self._clock.now(), cause=Cause(actor=actor_of(request))))
