"""Deleting objects: what speaks against it, and the wish that they be gone. They go when nothing of them runs.

DELETE /api/v1/{kind}/{name}     one object
POST   /api/v1/delete            {"objects": ["pool/web", ...]}: judged together, all or none
"""

from __future__ import annotations

from collections.abc import Collection

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from reconciler.api import views
from reconciler.api.answers import json_answer
from reconciler.api.base import Daemon
from reconciler.api.found import object_of
from reconciler.api.requests import actor_of, body, key_of, kind_of, number
from reconciler.clock import Clock
from reconciler.errors import Refused
from reconciler.resources.check import references
from reconciler.resources.event import Cause, event
from reconciler.resources.kinds import WRITABLE
from reconciler.resources.meta import Key, Model, Object
from reconciler.resources.pool import Pool


class _Delete(Model):
    objects: list[str] = Field(min_length=1, max_length=10_000)


class Removal:
    """The handlers."""

    def __init__(self, daemon: Daemon, clock: Clock) -> None:
        self._daemon = daemon
        self._store = daemon.store
        self._clock = clock

    async def one(self, request: Request) -> Response:
        found = self._judged(Key(kind_of(request), request.path_params["name"]), ())
        gone = self._delete(request, found, number(request, "resourceVersion", 0, 1 << 62) or None)
        await self._daemon.committed()
        return json_answer(views.object_(gone), 202)

    async def many(self, request: Request) -> Response:
        asked = await body(request, _Delete)
        keys = list(dict.fromkeys(map(key_of, asked.objects)))
        found = [self._judged(key, keys) for key in keys]  # all of them, before any is touched
        gone = [self._delete(request, one, None) for one in found]
        await self._daemon.committed()
        return json_answer(views.objects(map(views.object_, gone), self._store.revision), 202)

    def _judged(self, key: Key, together: Collection[Key]) -> Object:
        """The object, if it may be deleted along with those others. Raises NotFound and Refused."""
        if key.kind == "Task":
            raise Refused("a task is not deleted", f"reconciler cancel task/{key.name}")
        found = object_of(self._store, key.kind, key.name)
        if key.kind == "Source":
            raise Refused(f"{key} is a path that `up` was given", f"reconciler source suspend {key.name}")
        if key.kind not in WRITABLE:
            raise Refused(f"{key} belongs to its pool", "scale or delete the pool")
        pools = [pool for pool in self._store.all(Pool) if pool.metadata.deleted_at is None]
        users = [pool.key for pool in pools if pool.key not in together for _, used in references(pool) if used == key]
        if users:
            raise Refused(
                f"{key} is used by {', '.join(map(str, users[:5]))}", "change or delete those first, or all at once"
            )
        return found

    def _delete(self, request: Request, obj: Object, expected: int | None) -> Object:
        if obj.metadata.deleted_at is not None:
            return obj
        now = self._clock.now()
        gone = self._store.update(obj.changed(metadata=obj.metadata.changed(deleted_at=now)), expected)
        cause = Cause(actor=actor_of(request))
        self._store.add_event(event(obj.key, "Deleted", "deletion asked for", now, cause=cause))
        return gone
