"""Tasks over the API: submitted, all of a request or none, and cancelled."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Annotated

from pydantic import FailFast, Field, TypeAdapter, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from reconciler.api import views
from reconciler.api.answers import json_answer
from reconciler.api.base import Caller, Daemon
from reconciler.api.found import pool_of, task_of
from reconciler.api.requests import actor_of, body, caller_of, invalid, read
from reconciler.clock import Clock
from reconciler.errors import Invalid, QueueFull
from reconciler.resources.event import Cause, event
from reconciler.resources.meta import Key, Model
from reconciler.resources.task import Plain, Submission, TaskState
from reconciler.resources.words import many
from reconciler.store.base import StoreFull

_SUBMIT_EVENT_S = 600.0


class _Selection(Model):
    pool: str | None = None
    state: TaskState | None = Field(default=None, strict=False)


_ONE = TypeAdapter(Submission)
_MANY = TypeAdapter(list[Submission])
_ALL_PLAIN = TypeAdapter(Annotated[list[Plain], FailFast()])


class Submissions:
    """The handlers."""

    def __init__(self, daemon: Daemon, clock: Clock) -> None:
        self._daemon = daemon
        self._store = daemon.store
        self._clock = clock
        self._full_since: dict[str, float] = {}
        self._submitters: dict[tuple[str, int], float] = {}

    def take(self, pool: str, body: bytes, caller: Caller, only_names: bool = False) -> Callable[[], bytes]:
        """Stages the tasks; gives what makes the answer when that is durable. Raises ReconcilerError: none is staged."""
        pool_of(self._store, pool)
        listed = body.lstrip()[:1] == b"["
        try:
            submissions = _many(body) if listed else [_ONE.validate_json(body)]
        except ValidationError as error:
            raise invalid(error, Submission) from None
        records = self._daemon.submit(pool, submissions)
        self._note_submitter(caller, pool)
        if only_names:
            return partial(views.names, records)
        return partial(views.tasks, records) if listed else lambda: views.task(records[0]).encode()

    async def submit(self, request: Request) -> Response:
        pool = request.path_params["name"]
        pool_of(self._store, pool)
        names = _only_names(request)
        body = await read(request)
        try:
            answer = self.take(pool, body, caller_of(request), names)
        except QueueFull as error:
            await self._note_full(pool, error)
            raise
        await self._daemon.committed()
        return json_answer(answer(), 201)

    async def cancel(self, request: Request) -> Response:
        record = task_of(self._daemon, request.path_params["name"])
        cancelled = self._daemon.cancel(record.id)
        self._say(request, Key("Task", str(record.id)), "Cancelled", f"cancel asked for in pool/{record.pool}")
        await self._daemon.committed()
        return json_answer(views.task(task_of(self._daemon, str(cancelled.id))))

    async def cancel_many(self, request: Request) -> Response:
        asked = await body(request, _Selection)
        if asked.pool is not None:
            pool_of(self._store, asked.pool)
        chosen = [
            record.id
            for record in self._store.tasks.live()
            if asked.pool in (None, record.pool) and asked.state in (None, record.state)
        ]
        for done, id_ in enumerate(chosen):
            self._daemon.cancel(id_)
            if done % 500 == 499:
                await asyncio.sleep(0)  # a million cancels must not hold up everybody else
        if chosen:
            key = Key("Pool", asked.pool) if asked.pool else Key("Pool", "all")
            self._say(request, key, "TasksCancelled", f"{many(len(chosen), 'task')} cancelled")
        await self._daemon.committed()
        return json_answer(views.encode({"cancelled": len(chosen)}))

    async def _note_full(self, pool: str, error: QueueFull) -> None:
        """One event in a while, not one for each refusal: they come as fast as clients try again."""
        now_s = time.monotonic()
        if now_s - self._full_since.get(pool, -_SUBMIT_EVENT_S) >= _SUBMIT_EVENT_S:
            self._full_since[pool] = now_s
            message = f"tasks are refused; {error.help}"
            self._store.add_event(event(Key("Pool", pool), error.reason, message, self._clock.now(), warning=True))
            with suppress(StoreFull):
                await self._daemon.committed()

    def _note_submitter(self, caller: Caller, pool: str) -> None:
        """One event for each who submits to a pool, not one for each request: there may be thousands a second."""
        now_s = time.monotonic()
        who = (pool, caller.uid)
        if now_s - self._submitters.get(who, -_SUBMIT_EVENT_S) >= _SUBMIT_EVENT_S:
            self._submitters[who] = now_s
            cause = Cause(actor=f"user {caller.user}")
            message = f"{caller.user} submits tasks"
            self._store.add_event(event(Key("Pool", pool), "TasksSubmitted", message, self._clock.now(), cause=cause))

    def _say(self, request: Request, key: Key, reason: str, message: str) -> None:
        self._store.add_event(event(key, reason, message, self._clock.now(), cause=Cause(actor=actor_of(request))))


def _many(body: bytes) -> Sequence[Submission | Plain]:
    """A list of tasks. Raises ValidationError, which names all that is wrong."""
    try:
        return _ALL_PLAIN.validate_json(body)
    except ValidationError:
        return _MANY.validate_json(body)


def _only_names(request: Request) -> bool:
    """Whether `?answer=names` asks for a list of names instead of the tasks. Raises Invalid for any other answer."""
    if not request.scope["query_string"]:
        return False
    asked = request.query_params.get("answer")
    if asked not in (None, "names"):
        raise Invalid(f"answer: names was expected, got {asked!r}", "leave it out, and the tasks are answered")
    return asked == "names"
