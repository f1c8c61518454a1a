"""What operators do to what runs: stop, start, restart, signal, reload. Each leaves an event that names who, and why.

stop, start      a wish that stays with the pool (metadata.intent), over restarts of the daemon, until it ends or is taken back
restart          a count in the pool's status, which is part of the template's hash: a rollout like any other
signal, reload   happens now, to processes that run now, and is not repeated
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from datetime import timedelta

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from reconciler.api import views
from reconciler.api.answers import json_answer
from reconciler.api.base import Daemon
from reconciler.api.found import pool_of
from reconciler.api.ownership import alive, owner, place
from reconciler.api.requests import actor_of, body, duration, kind_of
from reconciler.clock import Clock
from reconciler.errors import Invalid, NotFound, Refused
from reconciler.resources.event import Cause, event
from reconciler.resources.meta import Intent, Key, Model, Wish
from reconciler.resources.pool import Pool
from reconciler.resources.units import Signal, format_moment
from reconciler.resources.worker import Worker


class _Intent(Model):
    override: str | None = None
    reason: str = Field(default="", max_length=1000)


class _Signal(Model):
    signal: Signal
    group: bool = False
    reason: str = Field(default="", max_length=1000)


class _Reason(Model):
    reason: str = Field(default="", max_length=1000)


class Operate:
    """The handlers."""

    def __init__(self, daemon: Daemon, clock: Clock) -> None:
        self._daemon = daemon
        self._store = daemon.store
        self._clock = clock

    async def stop(self, request: Request) -> Response:
        asked = await body(request, _Intent)
        pool = self._pool(request.path_params["name"])
        if owner(pool) is not None and asked.override is None:
            why = f" --reason {shlex.quote(asked.reason)}" if asked.reason else ""
            raise Refused(
                f"{pool.key} is declared in {place(pool)}",
                f"change it there, or: reconciler stop {pool.key} --override{why}",
            )
        until = None
        if asked.override:
            until = self._clock.now() + timedelta(seconds=duration(asked.override, "override"))
        intent = Intent(
            wish=Wish.STOPPED, actor=actor_of(request), reason=asked.reason, at=self._clock.now(), until=until
        )
        stands = f"until {format_moment(until)}" if until is not None else "until it is started"
        return await self._wish(request, pool, intent, f"nothing of it runs {stands}", asked.reason)

    async def start(self, request: Request) -> Response:
        asked = await body(request, _Reason)
        pool = self._pool(request.path_params["name"])
        intent = Intent(wish=Wish.STARTED, actor=actor_of(request), reason=asked.reason, at=self._clock.now())
        return await self._wish(request, pool, intent, "it runs as declared", asked.reason)

    async def _wish(self, request: Request, pool: Pool, intent: Intent, words: str, reason: str) -> Response:
        updated = self._store.update(pool.changed(metadata=pool.metadata.changed(intent=intent)))
        self._say(
            request, pool.key, "StopRequested" if intent.wish is Wish.STOPPED else "StartRequested", words, reason
        )
        await self._daemon.committed()
        return json_answer(views.object_(updated))

    async def signal(self, request: Request) -> Response:
        asked = await body(request, _Signal)
        key, workers = self._running(request)
        names = self._daemon.signal(workers, asked.signal, asked.group)
        self._say(request, key, "SignalSent", f"{asked.signal} to {', '.join(names)}", asked.reason)
        await self._daemon.committed()
        return json_answer(views.encode({"signalled": names}))

    async def reload(self, request: Request) -> Response:
        asked = await body(request, _Reason)
        key, workers = self._running(request)
        pool = self._pool(workers[0].spec.pool)
        if pool.spec.template.reload is None:
            raise Refused(
                f"{pool.key} does not say how it is reloaded",
                "declare spec.template.reload, such as {signal: SIGHUP}",
            )
        answers = await self._daemon.reload(pool, workers)
        self._say(request, key, "ReloadRequested", f"{', '.join(answers)} told to reload", asked.reason)
        failed = {name: problem for name, problem in answers.items() if problem}
        for name, problem in failed.items():
            worker, message = Key("Worker", name), f"it could not be reloaded: {problem}"
            self._store.add_event(event(worker, "ReloadFailed", message, self._clock.now(), warning=True))
        await self._daemon.committed()
        return json_answer(
            views.encode({"reloaded": [name for name in answers if name not in failed], "failed": failed})
        )

    async def restart(self, request: Request) -> Response:
        asked = await body(request, _Reason)
        pool = self._pool(request.path_params["name"])
        if pool.spec.slots:
            raise Refused(f"{pool.key} runs tasks", "each task is a process of its own: there is nothing to restart")
        self._daemon.restart(pool)
        self._say(request, pool.key, "RestartRequested", "its workers are restarted, one after another", asked.reason)
        await self._daemon.committed()
        return json_answer(views.object_(self._pool(pool.name)))

    def _running(self, request: Request) -> tuple[Key, Sequence[Worker]]:
        """What was named, and the workers of it that run."""
        kind, name = kind_of(request), request.path_params["name"]
        key = Key(kind, name)
        if kind == "Pool":
            pool = self._pool(name)
            workers = self._store.owned_by(pool.key, Worker)
        elif kind == "Worker":
            worker = self._store.get(Worker, name)
            if worker is None:
                raise NotFound(f"there is no {key}", "reconciler get workers lists them")
            workers = [worker]
        else:
            raise Invalid(f"{key} has no workers", "name pool/NAME or worker/NAME")
        running = [worker for worker in workers if worker.status.pid is not None]
        if not running:
            raise Refused(f"nothing of {key} runs now", f"reconciler describe {key} says why")
        return key, running

    def _pool(self, name: str) -> Pool:
        pool = pool_of(self._store, name)
        alive(pool)
        return pool

    def _say(self, request: Request, key: Key, word: str, message: str, reason: str) -> None:
        text = f"{message}: {reason}" if reason else message
        self._store.add_event(event(key, word, text, self._clock.now(), cause=Cause(actor=actor_of(request))))
