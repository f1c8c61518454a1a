"""The HTTP API: every route, who may call it, and what only reads.

What changes something is in files of its own: writing, removal, submission, tasks, operate, sources.

    GET    /healthz /readyz
    GET    /api/v1/status  /api/v1/events  /api/v1/wait
    GET    /api/v1/{kind}[/{name}]                 ?watch=true&resourceVersion=N: server-sent events
    POST   /api/v1/pools|restartpolicies           PUT, DELETE /api/v1/pools|restartpolicies/{name}
    POST   /api/v1/pools/{name}/scale              /api/v1/pools/{name}/tasks?answer=names
    POST   /api/v1/pools/{name}/stop|start|restart /api/v1/pools|workers/{name}/signal|reload
    POST   /api/v1/tasks/{id}/cancel               /api/v1/tasks/cancel
    POST   /api/v1/tasks/{id}/retry /api/v1/tasks/retry             /api/v1/pools/{name}/pause|drain|resume: api/tasks.py
    GET    /api/v1/workers|tasks/{name}/logs       /api/v1/{kind}/{name}/why|usage
    POST   /api/v1/apply  /api/v1/delete  /api/v1/shutdown  /api/v1/rescan          /api/v1/plan, sources: api/sources.py
    POST   /api/v1/locks/{name}/acquire|renew|release               api/locks.py

A change is answered when it is durable (`daemon.committed`), and leaves an event that names the caller. Every error has
one form: {"error": {"reason", "message", "help"}}.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from reconciler.api import locks, rollouts, sources, tasks, used, views, why
from reconciler.api.answers import ERRORS, json_answer
from reconciler.api.base import Daemon
from reconciler.api.direct import Direct
from reconciler.api.found import object_of, task_of
from reconciler.api.inforce import joined
from reconciler.api.operate import Operate
from reconciler.api.output import stream
from reconciler.api.removal import Removal
from reconciler.api.requests import (
    actor_of,
    body,
    duration,
    kind_of,
    number,
    task_state,
)
from reconciler.api.server import may_call
from reconciler.api.submission import Submissions
from reconciler.api.waits import Waits
from reconciler.api.watch import Watcher, events
from reconciler.api.writing import Writing
from reconciler.clock import Clock, SystemClock
from reconciler.errors import Forbidden, Invalid
from reconciler.resources.event import Cause, event
from reconciler.resources.kinds import STORED
from reconciler.resources.meta import Key, Model, Object
from reconciler.resources.units import to_ms
from reconciler.store.base import Change, StoreFull

_DAEMON = Key("Daemon", "reconciler")
_LOOK_S = 0.1
"""How often a followed file is looked at."""

Handler = Callable[[Request], Awaitable[Response]]


def create_app(daemon: Daemon, clock: Clock | None = None) -> Starlette:
    """The ASGI application. Needs `scope["state"]["caller"]`, which `api.server` puts there."""
    clock = clock or SystemClock()
    api = _Api(daemon, clock)
    daemon.store.on_commit(api.publish)
    operate, submissions = Operate(daemon, clock), Submissions(daemon, clock)
    writing, removal = Writing(daemon, clock), Removal(daemon, clock)
    v1 = "/api/v1"
    routes = [
        _route("/healthz", api.alive, "GET"),
        _route("/readyz", api.alive, "GET"),
        _route(f"{v1}/pools/{{name}}/tasks", submissions.submit, "POST"),
        _route(f"{v1}/status", api.status, "GET"),
        _route(f"{v1}/events", api.events, "GET"),
        _route(f"{v1}/wait", Waits(daemon).wait, "GET"),
        _route(f"{v1}/apply", writing.apply, "POST"),
        *sources.routes(daemon, clock),
        *locks.routes(daemon, clock),
        *rollouts.routes(daemon, clock),
        _route(f"{v1}/delete", removal.many, "POST"),
        _route(f"{v1}/shutdown", api.shutdown, "POST"),
        _route(f"{v1}/rescan", api.rescan, "POST"),
        *tasks.routes(daemon, clock),
        _route(f"{v1}/tasks/cancel", submissions.cancel_many, "POST"),
        _route(f"{v1}/tasks/{{name}}/cancel", submissions.cancel, "POST"),
        _route(f"{v1}/pools/{{name}}/scale", writing.scale, "POST"),
        _route(f"{v1}/pools/{{name}}/stop", operate.stop, "POST"),
        _route(f"{v1}/pools/{{name}}/start", operate.start, "POST"),
        _route(f"{v1}/pools/{{name}}/restart", operate.restart, "POST"),
        _route(f"{v1}/{{kind}}/{{name}}/signal", operate.signal, "POST"),
        _route(f"{v1}/{{kind}}/{{name}}/reload", operate.reload, "POST"),
        _route(f"{v1}/{{kind}}/{{name}}/logs", api.logs, "GET"),
        _route(f"{v1}/{{kind}}/{{name}}/why", api.why, "GET"),
        _route(f"{v1}/{{kind}}/{{name}}/usage", api.usage, "GET"),
        _route(f"{v1}/{{kind}}", api.collection, "GET"),
        _route(f"{v1}/{{kind}}", writing.create, "POST"),
        _route(f"{v1}/{{kind}}/{{name}}", api.one, "GET"),
        _route(f"{v1}/{{kind}}/{{name}}", writing.replace, "PUT"),
        _route(f"{v1}/{{kind}}/{{name}}", removal.one, "DELETE"),
    ]
    app = Starlette(routes=routes, exception_handlers=ERRORS, middleware=[Middleware(_Guard)])
    app.state.direct = Direct(daemon, submissions)
    return app


class _Shutdown(Model):
    keep_workers: bool = False
    hurry: bool = False


class _Api:
    """The handlers and the watchers; nothing here outlives a request but the list of watchers."""

    def __init__(self, daemon: Daemon, clock: Clock) -> None:
        self._daemon = daemon
        self._store = daemon.store
        self._clock = clock
        self._watchers: set[Watcher] = set()

    async def alive(self, request: Request) -> Response:
        return Response(b"ok\n", media_type="text/plain")

    async def status(self, request: Request) -> Response:
        return json_answer(views.encode(self._daemon.report()))

    async def events(self, request: Request) -> Response:
        found = self._store.events(request.query_params.get("for"), number(request, "limit", 1000, 10_000))
        items = (item.model_dump_json(by_alias=True, exclude_none=True) for item in found)
        return json_answer(views.objects(items, self._store.revision))

    async def shutdown(self, request: Request) -> Response:
        asked = await body(request, _Shutdown)
        left = "its workers run on" if asked.keep_workers else "everything is stopped"
        self._say(request, _DAEMON, "ShutdownRequested", f"the daemon is asked to end; {left}")
        await self._daemon.committed()
        self._daemon.shutdown(asked.keep_workers, asked.hurry)
        return json_answer(b"{}", 202)

    async def rescan(self, request: Request) -> Response:
        self._say(request, _DAEMON, "RescanRequested", "the sources are looked at")
        await self._daemon.committed()
        self._daemon.rescan()
        return json_answer(b"{}", 202)

    # -- reading objects

    async def collection(self, request: Request) -> Response:
        kind = kind_of(request)
        if request.query_params.get("watch") == "true":
            return self._watch(request, kind)
        await self._durable()
        if request.query_params.get("usage") == "fresh":
            await self._daemon.usage.fresh()
        if kind == "Task":
            return self._tasks(request)
        found: Sequence[Object] = self._store.all(STORED[kind])
        shown = (used.object_(obj, self._daemon.usage) for obj in found)
        return json_answer(views.objects(shown, self._store.revision))

    async def one(self, request: Request) -> Response:
        kind, name = kind_of(request), request.path_params["name"]
        await self._durable()
        if kind == "Task":
            return json_answer(used.task(task_of(self._daemon, name), self._daemon.usage))
        found = object_of(self._store, kind, name)
        return json_answer(joined(used.object_(found, self._daemon.usage), found, self._store))

    async def why(self, request: Request) -> Response:
        kind, name = kind_of(request), request.path_params["name"]
        await self._durable()
        if kind == "Task":
            return json_answer(views.encode(why.of_task(task_of(self._daemon, name), self._store, self._clock.now())))
        found = why.of_object(object_of(self._store, kind, name), self._store, self._clock.now())
        return json_answer(views.encode(found))

    async def usage(self, request: Request) -> Response:
        kind, name = kind_of(request), request.path_params["name"]
        if kind not in ("Pool", "Worker"):
            raise Invalid(f"no samples are kept of {Key(kind, name)}", "ask for pool/NAME or worker/NAME")
        found = object_of(self._store, kind, name)
        return json_answer(used.history(found, self._daemon.usage))

    async def _durable(self) -> None:
        """What is shown must not be taken back by a crash: a revision that a client has seen never comes again."""
        if self._store.staged:
            with suppress(StoreFull):  # reading goes on while nothing can be written
                await self._daemon.committed()

    def _tasks(self, request: Request) -> Response:
        query = request.query_params
        limit = number(request, "limit", 1000, 10_000)
        found = self._store.tasks.query(
            pool=query.get("pool"),
            state=task_state(query.get("state")),
            since_ms=self._since_ms(query.get("since")),
            limit=limit,
            after_id=number(request, "continue", 0, 1 << 62),
        )
        after = str(found[-1].id) if len(found) == limit else ""
        shown = (used.task(record, self._daemon.usage) for record in found)
        return json_answer(views.objects(shown, self._store.revision, after))

    # -- watching

    def publish(self, changes: list[Change]) -> None:
        """The store's feed: hands committed changes to every watcher."""
        for watcher in self._watchers:
            watcher.add(changes)

    def _watch(self, request: Request, kind: str) -> Response:
        if kind == "Task":
            raise Invalid(
                "tasks cannot be watched", "GET /api/v1/wait, or reconciler wait task/ID, waits for their end"
            )
        since = number(request, "resourceVersion", self._store.revision, 1 << 62)
        watcher = Watcher(kind, request.query_params.get("name"))
        watcher.add(self._store.changes_since(since))  # raises Gone before anything is answered
        self._watchers.add(watcher)
        return StreamingResponse(self._changes(watcher), media_type="text/event-stream")

    async def _changes(self, watcher: Watcher) -> AsyncIterator[bytes]:
        try:
            async for block in events(watcher):
                yield block
        finally:
            self._watchers.discard(watcher)

    # -- waiting and output

    async def logs(self, request: Request) -> Response:
        kind, name, query = kind_of(request), request.path_params["name"], request.query_params
        key = Key(kind, name)
        if kind not in ("Worker", "Task"):
            raise Invalid(f"{key} has no output of its own", "ask for worker/NAME or task/ID")
        if kind == "Task":
            task_of(self._daemon, name)
        else:
            object_of(self._store, kind, name)
        previous = query.get("previous") == "true"
        tail = number(request, "tail", -1, 1 << 62) if "tail" in query else None
        since_s = self._since_ms(query.get("since")) / 1000
        follow = self._follow(key) if query.get("follow") == "true" else None
        files = self._daemon.logs(key, previous)  # raises NotFound before anything is answered
        skip = self._daemon.written_before(files, since_s) if since_s else {}
        body = stream(lambda: self._daemon.logs(key, previous), tail, since_s, follow, skip)
        return StreamingResponse(body, media_type="text/plain; charset=utf-8")

    def _follow(self, key: Key) -> Callable[[], Awaitable[bool]]:
        """Waits until output is worth another look; false when what is there then is all there will be."""

        async def more() -> bool:
            look_at_s = time.monotonic() + _LOOK_S
            tasks = (int(key.name),) if key.kind == "Task" else ()
            while (left_s := look_at_s - time.monotonic()) > 0:
                if self._over(key):
                    return False
                with suppress(TimeoutError):
                    async with asyncio.timeout(left_s):
                        await self._daemon.changed(tasks)
            return not self._over(key)

        return more

    def _over(self, key: Key) -> bool:
        if key.kind == "Task":
            record = self._daemon.live_task(int(key.name))
            return record is None or record.state.ended
        return self._store.get(STORED[key.kind], key.name) is None

    # -- what handlers share

    def _say(self, request: Request, key: Key, reason: str, message: str) -> None:
        self._store.add_event(event(key, reason, message, self._clock.now(), cause=Cause(actor=actor_of(request))))

    def _since_ms(self, text: str | None) -> int:
        return 0 if text is None else to_ms(self._clock.now()) - round(1000 * duration(text, "since"))


class _Guard:
    """Stands before every route, also those that are not there: nobody passes who may not call."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if may_call(scope["state"].get("caller")):
            await self._app(scope, receive, send)
            return
        error = Forbidden("this socket is for root and the daemon's own user", "run it as that user, or with sudo")
        answer = json_answer(views.encode(views.problem(error)).encode(), error.status, {"connection": "close"})
        await answer(scope, receive, send)


def _route(path: str, handler: Handler, *methods: str) -> Route:
    return Route(path, handler, methods=list(methods))
