"""Declared objects into the store: decide for all of them, and only then stage.

    declared, not there          created
    declared, something differs  configured
    declared, the same           unchanged
    not declared, ours           pruned         only when asked for

Reads and writes: the store, whose caller commits. Either everything is staged or, with an exception, nothing.
Identity is kind and name, never the file: an object belongs to the source that declared it first.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Literal, NamedTuple

from reconciler.errors import Conflict, Invalid, Refused
from reconciler.loading import guard
from reconciler.resources import overrides
from reconciler.resources.event import Cause, event
from reconciler.resources.kinds import WRITABLE
from reconciler.resources.meta import Key, Object, Origin
from reconciler.store.base import Store

Word = Literal["created", "configured", "unchanged", "pruned"]

PRUNE_ANNOTATION = "reconciler/prune"
"""`disabled` keeps an object that its source no longer declares."""


BY_HAND = "apply"
"""The source of what was applied by command: nothing watches it, so its fields stay the operator's."""


class Applied(NamedTuple):
    """What became of one object."""

    key: Key
    word: Word


class Decision(NamedTuple):
    """What will be staged: the object as it will be, and as it is; `write`: whether they differ."""

    applied: Applied
    old: Object | None
    object: Object
    write: bool


def apply(
    store: Store,
    objects: Sequence[Object],
    source: str,
    prune: bool,
    actor: str,
    now: datetime,
    read: Collection[str] | None = None,
    confirmed: bool = False,
) -> list[Applied]:
    """Stages what makes the store hold these objects; with `prune` also no others of this source.

    `read`: the sources that are read now. What another one declared that is read no longer (its directory was moved, or
    `up` was given other ones) is taken over; None: every owner keeps its own. `confirmed`: a person has seen what the
    prune takes.

    Raises Conflict (the name belongs to another source, or its bearer is still being deleted) and Refused (a prune that
    would take too much); nothing is staged then.
    """
    decisions = decide(store, objects, source, prune, now, read)
    if not confirmed and (why := refusal(store, decisions, source)):
        raise Refused(why, "delete them by name if that is meant")
    return stage(store, decisions, actor, now)


def stage(store: Store, decisions: Sequence[Decision], actor: str, now: datetime) -> list[Applied]:
    """Does what was decided; nothing may have changed in the store since."""
    for decision in decisions:
        _stage(store, decision, actor, now)
    return [decision.applied for decision in decisions]


def decide(
    store: Store, objects: Sequence[Object], source: str, prune: bool, now: datetime, read: Collection[str] | None
) -> list[Decision]:
    """What `apply` would stage if it is not refused. Raises Conflict as it does."""
    for obj in objects:
        if obj.kind not in WRITABLE:
            place = obj.metadata.source or Origin(path="", line=0)
            raise Invalid(f"{place.path}:{place.line}: {obj.key} is no part of a source", "reconciler up --config FILE")
    decisions = [_decide(store.get(type(obj), obj.name), _owned(obj, source), source, now, read) for obj in objects]
    return decisions + (_pruned(store, {obj.key for obj in objects}, source, now) if prune else [])


def _decide(old: Object | None, new: Object, source: str, now: datetime, read: Collection[str] | None) -> Decision:
    if old is None:
        return Decision(Applied(new.key, "created"), None, new, True)
    if old.metadata.deleted_at is not None:
        raise Conflict(f"{old.key} is still being deleted", "it can be declared again when nothing of it runs")
    owner = _owner(old)
    if owner and owner != source and (read is None or owner in read):
        origin = old.metadata.source
        place = f"{origin.path}:{origin.line} of {owner}" if origin is not None else owner
        raise Conflict(f"{old.key} is declared at {place}", "remove it there first, or choose another name")
    kept = overrides.merged(old, new, now)
    spec, was = kept.spec, old.metadata
    metadata = kept.metadata.changed(labels=new.metadata.labels, annotations=new.metadata.annotations)
    differs = spec != old.spec or metadata != was
    moved = not _same_place(was.source, new.metadata.source)
    if differs or moved:  # a new revision that changed nothing of this object is not worth a write
        metadata = metadata.changed(source=new.metadata.source)
    word: Word = "configured" if differs else "unchanged"
    return Decision(Applied(new.key, word), old, old.changed(spec=spec, metadata=metadata), differs or moved)


def _owned(obj: Object, source: str) -> Object:
    """The object with this source as its owner, whatever its loader was told."""
    origin = obj.metadata.source or Origin(path="", line=0)
    return obj.changed(metadata=obj.metadata.changed(source=origin.changed(source=source)))


def _same_place(old: Origin | None, new: Origin | None) -> bool:
    return old is not None and new is not None and old == new.changed(revision=old.revision)


def _owner(obj: Object) -> str:
    return obj.metadata.source.source if obj.metadata.source is not None else ""


def _pruned(store: Store, declared: set[Key], source: str, now: datetime) -> list[Decision]:
    if not source:
        raise Invalid("nothing can be pruned without a source", "apply a directory")
    gone = [
        obj
        for obj in owned(store, source)
        if obj.key not in declared and obj.metadata.annotations.get(PRUNE_ANNOTATION) != "disabled"
    ]
    return [
        Decision(Applied(obj.key, "pruned"), obj, obj.changed(metadata=obj.metadata.changed(deleted_at=now)), True)
        for obj in reversed(gone)
    ]


def owned(store: Store, source: str) -> list[Object]:
    """What a source has declared and nobody has deleted."""
    return [
        obj
        for model in WRITABLE.values()
        for obj in store.all(model)
        if _owner(obj) == source and obj.metadata.deleted_at is None
    ]


def refusal(store: Store, decisions: Sequence[Decision], source: str, replaced: bool = False) -> str:
    """Why a source may not do this unless it is confirmed; see guard.py."""
    gone = [decision.applied.key for decision in decisions if decision.applied.word == "pruned"]
    return guard.prune_refusal(gone[::-1], len(owned(store, source)), source, replaced) if gone else ""


def _stage(store: Store, decision: Decision, actor: str, now: datetime) -> None:
    if not decision.write:
        return
    (key, word), _, obj, _ = decision
    if word in ("created", "configured"):
        obj = obj.changed(metadata=obj.metadata.changed(changed_by=actor))
    if word == "created":
        store.create(obj)
    else:
        store.update(obj)
    if word != "unchanged":
        origin = obj.metadata.source or Origin(path="", line=0)
        cause = Cause(actor=actor, revision=origin.revision, path=origin.path, line=origin.line)
        said = f"{word} by {actor}" + (f" from {origin.path}:{origin.line}" if origin.path else "")
        store.add_event(event(key, word.capitalize(), said, now, cause=cause))
