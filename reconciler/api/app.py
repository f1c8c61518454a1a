"""The HTTP API: every route, who may call it, what it changes.

    GET    /healthz /readyz
    GET    /api/v1/status  /api/v1/events  /api/v1/wait
    GET    /api/v1/{kind}[/{name}]                 ?watch=true&resourceVersion=N: server-sent events
    POST   /api/v1/pools|restartpolicies           PUT, DELETE /api/v1/pools|restartpolicies/{name}
    POST   /api/v1/pools/{name}/scale              /api/v1/pools/{name}/tasks
    POST   /api/v1/pools/{name}/stop|start|restart /api/v1/pools|workers/{name}/signal|reload
    POST   /api/v1/tasks/{id}/cancel               /api/v1/tasks/cancel
    POST   /api/v1/tasks/{id}/retry /api/v1/tasks/retry             /api/v1/pools/{name}/pause|drain|resume: api/tasks.py
    GET    /api/v1/workers|tasks/{name}/logs       /api/v1/{kind}/{name}/why|usage
    POST   /api/v1/apply  /api/v1/shutdown  /api/v1/rescan          /api/v1/plan, sources: api/sources.py

A change is answered when it is durable (`daemon.committed`), and leaves an event that names the caller. Every error has
one form: {"error": {"reason", "message", "help"}}.
"""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

from pydantic import Field, TypeAdapter, ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from reconciler.api import sources, tasks, used, views, why
from reconciler.api.base import Daemon
from reconciler.api.conditions import Answer, check, live_tasks, of_object, of_task
from reconciler.api.inforce import joined
from reconciler.api.operate import Operate
from reconciler.api.output import stream
from reconciler.api.ownership import alive, owner, place
from reconciler.api.requests import (
    Manifests,
    TooLarge,
    WrongManifests,
    actor_of,
    any_json,
    body,
    caller_of,
    declared,
    duration,
    invalid,
    key_of,
    kind_of,
    number,
    read,
    revision,
    task_state,
)
from reconciler.api.server import may_call
from reconciler.api.watch import Watcher, events
from reconciler.clock import Clock, SystemClock
from reconciler.errors import Forbidden, Invalid, NotFound, QueueFull, ReconcilerError, Refused
from reconciler.loading.apply import BY_HAND, apply
from reconciler.loading.parse import SourceFile
from reconciler.loading.problem import has_errors, in_order
from reconciler.loading.validate import load
from reconciler.resources.check import references
from reconciler.resources.event import Cause, event
from reconciler.resources.kinds import STORED, WRITABLE
from reconciler.resources.meta import NAME_PATTERN, Key, Model, Object
from reconciler.resources.pool import MAX_REPLICAS, Pool
from reconciler.resources.task import Submission, TaskState
from reconciler.resources.units import format_moment, from_ms, to_ms
from reconciler.store.base import Change, StoreFull, TaskRecord

_DAEMON = Key("Daemon", "reconciler")
_LONGEST_WAIT_S = 60.0
_LOOK_S = 0.1
"""How often a followed file is looked at."""
_SUBMIT_EVENT_S = 600.0
_NAME = re.compile(NAME_PATTERN)
_ID = re.compile(r"^[1-9][0-9]{0,17}$")

Handler = Callable[[Request], Awaitable[Response]]


def create_app(daemon: Daemon, clock: Clock | None = None) -> Starlette:
    """The ASGI application. Needs `scope["state"]["caller"]`, which `api.server` puts there."""
    clock = clock or SystemClock()
    api = _Api(daemon, clock)
    daemon.store.on_commit(api.publish)
    operate = Operate(daemon, clock)
    v1 = "/api/v1"
    routes = [
        _route("/healthz", api.alive, "GET"),
        _route("/readyz", api.alive, "GET"),
        _route(f"{v1}/pools/{{name}}/tasks", api.submit, "POST"),
        _route(f"{v1}/status", api.status, "GET"),
        _route(f"{v1}/events", api.events, "GET"),
        _route(f"{v1}/wait", api.wait, "GET"),
        _route(f"{v1}/apply", api.apply, "POST"),
        *sources.routes(daemon, clock or SystemClock()),
        _route(f"{v1}/shutdown", api.shutdown, "POST"),
        _route(f"{v1}/rescan", api.rescan, "POST"),
        *tasks.routes(daemon, clock),
        _route(f"{v1}/tasks/cancel", api.cancel_many, "POST"),
        _route(f"{v1}/tasks/{{name}}/cancel", api.cancel, "POST"),
        _route(f"{v1}/pools/{{name}}/scale", api.scale, "POST"),
        _route(f"{v1}/pools/{{name}}/stop", operate.stop, "POST"),
        _route(f"{v1}/pools/{{name}}/start", operate.start, "POST"),
        _route(f"{v1}/pools/{{name}}/restart", operate.restart, "POST"),
        _route(f"{v1}/{{kind}}/{{name}}/signal", operate.signal, "POST"),
        _route(f"{v1}/{{kind}}/{{name}}/reload", operate.reload, "POST"),
        _route(f"{v1}/{{kind}}/{{name}}/logs", api.logs, "GET"),
        _route(f"{v1}/{{kind}}/{{name}}/why", api.why, "GET"),
        _route(f"{v1}/{{kind}}/{{name}}/usage", api.usage, "GET"),
        _route(f"{v1}/{{kind}}", api.collection, "GET", "POST"),
        _route(f"{v1}/{{kind}}/{{name}}", api.one, "GET", "PUT", "DELETE"),
    ]
    handlers: dict[Any, Any] = {
        ReconcilerError: _foreseen,
        WrongManifests: _wrong,
        HTTPException: _by_status,
        Exception: _defect,
    }
    return Starlette(routes=routes, exception_handlers=handlers, middleware=[Middleware(_Guard)])


class MethodNotAllowed(ReconcilerError):
    """The path is there, the method is not."""

    status = 405
    exit_code = 2
    reason = "MethodNotAllowed"


class _Apply(Manifests):
    source: str = Field(default=BY_HAND, max_length=4096)
    prune: bool = False


class _Scale(Model):
    replicas: int = Field(ge=0, le=MAX_REPLICAS)
    override: str | None = None
    reason: str = Field(default="", max_length=1000)


class _Selection(Model):
    pool: str | None = None
    state: TaskState | None = Field(default=None, strict=False)


class _Shutdown(Model):
    keep_workers: bool = False
    hurry: bool = False


_ONE = TypeAdapter(Submission)
_MANY = TypeAdapter(list[Submission])


class _Api:
    """The handlers and the watchers; nothing here outlives a request but the list of watchers."""

    def __init__(self, daemon: Daemon, clock: Clock) -> None:
        self._daemon = daemon
        self._store = daemon.store
        self._clock = clock
        self._watchers: set[Watcher] = set()
        self._full_since: dict[str, float] = {}
        self._submitters: dict[tuple[str, int], float] = {}

    async def alive(self, request: Request) -> Response:
        return Response(b"ok\n", media_type="text/plain")

    async def status(self, request: Request) -> Response:
        return _json(views.encode(self._daemon.report()).encode())

    async def events(self, request: Request) -> Response:
        found = self._store.events(request.query_params.get("for"), number(request, "limit", 1000, 10_000))
        items = (item.model_dump_json(by_alias=True, exclude_none=True) for item in found)
        return _json(views.objects(items, self._store.revision))

    async def shutdown(self, request: Request) -> Response:
        asked = await body(request, _Shutdown)
        left = "its workers run on" if asked.keep_workers else "everything is stopped"
        self._say(request, _DAEMON, "ShutdownRequested", f"the daemon is asked to end; {left}")
        await self._daemon.committed()
        self._daemon.shutdown(asked.keep_workers, asked.hurry)
        return _json(b"{}", 202)

    async def rescan(self, request: Request) -> Response:
        self._say(request, _DAEMON, "RescanRequested", "the sources are looked at")
        await self._daemon.committed()
        self._daemon.rescan()
        return _json(b"{}", 202)

    # -- reading objects

    async def collection(self, request: Request) -> Response:
        kind = kind_of(request)
        if request.method == "POST":
            return await self._create(request, kind)
        if request.query_params.get("watch") == "true":
            return self._watch(request, kind)
        await self._durable()
        if request.query_params.get("usage") == "fresh":
            await self._daemon.usage.fresh()
        if kind == "Task":
            return self._tasks(request)
        found: Sequence[Object] = self._store.all(STORED[kind])
        shown = (used.object_(obj, self._daemon.usage) for obj in found)
        return _json(views.objects(shown, self._store.revision))

    async def one(self, request: Request) -> Response:
        kind, name = kind_of(request), request.path_params["name"]
        if request.method == "PUT":
            return await self._replace(request, kind, name)
        if request.method == "DELETE":
            return await self._delete(request, kind, name)
        await self._durable()
        if kind == "Task":
            return _json(used.task(self._task(name), self._daemon.usage).encode())
        found = self._object(kind, name)
        return _json(joined(used.object_(found, self._daemon.usage), found, self._store).encode())

    async def why(self, request: Request) -> Response:
        kind, name = kind_of(request), request.path_params["name"]
        await self._durable()
        if kind == "Task":
            return _json(views.encode(why.of_task(self._task(name))).encode())
        found = why.of_object(self._object(kind, name), self._store, self._clock.now())
        return _json(views.encode(found).encode())

    async def usage(self, request: Request) -> Response:
        kind, name = kind_of(request), request.path_params["name"]
        if kind not in ("Pool", "Worker"):
            raise Invalid(f"no samples are kept of {Key(kind, name)}", "ask for pool/NAME or worker/NAME")
        found = self._object(kind, name)
        return _json(used.history(found, self._daemon.usage))

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
        return _json(views.objects(shown, self._store.revision, after))

    def _object(self, kind: str, name: str) -> Object:
        found = self._store.get(STORED[kind], name) if _NAME.match(name) else None
        if found is None:
            raise NotFound(f"there is no {kind.lower()} {name!r}", f"reconciler get {STORED[kind].plural} lists them")
        return found

    def _task(self, name: str) -> TaskRecord:
        if not _ID.match(name):
            raise NotFound(f"there is no task {name!r}", "a task's name is its number, such as task/17")
        record = self._daemon.live_task(int(name)) or self._store.tasks.get(int(name))
        if record is None:
            raise NotFound(f"there is no task {name}", "it may have been dropped some days after its end")
        if record.spec is None:
            found = self._store.tasks.get(record.id)
            return found if found is not None and found.spec is not None else record
        return record

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

    # -- writing objects

    async def _create(self, request: Request, kind: str) -> Response:
        obj, _ = await self._manifest(request, kind)
        created = self._store.create(obj)
        self._say(request, created.key, "Created", "created over the API")
        await self._daemon.committed()
        return _json(views.object_(created).encode(), 201)

    async def _replace(self, request: Request, kind: str, name: str) -> Response:
        wanted, expected = await self._manifest(request, kind)
        if wanted.name != name:
            raise Invalid(f"the path says {name!r}, the object {wanted.name!r}")
        old = self._object(kind, name)
        alive(old)
        if owner(old) is not None and old.spec != wanted.spec:
            raise Refused(f"{old.key} is declared in {place(old)}", "change it there")
        metadata = old.metadata.changed(labels=wanted.metadata.labels, annotations=wanted.metadata.annotations)
        updated = self._store.update(old.changed(metadata=metadata, spec=wanted.spec), expected)
        self._say(request, old.key, "Changed", "changed over the API")
        await self._daemon.committed()
        return _json(views.object_(updated).encode())

    async def _delete(self, request: Request, kind: str, name: str) -> Response:
        if kind == "Task":
            raise Refused("a task is not deleted", f"reconciler cancel task/{name}")
        old = self._object(kind, name)
        if kind == "Source":
            raise Refused(f"{old.key} is a path that `up` was given", f"reconciler source suspend {name}")
        if kind not in WRITABLE:
            raise Refused(f"{old.key} belongs to its pool", "scale or delete the pool")
        pools = [pool for pool in self._store.all(Pool) if pool.metadata.deleted_at is None]
        users = [pool.key for pool in pools for _, key in references(pool) if key == old.key]
        if users:
            raise Refused(f"{old.key} is used by {', '.join(map(str, users[:5]))}", "change or delete those first")
        expected = number(request, "resourceVersion", 0, 1 << 62) or None
        if old.metadata.deleted_at is None:
            metadata = old.metadata.changed(deleted_at=self._clock.now())
            old = self._store.update(old.changed(metadata=metadata), expected)
            self._say(request, old.key, "Deleted", "deletion asked for")
        await self._daemon.committed()
        return _json(views.object_(old).encode(), 202)

    async def _manifest(self, request: Request, kind: str) -> tuple[Object, int | None]:
        """One object as people write it, through the same checks as a file; and the revision it was read at."""
        if kind not in WRITABLE:
            raise MethodNotAllowed(f"a {kind.lower()} is not written by hand", f"these are: {', '.join(WRITABLE)}")
        given = await any_json(request)
        if not isinstance(given, dict) or not isinstance(given.get("metadata", {}), dict):
            raise Invalid("an object was expected, with apiVersion, kind, metadata and spec")
        metadata = given.get("metadata", {})
        expected = revision(metadata.get("resourceVersion"))
        kept = {name: metadata[name] for name in ("name", "labels", "annotations") if name in metadata}
        manifest = {**{name: value for name, value in given.items() if name != "status"}, "metadata": kept}
        file = SourceFile("request", json.dumps(manifest, indent=1).encode())
        result = load([file], known=declared(self._store))
        if has_errors(result.problems) or len(result.objects) != 1:
            raise WrongManifests(result.problems)
        (obj,) = result.objects
        if obj.kind != kind:
            raise Invalid(f"the path is about a {kind.lower()}, the object is a {obj.kind}")
        return obj.changed(metadata=obj.metadata.changed(source=None)), expected

    async def apply(self, request: Request) -> Response:
        asked = await body(request, _Apply)
        result = await asyncio.to_thread(asked.load, asked.source, declared(self._store))  # many documents take a while
        if has_errors(result.problems):
            raise WrongManifests(result.problems)
        actor = actor_of(request)
        words = apply(self._store, result.objects, asked.source, asked.prune, actor, self._clock.now())
        await self._daemon.committed()
        warnings = [problem.to_json() for problem in in_order(result.problems)]
        results = [{"object": str(item.key), "word": item.word} for item in words]
        return _json(views.encode({"results": results, "problems": warnings}).encode())

    async def scale(self, request: Request) -> Response:
        asked = await body(request, _Scale)
        pool = self._object("Pool", request.path_params["name"])
        assert isinstance(pool, Pool)
        alive(pool)
        overrides = dict(pool.metadata.overrides)
        if owner(pool) is not None:
            if asked.override is None:
                raise Refused(f"spec.replicas of {pool.key} is declared in {place(pool)}", _scale_command(pool, asked))
            overrides["spec.replicas"] = self._until(asked.override)
        changed = pool.changed(
            metadata=pool.metadata.changed(overrides=overrides), spec=pool.spec.changed(replicas=asked.replicas)
        )
        updated = self._store.update(changed)
        why = f": {asked.reason}" if asked.reason else ""
        until = overrides.get("spec.replicas")
        stands = "" if until is None else f" (override until {until})" if until else " (override)"
        self._say(request, pool.key, "Scaled", f"from {pool.spec.replicas} to {asked.replicas}{stands}{why}")
        await self._daemon.committed()
        return _json(views.object_(updated).encode())

    def _until(self, override: str) -> str:
        if not override:
            return ""
        return format_moment(from_ms(to_ms(self._clock.now()) + round(1000 * duration(override, "override"))))

    # -- tasks

    async def submit(self, request: Request) -> Response:
        pool = request.path_params["name"]
        if not _NAME.match(pool):
            raise NotFound(f"there is no pool {pool!r}", "reconciler get pools lists them")
        body = await read(request)
        many = body.lstrip()[:1] == b"["
        try:
            submissions = _MANY.validate_json(body) if many else [_ONE.validate_json(body)]
        except ValidationError as error:
            raise invalid(error, Submission) from None
        try:
            records = self._daemon.submit(pool, submissions)
        except QueueFull as error:
            await self._note_full(pool, error)
            raise
        self._note_submitter(request, pool)
        await self._daemon.committed()
        return _json(views.tasks(records) if many else views.task(records[0]).encode(), 201)

    async def cancel(self, request: Request) -> Response:
        record = self._task(request.path_params["name"])
        cancelled = self._daemon.cancel(record.id)
        self._say(request, Key("Task", str(record.id)), "Cancelled", f"cancel asked for in pool/{record.pool}")
        await self._daemon.committed()
        return _json(views.task(self._task(str(cancelled.id))).encode())

    async def cancel_many(self, request: Request) -> Response:
        asked = await body(request, _Selection)
        if asked.pool is not None:
            self._object("Pool", asked.pool)
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
            self._say(request, key, "TasksCancelled", f"{len(chosen)} tasks cancelled")
        await self._daemon.committed()
        return _json(views.encode({"cancelled": len(chosen)}).encode())

    async def _note_full(self, pool: str, error: QueueFull) -> None:
        """One event in a while, not one for each refusal: they come as fast as clients try again."""
        now_s = time.monotonic()
        if now_s - self._full_since.get(pool, -_SUBMIT_EVENT_S) >= _SUBMIT_EVENT_S:
            self._full_since[pool] = now_s
            message = f"tasks are refused; {error.help}"
            self._store.add_event(event(Key("Pool", pool), error.reason, message, self._clock.now(), warning=True))
            with suppress(StoreFull):
                await self._daemon.committed()

    def _note_submitter(self, request: Request, pool: str) -> None:
        """One event for each who submits to a pool, not one for each request: there may be thousands a second."""
        caller = caller_of(request)
        now_s = time.monotonic()
        who = (pool, caller.uid)
        if now_s - self._submitters.get(who, -_SUBMIT_EVENT_S) >= _SUBMIT_EVENT_S:
            self._submitters[who] = now_s
            self._say(request, Key("Pool", pool), "TasksSubmitted", f"{caller.user} submits tasks")

    # -- waiting and output

    async def wait(self, request: Request) -> Response:
        query = request.query_params
        wanted = query.get("for", "finished")
        check(wanted)
        deadline_s = time.monotonic() + min(duration(query.get("timeout", "30s"), "timeout"), _LONGEST_WAIT_S)
        if query.get("all") == "true":
            pool = query.get("pool")
            if pool is not None:
                self._object("Pool", pool)
            look: Callable[[], dict[str, Any]] = lambda: self._all_done(pool)  # noqa: E731
            tasks: Sequence[int] = ()
        else:
            keys = [key_of(text) for text in query.getlist("object")]
            if not keys:
                raise Invalid("nothing to wait for", "object=KIND/NAME, or all=true")
            look = lambda: self._each_done(keys, wanted)  # noqa: E731
            tasks = [int(key.name) for key in keys if key.kind == "Task" and _ID.match(key.name)]
            tasks = tasks if len(tasks) == len(keys) else ()  # with other things among them every change is looked at
        while True:
            found = look()
            left_s = deadline_s - time.monotonic()
            if found["done"] or left_s <= 0:
                return _json(views.encode(found).encode())
            with suppress(TimeoutError):
                async with asyncio.timeout(left_s):  # not wait_for: it would listen a moment too late
                    await self._daemon.changed(tasks)

    def _all_done(self, pool: str | None) -> dict[str, Any]:
        pools = [pool] if pool is not None else [one.name for one in self._store.all(Pool)]
        left = live_tasks(self._store.tasks, pools)
        return {"done": left == 0, "left": left, "results": []}

    def _each_done(self, keys: Sequence[Key], wanted: str) -> dict[str, Any]:
        """Done when every condition holds, or when one never will."""
        results, answers = [], []
        for key in keys:
            answer, object_ = self._stands(key, wanted)
            answers.append(answer)
            results.append({"object": str(key), "answer": answer.value, "status": object_})
        done = Answer.NEVER in answers or Answer.NOT_YET not in answers
        return {"done": done, "left": answers.count(Answer.NOT_YET), "results": results}

    def _stands(self, key: Key, wanted: str) -> tuple[Answer, Any]:
        if key.kind == "Task":
            record = self._task(key.name)
            answer = of_task(record, wanted)
            return answer, None if answer is Answer.NOT_YET else json.loads(views.task(record))["status"]
        try:
            obj = self._object(key.kind, key.name)
        except NotFound:
            if wanted == "deleted":
                return Answer.YES, None
            raise
        return of_object(obj, wanted), None

    async def logs(self, request: Request) -> Response:
        kind, name, query = kind_of(request), request.path_params["name"], request.query_params
        key = Key(kind, name)
        if kind not in ("Worker", "Task"):
            raise Invalid(f"{key} has no output of its own", "ask for worker/NAME or task/ID")
        if kind == "Task":
            self._task(name)
        else:
            self._object(kind, name)
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
        answer = _json(views.encode(views.problem(error)).encode(), error.status, {"connection": "close"})
        await answer(scope, receive, send)


def _route(path: str, handler: Handler, *methods: str) -> Route:
    return Route(path, handler, methods=list(methods))


async def _foreseen(request: Request, error: ReconcilerError) -> Response:
    headers = {"connection": "close"} if isinstance(error, TooLarge) else None
    return _json(views.encode(views.problem(error)).encode(), error.status, headers)


async def _by_status(request: Request, error: HTTPException) -> Response:
    if error.status_code == 405:
        return await _foreseen(request, MethodNotAllowed(f"{request.url.path} does not take {request.method}"))
    return await _foreseen(request, NotFound(f"there is no {request.url.path}", "the paths begin with /api/v1"))


async def _defect(request: Request, error: Exception) -> Response:
    """Unforeseen: the client hears that it is our fault; the traceback goes to the daemon's stderr."""
    fault = ReconcilerError(f"{type(error).__name__} in the daemon", "its output shows where; please report it")
    return _json(views.encode(views.problem(fault)).encode(), 500)


async def _wrong(request: Request, error: WrongManifests) -> Response:
    listed = in_order(error.problems)
    wrong = Invalid(f"{len(listed)} problems in the manifests")
    return _json(views.encode({**views.problem(wrong), "problems": [p.to_json() for p in listed]}).encode(), 422)


def _json(body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(body, status, headers, media_type="application/json")


def _scale_command(pool: Pool, asked: _Scale) -> str:
    reason = f" --reason {shlex.quote(asked.reason)}" if asked.reason else ""
    command = f"reconciler scale {pool.key} --replicas {asked.replicas} --override{reason}"
    return f"change it there, or: {command}"
