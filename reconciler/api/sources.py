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
from reconciler.api.base import Daemon
from reconciler.api.requests import Manifest, WrongManifests, body, declared
from reconciler.clock import Clock
from reconciler.loading.apply import BY_HAND
from reconciler.loading.effects import preview
from reconciler.loading.problem import has_errors
from reconciler.loading.validate import load
from reconciler.resources.meta import Model

_V1 = "/api/v1"


def routes(daemon: Daemon, clock: Clock) -> list[Route]:
    """All of them."""
    api = _Sources(daemon, clock)
    return [Route(f"{_V1}/plan", api.plan, methods=["POST"])]


class _Plan(Model):
    files: list[Manifest]
    source: str = Field(default="", max_length=4096)
    prune: bool = False
    manifests: bool = False


class _Sources:
    def __init__(self, daemon: Daemon, clock: Clock) -> None:
        self._daemon = daemon
        self._clock = clock

    async def plan(self, request: Request) -> Response:
        asked = await body(request, _Plan)
        source = next((source for source in self._daemon.sources if source.root == asked.source), None)
        owner, prune = (source.root, source.prune) if source is not None else (BY_HAND, False)
        known = declared(self._daemon.store) if owner == BY_HAND else ()
        result = await asyncio.to_thread(load, [item.file for item in asked.files], owner, "", known)
        if has_errors(result.problems):
            raise WrongManifests(result.problems)
        found = preview(
            self._daemon.store, result.objects, owner, prune or asked.prune, self._clock.now(), asked.manifests
        )
        return Response(views.encode(found), media_type="application/json")
