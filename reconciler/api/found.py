"""What a request names, as it stands now; NotFound, with what to do about it, for what is not there."""

from __future__ import annotations

import re

from reconciler.api.base import Daemon
from reconciler.errors import NotFound
from reconciler.resources.kinds import STORED
from reconciler.resources.meta import NAME_PATTERN, Object
from reconciler.resources.pool import Pool
from reconciler.store.base import Store, TaskRecord

_NAME = re.compile(NAME_PATTERN)
TASK_NAME = re.compile(r"^[1-9][0-9]{0,17}$")


def object_of(store: Store, kind: str, name: str) -> Object:
    """A stored object."""
    found = store.get(STORED[kind], name) if _NAME.match(name) else None
    if found is None:
        raise NotFound(f"there is no {kind.lower()} {name!r}", f"reconciler get {STORED[kind].plural} lists them")
    return found


def pool_of(store: Store, name: str) -> Pool:
    """A pool."""
    found = object_of(store, "Pool", name)
    assert isinstance(found, Pool)
    return found


def task_of(daemon: Daemon, name: str) -> TaskRecord:
    """A task with its spec: the live one as it stands in memory, an ended one as it was written."""
    if not TASK_NAME.match(name):
        raise NotFound(f"there is no task {name!r}", "a task's name is its number, such as task/17")
    tasks = daemon.store.tasks
    record = daemon.live_task(int(name)) or tasks.get(int(name))
    if record is None:
        raise NotFound(f"there is no task {name}", "it may have been dropped some days after its end")
    if record.spec is None:
        found = tasks.get(record.id)
        return found if found is not None and found.spec is not None else record
    return record
