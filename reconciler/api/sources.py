"""What the API says and does about sources, and what applying manifests would do.

POST   /api/v1/plan        manifests -> what would change, which workers that touches, and why; nothing is written
"""

from __future__ import annotations

import asyncio

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from reconciler.api import views
from reconciler.api.base import Daemon, Source
from reconciler.api.requests import Manifests, WrongManifests, actor_of, body, declared
from reconciler.clock import Clock
from reconciler.errors import NotFound, Unavailable
from reconciler.loading.apply import BY_HAND
from reconciler.loading.effects import preview
from reconciler.loading.problem import has_errors
from reconciler.loading.variant import Wanted
from reconciler.resources import source as resources
from reconciler.resources.event import Cause, event
from reconciler.resources.meta import Key, Model

_V1 = "/api/v1"


def routes(daemon: Daemon, clock: Clock) -> list[Route]:
    """All of them."""
    api = _Sources(daemon, clock)
    one = f"{_V1}/sources/{{name}}"
    return [
        Route(f"{_V1}/plan", api.plan, methods=["POST"]),
        Route(f"{one}/sync", api.sync, methods=["POST"]),
        Route(f"{one}/suspend", api.suspend, methods=["POST"]),
        Route(f"{one}/resume", api.resume, methods=["POST"]),
    ]


class _Plan(Manifests):
    source: str = Field(default="", max_length=4096)
    prune: bool = False
    manifests: bool = False


class _Sync(Model):
    confirm: bool = False


class _Suspend(Model):
    reason: str = Field(default="", max_length=1000)


class _Sources:
    def __init__(self, daemon: Daemon, clock: Clock) -> None:
        self._daemon = daemon
        self._clock = clock

    async def plan(self, request: Request) -> Response:
        asked = await body(request, _Plan)
        source = next((source for source in self._daemon.sources if source.root == asked.source), None)
        owner, prune = (source.root, source.prune) if source is not None else (BY_HAND, False)
        known = declared(self._daemon.store) if owner == BY_HAND else ()
        result = await asyncio.to_thread(asked.load, owner, known, source.wanted if source is not None else Wanted())
        if has_errors(result.problems):
            raise WrongManifests(result.problems)
        found = preview(
            self._daemon.store, result.objects, owner, prune or asked.prune, self._clock.now(), asked.manifests
        )
        return Response(views.encode(found), media_type="application/json")

    async def sync(self, request: Request) -> Response:
        asked = await body(request, _Sync)
        source = self._source(request)
        confirmed = ", with what it refused confirmed" if asked.confirm else ""
        self._say(request, source, "SyncRequested", f"{source.root} is looked at now{confirmed}")
        await source.sync(asked.confirm)
        await self._daemon.committed()
        return _report(source)

    async def suspend(self, request: Request) -> Response:
        asked = await body(request, _Suspend)
        source = self._source(request)
        said = f"{source.root} is applied no longer" + (f": {asked.reason}" if asked.reason else "")
        return await self._suspended(request, source, True, asked.reason, "Suspended", said)

    async def resume(self, request: Request) -> Response:
        await body(request, Model)
        source = self._source(request)
        answer = await self._suspended(request, source, False, "", "Resumed", f"{source.root} is applied again")
        source.rescan()
        return answer

    async def _suspended(
        self, request: Request, source: Source, suspended: bool, why: str, reason: str, said: str
    ) -> Response:
        found = self._daemon.store.get(resources.Source, source.name)
        if found is None:
            raise Unavailable(f"source {source.root} has not been looked at yet", "try it again in a moment")
        by = actor_of(request) if suspended else ""
        spec = found.spec.changed(suspended=suspended, suspended_by=by, suspend_reason=why)
        if spec.suspended != found.spec.suspended:
            self._daemon.store.update(found.changed(spec=spec))
            self._say(request, source, reason, said)
        await self._daemon.committed()
        return _report(source)

    def _source(self, request: Request) -> Source:
        name = request.path_params["name"]
        source = next((source for source in self._daemon.sources if source.name == name), None)
        if source is None:
            raise NotFound(f"there is no source {name!r}", "reconciler source status lists them")
        return source

    def _say(self, request: Request, source: Source, reason: str, message: str) -> None:
        cause = Cause(actor=actor_of(request))
        self._daemon.store.add_event(event(Key("Source", source.name), reason, message, self._clock.now(), cause=cause))


def _report(source: Source) -> Response:
    return Response(views.encode(source.report()), media_type="application/json")
