"""Joins what really limits a worker's process into the worker, when one is asked for by name."""

from __future__ import annotations

from reconciler.api import views
from reconciler.backends.inforce import in_force
from reconciler.resources.meta import Object
from reconciler.resources.revision import Revision, revision_name
from reconciler.resources.worker import Worker
from reconciler.store.base import Store


def joined(text: str, obj: Object, store: Store) -> str:
    """The object's JSON with `status.inForce`, for a worker whose process is up."""
    if not isinstance(obj, Worker) or obj.status.pid is None:
        return text
    revision = store.get(Revision, revision_name(obj.spec.pool, obj.status.template_hash))
    found = in_force(obj.status.pid, None if revision is None else revision.spec.template)
    return f'{text[:-2]},"inForce":{views.encode(found)}}}}}' if found else text
