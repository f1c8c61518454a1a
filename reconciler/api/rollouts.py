"""Rollouts: the templates a pool has had, an earlier one again, and a rollout that is to stand where it is.

GET   /api/v1/pools/{name}/history                                 -> {"items": [...]}, the newest last
POST  /api/v1/pools/{name}/undo   {revision, override, reason}     a change of the spec like any other
POST  /api/v1/pools/{name}/rollout-pause, rollout-resume {reason}  a wish that stays with the pool (metadata.rollout)
"""

from __future__ import annotations

import shlex
from typing import Any

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from reconciler.api import overriding, views
from reconciler.api.answers import json_answer
from reconciler.api.base import Daemon
from reconciler.api.found import pool_of
from reconciler.api.ownership import alive, owner, place
from reconciler.api.requests import actor_of, body
from reconciler.clock import Clock
from reconciler.errors import NotFound, Refused
from reconciler.loading.effects import between_templates
from reconciler.resources.check import findings
from reconciler.resources.event import Cause, event
from reconciler.resources.meta import Intent, Model, Wish
from reconciler.resources.pool import Pool, revision_hash, template_hash
from reconciler.resources.revision import Revision
from reconciler.resources.units import format_moment
from reconciler.resources.worker import Worker


def routes(daemon: Daemon, clock: Clock) -> list[Route]:
    """All of them."""
    api = _Rollouts(daemon, clock)
    one = "/api/v1/pools/{name}"
    return [
        Route(f"{one}/history", api.history, methods=["GET"]),
        Route(f"{one}/undo", api.undo, methods=["POST"]),
        Route(f"{one}/rollout-pause", api.pause, methods=["POST"]),
        Route(f"{one}/rollout-resume", api.resume, methods=["POST"]),
    ]


class _Undo(Model):
    revision: int | None = Field(default=None, ge=1)
    override: str | None = None
    reason: str = Field(default="", max_length=1000)


class _Reason(Model):
    reason: str = Field(default="", max_length=1000)


class _Rollouts:
    def __init__(self, daemon: Daemon, clock: Clock) -> None:
        self._daemon = daemon
        self._store = daemon.store
        self._clock = clock

    async def history(self, request: Request) -> Response:
        pool = pool_of(self._store, request.path_params["name"])
        workers = self._store.owned_by(pool.key, Worker)
        items: list[dict[str, Any]] = []
        before: Revision | None = None
        for one in self._revisions(pool):
            spec = one.spec
            fields = between_templates(before.spec.template, spec.template) if before is not None else []
            at = spec.since or one.metadata.created_at
            items.append(
                {
                    "revision": spec.number,
                    "templateHash": spec.template_hash,
                    "at": format_moment(at) if at is not None else None,
                    "cause": spec.cause.to_json(),
                    "changes": [{"path": f.path, "old": f.old, "new": f.new} for f in fields],
                    "first": before is None,
                    "current": spec.template_hash == revision_hash(pool),
                    "workers": [
                        w.name for w in workers if w.status.pid and w.status.template_hash == spec.template_hash
                    ],
                }
            )
            before = one
        return json_answer(views.encode({"items": items}))

    async def undo(self, request: Request) -> Response:
        asked = await body(request, _Undo)
        pool = pool_of(self._store, request.path_params["name"])
        alive(pool)
        if overriding.ends(asked.override):
            changed, said = overriding.without(pool, "spec.template"), "the override ends: the declared template again"
            return await self._undone(request, changed, said, asked.reason)
        chosen = self._chosen(pool, asked.revision)
        if owner(pool) is None:
            changed = pool.changed(spec=pool.spec.changed(template=chosen.spec.template))
        elif asked.override is None:
            why = f" --reason {shlex.quote(asked.reason)}" if asked.reason else ""
            command = f"reconciler rollout undo {pool.key} --to-revision {chosen.spec.number} --override{why}"
            message = f"spec.template of {pool.key} is declared in {place(pool)}"
            raise Refused(message, f"change it there, or: {command}")
        else:
            changed = overriding.over(pool, "spec.template", chosen.spec.template, asked.override, self._clock.now())
        wrong = findings(changed)
        if wrong:
            path = ".".join(map(str, wrong[0].path))
            raise Refused(
                f"revision {chosen.spec.number} does not fit {pool.key} as it is now: {path}: {wrong[0].message}",
                "change the manifest instead",
            )
        said = f"the template of revision {chosen.spec.number} again"
        return await self._undone(request, changed, said, asked.reason)

    async def _undone(self, request: Request, pool: Pool, said: str, reason: str) -> Response:
        updated = self._store.update(pool.changed(metadata=pool.metadata.changed(changed_by=actor_of(request))))
        self._say(request, pool, "Undone", said, reason)
        await self._daemon.committed()
        return json_answer(views.object_(updated))

    async def pause(self, request: Request) -> Response:
        return await self._hold(request, Wish.PAUSED, "RolloutPaused", "its rollout stands where it is")

    async def resume(self, request: Request) -> Response:
        return await self._hold(request, Wish.STARTED, "RolloutResumed", "its rollout goes on")

    async def _hold(self, request: Request, wish: Wish, word: str, message: str) -> Response:
        asked = await body(request, _Reason)
        pool = pool_of(self._store, request.path_params["name"])
        alive(pool)
        if pool.spec.slots:
            raise Refused(f"{pool.key} runs tasks", f"there is no rollout; reconciler pause {pool.key} holds its tasks")
        intent = Intent(wish=wish, actor=actor_of(request), reason=asked.reason, at=self._clock.now())
        updated = self._store.update(pool.changed(metadata=pool.metadata.changed(rollout=intent)))
        self._say(request, pool, word, message, asked.reason)
        await self._daemon.committed()
        return json_answer(views.object_(updated))

    def _revisions(self, pool: Pool) -> list[Revision]:
        return sorted(self._store.owned_by(pool.key, Revision), key=lambda one: one.spec.number)

    def _chosen(self, pool: Pool, number: int | None) -> Revision:
        """The revision of that number, or the latest one with another template. Raises NotFound or Refused."""
        now, known = template_hash(pool.spec.template), self._revisions(pool)
        if number is None:
            others = [one for one in known if template_hash(one.spec.template) != now]
            if not others:
                raise Refused(f"{pool.key} has had no other template", f"reconciler rollout history {pool.key}")
            return others[-1]
        found = next((one for one in known if one.spec.number == number), None)
        if found is None:
            numbers = ", ".join(str(one.spec.number) for one in known)
            raise NotFound(f"{pool.key} has no revision {number}", f"it has {numbers}")
        if template_hash(found.spec.template) == now:
            raise Refused(f"revision {number} is the template of {pool.key} now", "there is nothing to undo")
        return found

    def _say(self, request: Request, pool: Pool, word: str, message: str, reason: str) -> None:
        text = f"{message}: {reason}" if reason else message
        self._store.add_event(event(pool.key, word, text, self._clock.now(), cause=Cause(actor=actor_of(request))))
