"""GET /api/v1/wait: answers when a condition holds, or never will, or the time is up."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from reconciler.api import views
from reconciler.api.answers import json_answer
from reconciler.api.base import Daemon
from reconciler.api.conditions import Answer, check, live_tasks, of_object, of_task
from reconciler.api.found import TASK_NAME, object_of, task_of
from reconciler.api.requests import duration, key_of
from reconciler.errors import Invalid, NotFound
from reconciler.resources.meta import Key
from reconciler.resources.pool import Pool

_LONGEST_WAIT_S = 60.0


class Waits:
    """The handler."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._store = daemon.store

    async def wait(self, request: Request) -> Response:
        query = request.query_params
        wanted = query.get("for", "finished")
        check(wanted)
        deadline_s = time.monotonic() + min(duration(query.get("timeout", "30s"), "timeout"), _LONGEST_WAIT_S)
        if query.get("all") == "true":
            pool = query.get("pool")
            if pool is not None:
                object_of(self._store, "Pool", pool)
            look: Callable[[], dict[str, Any]] = lambda: self._all_done(pool)  # noqa: E731
            tasks: Sequence[int] = ()
        else:
            keys = [key_of(text) for text in query.getlist("object")]
            if not keys:
                raise Invalid("nothing to wait for", "object=KIND/NAME, or all=true")
            look = lambda: self._each_done(keys, wanted)  # noqa: E731
            tasks = [int(key.name) for key in keys if key.kind == "Task" and TASK_NAME.match(key.name)]
            tasks = tasks if len(tasks) == len(keys) else ()  # with other things among them every change is looked at
        while True:
            found = look()
            left_s = deadline_s - time.monotonic()
            if found["done"] or left_s <= 0:
                return json_answer(views.encode(found))
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
            record = task_of(self._daemon, key.name)
            answer = of_task(record, wanted)
            return answer, None if answer is Answer.NOT_YET else json.loads(views.task(record))["status"]
        try:
            obj = object_of(self._store, key.kind, key.name)
        except NotFound:
            if wanted == "deleted":
                return Answer.YES, None
            raise
        return of_object(obj, wanted), None
