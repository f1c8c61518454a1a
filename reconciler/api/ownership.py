"""Whose word an object is: a watched source's, or that of people at the command line. Pure."""

from __future__ import annotations

from reconciler.errors import Conflict
from reconciler.loading.apply import BY_HAND
from reconciler.resources.meta import Object


def owner(obj: Object) -> str | None:
    """The watched source whose word the spec is; None if people change it by command."""
    origin = obj.metadata.source
    return origin.source if origin is not None and origin.source != BY_HAND else None


def place(obj: Object) -> str:
    """Where it is written down."""
    origin = obj.metadata.source
    return f"{origin.path}:{origin.line}" if origin is not None else "no file"


def alive(obj: Object) -> None:
    """Raises Conflict for what is wanted gone."""
    if obj.metadata.deleted_at is not None:
        raise Conflict(f"{obj.key} is being deleted", f"reconciler wait {obj.key} --for deleted")
