"""Is all well, and if not, what is not: the problems that `reconciler status` lists. Pure.

What somebody has asked for is no problem: a pool that an operator has stopped or paused is not ready, and is as it
should be.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from reconciler.resources.meta import Condition, Object, Status
from reconciler.resources.pool import Pool

MANY_RESTARTS = 3
"""So many restarts of the controller, the last one a short while ago, are a problem to be shown."""
SHORT_WHILE_S = 600.0

_MOST_NAMED = 20
_ASKED_FOR = ("Stopped", "Paused", "Draining")

SILENT_S = 4.0
"""A launcher that has not answered for so long is stopped or stuck."""


class Ground(NamedTuple):
    """What the controller stands on, at one moment."""

    degraded: str
    """Why nothing can be made durable; empty when all is well."""
    launcher: Mapping[str, Any]
    """What the launcher has said of itself."""
    silent_s: float
    """For how long it has not answered."""
    up_s: float
    """The age of this controller."""
    sources: Sequence[tuple[str, str]]
    """Each with its error."""
    sockets: Mapping[str, str]
    """Those that could not be bound, and why."""
    said: Sequence[str]
    """What logs and samples have to say for themselves."""


def problems(ground: Ground, pools: Iterable[Pool]) -> list[str]:
    """One line for each thing that is not well, what everything depends on first."""
    return list(dict.fromkeys((*_of_ground(ground), *_of_pools(pools))))


def asked_for(pool: Pool) -> str:
    """What an operator keeps of a pool, in words; empty when it runs as declared. No problem, but no silence either."""
    told = {one.type: one for one in pool.status.conditions}
    ready, progress = told.get("Ready"), told.get("Progressing")
    if ready is not None and ready.reason in _ASKED_FOR:
        return ready.message
    if progress is not None and progress.reason == "RolloutPaused":
        return f"rollout {progress.message}"
    return ""


def left_behind(objects: Iterable[Object], read: Collection[str]) -> list[str]:
    """What sources have declared that are not among those that are read: it runs on, and no file says so any longer."""
    of: dict[str, list[str]] = {}
    for obj in objects:
        origin = obj.metadata.source
        if origin is not None and origin.source and origin.source not in read and obj.metadata.deleted_at is None:
            of.setdefault(origin.source, []).append(str(obj.key))
    return [
        f"source {source} is read no longer, and what it declared stays: give it to `up` again, or remove that with"
        f" `reconciler delete {' '.join(names[:_MOST_NAMED])}`"
        + (f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else "")
        for source, names in sorted(of.items())
    ]


def _of_ground(ground: Ground) -> Iterator[str]:
    if ground.degraded:
        yield f"nothing can be made durable: {ground.degraded}"
    restarts = ground.launcher.get("controllerRestarts", 0)
    if restarts >= MANY_RESTARTS and ground.up_s < SHORT_WHILE_S:
        yield f"the controller has been started again {restarts} times; its output says why"
    for root, error in ground.sources:
        if error:
            yield f"source {root}: {error}"
    if ground.silent_s >= SILENT_S:
        pid = ground.launcher.get("pid")
        yield f"LauncherUnresponsive: the launcher (pid {pid}) has not answered for {ground.silent_s:.0f} s"
    for name, text in ground.sockets.items():
        yield f"socket {name}: {text}"
    yield from ground.said


def _of_pools(pools: Iterable[Pool]) -> Iterator[str]:
    for pool in pools:
        for condition in pool.status.conditions:
            if _bad(condition):
                yield f"{pool.key}: {condition.reason}: {condition.message}"


def _bad(condition: Condition) -> bool:
    if condition.reason in _ASKED_FOR:
        return False
    if condition.reason == "RolloutFailed":
        return True
    match condition.type:
        case "Ready":
            return condition.status is Status.FALSE
        case "Degraded":
            return condition.status is Status.TRUE
        case _:
            return False
