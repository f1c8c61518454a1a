"""Every kind by its words. A new kind costs a line here."""

from __future__ import annotations

from reconciler.resources.configuration import Configuration
from reconciler.resources.event import Event
from reconciler.resources.lock import Lock
from reconciler.resources.meta import Model, Object
from reconciler.resources.pool import Pool
from reconciler.resources.restart import RestartPolicy
from reconciler.resources.revision import Revision
from reconciler.resources.scheduling import SchedulingPolicy
from reconciler.resources.source import Source
from reconciler.resources.task import Task
from reconciler.resources.worker import Worker

STORED: dict[str, type[Object]] = {
    model.__name__: model for model in (Pool, RestartPolicy, SchedulingPolicy, Lock, Worker, Revision, Source)
}
"""Kinds the store keeps as objects."""

ALL: dict[str, type[Object]] = {**STORED, "Task": Task}

WRITABLE: dict[str, type[Object]] = {kind: model for kind, model in STORED.items() if model.writable}
"""Kinds people write in manifests."""


DECLARED: dict[str, type[Object]] = {**WRITABLE, "Configuration": Configuration}
"""Kinds that stand in files: also the daemon's own settings, which are no object of the store."""


def build() -> None:
    """Has the checks of all of them made: before threads read the first objects, for it is done at the first use else."""
    models: tuple[type[Model], ...] = (*STORED.values(), Event)
    for model in models:
        model.model_rebuild()


_SHORT = {"po": "Pool", "wo": "Worker"}


def find_kind(word: str) -> str | None:
    """The kind a person means by `pool`, `pools`, `Pool` or `po`; None if there is no such kind."""
    lower = word.lower()
    for kind, model in ALL.items():
        if lower in (kind.lower(), model.plural):
            return kind
    return _SHORT.get(lower)
