"""What people write: objects created, replaced, applied, scaled.

Every object comes through the same checks as a file; what a watched source declares is its word, and is changed there.
"""

from __future__ import annotations

import asyncio
import json
import shlex

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from reconciler.api import overriding, views
from reconciler.api.answers import MethodNotAllowed, json_answer
from reconciler.api.base import Daemon
from reconciler.api.found import object_of, pool_of
from reconciler.api.ownership import alive, owner, place
from reconciler.api.requests import (
    Manifests,
    WrongManifests,
    actor_of,
    any_json,
    body,
    declared,
    kind_of,
    revision,
)
from reconciler.clock import Clock
from reconciler.errors import Invalid, Refused
from reconciler.loading.apply import BY_HAND, apply
from reconciler.loading.parse import SourceFile
from reconciler.loading.problem import has_errors, in_order
from reconciler.loading.validate import load
from reconciler.resources.autoscale import MAX_REPLICAS
from reconciler.resources.event import Cause, event
from reconciler.resources.kinds import WRITABLE
from reconciler.resources.meta import Key, Model, Object
from reconciler.resources.pool import Pool


class _Apply(Manifests):
    source: str = Field(default=BY_HAND, max_length=4096)
    prune: bool = False


class _Scale(Model):
    replicas: int | None = Field(default=None, ge=0, le=MAX_REPLICAS)
    override: str | None = None
    reason: str = Field(default="", max_length=1000)


class Writing:
    """The handlers."""

    def __init__(self, daemon: Daemon, clock: Clock) -> None:
        self._daemon = daemon
        self._store = daemon.store
        self._clock = clock

    async def create(self, request: Request) -> Response:
        kind = kind_of(request)
        obj, _ = await self._manifest(request, kind)
        created = self._store.create(obj.changed(metadata=obj.metadata.changed(changed_by=actor_of(request))))
        self._say(request, created.key, "Created", "created over the API")
        await self._daemon.committed()
        return json_answer(views.object_(created), 201)

    async def replace(self, request: Request) -> Response:
        kind, name = kind_of(request), request.path_params["name"]
        wanted, expected = await self._manifest(request, kind)
        if wanted.name != name:
            raise Invalid(f"the path says {name!r}, the object {wanted.name!r}")
        old = object_of(self._store, kind, name)
        alive(old)
        if owner(old) is not None and old.spec != wanted.spec:
            raise Refused(f"{old.key} is declared in {place(old)}", "change it there")
        said = wanted.metadata
        metadata = old.metadata.changed(labels=said.labels, annotations=said.annotations, changed_by=actor_of(request))
        updated = self._store.update(old.changed(metadata=metadata, spec=wanted.spec), expected)
        self._say(request, old.key, "Changed", "changed over the API")
        await self._daemon.committed()
        return json_answer(views.object_(updated))

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
        return json_answer(views.encode({"results": results, "problems": warnings}))

    async def scale(self, request: Request) -> Response:
        asked = await body(request, _Scale)
        pool = pool_of(self._store, request.path_params["name"])
        alive(pool)
        if pool.spec.autoscale is not None:
            raise Refused(f"{pool.key} has autoscale, which decides that", "change spec.autoscale.min or max")
        path = "spec.replicas"
        ending = overriding.ends(asked.override)
        if (asked.replicas is None) != ending:
            raise Invalid("replicas: a number is missing, or override 0s has one", "override 0s without it ends one")
        if ending:
            changed = overriding.without(pool, path)
        elif owner(pool) is None:
            changed = pool.changed(spec=pool.spec.changed(replicas=asked.replicas))
        elif asked.override is None:
            raise Refused(f"spec.replicas of {pool.key} is declared in {place(pool)}", _scale_command(pool, asked))
        else:
            changed = overriding.over(pool, path, asked.replicas, asked.override, self._clock.now())
        updated = self._store.update(changed)
        why = f": {asked.reason}" if asked.reason else ""
        until = changed.metadata.overrides.get(path)
        stands = "" if until is None else f" (override until {until})" if until else " (override)"
        if ending:
            stands = " (the override ends)"
        self._say(request, pool.key, "Scaled", f"from {pool.spec.replicas} to {changed.spec.replicas}{stands}{why}")
        await self._daemon.committed()
        return json_answer(views.object_(updated))

    def _say(self, request: Request, key: Key, reason: str, message: str) -> None:
        self._store.add_event(event(key, reason, message, self._clock.now(), cause=Cause(actor=actor_of(request))))


def _scale_command(pool: Pool, asked: _Scale) -> str:
    reason = f" --reason {shlex.quote(asked.reason)}" if asked.reason else ""
    command = f"reconciler scale {pool.key} --replicas {asked.replicas} --override{reason}"
    return f"change it there, or: {command}"
