"""An Event: something that happened to an object, and what caused it."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from reconciler.resources.meta import Key, Model
from reconciler.resources.units import Moment


class EventType(StrEnum):
    """Whether a person needs to look."""

    NORMAL = "Normal"
    WARNING = "Warning"


class Cause(Model):
    """Who or what made it happen."""

    actor: str = Field(default="controller", description="controller, source, or a user on the socket.")
    revision: str = ""
    path: str = ""
    line: int = 0


class Event(Model):
    """One happening; the same again within a short time raises `count` instead."""

    at: Moment
    object: str = Field(description="kind/name.")
    type: EventType
    reason: str = Field(description="One CamelCase word.")
    message: str
    count: int = 1
    cause: Cause = Cause.model_construct()


def event(key: Key, reason: str, message: str, at: Moment, warning: bool = False, cause: Cause | None = None) -> Event:
    """An event about `key`."""
    type_ = EventType.WARNING if warning else EventType.NORMAL
    return Event(at=at, object=str(key), type=type_, reason=reason, message=message, cause=cause or Cause())
